//! Values that no log may show. Each line of a value is covered by `***` wherever it stands, also as programs encode it: in
//! JSON, XML, addresses and base64. Looking costs time linear in the text, however many values there are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What stands in the place of a value.
pub const COVER: &str = "***";

/// Bytes of all forms of all values of a job.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Values that steps may name, and bytes of all their forms: each new one costs an automaton of all forms, before the next line.
const MAX_SAID: usize = 1000;
const MAX_SAID_BYTES: usize = 256 * 1024;

/// Bytes of one form of a value, so that what is held back for it is bounded; longer ones are covered in pieces.
pub(super) const MAX_FORM: usize = 64 * 1024;

/// Bytes that a value needs before its encodings are looked for: those of shorter ones stand everywhere.
const MIN_ENCODED: usize = 3;

/// Characters of base64 that depend on no neighbour.
const MIN_BASE64: usize = 6;

/// The values of one job.
#[derive(Clone, Default)]
pub struct Masks {
    forms: BTreeSet<Vec<u8>>,
    bytes: usize,
    longest: usize,
    /// Values that steps have named, and bytes of their forms.
    said: usize,
    said_bytes: usize,
    /// Of the forms up to the last one looked for.
    search: Option<NFA>,
}

/// There are more values than a job may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the values to mask are too many, or have more than {MAX_BYTES} bytes together, their encoded forms included")]
pub struct TooManyMasks;

impl PartialEq for Masks {
    fn eq(&self, other: &Self) -> bool {
        self.forms == other.forms
    }
}

impl Eq for Masks {}

impl Masks {
    /// Covers a value from now on: each of its lines, and its encoded forms. Nothing but white space is no value.
    ///
    /// # Errors
    /// The limit is exceeded; what came before stays covered.
    pub fn add(&mut self, value: &str) -> Result<(), TooManyMasks> {
        for form in forms(value) {
            for piece in form.as_bytes().chunks(MAX_FORM) {
                self.add_form(piece)?;
            }
        }
        Ok(())
    }

    /// The same for one that a step names.
    ///
    /// # Errors
    /// A limit is exceeded; what came before stays covered.
    pub(super) fn add_said(&mut self, value: &str) -> Result<(), TooManyMasks> {
        let before = self.bytes;
        if self.said >= MAX_SAID || self.said_bytes.saturating_add(value.len()) > MAX_SAID_BYTES {
            return Err(TooManyMasks);
        }
        let added = self.add(value);
        if self.bytes > before {
            self.said += 1;
            self.said_bytes += self.bytes - before;
        }
        added
    }

    fn add_form(&mut self, form: &[u8]) -> Result<(), TooManyMasks> {
        if self.forms.contains(form) {
            return Ok(());
        }
        if self.bytes + form.len() > MAX_BYTES {
            return Err(TooManyMasks);
        }
        self.bytes += form.len();
        self.longest = self.longest.max(form.len());
        self.forms.insert(form.to_owned());
        self.search = None;
        Ok(())
    }

    /// Whether nothing has to be covered.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Bytes of the longest form.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The text with everything covered that has to be.
    pub fn cover<'t>(&mut self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let found = self.found(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut covered, mut at) = (Vec::with_capacity(text.len()), 0);
        for (start, end) in found {
            covered.extend_from_slice(&text[at..start]);
            covered.extend_from_slice(COVER.as_bytes());
            at = end;
        }
        covered.extend_from_slice(&text[at..]);
        Cow::Owned(covered)
    }

    /// As [`Masks::cover`], for text.
    pub fn cover_text(&mut self, text: &str) -> String {
        // Forms are whole texts, cut at most in themselves: what is left is text again, but for such cuts.
        String::from_utf8_lossy(&self.cover(text.as_bytes())).into_owned()
    }

    /// Whether something in the text would be covered.
    pub fn has_some_in(&mut self, text: &str) -> bool {
        !self.found(text.as_bytes()).is_empty()
    }

    /// The places to cover, in order, apart from each other.
    pub(crate) fn found(&mut self, text: &[u8]) -> Vec<(usize, usize)> {
        let Some(search) = self.search() else { return Vec::new() };
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut state = start(search);
        for (at, byte) in text.iter().enumerate() {
            state = search.next_state(Anchored::No, state, *byte);
            if !search.is_match(state) {
                continue;
            }
            let patterns = (0..search.match_len(state)).map(|index| search.match_pattern(state, index));
            let length = patterns.map(|pattern| search.pattern_len(pattern)).max().unwrap_or_default();
            let (mut begin, end) = (at + 1 - length, at + 1);
            // Values that overlap or touch are one.
            while let Some((last_begin, last_end)) = found.last().copied().filter(|(_, last_end)| *last_end >= begin) {
                debug_assert!(last_end <= end, "ends only grow");
                begin = begin.min(last_begin);
                found.pop();
            }
            found.push((begin, end));
        }
        found
    }

    fn search(&mut self) -> Option<&NFA> {
        if self.forms.is_empty() {
            return None;
        }
        if self.search.is_none() {
            self.search = NFA::new(&self.forms).ok();
        }
        self.search.as_ref()
    }
}

fn start(search: &NFA) -> StateID {
    search.start_state(Anchored::No).expect("an automaton of the default kind starts anywhere")
}

impl fmt::Debug for Masks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Masks({})", self.forms.len())
    }
}

/// A value as it may stand in a log.
fn forms(value: &str) -> BTreeSet<String> {
    let mut forms: BTreeSet<String> = BTreeSet::new();
    let lines = value.split(['\r', '\n']).map(str::trim_end);
    forms.extend(lines.map(str::to_owned));
    if value.trim().len() >= MIN_ENCODED {
        // Programs print a value with or without the line end that a file of it has.
        for value in [value, value.trim_end_matches(['\r', '\n'])] {
            forms.extend(encoded(value));
        }
    }
    forms.retain(|form| !form.trim().is_empty());
    forms
}

fn encoded(value: &str) -> Vec<String> {
    let json = serde_json::to_string(value).unwrap_or_default();
    let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned();
    let xml = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted = xml.replace('"', "&quot;").replace('\'', "&apos;");
    let mut forms = vec![json.replace('/', "\\/"), json, quoted, xml, value.replace('\'', "''"), in_address(value)];
    forms.push(value.trim_matches('"').to_owned());
    forms.extend((0..3).map(|shift| in_base64(value.as_bytes(), shift)).filter(|form| form.len() >= MIN_BASE64));
    forms.retain(|form| !form.contains(['\r', '\n']) && form.len() >= MIN_ENCODED);
    forms
}

/// Percent-encoded, as the data of an address is.
fn in_address(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    value
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The letters that a value makes in base64 when so many bytes stand before it (modulo 3), whatever stands around it.
fn in_base64(value: &[u8], shift: usize) -> String {
    let padded = [&[0; 3][..shift], value].concat();
    let text = STANDARD.encode(&padded);
    let of_others_before = (shift * 8).div_ceil(6);
    let of_this_alone = padded.len() * 8 / 6;
    text.get(of_others_before..of_this_alone).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masks(values: &[&str]) -> Masks {
        let mut masks = Masks::default();
        values.iter().for_each(|value| masks.add(value).unwrap());
        masks
    }

    #[test]
    fn steps_name_a_bounded_number_of_values() {
        let mut masks = masks(&["of the operator"]);
        let names = (0..MAX_SAID).map(|number| format!("value {number}"));
        names.for_each(|name| masks.add_said(&name).unwrap());
        masks.add_said("value 0").unwrap_err();
        assert_eq!(masks.cover_text("value 7, value 999, value x"), "***, ***, value x");
        assert_eq!(Masks::default().add_said(&"x".repeat(MAX_SAID_BYTES + 1)), Err(TooManyMasks));
    }

    #[test]
    fn values_are_covered_wherever_they_stand() {
        for (values, text, covered) in [
            (&["hunter2"][..], "x hunter2hunter2, Hunter2", "x ***, Hunter2"),
            (&["abc", "cde"], "abcde", "***"),
            (&["a", "aaa"], "aaaa b", "*** b"),
            (&["one\r\ntwo\n"], "one, two and three", "***, *** and three"),
            (&["", " ", "\n"], "a b", "a b"),
            (&["a\"b/c\\d"], r#"{"k":"a\"b/c\\d"}"#, r#"{"k":"***"}"#),
            (&["line1\nline2"], r#"{"k":"line1\nline2"}"#, r#"{"k":"***"}"#),
            (&["p&<w>"], "p&amp;&lt;w&gt;", "***"),
            (&["pa ss/word"], "https://x/?q=pa%20ss%2Fword&b", "https://x/?q=***&b"),
            (&["it's"], "it''s", "***"),
            (&["\"quoted\""], "quoted", "***"),
        ] {
            assert_eq!(masks(values).cover_text(text), covered, "{values:?}");
        }
    }

    #[test]
    fn base64_is_covered_at_every_offset() {
        let mut masks = masks(&["correct horse"]);
        for around in ["", "u", "us", "use", "user"] {
            let text = STANDARD.encode(format!("{around}:correct horse:more"));
            assert!(masks.cover_text(&text).contains(COVER), "{around}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let mut masks = Masks::default();
        let large = |seed: usize| (0..30_000).map(|number| format!("{seed}{number}")).collect::<String>();
        let refused = (0..40).find(|seed| masks.add(&large(*seed)).is_err());
        assert!(refused.is_some_and(|seed| seed > 1), "{refused:?}");
        assert_eq!(format!("{masks:?}").find("30000"), None, "values are not told");
    }

    proptest! {
        #[test]
        fn no_value_remains(values in proptest::collection::vec("[ab ]{1,4}", 1..6), text in "[abc ]{0,40}") {
            let mut masks = Masks::default();
            values.iter().for_each(|value| masks.add(value).unwrap());
            let covered = masks.cover_text(&text);
            for value in values.iter().map(|value| value.trim_end()).filter(|value| !value.trim().is_empty()) {
                prop_assert!(!covered.contains(value), "{} in {}", value, covered);
            }
        }
    }
}

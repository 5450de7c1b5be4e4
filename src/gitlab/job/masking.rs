//! What of a job's output nobody may see.
//!
//! Output comes in pieces of any size and goes on as soon as it can: a piece of a line is held back only as far as a value may
//! go on in what comes next. Three things are covered: the values of masked variables, wherever they stand and also as
//! programs encode them; words that begin as GitLab's tokens do; and values of an address's parameters that are credentials.

use crate::workflow::commands::Masks;

/// What stands in the place of a value.
pub const COVER: &[u8] = b"[MASKED]";

/// The beginning of GitLab's personal access tokens, which are covered whatever GitLab asks for.
const TOKEN: &str = "glpat-";

/// Beginnings of tokens that GitLab may ask for, and bytes of one.
const MAX_PREFIXES: usize = 15;
const MAX_PREFIX: usize = 100;

/// Parameters of addresses whose values are credentials.
const PARAMETERS: [&str; 6] =
    ["private_token", "authenticity_token", "rss_token", "x-amz-signature", "x-amz-credential", "x-amz-security-token"];

/// Bytes that are held back at most, for values that touch each other without an end.
const MAX_HELD: usize = 128 << 10;

/// Covers one job's output.
#[derive(Debug)]
pub struct Masking {
    values: Masks,
    held: Vec<u8>,
    words: Words,
}

impl Masking {
    /// Covers these values, and words that begin so. Gives whether all values are covered: they may be too many.
    pub fn new<'v>(values: impl Iterator<Item = &'v str>, prefixes: &[String]) -> (Self, bool) {
        let (mut masks, mut has_all) = (Masks::default(), true);
        for value in values {
            has_all &= masks.add(value).is_ok();
        }
        (Self { values: masks, held: Vec::new(), words: Words::new(prefixes) }, has_all)
    }

    /// Takes output; gives what of it can be shown.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let found = self.values.found(&self.held);
        let line_end = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let free = self.held.len().saturating_sub(self.values.longest().saturating_sub(1));
        let mut end = line_end.max(free);
        if let Some((start, _)) = found.iter().find(|(start, stop)| *start < end && end <= *stop)
            && self.held.len() < MAX_HELD
            && end > line_end
        {
            end = *start;
        }
        self.release(end, &found, false)
    }

    /// What is left: nothing follows.
    pub fn finish(&mut self) -> Vec<u8> {
        let found = self.values.found(&self.held);
        self.release(self.held.len(), &found, true)
    }

    /// Everything before `end`, and what of the values at it is there, covered.
    fn release(&mut self, end: usize, found: &[(usize, usize)], is_over: bool) -> Vec<u8> {
        let (mut shown, mut at) = (Vec::with_capacity(end), 0);
        for &(start, stop) in found.iter().take_while(|(start, _)| *start < end) {
            shown.extend_from_slice(&self.held[at..start]);
            shown.extend_from_slice(COVER);
            at = stop;
        }
        let end = end.max(at);
        shown.extend_from_slice(&self.held[at..end]);
        self.held.drain(..end);
        self.words.push(&shown, is_over)
    }
}

/// Covers words by what they begin with.
#[derive(Debug)]
struct Words {
    prefixes: Vec<String>,
    /// The beginning of a word, perhaps.
    held: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// Behind the beginning of a token; whether some of it was there.
    Token(bool),
    /// Behind the name of a parameter.
    Parameter(bool),
}

impl Words {
    fn new(prefixes: &[String]) -> Self {
        let asked = prefixes.iter().filter(|prefix| !prefix.is_empty() && prefix.len() <= MAX_PREFIX);
        let mut prefixes: Vec<String> = asked.take(MAX_PREFIXES).cloned().collect();
        prefixes.push(TOKEN.to_owned());
        // Of two that begin alike, the longer one.
        prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
        Self { prefixes, held: Vec::new(), state: State::Text }
    }

    fn push(&mut self, bytes: &[u8], is_over: bool) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(bytes);
        let (mut shown, mut at) = (Vec::with_capacity(input.len()), 0);
        while at < input.len() {
            let rest = &input[at..];
            match self.state {
                State::Token(some) if is_of_token(rest[0]) => self.cover(&mut shown, &mut at, some, State::Token(true)),
                State::Parameter(some) if is_of_parameter(rest[0]) => {
                    self.cover(&mut shown, &mut at, some, State::Parameter(true));
                }
                _ => {
                    self.state = State::Text;
                    match self.begins(rest) {
                        Begins::Yes(length, state) => {
                            shown.extend_from_slice(&rest[..length]);
                            at += length;
                            self.state = state;
                        }
                        Begins::Perhaps if !is_over => {
                            self.held = rest.to_vec();
                            return shown;
                        }
                        Begins::No | Begins::Perhaps => {
                            shown.push(rest[0]);
                            at += 1;
                        }
                    }
                }
            }
        }
        shown
    }

    /// Leaves a byte of a value out, of which the cover is shown once; a value that is covered already stays as it is.
    fn cover(&mut self, shown: &mut Vec<u8>, at: &mut usize, some: bool, next: State) {
        if !some {
            shown.extend_from_slice(COVER);
        }
        *at += 1;
        self.state = next;
    }

    fn begins(&self, rest: &[u8]) -> Begins {
        let mut perhaps = false;
        for prefix in &self.prefixes {
            if rest.starts_with(prefix.as_bytes()) {
                return Begins::Yes(prefix.len(), State::Token(false));
            }
            perhaps |= prefix.as_bytes().starts_with(rest);
        }
        if matches!(rest[0], b'?' | b'&') {
            for name in PARAMETERS {
                let known = rest.len().min(name.len() + 1);
                let is_alike = rest[1..known].eq_ignore_ascii_case(&name.as_bytes()[..known - 1]);
                match rest.get(name.len() + 1) {
                    Some(b'=') if is_alike => return Begins::Yes(name.len() + 2, State::Parameter(false)),
                    Some(_) => {}
                    None => perhaps |= is_alike,
                }
            }
        }
        if perhaps { Begins::Perhaps } else { Begins::No }
    }
}

/// Whether a covered word begins here.
enum Begins {
    Yes(usize, State),
    /// More has to come first.
    Perhaps,
    No,
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._=".contains(&byte)
}

fn is_of_parameter(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"?&\"'<>#".contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masking(values: &[&str]) -> Masking {
        Masking::new(values.iter().copied(), &["glcbt-".to_owned(), String::new()]).0
    }

    /// What is shown of output in pieces of that size.
    fn shown(values: &[&str], text: &str, size: usize) -> String {
        let mut masking = masking(values);
        let mut out: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| masking.push(piece)).collect();
        out.extend(masking.finish());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn what_is_secret_is_covered_however_it_arrives() {
        for (text, expected) in [
            ("a hunter2-secret b\n", "a [MASKED] b\n"),
            ("hunter2-secrethunter2-secret", "[MASKED]"),
            ("hunter2-secre", "hunter2-secre"),
            ("x glpat-abc.DEF_1-= y", "x glpat-[MASKED] y"),
            ("glpat- glpa glcbt-x\n", "glpat- glpa glcbt-[MASKED]\n"),
            ("glglpat-x", "glglpat-[MASKED]"),
            ("https://x/?a=b&private_token=abc/d%20&c", "https://x/?a=b&private_token=[MASKED]&c"),
            ("?X-Amz-Signature=abc x", "?X-Amz-Signature=[MASKED] x"),
            ("?private_tokens=abc?", "?private_tokens=abc?"),
            ("?rss_token=hunter2-secret", "?rss_token=[MASKED]"),
            ("glpat-hunter2-secret", "glpat-[MASKED]"),
            ("50% & more\r\nnext", "50% & more\r\nnext"),
            ("grün €", "grün €"),
        ] {
            for size in [1, 2, 3, 7, 100] {
                assert_eq!(shown(&["hunter2-secret"], text, size), expected, "{size}");
            }
        }
    }

    #[test]
    fn a_line_is_shown_when_it_is_over_and_before_as_far_as_it_can() {
        let mut masking = masking(&["0123456789"]);
        assert_eq!(masking.push(b"step 1\n"), b"step 1\n");
        // As far as the value's longest form, which is not its plain one, may reach.
        assert_eq!(masking.push(b"progress: ........"), b"progre");
        assert_eq!(masking.push(b" 0123"), b"ss: .");
        assert_eq!(masking.push(b"\n"), b"....... 0123\n");
        assert_eq!(Masking::new([].into_iter(), &[]).0.push(b"no line yet"), b"no line yet");
    }

    #[test]
    fn values_without_an_end_are_not_kept_for_ever() {
        let mut masking = masking(&["aaaa", "ab"]);
        let mut most = 0;
        for _piece in 0..200 {
            masking.push(&[b'a'; 4096]);
            most = most.max(masking.held.len());
        }
        assert!(most <= MAX_HELD + 4096, "{most}");
    }

    #[test]
    fn of_too_many_values_some_are_left_and_that_is_known() {
        let large: Vec<String> =
            (0..40).map(|seed| (0..30_000).map(|number| format!("{seed}{number}")).collect()).collect();
        assert!(!Masking::new(large.iter().map(String::as_str), &[]).1);
        assert!(Masking::new(["a value"].into_iter(), &[]).1);
    }

    proptest! {
        #[test]
        fn no_value_remains_and_nothing_else_is_lost(
            values in prop::collection::vec("[abc]{2,5}", 0..4), text in "[abcx\n]{0,60}", size in 1_usize..20
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let out = shown(&values, &text, size);
            for line in out.replace("[MASKED]", "\n").lines() {
                for value in &values {
                    prop_assert!(!line.contains(value), "{} in {:?}", value, out);
                }
            }
            prop_assert_eq!(out.matches(['x', '\n']).count(), text.matches(['x', '\n']).count());
        }
    }
}

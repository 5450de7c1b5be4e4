//! One line of a step's output that is a command: `::name key=value,…::data`, or the old `##[name key=value;…]data`.

/// Every command that there is, in the letter case of their documentation. What is not here is text like any other.
const NAMES: [&str; 16] = [
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "stop-commands",
    "warning",
    "internal-set-repo-path",
];

/// Properties of one command that are looked at.
const MAX_PROPERTIES: usize = 64;

const NEW: &str = "::";
const OLD: &str = "##[";

/// A command as it was said, with its escapes undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// In small letters.
    pub(super) name: String,
    properties: Vec<(String, String)>,
    pub(super) data: String,
}

impl Command {
    /// Reads a line; `None` for text. `token` is the word that ends a stop of commands: it is a command then, too.
    pub(super) fn read(line: &str, token: Option<&str>) -> Option<Self> {
        let new = line.trim_start().strip_prefix(NEW).and_then(|rest| rest.split_once(NEW));
        // The old form may stand behind other text.
        let old = || line.split_once(OLD)?.1.split_once(']');
        new.and_then(|(head, data)| Self::of(head, data, Form::New, token))
            .or_else(|| old().and_then(|(head, data)| Self::of(head, data, Form::Old, token)))
    }

    fn of(head: &str, data: &str, form: Form, token: Option<&str>) -> Option<Self> {
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        let is_known = NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
            || token.is_some_and(|token| token.eq_ignore_ascii_case(name));
        is_known.then(|| Self {
            name: name.to_ascii_lowercase(),
            properties: properties_of(properties, form),
            data: form.unescaped(data, false),
        })
    }

    /// A property by its name in any letter case; the last one said counts. An empty one is none.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a word is the name of a command.
    pub(super) fn is_name(word: &str) -> bool {
        NAMES.iter().any(|known| known.eq_ignore_ascii_case(word))
    }
}

/// Whether a line that begins so may become a command.
pub(super) fn may_become_command(start: &[u8]) -> bool {
    let trimmed = start.trim_ascii_start();
    let length = NEW.len().min(trimmed.len());
    let old = OLD.as_bytes();
    NEW.as_bytes()[..length] == trimmed[..length]
        || start.windows(old.len()).any(|window| window == old)
        || (1..old.len()).any(|length| start.ends_with(&old[..length]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    New,
    Old,
}

impl Form {
    fn unescaped(self, text: &str, is_property: bool) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            result.push_str(&rest[..at]);
            let meant = match (self, rest.get(at + 1..at + 3)) {
                (_, Some("0D")) => Some('\r'),
                (_, Some("0A")) => Some('\n'),
                (_, Some("25")) => Some('%'),
                (Self::New, Some("3A")) if is_property => Some(':'),
                (Self::New, Some("2C")) if is_property => Some(','),
                (Self::Old, Some("3B")) => Some(';'),
                (Self::Old, Some("5D")) => Some(']'),
                _ => None,
            };
            result.push(meant.unwrap_or('%'));
            rest = &rest[at + if meant.is_some() { 3 } else { 1 }..];
        }
        result.push_str(rest);
        result
    }
}

fn properties_of(text: &str, form: Form) -> Vec<(String, String)> {
    let separator = if form == Form::New { ',' } else { ';' };
    let pairs = text.trim().split(separator).filter_map(|pair| pair.split_once('='));
    pairs.take(MAX_PROPERTIES).map(|(key, value)| (key.trim().to_owned(), form.unescaped(value, true))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> String {
        match Command::read(line, Some("resume-token")) {
            Some(Command { name, properties, data }) => format!("{name} {properties:?} {data:?}"),
            None => "text".to_owned(),
        }
    }

    #[test]
    fn commands_are_read_in_both_forms() {
        insta::assert_snapshot!(read("::error file=a.rs,line=3, title=A%3A B%2C%25::one%0Atwo::three%3A"), @r#"error [("file", "a.rs"), ("line", "3"), ("title", "A: B,%")] "one\ntwo::three%3A""#);
        insta::assert_snapshot!(read("  \t::GROUP::name"), @r#"group [] "name""#);
        insta::assert_snapshot!(read("::add-mask::"), @r#"add-mask [] """#);
        insta::assert_snapshot!(read("##[warning file=a b;line=2]x%5D%3B]y"), @r#"warning [("file", "a b"), ("line", "2")] "x];]y""#);
        insta::assert_snapshot!(read("::resume-TOKEN::"), @r#"resume-token [] """#);
        insta::assert_snapshot!(read("::debug nonsense,=,a=b=c::%250A %0a %"), @r#"debug [("", ""), ("a", "b=c")] "%0A %0a %""#);
        for text in [
            "",
            "::",
            "::error",
            "error::x",
            "x ::error::y",
            "::unknown::x",
            "::error file=x:y",
            "##[error",
            "::: error::",
        ] {
            assert_eq!(read(text), "text", "{text}");
        }
    }

    #[test]
    fn only_what_may_become_a_command_is_waited_for() {
        for start in ["", " ", ":", "::", "  ::err", "#", "##", "##[x", "\t##[group]"] {
            assert!(may_become_command(start.as_bytes()), "{start}");
        }
        for start in ["a", ":a", "#!", "## ", "##a", " x::error::"] {
            assert!(!may_become_command(start.as_bytes()), "{start}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "[ :#\\[\\]=,;%0-9A-Da-eé-]{0,60}") {
            if Command::read(&line, None).is_some() {
                prop_assert!(may_become_command(line.as_bytes()));
            }
        }

        #[test]
        fn what_is_escaped_arrives(data in ".*") {
            let escaped = data.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
            prop_assert_eq!(Command::read(&format!("::notice::{escaped}"), None).unwrap().data, data);
        }
    }
}

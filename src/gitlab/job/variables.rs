//! The variables of a job.
//!
//! The last of several equal names counts. A value may name others as `$NAME` or `${NAME}`; they are put in once, as they were
//! given, so that values which name each other come to an end. `$$` is a `$`. A variable of the kind `file` is a file with that
//! value, and its name stands for the file's path.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of all values together, once others are put in: more fits into no program's environment.
const MAX_EXPANDED: usize = 4 << 20;

/// Bytes of a text that variables are put into, such as a name or a path.
const MAX_TEXT: usize = 64 << 10;

/// One variable.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    pub key: String,
    pub value: String,
    /// It is given to programs as the path of a file with that value.
    pub is_file: bool,
    /// The log must not show its value.
    pub is_masked: bool,
    /// Its value names no others.
    pub is_raw: bool,
}

impl Variable {
    /// One that the runner adds itself.
    pub fn own(key: &str, value: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: value.into(), is_file: false, is_masked: false, is_raw: true }
    }
}

/// Values may be secrets.
impl fmt::Debug for Variable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Variable({})", self.key)
    }
}

/// The values name each other so that they grow without measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job's variables have more than {MAX_EXPANDED} bytes once they are put into each other")]
pub struct TooLarge;

/// All variables of a job, with others put into their values.
#[derive(Debug, Clone)]
pub struct Variables {
    list: Vec<Variable>,
    /// The directory of those that are files.
    files: String,
}

impl Variables {
    /// Puts the variables into each other. `files` is the directory for those that are files. Names that cannot be a
    /// variable's are left out.
    ///
    /// # Errors
    /// They become too large.
    pub fn new(given: Vec<Variable>, files: &str) -> Result<Self, TooLarge> {
        let list = given.into_iter().filter(is_possible).collect();
        let given = Self { list, files: files.to_owned() };
        let (mut list, mut room) = (Vec::with_capacity(given.list.len()), MAX_EXPANDED);
        for variable in &given.list {
            let mut variable = variable.clone();
            if !variable.is_raw {
                variable.value = put_in(&variable.value, room, |name| given.get(name)).ok_or(TooLarge)?;
            }
            variable.value.retain(|letter| letter != '\0');
            room = room.checked_sub(variable.value.len()).ok_or(TooLarge)?;
            list.push(variable);
        }
        Ok(Self { list, ..given })
    }

    /// What programs see under this name: the value, or the path of a file; nothing where there is none.
    pub fn get(&self, key: &str) -> Cow<'_, str> {
        match self.find(key) {
            Some(variable) if variable.is_file => Cow::Owned(self.path_of(variable)),
            Some(variable) => Cow::Borrowed(&variable.value),
            None => Cow::Borrowed(if key == "$" { "$" } else { "" }),
        }
    }

    /// The value itself, also of a file; nothing where there is none.
    pub fn value(&self, key: &str) -> &str {
        self.find(key).map_or("", |variable| &variable.value)
    }

    /// A text of the job's description, such as a name, with the variables put in. One that becomes too long stays as it is.
    pub fn expand(&self, text: &str) -> String {
        put_in(text, MAX_TEXT, |name| self.get(name)).unwrap_or_else(|| text.to_owned())
    }

    /// Sets one that programs see as it is.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.list.push(Variable::own(key, value));
    }

    /// What programs get.
    pub fn environment(&self) -> BTreeMap<String, String> {
        self.list.iter().map(|variable| (variable.key.clone(), self.get(&variable.key).into_owned())).collect()
    }

    /// The files that have to be there, with their contents.
    pub fn files(&self) -> Vec<(String, &str)> {
        let keys: BTreeMap<&str, &Variable> =
            self.list.iter().map(|variable| (variable.key.as_str(), variable)).collect();
        let files = keys.into_values().filter(|variable| variable.is_file);
        files.map(|variable| (self.path_of(variable), variable.value.as_str())).collect()
    }

    /// The values that the log must not show, those of replaced ones included.
    pub fn masked(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter(|variable| variable.is_masked).map(|variable| variable.value.as_str())
    }

    fn find(&self, key: &str) -> Option<&Variable> {
        self.list.iter().rev().find(|variable| variable.key == key)
    }

    fn path_of(&self, variable: &Variable) -> String {
        format!("{}/{}", self.files, variable.key)
    }
}

/// Whether a program could have it; one that is a file has its name, too.
fn is_possible(variable: &Variable) -> bool {
    let key = variable.key.as_str();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    match variable.is_file {
        true => !key.is_empty() && key.bytes().all(is_plain) && key != "." && key != "..",
        false => !key.is_empty() && !key.contains(['=', '\0']),
    }
}

/// The text with each `$NAME` and `${NAME}` replaced; `None` if it would have more than `limit` bytes.
fn put_in<'v>(text: &str, limit: usize, value: impl Fn(&str) -> Cow<'v, str>) -> Option<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, length) = name_at(rest);
        match name {
            Some(name) => out.push_str(&value(name)),
            // What is no name but begins like one is left out.
            None if length > 0 => {}
            None => out.push('$'),
        }
        rest = &rest[length..];
        if out.len() + rest.len() > limit.max(text.len()) {
            return None;
        }
    }
    out.push_str(rest);
    (out.len() <= limit.max(text.len())).then_some(out)
}

/// The name behind a `$`, and how many bytes it takes.
fn name_at(text: &str) -> (Option<&str>, usize) {
    let is_special = |byte: u8| b"*#$@!?-0123456789".contains(&byte);
    match text.as_bytes() {
        [b'{', ..] => match text.find('}') {
            Some(1) => (None, 2),
            Some(end) => (Some(&text[1..end]), end + 1),
            None => (None, 1),
        },
        [first, ..] if is_special(*first) => (Some(&text[..1]), 1),
        _ => {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let length = text.bytes().take_while(|byte| is_part(*byte)).count();
            (Some(&text[..length]).filter(|name| !name.is_empty()), length)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(key: &str, value: &str) -> Variable {
        Variable { is_raw: false, ..Variable::own(key, value) }
    }

    fn all(given: &[(&str, &str)]) -> Variables {
        Variables::new(given.iter().map(|(key, value)| variable(key, value)).collect(), "/t").unwrap()
    }

    #[test]
    fn values_name_others() {
        let given = all(&[("A", "one"), ("A_B", "two"), ("EMPTY", ""), ("N", "$A"), ("A", "last"), ("UMLAUT", "äö")]);
        for (text, expanded) in [
            ("$A", "last"),
            ("${A}", "last"),
            ("${A}_B $A_B", "last_B two"),
            ("$A-$A.$A/$A", "last-last.last/last"),
            ("$N", "last"),
            ("[$EMPTY] [$UNKNOWN] [${UNKNOWN}]", "[] [] []"),
            ("$$A $$$A", "$A $last"),
            ("100$ $", "100$ $"),
            ("a$ b", "a$ b"),
            ("${}x ${A", "x A"),
            ("${A:-default}", ""),
            ("$1 $? $*", "  "),
            ("%A%", "%A%"),
            ("\\$A", "\\last"),
            ("$UMLAUTß", "äöß"),
            ("$Aé", "lasté"),
            ("\"$A\" '$A'", "\"last\" 'last'"),
            ("a\r\n$A", "a\r\nlast"),
        ] {
            assert_eq!(given.expand(text), expanded, "{text}");
        }
    }

    #[test]
    fn others_are_put_in_once_and_as_they_were_given() {
        let given = all(&[("A", "$B"), ("B", "$C"), ("C", "c"), ("LOOP", "x$LOOP"), ("ONE", "$TWO"), ("TWO", "$ONE")]);
        let shown = |key: &str| given.get(key).into_owned();
        assert_eq!(["A", "B", "C", "LOOP", "ONE", "TWO"].map(shown), ["$C", "c", "c", "xx$LOOP", "$ONE", "$TWO"]);
        let raw = Variable::own("RAW", "$A $$");
        let given = Variables::new(vec![raw, variable("USES", "<$RAW>"), variable("A", "a")], "/t").unwrap();
        assert_eq!((given.value("RAW"), given.value("USES")), ("$A $$", "<$A $$>"));
    }

    #[test]
    fn files_are_named_by_their_path() {
        let file = |key: &str, value: &str| Variable { is_file: true, ..variable(key, value) };
        let given = vec![
            variable("NAME", "x"),
            file("CONFIG", "of $NAME\n"),
            variable("ARGS", "-f $CONFIG"),
            file("../up", ""),
        ];
        let given = Variables::new(given, "/b/p.tmp").unwrap();
        assert_eq!(given.get("CONFIG"), "/b/p.tmp/CONFIG");
        assert_eq!((given.value("CONFIG"), given.value("ARGS")), ("of x\n", "-f /b/p.tmp/CONFIG"));
        assert_eq!(given.files(), [("/b/p.tmp/CONFIG".to_owned(), "of x\n")]);
        assert_eq!(given.environment().len(), 3);
        let replaced = Variables::new(vec![file("A", "secret"), variable("A", "plain")], "/t").unwrap();
        assert_eq!((replaced.get("A").as_ref(), replaced.files().len()), ("plain", 0));
    }

    #[test]
    fn the_last_of_a_name_counts_and_all_are_masked() {
        let masked = |key: &str, value: &str| Variable { is_masked: true, ..variable(key, value) };
        let mut given =
            Variables::new(vec![masked("A", "first"), masked("A", "second"), variable("B", "no")], "/t").unwrap();
        given.set("A", "third");
        assert_eq!(given.get("A"), "third");
        assert_eq!(given.masked().collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(format!("{given:?}").find("second"), None, "values are not told");
    }

    #[test]
    fn values_that_grow_without_measure_are_refused() {
        let large = "x".repeat(1 << 20);
        let given = vec![variable("A", &large), variable("B", &"$A".repeat(1000))];
        assert_eq!(Variables::new(given, "/t").unwrap_err(), TooLarge);
        let given = all(&[("A", &"x".repeat(1000))]);
        let text = "$A".repeat(1000);
        assert_eq!(given.expand(&text), text, "too long to be a name");
    }

    #[test]
    fn names_that_no_program_takes_are_left_out() {
        let given = all(&[("", "x"), ("A=B", "x"), ("A\0", "x"), ("a.b-c", "a\0b"), ("É", "é")]);
        let expected = [("a.b-c", "ab"), ("É", "é")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(given.environment(), expected.into());
    }

    proptest! {
        #[test]
        fn any_text_is_expanded(text in "[$a{}A \\\\é?-]{0,30}", value in "[$A{}é]{0,8}") {
            let given = all(&[("A", &value), ("a", "$A")]);
            let expanded = given.expand(&text);
            if !text.contains('$') {
                prop_assert_eq!(expanded, text);
            }
        }
    }
}

//! TOML text into the document tree, with the place of every key and value.
//!
//! Keys come out in the order of the text. What TOML has and the tree does not (dates, integers beyond 64 bits) is refused
//! at its place. A mistake that stays within its value leaves the rest readable, so that what is wrong elsewhere is found
//! too. A mistake in the structure (an unclosed table, a key without a value) ends the reading: a model built from what a
//! parser guessed would only mislead.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::reader::{Complaint, MAX_FINDINGS, quoted};
use super::{Diagnostic, Entry, Node, Position, Value};

/// Largest text that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Deepest nesting of tables and lists.
pub const MAX_DEPTH: usize = 64;

/// The parser's words for a key that stands twice in one table.
const DUPLICATE: &str = "duplicate key";

/// The parser's words for mistakes after which it goes on where a person would: at the next line.
const LOCAL: [&str; 8] = [
    DUPLICATE,
    "string values must be quoted",
    "invalid basic string",
    "invalid literal string",
    "invalid boolean",
    "invalid float",
    "unexpected leading zero",
    "unexpected key or value, expected newline",
];

/// A text whose structure is sound.
#[derive(Debug)]
pub struct Document {
    pub root: Node,
    /// Values that could not be read, in the order of the text. What stands in the tree in their places is made up.
    pub errors: Vec<Diagnostic>,
}

/// Reads `text` of `file` (as the user named it). Fails with every syntax error, in the order of the text, if one of them is
/// in the structure.
pub fn read(file: &str, text: &str) -> Result<Document, Vec<Diagnostic>> {
    let mut tree = Tree { file, text, line_starts: line_starts(text), errors: Vec::new() };
    if text.len() > MAX_BYTES {
        tree.refuse(None, Complaint::new(format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len())));
        return Err(tree.errors);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let first = error.span().filter(|_| error.message() == DUPLICATE).and_then(|span| tree.first_place(span.start));
        tree.refuse(error.span().as_ref(), syntax_complaint(error.message(), first));
    }
    let is_sound = errors.iter().all(|error| LOCAL.iter().any(|local| error.message().starts_with(local)));
    let root = is_sound.then(|| tree.root(document.get_ref()));
    tree.errors.sort_by_key(|found| found.position);
    match root {
        Some(root) => Ok(Document { root, errors: tree.errors }),
        None => Err(tree.errors),
    }
}

/// The parser's words, with help for what people write most often. `first`: the line of the other one, of a key that stands twice.
fn syntax_complaint(message: &str, first: Option<u32>) -> Complaint {
    match message {
        DUPLICATE => {
            let first = first.map(|line| format!(", first in line {line}")).unwrap_or_default();
            Complaint::new(format!("the key stands here a second time{first}")).hint("merge the two, or rename one")
        }
        _ if message.starts_with("key with no value") => {
            Complaint::new("a key without a value").hint("write `key = value`")
        }
        // Also said of a value that is missing altogether.
        _ if message.starts_with("string values must be quoted") => {
            Complaint::new("expected a value").hint("strings stand in quotes: `\"…\"`")
        }
        _ if message.starts_with("unclosed") => {
            Complaint::new(message).hint("what follows is looked at when this is mended")
        }
        _ => Complaint::new(message),
    }
}

/// The header or the key of a line, without blanks; `None` if it has neither.
fn written(line: &str) -> Option<String> {
    let line = line.trim();
    let end = if line.starts_with('[') { line.find(']') } else { line.find('=') };
    end.map(|end| line[..end].split_whitespace().collect())
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

struct Tree<'t> {
    file: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
    errors: Vec<Diagnostic>,
}

impl Tree<'_> {
    fn refuse(&mut self, span: Option<&Range<usize>>, complaint: Complaint) {
        if self.errors.len() < MAX_FINDINGS {
            let position = span.map(|span| self.position(span.start));
            self.errors.push(complaint.at(self.file, position, ""));
        }
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let before = self.text.get(self.line_starts[line - 1]..offset).unwrap_or_default();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Position { line: count(line), column: count(before.chars().count() + 1) }
    }

    /// The line in which a key that stands a second time at `offset` stood first, where it is written the same way below the same
    /// header.
    fn first_place(&self, offset: usize) -> Option<u32> {
        let mut header = String::new();
        let mut places = HashMap::new();
        for (line, text) in (1..=self.position(offset).line).zip(self.text.lines()) {
            let Some(written) = written(text) else { continue };
            let place = if written.starts_with('[') {
                // Each of several tables in a list has keys of its own.
                header = if written.starts_with("[[") { format!("{written}{line}") } else { written };
                (header.clone(), String::new())
            } else {
                (header.clone(), written)
            };
            let first = *places.entry(place).or_insert(line);
            if line == self.position(offset).line {
                return Some(first).filter(|first| *first != line);
            }
        }
        None
    }

    fn root(&mut self, document: &DeTable<'_>) -> Node {
        let damaged: Vec<u32> = self.errors.iter().filter_map(|error| Some(error.position?.line)).collect();
        let known = self.errors.len();
        let value = self.mapping(document, 0);
        // What is made up in the place of a damaged value is not worth a complaint of its own.
        let is_elsewhere = |error: &Diagnostic| error.position.is_none_or(|at| !damaged.contains(&at.line));
        let found: Vec<Diagnostic> = self.errors.drain(known..).filter(is_elsewhere).collect();
        self.errors.extend(found);
        Node { position: Position { line: 1, column: 1 }, value }
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
        let span = value.span();
        if depth > MAX_DEPTH {
            self.refuse(Some(&span), format!("nested deeper than {MAX_DEPTH} levels").into());
            return Node { position: self.position(span.start), value: Value::Null };
        }
        let read = match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Integer(number) => self.integer(number, &span),
            DeValue::Float(number) => self.float(number.as_str(), &span),
            DeValue::Datetime(date) => {
                let complaint = Complaint::new(format!("`{date}` is a date, and no key here takes one"));
                self.refuse(Some(&span), complaint.hint("put it in quotes"));
                Value::Null
            }
            DeValue::Array(items) => Value::Sequence(items.iter().map(|item| self.node(item, depth + 1)).collect()),
            DeValue::Table(table) => self.mapping(table, depth),
        };
        Node { position: self.position(span.start), value: read }
    }

    fn integer(&mut self, number: &DeInteger<'_>, span: &Range<usize>) -> Value {
        i64::from_str_radix(number.as_str(), number.radix()).map_or_else(
            |_| {
                self.refuse(Some(span), format!("{} does not fit into 64 bits", quoted(number.as_str())).into());
                Value::Null
            },
            Value::Integer,
        )
    }

    fn float(&mut self, number: &str, span: &Range<usize>) -> Value {
        number.parse().map_or_else(
            |_| {
                self.refuse(Some(span), format!("{} is not a number", quoted(number)).into());
                Value::Null
            },
            Value::Float,
        )
    }

    fn mapping(&mut self, table: &DeTable<'_>, depth: usize) -> Value {
        let mut fields: Vec<_> = table.iter().collect();
        fields.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<_>, _)| Entry {
            key: String::from(AsRef::<str>::as_ref(key.get_ref())),
            key_position: self.position(key.span().start),
            value: self.node(value, depth + 1),
        };
        Value::Mapping(fields.into_iter().map(entry).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn errors(text: &str) -> String {
        let found = read("dayfly.toml", text).map_or_else(|errors| errors, |document| document.errors);
        found.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
    }

    /// The tree on one line: `key@line:column=value`.
    fn sketch(node: &Node) -> String {
        let at = |position: Position| format!("{}:{}", position.line, position.column);
        match &node.value {
            Value::Mapping(entries) => {
                let entry = |e: &Entry| format!("{}@{}={}", e.key, at(e.key_position), sketch(&e.value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
            Value::Sequence(items) => format!("[{}]", items.iter().map(sketch).collect::<Vec<_>>().join(" ")),
            scalar => format!("{scalar:?}@{}", at(node.position)),
        }
    }

    #[test]
    fn keys_keep_the_order_of_the_text_and_everything_has_its_place() {
        let text = "z = 1\na = ['x', true]\n[profile.b]\n\"ké\" = 'é' # ü\nf = 1.5\n[profile.a]\n[[repo]]\nn = 0x10\n[[repo]]\n";
        insta::assert_snapshot!(sketch(&read("f", text).unwrap().root), @r#"{z@1:1=Integer(1)@1:5 a@2:1=[String("x")@2:6 Bool(true)@2:11] profile@3:2={b@3:10={ké@4:1=String("é")@4:8 f@5:1=Float(1.5)@5:5} a@6:10={}} repo@7:3=[{n@8:1=Integer(16)@8:5} {}]}"#);
    }

    #[test]
    fn all_syntax_errors_are_reported_where_they_are() {
        insta::assert_snapshot!(errors("a = \nb = linux\n[c]\nd = 1\nd = 2\n"), @r#"
        dayfly.toml:1:5: expected a value
          hint: strings stand in quotes: `"…"`
        dayfly.toml:2:5: expected a value
          hint: strings stand in quotes: `"…"`
        dayfly.toml:5:1: the key stands here a second time, first in line 4
          hint: merge the two, or rename one
        "#);
    }

    #[test]
    fn what_stands_twice_says_where_it_stood_first() {
        let text = "[a]\nx = 1\n[profile.linux]\ny = 1\n[ profile.linux ] # again\ny = 1\nx = 1\n x = 2\n[[b]]\nx = 1\n[[b]]\nx = 1\nx = 2\n";
        insta::assert_snapshot!(errors(text), @"
        dayfly.toml:5:11: the key stands here a second time, first in line 3
          hint: merge the two, or rename one
        dayfly.toml:6:1: the key stands here a second time, first in line 4
          hint: merge the two, or rename one
        dayfly.toml:8:2: the key stands here a second time, first in line 7
          hint: merge the two, or rename one
        dayfly.toml:13:1: the key stands here a second time, first in line 12
          hint: merge the two, or rename one
        ");
    }

    #[test]
    fn only_mistakes_in_the_structure_hide_what_follows() {
        for damaged in [
            "a = 512 MiB",
            "a = ",
            "a = 1\na = 2",
            "a = 'x",
            "a = tru",
            "a = 1.2.3",
            "a = 010",
            "a = 'x' 'y'",
            "a = 2026-01-02",
        ] {
            let document = read("f", &format!("{damaged}\nb = 7\n")).unwrap();
            assert_eq!(document.errors.len(), 1, "{damaged}: {:?}", document.errors);
            assert!(sketch(&document.root).contains("=Integer(7)"), "{damaged}: {}", sketch(&document.root));
        }
        for broken in ["[a", "a 5", "a: 5", "a = [1", "a = { x = 1", "a = \"\"\"x"] {
            assert!(read("f", &format!("{broken}\nb = 7\n")).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_the_tree_cannot_hold_is_refused() {
        insta::assert_snapshot!(errors("a = 2026-01-02\nb = 99999999999999999999\nc = ['x', 1979-05-27T07:32:00Z]"), @"
        dayfly.toml:1:5: `2026-01-02` is a date, and no key here takes one
          hint: put it in quotes
        dayfly.toml:2:5: `99999999999999999999` does not fit into 64 bits
        dayfly.toml:3:11: `1979-05-27T07:32:00Z` is a date, and no key here takes one
          hint: put it in quotes
        ");
        assert!(errors(&"#".repeat(MAX_BYTES + 1)).contains("at most 1048576 are read"));
        let deep = format!("a = {}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        assert!(errors(&deep).contains("nested deeper than 64 levels"), "{}", errors(&deep));
    }

    proptest! {
        #[test]
        fn every_text_is_read_or_refused_with_a_place_in_it(text in "[\\[\\]{}=.,#\"' \\n0-9a-ceé-]{0,80}") {
            let lines = text.split('\n').count();
            for found in read("f", &text).map_or_else(|errors| errors, |document| document.errors) {
                prop_assert!(found.position.is_none_or(|at| at.line as usize <= lines && at.column >= 1), "{found}");
            }
        }
    }
}

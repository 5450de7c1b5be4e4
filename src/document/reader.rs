//! Reading a document into a model without stopping at the first mistake.
//!
//! A [`Reader`] belongs to one file and collects every complaint about it; an [`Item`] is one value and the path by which a
//! person finds it; a [`Table`] is a mapping whose keys are all known in advance. Typed access answers `None` when it has
//! already complained, so a model is built with `?`-free code such as
//! `table.get("image").and_then(|item| item.string()).unwrap_or("base")`, and the caller looks at the findings at the end.
//!
//! The document may come from a stranger: the number of complaints and the length of what they quote are bounded.

use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::ops::RangeInclusive;

use super::complaint::MAX_QUOTED;
pub use super::complaint::{Complaint, nearest, quoted};
use super::{Diagnostic, Entry, Node, Position, Severity, Value};

/// Complaints of one kind that are kept; a document with more mistakes than this is not read by anybody to the end.
pub const MAX_FINDINGS: usize = 100;

/// Everything that was found in one file, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The document cannot be used.
    pub errors: Vec<Diagnostic>,
    /// The document is right, but this version cannot do what it asks for.
    pub unsupported: Vec<Diagnostic>,
    /// The document can be used, perhaps not as its author thinks.
    pub warnings: Vec<Diagnostic>,
}

impl Findings {
    fn of(&mut self, severity: Severity) -> &mut Vec<Diagnostic> {
        match severity {
            Severity::Error => &mut self.errors,
            Severity::Unsupported => &mut self.unsupported,
            Severity::Warning => &mut self.warnings,
        }
    }

    /// Everything with its severity, sorted by position.
    pub fn into_sorted(self) -> Vec<(Severity, Diagnostic)> {
        let with = |severity, found: Vec<Diagnostic>| found.into_iter().map(move |found| (severity, found));
        let mut all: Vec<_> = with(Severity::Error, self.errors)
            .chain(with(Severity::Unsupported, self.unsupported))
            .chain(with(Severity::Warning, self.warnings))
            .collect();
        all.sort_by_key(|(_, found)| found.position);
        all
    }
}

/// Collects what is found in one file.
#[derive(Debug)]
pub struct Reader {
    file: String,
    /// What the file's format calls a mapping.
    mapping: &'static str,
    findings: RefCell<Findings>,
}

impl Reader {
    /// A reader for `file`, named as the user named it.
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), mapping: "a mapping", findings: RefCell::default() }
    }

    /// The same for a format in which mappings are called tables.
    #[must_use]
    pub fn of_tables(self) -> Self {
        Self { mapping: "a table", ..self }
    }

    /// The whole document.
    pub fn root<'a>(&'a self, node: &'a Node) -> Item<'a> {
        Item { reader: self, node, path: String::new() }
    }

    /// Whether an error was found so far.
    pub fn has_errors(&self) -> bool {
        !self.findings.borrow().errors.is_empty()
    }

    /// Everything that was found, sorted by position.
    pub fn finish(self) -> Findings {
        let mut findings = self.findings.into_inner();
        for severity in [Severity::Error, Severity::Unsupported, Severity::Warning] {
            findings.of(severity).sort_by_key(|found| found.position);
        }
        findings
    }

    fn record(&self, severity: Severity, position: Position, path: &str, complaint: Complaint) {
        let found = complaint.at(&self.file, Some(position), path);
        let mut findings = self.findings.borrow_mut();
        let known = findings.of(severity);
        if known.len() < MAX_FINDINGS {
            known.push(found);
        }
    }
}

/// One value of the document and the path to it.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    reader: &'a Reader,
    node: &'a Node,
    path: String,
}

impl<'a> Item<'a> {
    /// The value itself, for what the typed access does not cover.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Where the value stands.
    pub fn position(&self) -> Position {
        self.node.position
    }

    /// The key path, such as `jobs.test.steps[2].run`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a key stands there without a value (YAML only).
    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    /// Records an error at this value.
    pub fn refuse(&self, complaint: impl Into<Complaint>) {
        self.record(Severity::Error, complaint);
    }

    /// Records at this value what this version cannot do.
    pub fn unsupported(&self, complaint: impl Into<Complaint>) {
        self.record(Severity::Unsupported, complaint);
    }

    /// Records a warning at this value.
    pub fn warn(&self, complaint: impl Into<Complaint>) {
        self.record(Severity::Warning, complaint);
    }

    fn record(&self, severity: Severity, complaint: impl Into<Complaint>) {
        self.reader.record(severity, self.node.position, &self.path, complaint.into());
    }

    /// Records that `expected` ("a string") should stand here, naming what does.
    pub fn refuse_type(&self, expected: &str) {
        let found = describe(&self.node.value, self.reader.mapping);
        let complaint = Complaint::new(format!("expected {expected}, found {found}"));
        self.refuse(match &self.node.value {
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) if expected.starts_with("a string") => {
                complaint.hint("put it in quotes")
            }
            Value::String(text) if is_quoted_scalar(text, expected) => complaint.hint("write it without quotes"),
            _ => complaint,
        });
    }

    fn expect<T>(&self, expected: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.refuse_type(expected);
        }
        value
    }

    /// A string; numbers and booleans are refused.
    pub fn string(&self) -> Option<&'a str> {
        self.expect("a string", self.node.value.as_str())
    }

    /// A string that is not empty or blank.
    pub fn non_empty_string(&self) -> Option<&'a str> {
        let text = self.string()?;
        if text.trim().is_empty() {
            self.refuse("must not be empty");
            return None;
        }
        Some(text)
    }

    /// Any scalar as text, as environment variables want it: `5` and `true` are taken as written, null is empty.
    pub fn scalar_text(&self) -> Option<String> {
        let text = match &self.node.value {
            Value::Null => Some(String::new()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Integer(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            Value::String(value) => Some(value.clone()),
            Value::Sequence(_) | Value::Mapping(_) => None,
        };
        self.expect("a string, number or boolean", text)
    }

    /// `true` or `false`.
    pub fn bool(&self) -> Option<bool> {
        let value = if let Value::Bool(value) = self.node.value { Some(value) } else { None };
        self.expect("`true` or `false`", value)
    }

    /// A whole number.
    pub fn integer(&self) -> Option<i64> {
        let value = if let Value::Integer(value) = self.node.value { Some(value) } else { None };
        self.expect("a whole number", value)
    }

    /// A whole number within `range`, in the type that the model has.
    pub fn integer_in<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = self.integer()?;
        let fitting = T::try_from(number).ok().filter(|value| range.contains(value));
        if fitting.is_none() {
            self.refuse(format!("`{number}` is not between {} and {}", range.start(), range.end()));
        }
        fitting
    }

    /// A number, whole or not.
    pub fn number(&self) -> Option<f64> {
        let value = match self.node.value {
            // Above 2^53 the nearest representable number is taken, as everywhere in this dialect.
            #[allow(clippy::cast_precision_loss)]
            Value::Integer(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            _ => None,
        };
        self.expect("a number", value)
    }

    /// A string that `parse` understands; its error becomes the complaint.
    pub fn parse<T, C: Into<Complaint>>(&self, parse: impl FnOnce(&'a str) -> Result<T, C>) -> Option<T> {
        parse(self.string()?).map_err(|complaint| self.refuse(complaint)).ok()
    }

    /// One of a few words.
    pub fn one_of<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let word = self.string()?;
        let chosen = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| value.clone());
        if chosen.is_none() {
            let complaint = Complaint::new(format!("{} is not a known value", quoted(word)));
            self.refuse(complaint.suggest(word, choices.iter().map(|(name, _)| *name)));
        }
        chosen
    }

    /// A list.
    pub fn list(&self) -> Option<Vec<Item<'a>>> {
        let items = if let Value::Sequence(nodes) = &self.node.value { Some(self.elements(nodes)) } else { None };
        self.expect("a list", items)
    }

    fn elements(&self, nodes: &'a [Node]) -> Vec<Item<'a>> {
        let element = |(index, node)| Item { reader: self.reader, node, path: format!("{}[{index}]", self.path) };
        nodes.iter().enumerate().map(element).collect()
    }

    /// A list, or one value that stands for a list of one. Whether the elements are scalars is for the caller to ask.
    pub fn one_or_list(&self) -> Vec<Item<'a>> {
        match &self.node.value {
            Value::Sequence(nodes) => self.elements(nodes),
            _ => vec![self.clone()],
        }
    }

    /// A list of strings; elements of other types are refused one by one.
    pub fn string_list(&self) -> Option<Vec<String>> {
        strings(&self.list()?)
    }

    /// One string or a list of strings.
    pub fn string_or_list(&self) -> Option<Vec<String>> {
        if !matches!(self.node.value, Value::String(_) | Value::Sequence(_)) {
            self.refuse_type("a string or a list of strings");
            return None;
        }
        strings(&self.one_or_list())
    }

    /// A mapping whose keys the document's author chooses (job names, variables), in the order of the text.
    pub fn fields(&self) -> Option<Vec<Field<'a>>> {
        let entries = self.expect(self.reader.mapping, self.node.value.as_mapping())?;
        Some(entries.iter().map(|entry| self.field(entry)).collect())
    }

    fn field(&self, entry: &'a Entry) -> Field<'a> {
        let value = Item { reader: self.reader, node: &entry.value, path: join(&self.path, &entry.key) };
        Field { key: &entry.key, value, key_position: entry.key_position }
    }

    /// A mapping of which `known` are all the keys. Every other key is refused at once, with the nearest known one as hint.
    pub fn table(&self, known: &'static [&'static str]) -> Option<Table<'a>> {
        let fields = self.fields()?;
        for field in fields.iter().filter(|field| !known.contains(&field.key)) {
            let complaint = Complaint::new(format!("unknown key {}", quoted(field.key)));
            field.refuse_key(complaint.suggest(field.key, known.iter().copied()));
        }
        Some(Table { item: self.clone(), fields, known })
    }
}

fn strings(items: &[Item<'_>]) -> Option<Vec<String>> {
    // Every element is asked, so that every wrong one is named.
    let read: Vec<Option<String>> = items.iter().map(|item| item.string().map(str::to_owned)).collect();
    read.into_iter().collect()
}

/// One `key: value` of a mapping with free keys.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    pub key: &'a str,
    pub value: Item<'a>,
    key_position: Position,
}

impl Field<'_> {
    /// Where the key stands.
    pub fn key_position(&self) -> Position {
        self.key_position
    }

    /// Records an error at the key.
    pub fn refuse_key(&self, complaint: impl Into<Complaint>) {
        self.record(Severity::Error, complaint);
    }

    /// Records at the key what this version cannot do.
    pub fn unsupported_key(&self, complaint: impl Into<Complaint>) {
        self.record(Severity::Unsupported, complaint);
    }

    /// Records a warning at the key.
    pub fn warn_key(&self, complaint: impl Into<Complaint>) {
        self.record(Severity::Warning, complaint);
    }

    fn record(&self, severity: Severity, complaint: impl Into<Complaint>) {
        self.value.reader.record(severity, self.key_position, &self.value.path, complaint.into());
    }
}

/// A mapping with a fixed set of keys.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    item: Item<'a>,
    fields: Vec<Field<'a>>,
    known: &'static [&'static str],
}

impl<'a> Table<'a> {
    /// The mapping as a value: for complaints about it as a whole.
    pub fn item(&self) -> &Item<'a> {
        &self.item
    }

    /// The key and its value, if the key is there. A key without a value (YAML) is there: see [`Item::is_null`].
    pub fn field(&self, key: &str) -> Option<&Field<'a>> {
        debug_assert!(self.known.contains(&key), "`{key}` is read but not listed as known");
        self.fields.iter().find(|field| field.key == key)
    }

    /// The value of `key`, if the key is there.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        self.field(key).map(|field| field.value.clone())
    }

    /// Whether an unknown key was taken for `key`, and its author told so.
    pub fn is_misspelt(&self, key: &str) -> bool {
        let is_meant = |field: &Field<'_>| nearest(field.key, self.known.iter().copied()) == Some(key);
        self.fields.iter().any(|field| !self.known.contains(&field.key) && is_meant(field))
    }

    /// The value of `key`; its absence is an error at the mapping, unless the key is there and misspelt.
    pub fn required(&self, key: &str) -> Option<Item<'a>> {
        self.required_complaint(key, || Complaint::new(format!("missing key `{key}`")))
    }

    /// Like [`Table::required`], with what to write there.
    pub fn required_hint(&self, key: &str, hint: &str) -> Option<Item<'a>> {
        self.required_complaint(key, || Complaint::new(format!("missing key `{key}`")).hint(hint))
    }

    fn required_complaint(&self, key: &str, complaint: impl FnOnce() -> Complaint) -> Option<Item<'a>> {
        let found = self.get(key);
        if found.is_none() && !self.is_misspelt(key) {
            let path = join(&self.item.path, key);
            self.item.reader.record(Severity::Error, self.item.node.position, &path, complaint());
        }
        found
    }

    /// The mapping under `key`, or an empty one in its place where the key is absent: for sections whose keys have defaults.
    pub fn section(&self, key: &str, known: &'static [&'static str]) -> Option<Table<'a>> {
        if let Some(item) = self.get(key) {
            return item.table(known);
        }
        let item = Item { path: join(&self.item.path, key), ..self.item.clone() };
        Some(Table { item, fields: Vec::new(), known })
    }

    /// The value of `key` as `read` understands it, or `default` where the key is absent or was refused.
    pub fn read_or<T>(&self, key: &str, default: T, read: impl FnOnce(&Item<'a>) -> Option<T>) -> T {
        self.get(key).and_then(|item| read(&item)).unwrap_or(default)
    }

    /// The value of `key` as `read` understands it; `None` where the key is absent or was refused.
    pub fn read<T>(&self, key: &str, read: impl FnOnce(&Item<'a>) -> Option<T>) -> Option<T> {
        self.get(key).and_then(|item| read(&item))
    }
}

/// `key` under `path`; keys that would blur the path are quoted.
fn join(path: &str, key: &str) -> String {
    let is_plain = |key: &str| {
        !key.is_empty()
            && key.len() <= MAX_QUOTED
            && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '@' | '*'))
    };
    let mut joined = String::from(path);
    if !path.is_empty() {
        joined.push('.');
    }
    if is_plain(key) {
        joined.push_str(key);
    } else {
        let cut: String = key.chars().take(MAX_QUOTED).collect();
        write!(joined, "{cut:?}").expect("writing to a string does not fail");
    }
    joined
}

/// Whether the text of a string is what was `expected` without its quotes.
fn is_quoted_scalar(text: &str, expected: &str) -> bool {
    match expected {
        "a whole number" => text.parse::<i64>().is_ok(),
        "a number" => text.parse::<f64>().is_ok(),
        "`true` or `false`" => matches!(text, "true" | "false"),
        _ => false,
    }
}

/// What stands there, for "expected …, found …".
fn describe(value: &Value, mapping: &str) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Integer(value) => format!("the number `{value}`"),
        Value::Float(value) => format!("the number `{value}`"),
        Value::String(text) => format!("the string {}", quoted(text)),
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => mapping.into(),
    }
}

impl Value {
    fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    fn as_mapping(&self) -> Option<&[Entry]> {
        if let Self::Mapping(entries) = self { Some(entries) } else { None }
    }
}

#[cfg(test)]
mod tests;

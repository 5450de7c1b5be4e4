//! YAML text into the document tree, with the place of every key and value.
//!
//! The core schema of YAML 1.2: `on` and `yes` are strings, and keys are text as written. Anchors and aliases are expanded
//! within a budget, because a few lines of them can stand for gigabytes. What the workflow dialect does not have (merge keys,
//! tags, several documents in a file) is refused at its place rather than read in a way that its author did not mean.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::reader::{Complaint, MAX_FINDINGS, quoted};
use super::{Diagnostic, Entry, Node, Position, Value};

/// Largest text that is read, in bytes.
pub const MAX_BYTES: usize = 500 * 1024;

/// Deepest nesting of mappings and lists, with aliases expanded.
pub const MAX_DEPTH: usize = 50;

/// Most values in a document, with aliases expanded.
pub const MAX_NODES: usize = 50_000;

/// Most bytes of text in a document, with aliases expanded.
pub const MAX_EXPANDED_BYTES: usize = 4 * MAX_BYTES;

/// Reads `text` of `file` (as the user named it). An empty text is null.
///
/// # Errors
/// All complaints in the order of the text; a syntax error or an exceeded limit is the last one, since nothing is known of
/// what follows it.
pub fn read(file: &str, text: &str) -> Result<Node, Vec<Diagnostic>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file,
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        size: Size::default(),
        errors: Vec::new(),
    };
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len());
        builder.refuse(START, message);
        return Err(builder.errors);
    }
    match builder.document() {
        Ok(node) if builder.errors.is_empty() => Ok(node),
        Ok(_) | Err(Stop) => Err(builder.errors),
    }
}

const START: Position = Position { line: 1, column: 1 };

/// The reading cannot go on; why was recorded.
struct Stop;

/// What a value costs with everything in it.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

/// A value that aliases stand for.
struct Anchored {
    node: Node,
    size: Size,
    height: usize,
}

type Spanned<'t> = (Event<'t>, Span);

struct Builder<'t> {
    file: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Anchored>,
    /// Of everything so far.
    size: Size,
    errors: Vec<Diagnostic>,
}

impl<'t> Builder<'t> {
    fn refuse(&mut self, position: Position, complaint: impl Into<Complaint>) {
        if self.errors.len() < MAX_FINDINGS {
            self.errors.push(complaint.into().at(self.file, Some(position), ""));
        }
    }

    fn stop<T>(&mut self, position: Position, complaint: impl Into<Complaint>) -> Result<T, Stop> {
        if self.errors.len() == MAX_FINDINGS {
            self.errors.pop();
        }
        self.refuse(position, complaint);
        Err(Stop)
    }

    fn next(&mut self) -> Result<Spanned<'t>, Stop> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let info = error.info();
                let complaint = if info.contains("recursion limit") {
                    // The scanner looks ahead of the values that are counted here.
                    Complaint::new(too_deep())
                } else if info.contains("tab") {
                    Complaint::new(format!("this is not YAML: {info}")).hint("indent with spaces")
                } else {
                    Complaint::new(format!("this is not YAML: {info}"))
                };
                self.stop(position(*error.marker()), complaint)
            }
            None => self.stop(START, "the YAML ends unexpectedly"),
        }
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = Node { position: START, value: Value::Null };
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if documents > 0 => {
                    let complaint = Complaint::new("a second document starts here").hint("put it in a file of its own");
                    return self.stop(position(span.start), complaint);
                }
                Event::DocumentStart(_) => {
                    documents += 1;
                    let first = self.next()?;
                    root = self.node(first, 0)?.0;
                }
                _ => {}
            }
        }
    }

    /// The value that starts with this event, and how many levels it has.
    fn node(&mut self, (event, span): Spanned<'t>, depth: usize) -> Result<(Node, usize), Stop> {
        let position = position(span.start);
        if let Event::Alias(anchor) = event {
            return self.alias(anchor, position, depth);
        }
        if depth >= MAX_DEPTH {
            return self.stop(position, too_deep());
        }
        let before = self.size;
        self.pay(Size { nodes: 1, bytes: 0 }, position)?;
        let (anchor, value, height) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), position);
                self.pay(Size { nodes: 0, bytes: text.len() }, position)?;
                (anchor, scalar(text, style), 1)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), position);
                let (items, height) = self.sequence(depth)?;
                (anchor, Value::Sequence(items), height)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), position);
                let (entries, height) = self.mapping(depth)?;
                (anchor, Value::Mapping(entries), height)
            }
            _ => return self.stop(position, "a value is missing here"),
        };
        let node = Node { position, value };
        if anchor != 0 {
            let size = Size { nodes: self.size.nodes - before.nodes, bytes: self.size.bytes - before.bytes };
            // The copy that is kept for aliases is memory too: chains of nested anchors pay for it.
            self.pay(Size { nodes: 0, bytes: size.bytes }, position)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, height });
        }
        Ok((node, height))
    }

    fn alias(&mut self, anchor: usize, position: Position, depth: usize) -> Result<(Node, usize), Stop> {
        let Some(Anchored { size, height, .. }) = self.anchors.get(&anchor) else {
            return self.stop(position, "the alias stands inside of the value that it names");
        };
        let (size, height) = (*size, *height);
        if depth + height > MAX_DEPTH {
            return self.stop(position, format!("with this alias, values are nested deeper than {MAX_DEPTH} levels"));
        }
        self.pay(size, position)?;
        Ok((self.anchors[&anchor].node.clone(), height))
    }

    fn pay(&mut self, cost: Size, position: Position) -> Result<(), Stop> {
        self.size.nodes = self.size.nodes.saturating_add(cost.nodes);
        self.size.bytes = self.size.bytes.saturating_add(cost.bytes);
        let limit = if self.size.nodes > MAX_NODES {
            format!("{MAX_NODES} values")
        } else if self.size.bytes > MAX_EXPANDED_BYTES {
            format!("{MAX_EXPANDED_BYTES} bytes")
        } else {
            return Ok(());
        };
        self.stop(position, format!("with its aliases expanded, the document has more than {limit}"))
    }

    fn sequence(&mut self, depth: usize) -> Result<(Vec<Node>, usize), Stop> {
        let (mut items, mut height) = (Vec::new(), 0);
        loop {
            let event = self.next()?;
            if event.0 == Event::SequenceEnd {
                return Ok((items, height + 1));
            }
            let (item, below) = self.node(event, depth + 1)?;
            height = height.max(below);
            items.push(item);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<(Vec<Entry>, usize), Stop> {
        let (mut entries, mut height, mut keys) = (Vec::new(), 0, HashSet::new());
        loop {
            let event = self.next()?;
            if event.0 == Event::MappingEnd {
                return Ok((entries, height + 1));
            }
            let key_position = position(event.1.start);
            let key = self.key(event)?;
            let event = self.next()?;
            let (value, below) = self.node(event, depth + 1)?;
            height = height.max(below);
            if keys.insert(key.clone()) {
                entries.push(Entry { key, key_position, value });
            } else {
                let complaint = Complaint::new(format!("the key {} stands here a second time", quoted(&key)));
                self.refuse(key_position, complaint.hint("merge the two, or rename one"));
            }
        }
    }

    fn key(&mut self, (event, span): Spanned<'t>) -> Result<String, Stop> {
        let position = position(span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), position);
                self.pay(Size { nodes: 1, bytes: text.len() }, position)?;
                if anchor != 0 {
                    self.refuse(position, "a key cannot have an anchor");
                }
                if text == "<<" && style == ScalarStyle::Plain {
                    let complaint = Complaint::new("merge keys (`<<`) are no part of the workflow dialect");
                    self.refuse(position, complaint.hint("write the keys out, or give the whole value as an alias"));
                }
                Ok(text.into_owned())
            }
            Event::Alias(_) => self.stop(position, "an alias cannot be a key"),
            _ => self.stop(position, Complaint::new("a mapping or a list cannot be a key").hint(BRACES_HINT)),
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, position: Position) {
        if let Some(tag) = tag {
            let complaint = Complaint::new(format!("the tag {} is not understood", quoted(&tag.to_string())));
            self.refuse(position, complaint.hint("tags are no part of the workflow dialect; put text in quotes"));
        }
    }
}

/// What people mean who write `key: {{ value }}`.
const BRACES_HINT: &str = "put text that starts with a brace or a bracket in quotes";

fn too_deep() -> String {
    format!("this is nested deeper than {MAX_DEPTH} levels")
}

fn position(marker: Marker) -> Position {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Position { line: number(marker.line()).max(1), column: number(marker.col()).saturating_add(1) }
}

/// A scalar by the core schema: only plain ones are anything but strings.
fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.into_owned());
    }
    match text.as_ref() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        plain => number(plain).unwrap_or_else(|| Value::String(text.into_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let is_unsigned = digits.bytes().all(|b| b.is_ascii_alphanumeric());
            return i64::from_str_radix(digits, radix).ok().filter(|_| is_unsigned).map(Value::Integer);
        }
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let starts_as_number = digits.strip_prefix('.').unwrap_or(digits).starts_with(|c: char| c.is_ascii_digit());
    let is_numeric = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !starts_as_number || !is_numeric {
        return None;
    }
    text.parse().map(Value::Integer).or_else(|_| text.parse().map(Value::Float)).ok()
}

#[cfg(test)]
mod tests;

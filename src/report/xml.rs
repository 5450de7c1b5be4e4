//! XML as far as reports have it: elements, attributes and texts. Document types are passed over, so that no entity but the
//! predefined ones means anything, and nothing is ever fetched.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Elements in each other.
const MAX_DEPTH: usize = 100;

/// Elements and texts of one document.
const MAX_EVENTS: usize = 5_000_000;

/// Attributes of one element that are looked at.
const MAX_ATTRIBUTES: usize = 64;

/// Bytes of the text of one element that are kept.
const MAX_TEXT: usize = 64 << 10;

/// An element that begins.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
}

impl Element {
    /// The value of an attribute; empty where there is none.
    pub(super) fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// An attribute that is a number; `None` for anything else.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.attribute(name).trim().parse().ok()
    }
}

/// What a document has in its order.
#[derive(Debug)]
pub(super) enum Node {
    Begin(Element),
    Text(String),
    End(String),
}

/// Tells `take` of every node; an element without content begins and ends.
///
/// # Errors
/// What is wrong with the document, for people.
pub(super) fn read(text: &str, mut take: impl FnMut(Node)) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    let (mut depth, mut has_root) = (0, false);
    for _ in 0..MAX_EVENTS {
        let event = reader.read_event().map_err(|error| format!("{error} (byte {})", reader.error_position()))?;
        match event {
            Event::Start(start) => {
                depth += 1;
                has_root = true;
                if depth > MAX_DEPTH {
                    return Err(format!("it has more than {MAX_DEPTH} elements in each other"));
                }
                take(Node::Begin(element(&start)));
            }
            Event::Empty(start) => {
                has_root = true;
                let element = element(&start);
                let name = element.name.clone();
                take(Node::Begin(element));
                take(Node::End(name));
            }
            Event::End(end) => {
                depth -= 1;
                take(Node::End(end.local_name().as_ref().to_owned()));
            }
            Event::Text(text) => take(Node::Text(text.xml10_content().into_owned())),
            Event::CData(text) => take(Node::Text(text.xml10_content().into_owned())),
            Event::GeneralRef(name) => {
                let letter = name.resolve_char_ref().ok().flatten().map(String::from);
                let known = letter.or_else(|| resolve_predefined_entity(&name).map(str::to_owned));
                take(Node::Text(known.unwrap_or_else(|| format!("&{};", &*name))));
            }
            Event::Eof if depth > 0 => return Err("it ends before its elements do".to_owned()),
            Event::Eof if !has_root => return Err("it has no element".to_owned()),
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    Err(format!("it has more than {MAX_EVENTS} parts"))
}

fn element(start: &BytesStart<'_>) -> Element {
    let name = start.local_name().as_ref().to_owned();
    let mut all = start.attributes();
    let attributes = all.with_checks(false).flatten().take(MAX_ATTRIBUTES).map(|attribute| {
        // A reference to what is no entity leaves the text as it stands.
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).unwrap_or_else(|_| attribute.value.clone());
        (attribute.key.local_name().as_ref().to_owned(), value.into_owned())
    });
    Element { name, attributes: attributes.collect() }
}

/// Adds a piece of an element's text, as far as there is room.
pub(super) fn append(text: &mut String, piece: &str) {
    let room = MAX_TEXT.saturating_sub(text.len());
    text.push_str(&piece[..piece.floor_char_boundary(room)]);
}

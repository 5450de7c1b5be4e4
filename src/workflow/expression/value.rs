//! The values of expressions and the coercions between them.
//!
//! Collections and strings are shared, so that copying a value is cheap however large the event's payload is. Two
//! collections are equal only if they are the same one, as in the reference language.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::number;

/// A value of the expression language. As JSON it is the plain value; numbers that JSON lacks (NaN, infinities) become null.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(from = "serde_json::Value", into = "serde_json::Value")]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(f64),
    String(Arc<str>),
    Array(Arc<[Value]>),
    Object(Arc<Object>),
}

impl Value {
    /// `true` for everything but null, false, 0, NaN and the empty string.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0.0 && !value.is_nan(),
            Self::String(value) => !value.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// The value as text; collections are `Array` and `Object`.
    pub fn to_text(&self) -> Arc<str> {
        match self {
            Self::Null => "".into(),
            Self::Bool(true) => "true".into(),
            Self::Bool(false) => "false".into(),
            Self::Number(value) => number::format(*value).into(),
            Self::String(value) => value.clone(),
            Self::Array(_) => "Array".into(),
            Self::Object(_) => "Object".into(),
        }
    }

    /// The value as a number; NaN where it is none.
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(value) => *value,
            Self::String(value) => number::parse(value),
            Self::Array(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// Whether this is neither an array nor an object.
    pub fn is_primitive(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// The member of an object by name (letter case does not matter), or null.
    pub fn member(&self, name: &str) -> Value {
        match self {
            Self::Object(object) => object.get(name).cloned().unwrap_or_default(),
            _ => Self::Null,
        }
    }

    /// The kind by the name that GitHub's own tools give it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Bool(_) => "Boolean",
            Self::Number(_) => "Number",
            Self::String(_) => "String",
            Self::Array(_) => "Array",
            Self::Object(_) => "Object",
        }
    }

    /// The kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// `==` of the language: strings ignore case, differing kinds become numbers, NaN equals nothing.
    pub fn loosely_equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) => compare_ignoring_case(a, b) == Ordering::Equal,
            (Self::Array(a), Self::Array(b)) => Arc::ptr_eq(a, b),
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            (a, b) if a.is_primitive() && b.is_primitive() => a.to_number() == b.to_number(),
            _ => false,
        }
    }

    /// The order of the language, with the same coercions; `None` where there is none (NaN, collections).
    pub fn loosely_compares(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(compare_ignoring_case(a, b)),
            (a, b) if a.is_primitive() && b.is_primitive() => a.to_number().partial_cmp(&b.to_number()),
            _ => None,
        }
    }
}

/// Comparison by meaning for tests and callers outside the language: collections by content, case counts.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => a.entries == b.entries,
            _ => false,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => value.fmt(out),
            Self::Number(value) => out.write_str(&number::format(*value)),
            Self::String(value) => fmt::Debug::fmt(value, out),
            Self::Array(items) => out.debug_list().entries(items.iter()).finish(),
            Self::Object(object) => object.fmt(out),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(Arc::new(object))
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        Self::Array(items.into_iter().collect())
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(value) => Self::Number(value.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(value) => Self::String(value.into()),
            serde_json::Value::Array(items) => items.into_iter().map(Self::from).collect(),
            serde_json::Value::Object(map) => {
                map.into_iter().map(|(name, value)| (name, Self::from(value))).collect::<Object>().into()
            }
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(value) => number::to_json(value),
            Value::String(value) => Self::String(value.to_string()),
            Value::Array(items) => items.iter().cloned().map(Self::from).collect(),
            Value::Object(object) => {
                Self::Object(object.iter().map(|(name, value)| (name.to_owned(), value.clone().into())).collect())
            }
        }
    }
}

/// Names and values in the order of insertion. A look-up prefers the exact name and then ignores letter case, so that what
/// differs only in case stays apart and all else behaves as the language says.
#[derive(Clone, Default)]
pub struct Object {
    entries: Vec<(String, Value)>,
    /// Places in `entries` by folded name.
    index: HashMap<String, Vec<usize>>,
    /// Whether a look-up heeds letter case.
    is_exact: bool,
}

impl Object {
    /// Sets a member; an existing one of exactly this name keeps its place.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        let places = self.index.entry(fold(&name)).or_default();
        if let Some(&place) = places.iter().find(|&&place| self.entries[place].0 == name) {
            self.entries[place].1 = value;
        } else {
            places.push(self.entries.len());
            self.entries.push((name, value));
        }
    }

    /// Sets a member; an existing one of this name, in any case, keeps its place and how it is written.
    pub fn replace(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let name = name.into();
        match self.index.get(&fold(&name)).and_then(|places| places.first()) {
            Some(&place) => self.entries[place].1 = value.into(),
            None => self.insert(name, value),
        }
    }

    /// The same, whose members are found by their exact names only, as environment variables are.
    #[must_use]
    pub fn exact(self) -> Self {
        Self { is_exact: true, ..self }
    }

    /// A member by exact name, else by name in any case.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let places = self.index.get(&fold(name))?;
        let exact = places.iter().find(|&&place| self.entries[place].0 == name);
        let place = if self.is_exact { exact? } else { exact.or(places.first())? };
        Some(&self.entries[*place].1)
    }

    /// Names and values in the order of insertion.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<String>, V: Into<Value>> FromIterator<(N, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        let mut object = Self::default();
        for (name, value) in entries {
            object.insert(name, value);
        }
        object
    }
}

/// The upper-case letter by which text is compared. One letter stays one letter, and the two that the invariant culture of
/// the reference implementation leaves alone (dotless i, long s) stay themselves.
fn fold_char(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_uppercase();
    }
    if matches!(letter, 'ı' | 'ſ') {
        return letter;
    }
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(only), None) => only,
        _ => letter,
    }
}

/// Text in the form in which it is compared and searched.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_uppercase() } else { text.chars().map(fold_char).collect() }
}

fn compare_ignoring_case(left: &str, right: &str) -> Ordering {
    left.chars().map(fold_char).cmp(right.chars().map(fold_char))
}

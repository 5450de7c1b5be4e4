//! A cursor over a JSON document that knows its own path, so that every complaint names the field.

use serde_json::Value;

use crate::forge::{CommitSha, RepoName};

/// How much of an offending value an error repeats, in characters.
const MAX_SHOWN: usize = 80;

/// Why a payload was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("the delivery's body has {size} bytes; at most {limit} are read")]
    TooLarge { size: usize, limit: usize },
    #[error("the delivery's body is not JSON: {detail}\n  hint: the webhook's content type must be `application/json`")]
    NotJson { detail: String },
    #[error("`{path}`: {problem}")]
    Field {
        /// Where in the payload, such as `pull_request.head.sha`.
        path: String,
        problem: String,
    },
}

/// A value of the payload and where it stands. A missing member is a field with JSON's null, as forges use both alike.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Field<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// The member `name`; null when it is missing or when this is not an object.
    pub(super) fn get(&self, name: &str) -> Field<'a> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Field { value: self.value.get(name).unwrap_or(&Value::Null), path }
    }

    /// This field, unless it is null or missing.
    pub(super) fn present(self) -> Option<Field<'a>> {
        (!self.value.is_null()).then_some(self)
    }

    pub(super) fn u64(&self) -> Result<u64, PayloadError> {
        self.value.as_u64().ok_or_else(|| self.unexpected("a whole number"))
    }

    pub(super) fn bool(&self) -> Result<bool, PayloadError> {
        self.value.as_bool().ok_or_else(|| self.unexpected("`true` or `false`"))
    }

    pub(super) fn str(&self) -> Result<&'a str, PayloadError> {
        self.value.as_str().ok_or_else(|| self.unexpected("a text"))
    }

    pub(super) fn array(&self) -> Result<&'a [Value], PayloadError> {
        self.value.as_array().map(Vec::as_slice).ok_or_else(|| self.unexpected("a list"))
    }

    /// A text that is shown to people and may be cut: at most `limit` bytes of it, ending between characters.
    pub(super) fn prose(&self, limit: usize) -> Result<String, PayloadError> {
        let text = self.str()?;
        Ok(text[..text.floor_char_boundary(limit)].to_owned())
    }

    /// A text that identifies something, so that cutting it would make it mean something else: longer than `limit` bytes,
    /// or with control characters, it is an error.
    pub(super) fn name(&self, limit: usize) -> Result<String, PayloadError> {
        let text = self.str()?;
        if text.is_empty() || text.len() > limit || text.chars().any(char::is_control) {
            return Err(self.unexpected(&format!("1 to {limit} bytes without control characters")));
        }
        Ok(text.to_owned())
    }

    pub(super) fn sha(&self) -> Result<CommitSha, PayloadError> {
        CommitSha::parse(self.str()?).map_err(|_| self.unexpected("a full commit id"))
    }

    /// A commit, or nothing where the forge writes the null id.
    pub(super) fn sha_or_null_id(&self) -> Result<Option<CommitSha>, PayloadError> {
        let text = self.str()?;
        if matches!(text.len(), 40 | 64) && text.bytes().all(|b| b == b'0') { Ok(None) } else { self.sha().map(Some) }
    }

    pub(super) fn repo_name(&self) -> Result<RepoName, PayloadError> {
        RepoName::parse(self.str()?).map_err(|_| self.unexpected("a repository's `owner/name`"))
    }

    fn unexpected(&self, expected: &str) -> PayloadError {
        let problem = match self.value {
            Value::Null => format!("is missing; expected {expected}"),
            Value::Object(_) => format!("is an object; expected {expected}"),
            Value::Array(_) => format!("is a list; expected {expected}"),
            Value::String(text) => format!("`{}` is not {expected}", shown(text)),
            scalar => format!("`{scalar}` is not {expected}"),
        };
        PayloadError::Field { path: self.path.clone(), problem }
    }
}

fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(MAX_SHOWN).collect();
    let dots = if chars.next().is_some() { "…" } else { "" };
    format!("{}{dots}", head.escape_debug())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn complaints_name_the_field_and_show_a_bounded_value() {
        let value = json!({"a": {"sha": "f\n".repeat(100), "list": [1], "number": -1, "map": {}}});
        let a = Field::root(&value).get("a");
        insta::assert_snapshot!(a.get("sha").sha().unwrap_err(), @r"`a.sha`: `f\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\n…` is not a full commit id");
        insta::assert_snapshot!(a.get("list").str().unwrap_err(), @"`a.list`: is a list; expected a text");
        insta::assert_snapshot!(a.get("number").u64().unwrap_err(), @"`a.number`: `-1` is not a whole number");
        insta::assert_snapshot!(a.get("map").bool().unwrap_err(), @"`a.map`: is an object; expected `true` or `false`");
        insta::assert_snapshot!(a.get("b").get("c").u64().unwrap_err(), @"`a.b.c`: is missing; expected a whole number");
    }

    #[test]
    fn prose_is_cut_between_characters() {
        let value = json!("aé");
        assert_eq!(Field::root(&value).prose(2).unwrap(), "a");
        assert_eq!(Field::root(&value).prose(3).unwrap(), "aé");
    }
}

//! A cursor over a JSON document that knows its own path, so that every complaint names the field.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

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

/// Names of members that anything here reads, wherever they stand. All others are checked to be JSON, and forgotten: a
/// payload of 20 KB is mostly addresses, which nobody who waits for an answer should have to wait for.
const USED: [&str; 78] = [
    "action",
    "added",
    "after",
    "author_association",
    "author_id",
    "base",
    "base_ref",
    "base_sha",
    "before",
    "body",
    "branch",
    "changes",
    "check_run",
    "check_suite",
    "checkout_sha",
    "comment",
    "commits",
    "conclusion",
    "created",
    "created_at",
    "current",
    "default_branch",
    "deleted",
    "draft",
    "external_id",
    "forced",
    "full_name",
    "head",
    "head_branch",
    "head_ref",
    "head_sha",
    "id",
    "iid",
    "installation",
    "issue",
    "label",
    "labels",
    "last_commit",
    "login",
    "merge_group",
    "merge_request",
    "merged",
    "modified",
    "name",
    "note",
    "noteable_type",
    "number",
    "object_attributes",
    "object_kind",
    "oldrev",
    "organization",
    "path_with_namespace",
    "previous",
    "project",
    "pull_request",
    "ref",
    "removed",
    "repo",
    "repository",
    "run_id",
    "runner_name",
    "sender",
    "sha",
    "source",
    "source_branch",
    "source_project_id",
    "system",
    "target_branch",
    "target_project_id",
    "title",
    "total_commits_count",
    "updated_at",
    "user",
    "user_username",
    "username",
    "work_in_progress",
    "workflow",
    "workflow_job",
];

/// Bytes of the longest of [`USED`], and how many of one length there can be.
const LONGEST: usize = 19;
const MOST_OF_A_LENGTH: usize = 12;

/// [`USED`] by the names' lengths, each with their number.
static BY_LENGTH: [([&str; MOST_OF_A_LENGTH], usize); LONGEST + 1] = {
    let mut lengths = [([""; MOST_OF_A_LENGTH], 0); LONGEST + 1];
    let mut next = 0;
    while next < USED.len() {
        let of_this_length = &mut lengths[USED[next].len()];
        of_this_length.0[of_this_length.1] = USED[next];
        of_this_length.1 += 1;
        next += 1;
    }
    lengths
};

/// Reads a document, but of its objects only the members in [`USED`].
pub(super) fn read(body: &[u8]) -> Result<Value, PayloadError> {
    let not_json = |detail: String| PayloadError::NotJson { detail };
    // What is forgotten must be text too, and the parser does not look that closely at it.
    let text = std::str::from_utf8(body).map_err(|error| not_json(error.to_string()))?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = UsedMembers.deserialize(&mut parser).map_err(|error| not_json(error.to_string()))?;
    parser.end().map_err(|error| not_json(error.to_string()))?;
    Ok(value)
}

/// Makes a [`Value`] as the library does, without the members that nobody reads.
struct UsedMembers;

impl<'de> DeserializeSeed<'de> for UsedMembers {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The name of a member: one of [`USED`], or nothing. Without a copy of it.
struct MemberName;

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName {
    type Value = Option<&'static str>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        // Looked for among those of its length only: most members are not read, and all are looked for.
        let of_this_length = BY_LENGTH.get(name.len()).map_or(&[][..], |(names, count)| &names[..*count]);
        Ok(of_this_length.iter().copied().find(|used| *used == name))
    }
}

impl<'de> Visitor<'de> for UsedMembers {
    type Value = Value;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = members.next_key_seed(MemberName)? {
            match name {
                Some(name) => drop(kept.insert(name.to_owned(), members.next_value_seed(Self)?)),
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(kept))
    }
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
        debug_assert!(USED.contains(&name), "`{name}` must be among the members that are read: add it to `USED`");
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

    /// A list of such texts, at most `most` of them.
    pub(super) fn names(&self, most: usize, limit: usize) -> Result<Vec<String>, PayloadError> {
        let items = self.array()?;
        if items.len() > most {
            return Err(self.unexpected(&format!("a list of at most {most}")));
        }
        let item = |(at, value)| Field { value, path: format!("{}.{at}", self.path) }.name(limit);
        items.iter().enumerate().map(item).collect()
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

    pub(super) fn project_path(&self) -> Result<RepoName, PayloadError> {
        RepoName::parse_path(self.str()?).map_err(|_| self.unexpected("a project's `group/name`"))
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
        let value = json!({"head": {"sha": "f\n".repeat(100), "commits": [1], "number": -1, "user": {}}});
        let a = Field::root(&value).get("head");
        insta::assert_snapshot!(a.get("sha").sha().unwrap_err(), @r"`head.sha`: `f\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\nf\n…` is not a full commit id");
        insta::assert_snapshot!(a.get("commits").str().unwrap_err(), @"`head.commits`: is a list; expected a text");
        insta::assert_snapshot!(a.get("number").u64().unwrap_err(), @"`head.number`: `-1` is not a whole number");
        insta::assert_snapshot!(a.get("user").bool().unwrap_err(), @"`head.user`: is an object; expected `true` or `false`");
        insta::assert_snapshot!(a.get("base").get("id").u64().unwrap_err(), @"`head.base.id`: is missing; expected a whole number");
    }

    #[test]
    fn the_names_that_are_read_are_in_order() {
        assert!(USED.is_sorted());
    }

    #[test]
    fn what_nobody_reads_is_checked_and_forgotten() {
        let read_as_text = |text: &str| read(text.as_bytes()).unwrap().to_string();
        let text = r#"{"url": "x", "head": {"sha": "a\u0041", "x": [1, {"id": 2}]}, "commits": [{"id": 1.5, "y": 1}, null, true, -3]}"#;
        assert_eq!(read_as_text(text), r#"{"head":{"sha":"aA"},"commits":[{"id":1.5},null,true,-3]}"#);
        assert_eq!(
            read_as_text(r#"{"id": 1, "\u0069d": 2}"#),
            r#"{"id":2}"#,
            "the last one counts, however it is written"
        );
        let bad: [&[u8]; 7] =
            [b"", b"{", b"{\"url\": }", b"{\"url\": \"\xFF\"}", b"{} {}", b"{\"url\": [1, 2}", b"{\"url\": 01}"];
        for bad in bad {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn prose_is_cut_between_characters() {
        let value = json!("aé");
        assert_eq!(Field::root(&value).prose(2).unwrap(), "a");
        assert_eq!(Field::root(&value).prose(3).unwrap(), "aé");
    }
}

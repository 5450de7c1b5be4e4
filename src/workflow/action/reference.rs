//! What stands behind `uses` of a step.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::document::Complaint;
use crate::document::reader::quoted;
use crate::forge::RepoName;
use crate::workflow::call::is_workflow;

/// Bytes of a `uses`.
const MAX_USES: usize = 500;

const FORMS: &str = "write `owner/name@ref`, `owner/name/path@ref`, `./path` or `docker://image`";

/// The action that a step uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ActionRef {
    /// A directory below the workspace, without `./`; empty for the workspace itself. It is there once a step has put it there.
    Local(String),
    Remote(RemoteAction),
    /// An image that is run, by the name under which registries have it.
    Docker(String),
}

/// An action in a repository of its forge; or a workflow there, which jobs name in the same way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteAction {
    pub repo: RepoName,
    /// The directory in the repository, empty for its root; or a workflow's file.
    pub path: String,
    /// A full commit id, a tag or a branch.
    pub version: String,
}

impl ActionRef {
    /// Reads a `uses`.
    ///
    /// # Errors
    /// What names no action, with the forms that do.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let text = text.trim();
        let refuse = || Complaint::new(format!("{} names no action", quoted(text))).hint(FORMS);
        if text.is_empty() || text.len() > MAX_USES || text.chars().any(|letter| !is_visible(letter)) {
            return Err(refuse());
        }
        if let Some(image) = text.strip_prefix("docker://") {
            let is_name = !image.is_empty() && !image.starts_with('-');
            return is_name.then(|| Self::Docker(image.to_owned())).ok_or_else(refuse);
        }
        if text == "." || text == "./" {
            return Ok(Self::Local(String::new()));
        }
        if let Some(path) = text.strip_prefix("./") {
            return Ok(Self::Local(path.trim_end_matches('/').to_owned()));
        }
        if text.contains("${{") {
            return Err(Complaint::new("the action cannot be computed").hint("`uses` has no expressions"));
        }
        let (name, version) = text.split_once('@').ok_or_else(|| {
            if text.contains('/') {
                Complaint::new(format!("{} has no version", quoted(text))).hint(format!("add one, as in `{text}@v1`"))
            } else {
                refuse()
            }
        })?;
        let mut parts = name.splitn(3, '/');
        let repo = match (parts.next(), parts.next()) {
            (Some(owner), Some(name)) => RepoName::parse(&format!("{owner}/{name}")).map_err(|_| refuse())?,
            _ => return Err(refuse()),
        };
        let path = parts.next().unwrap_or_default().trim_matches('/').to_owned();
        if path.split('/').any(|part| part == "..") || !is_version(version) {
            return Err(refuse());
        }
        Ok(Self::Remote(RemoteAction { repo, path, version: version.to_owned() }))
    }

    /// The remote action, if it is one.
    pub fn remote(&self) -> Option<&RemoteAction> {
        if let Self::Remote(remote) = self { Some(remote) } else { None }
    }
}

impl RemoteAction {
    /// Whether the version is a commit, which never moves.
    pub fn is_pinned(&self) -> bool {
        matches!(self.version.len(), 40 | 64) && self.version.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// What it is, for people.
    pub fn noun(&self) -> &'static str {
        if is_workflow(&self.path) { "workflow" } else { "action" }
    }

    /// `owner/name` with the directory, if there is one.
    pub fn name(&self) -> String {
        if self.path.is_empty() { self.repo.to_string() } else { format!("{}/{}", self.repo, self.path) }
    }
}

fn is_visible(letter: char) -> bool {
    !letter.is_control() && !letter.is_whitespace()
}

/// As git has it for names of references, as far as it matters here: it is no option, no range and no pattern.
fn is_version(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['-', '/'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains(['~', '^', ':', '?', '*', '[', '\\', '@'])
}

impl fmt::Display for ActionRef {
    /// As a workflow writes it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(out, "./{path}"),
            Self::Remote(remote) => write!(out, "{remote}"),
            Self::Docker(image) => write!(out, "docker://{image}"),
        }
    }
}

impl fmt::Display for RemoteAction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.name(), self.version)
    }
}

impl TryFrom<String> for ActionRef {
    type Error = Complaint;
    fn try_from(text: String) -> Result<Self, Complaint> {
        Self::parse(&text)
    }
}

impl From<ActionRef> for String {
    fn from(reference: ActionRef) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_forms_are_read_and_written_as_they_were() {
        for text in [
            "actions/cache@v4",
            "actions/cache/restore@v4.1",
            "acme/site/.github/actions/deep/er@feature/x",
            "acme/site@0123456789012345678901234567890123456789",
            "./.github/actions/build",
            "./",
            "docker://alpine:3.20",
            "docker://registry.example/team/tool@sha256:abc",
        ] {
            assert_eq!(ActionRef::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ActionRef::parse(" ./a/ ").unwrap(), ActionRef::Local("a".into()));
        assert_eq!(ActionRef::parse("a/b/@v1").unwrap().to_string(), "a/b@v1");
        let pinned = ActionRef::parse("a/b@0123456789012345678901234567890123456789").unwrap();
        assert!(pinned.remote().unwrap().is_pinned());
        assert!(!ActionRef::parse("a/b@0123456").unwrap().remote().unwrap().is_pinned());
    }

    #[test]
    fn what_names_no_action_is_refused() {
        for text in [
            "",
            "setup-node",
            "setup-node@v4",
            "a/b",
            "a/b@",
            "a/b@-x",
            "a/b@x..y",
            "a/b@v1@v2",
            "a/../b@v1",
            "a/b/../c@v1",
            "a b/c@v1",
            "docker://",
            "docker://-x",
            "a/b@v1:x",
            "/a@v1",
            "a//b@",
            "${{ matrix.action }}@v1",
            "a/b@\u{7}",
        ] {
            assert!(ActionRef::parse(text).is_err(), "{text}");
        }
        let versionless = ActionRef::parse("actions/cache").unwrap_err().to_string();
        assert!(versionless.contains("has no version"), "{versionless}");
    }

    proptest! {
        /// Whatever is accepted means the same after it was stored, and its parts name no other place.
        #[test]
        fn what_is_accepted_stays_the_same(text in "[a-z./@:$-]{0,24}|[a-z]{1,3}/[a-z.]{1,4}(/[a-z./]{0,6})?@[a-z0-9./~-]{1,6}") {
            if let Ok(reference) = ActionRef::parse(&text) {
                prop_assert_eq!(&ActionRef::parse(&reference.to_string()).unwrap(), &reference);
                if let Some(remote) = reference.remote() {
                    prop_assert!(!remote.version.starts_with('-') && !remote.path.split('/').any(|part| part == ".."));
                }
            }
        }
    }
}

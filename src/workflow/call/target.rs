//! What stands behind `uses` of a job: the file of a workflow.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::document::Complaint;
use crate::document::reader::quoted;
use crate::workflow::action::{ActionRef, RemoteAction};

/// Bytes of a `uses`.
const MAX_TARGET: usize = 500;

/// Where workflows may be.
pub(crate) const DIRECTORIES: [&str; 2] = [".github/workflows/", ".dayfly/workflows/"];

const TARGET_HINT: &str =
    "write `./.github/workflows/NAME.yml`, or `OWNER/NAME/.github/workflows/NAME.yml@REF` for another repository";

/// The file that a job's `uses` names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CallTarget {
    /// In the calling workflow's repository, at its commit.
    Local { path: String },
    /// In another one, or in the same one at a version.
    Remote(RemoteAction),
}

impl CallTarget {
    /// Reads a `uses`.
    ///
    /// # Errors
    /// What names no workflow, with the forms that do.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let complaint = |what: String| Complaint::new(what).hint(TARGET_HINT);
        if text.len() > MAX_TARGET || text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(complaint(format!("{} names no workflow", quoted(text))));
        }
        let refuse = || complaint(format!("{} names no workflow", quoted(text)));
        if let Some(path) = text.strip_prefix("./") {
            if path.contains('@') {
                return Err(complaint("a workflow of the same repository is taken at the same commit".to_owned()));
            }
            return is_workflow(path).then(|| Self::Local { path: path.to_owned() }).ok_or_else(refuse);
        }
        match ActionRef::parse(text) {
            Ok(ActionRef::Remote(remote)) if is_workflow(&remote.path) && remote.to_string() == text => {
                Ok(Self::Remote(remote))
            }
            _ => Err(refuse()),
        }
    }

    /// What `target` names where this workflow calls it: local files of a remote workflow are remote too.
    pub(in crate::workflow) fn resolve(&self, target: &Self) -> Self {
        match (self, target) {
            (Self::Remote(around), Self::Local { path }) => {
                Self::Remote(RemoteAction { path: path.clone(), ..around.clone() })
            }
            _ => target.clone(),
        }
    }
}

/// A file directly in one of the directories, as YAML.
pub(crate) fn is_workflow(path: &str) -> bool {
    let name = DIRECTORIES.iter().find_map(|directory| path.strip_prefix(directory));
    name.and_then(|name| name.rsplit_once('.'))
        .is_some_and(|(stem, ending)| !stem.is_empty() && !stem.contains('/') && matches!(ending, "yml" | "yaml"))
}

impl fmt::Display for CallTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path } => write!(out, "./{path}"),
            Self::Remote(remote) => remote.fmt(out),
        }
    }
}

impl TryFrom<String> for CallTarget {
    type Error = Complaint;
    fn try_from(text: String) -> Result<Self, Complaint> {
        Self::parse(&text)
    }
}

impl From<CallTarget> for String {
    fn from(target: CallTarget) -> String {
        target.to_string()
    }
}

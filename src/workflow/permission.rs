//! `permissions`: what a job may do at the forge. No token enters a VM, so what remains of it is what the host does for the job
//! with a credential of its own: above all, fetching its repository.
//!
//! What a job says replaces what its workflow says, and what neither names it may not do. A called workflow has at most what
//! the job has that calls it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model::{Access, Permissions};
use crate::document::Complaint;

/// What `permissions` can name.
pub const NAMES: &[&str] = &[
    "actions",
    "artifact-metadata",
    "attestations",
    "checks",
    "code-quality",
    "contents",
    "copilot-requests",
    "deployments",
    "discussions",
    "drives",
    "id-token",
    "issues",
    "models",
    "packages",
    "pages",
    "pull-requests",
    "repository-projects",
    "security-events",
    "statuses",
    "vulnerability-alerts",
];

/// Why a checkout does not happen.
pub const NO_CONTENTS: &str = "the job's `permissions` do not let it read the repository\n  hint: add `contents: read` to the \
                               `permissions` of the job, of its workflow, or of the job that calls that";

/// Those that cannot be only read: one has them or not.
pub const WRITE_OR_NONE: &[&str] = &["id-token", "copilot-requests"];

/// Those that nobody writes.
pub const READ_OR_NONE: &[&str] = &["models", "vulnerability-alerts"];

/// What a job may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permitted {
    /// Nobody said anything: all that Dayfly has to give.
    #[default]
    Usual,
    /// This, and nothing else.
    Only(BTreeMap<String, Access>),
}

/// More than a called workflow can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    pub name: String,
    pub asked: Access,
    pub allowed: Access,
}

impl Permitted {
    /// What pull requests of forks have, whatever their workflows say: they read.
    pub fn of_forks() -> Self {
        Self::Only(each(Access::Read))
    }

    /// What a job has whose `permissions`, or else those of its workflow, are `written`, where it could have `outer` at most.
    #[must_use]
    pub fn within(written: Option<&Permissions>, outer: &Self) -> Self {
        let Some(written) = written else { return outer.clone() };
        let asked = asked(written).into_iter();
        let least = |(name, access): (String, Access)| {
            let allowed = outer.access(&name).min(access);
            (name, allowed)
        };
        Self::Only(asked.map(least).filter(|(_, access)| *access != Access::None).collect())
    }

    /// The first thing of `written` that is more than this, if something is.
    pub fn excess(&self, written: &Permissions) -> Option<Excess> {
        asked(written).into_iter().find_map(|(name, asked)| {
            let allowed = self.access(&name);
            (asked > allowed).then_some(Excess { name, asked, allowed })
        })
    }

    /// How far it goes with one of [`NAMES`].
    pub fn access(&self, name: &str) -> Access {
        match self {
            Self::Usual => Access::Write,
            Self::Only(each) => each.get(name).copied().unwrap_or(Access::None),
        }
    }
}

/// By name, what is asked for; things that are not named are not there.
fn asked(written: &Permissions) -> BTreeMap<String, Access> {
    match written {
        Permissions::All(access) => each(*access),
        // Of two equal names the last one counts; YAML has no two.
        Permissions::Each(each) => each.iter().cloned().collect(),
    }
}

/// Everything, as far as it can be had so.
fn each(access: Access) -> BTreeMap<String, Access> {
    let of = |name: &&str| match access {
        Access::Read if WRITE_OR_NONE.contains(name) => Access::None,
        Access::Write if READ_OR_NONE.contains(name) => Access::Read,
        access => access,
    };
    NAMES.iter().map(|name| ((*name).to_owned(), of(name))).filter(|(_, access)| *access != Access::None).collect()
}

impl From<Excess> for Complaint {
    fn from(Excess { name, asked, allowed }: Excess) -> Self {
        let (asked, allowed) = (asked.as_str(), allowed.as_str());
        Self::new(format!("the called workflow asks for `{name}: {asked}`, but may have `{name}: {allowed}` here"))
            .hint("the `permissions` of the job that calls it must have what the called workflow asks for")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::workflow::examine;

    /// The `permissions` of a workflow that has these.
    fn written(text: &str) -> Permissions {
        let text = format!("on: push\npermissions: {text}\njobs: {{a: {{runs-on: x, steps: [run: x]}}}}\n");
        examine("ci.yml", &text).workflow.unwrap().permissions.unwrap()
    }

    #[test]
    fn what_is_not_named_is_not_there() {
        let told = |text: &str| {
            let permitted = Permitted::within(Some(&written(text)), &Permitted::Usual);
            ["contents", "checks", "id-token", "models"].map(|name| permitted.access(name).as_str()).join(" ")
        };
        for (text, expected) in [
            ("{}", "none none none none"),
            ("read-all", "read read none read"),
            ("write-all", "write write write read"),
            ("{contents: read}", "read none none none"),
            ("{contents: write, checks: none, id-token: write}", "write none write none"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
        assert_eq!(Permitted::within(None, &Permitted::Usual), Permitted::Usual);
        assert_eq!(Permitted::of_forks().access("contents"), Access::Read);
        assert_eq!(Permitted::of_forks().access("id-token"), Access::None);
    }

    #[test]
    fn nothing_inside_is_more_than_outside() {
        let outer = Permitted::within(Some(&written("{contents: read, issues: write}")), &Permitted::Usual);
        assert_eq!(outer.excess(&written("{contents: read}")), None);
        assert_eq!(outer.excess(&written("{}")), None);
        assert_eq!(Permitted::Usual.excess(&written("write-all")), None);
        let excess = outer.excess(&written("{contents: write}")).unwrap();
        insta::assert_snapshot!(Complaint::from(excess), @"
        the called workflow asks for `contents: write`, but may have `contents: read` here
          hint: the `permissions` of the job that calls it must have what the called workflow asks for
        ");
        assert_eq!(outer.excess(&written("read-all")).unwrap().name, "actions");
        let inner = Permitted::within(Some(&written("write-all")), &outer);
        assert_eq!(inner, outer);
        assert_eq!(Permitted::within(None, &outer), outer);
    }
}

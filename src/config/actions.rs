//! `[actions]`: which actions and workflows of other repositories jobs may use, and where they come from.

use url::Url;

use super::sections::{GIB, TIB};
use super::units::size_between;
use super::values::base_url;
use crate::actions::MAX_ARCHIVE;
use crate::document::{Item, Table};
use crate::forge::RepoName;
use crate::workflow::action::policy::{ActionPattern, ActionPolicy};

/// Bytes of fetched actions that are kept without `max_size`.
pub const DEFAULT_KEPT: u64 = 4 * GIB;

/// What the operator says of actions.
#[derive(Debug, Clone, PartialEq)]
pub struct Actions {
    pub policy: ActionPolicy,
    /// Where their repositories are; `None`: on the forge.
    pub url: Option<Url>,
    /// Repositories that are fetched with the forge's credential, beside those that a job may fetch anyway.
    pub private: Vec<RepoName>,
    /// Bytes of fetched actions that are kept.
    pub max_size: u64,
}

pub(super) fn read(root: &Table<'_>) -> Option<Actions> {
    let table =
        root.section("actions", &["allowed", "allowed_workflows", "require_sha_pins", "url", "private", "max_size"])?;
    let usual = ActionPolicy::default();
    let patterns = |item: &Item<'_>| -> Option<Vec<ActionPattern>> {
        Some(item.list()?.iter().filter_map(|item| item.parse(ActionPattern::parse)).collect())
    };
    let names = |item: &Item<'_>| -> Option<Vec<RepoName>> {
        Some(item.list()?.iter().filter_map(|item| item.parse(RepoName::parse)).collect())
    };
    Some(Actions {
        policy: ActionPolicy {
            allowed: table.read_or("allowed", usual.allowed, patterns),
            allowed_workflows: table.read("allowed_workflows", patterns),
            require_sha_pins: table.read_or("require_sha_pins", usual.require_sha_pins, Item::bool),
        },
        url: table.read("url", |item| base_url(item, "the code of actions")),
        private: table.read_or("private", Vec::new(), names),
        max_size: table.read_or("max_size", DEFAULT_KEPT, |item| size_between(item, MAX_ARCHIVE, 1024 * TIB)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(lines: &str) -> Result<Actions, String> {
        let text = format!(
            "[server]\npublic_url = \"https://ci.example.org\"\n[github]\nwebhook_secret = {{ env = \"HOOK\" }}\n\
             token = {{ env = \"TOKEN\" }}\n[profile.linux]\nlabels = [\"linux\"]\n{lines}"
        );
        let errors = |errors: Vec<crate::document::Diagnostic>| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        Config::parse("f", &text).map(|(config, _)| config.actions).map_err(errors)
    }

    #[test]
    fn everything_has_a_default() {
        let actions = parse("").unwrap();
        assert_eq!(actions.policy, ActionPolicy::default());
        assert_eq!((actions.url, actions.private.len(), actions.max_size), (None, 0, DEFAULT_KEPT));
    }

    #[test]
    fn mistakes_are_named_one_by_one() {
        insta::assert_snapshot!(parse("[actions]\nallowed = ['actions', 'a/*']\nprivate = ['x']\nmax_size = '1 MiB'\n").unwrap_err(), @"
        f:9:12: actions.allowed[0]: `actions` is no pattern of actions
          hint: write `owner/*`, `owner/name` or `owner/name@version`, with `!` before what is not allowed
        f:10:12: actions.private[0]: `x` is not a repository's `owner/name`
        f:11:12: actions.max_size: `1 MiB` is not between 512 MiB and 1024 TiB
        ");
        let actions = parse(
            "[actions]\nallowed = []\nrequire_sha_pins = true\nurl = 'https://git.example.org/'\nprivate = ['a/b']\n",
        )
        .unwrap();
        assert!(actions.policy.allowed.is_empty() && actions.policy.require_sha_pins && actions.url.is_some());
    }
}

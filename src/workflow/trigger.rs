//! Whether an event starts a workflow.

use super::model::{EventTrigger, Filter, Workflow};

/// Activities of pull requests that start workflows which name none.
const USUAL_PULL_REQUEST_TYPES: &[&str] = &["opened", "synchronize", "reopened"];

/// An event, as far as triggers look at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trigger {
    /// The event's name in the dialect, such as `pull_request`.
    pub event: String,
    /// The activity, such as `opened`.
    pub action: Option<String>,
    /// The short name of the branch that was pushed, or that the pull request or merge group goes into.
    pub branch: Option<String>,
    /// The short name of the tag that was pushed.
    pub tag: Option<String>,
    /// The files that the event changed. `None` means that nobody knows; then filters by path let the event pass, because a
    /// needless run is better than a missing one.
    pub changed_paths: Option<Vec<String>>,
}

/// Whether a workflow starts, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    Starts,
    /// For people who wonder.
    Passes(String),
}

/// Whether `trigger` starts `workflow`.
pub fn matches(workflow: &Workflow, trigger: &Trigger) -> Match {
    match workflow.on.iter().find(|candidate| candidate.event == trigger.event) {
        None => Match::Passes(format!("`on` does not name the event `{}`", trigger.event)),
        Some(narrowed) => obstacle(narrowed, trigger).map_or(Match::Starts, Match::Passes),
    }
}

fn obstacle(narrowed: &EventTrigger, trigger: &Trigger) -> Option<String> {
    activity_obstacle(narrowed, trigger)
        .or_else(|| ref_obstacle(narrowed, trigger))
        .or_else(|| path_obstacle(narrowed, trigger))
}

fn activity_obstacle(narrowed: &EventTrigger, trigger: &Trigger) -> Option<String> {
    let action = trigger.action.as_deref()?;
    let is_taken = match &narrowed.types {
        Some(types) => types.iter().any(|known| known == action),
        None => trigger.event != "pull_request" || USUAL_PULL_REQUEST_TYPES.contains(&action),
    };
    (!is_taken).then(|| format!("the activity `{action}` is not among the `types`"))
}

/// A filter on branches alone leaves out all tags, and the other way round.
fn ref_obstacle(narrowed: &EventTrigger, trigger: &Trigger) -> Option<String> {
    let (kind, name, own, other) = match (&trigger.tag, &trigger.branch) {
        (Some(tag), _) => ("tag", tag, &narrowed.tags, &narrowed.branches),
        (None, Some(branch)) => ("branch", branch, &narrowed.branches, &narrowed.tags),
        (None, None) => return None,
    };
    let is_taken = match own {
        Some(filter) => filter.takes(name),
        None => other.is_none(),
    };
    (!is_taken).then(|| format!("the {kind} `{name}` is left out by the filters"))
}

/// Paths are not looked at when a tag is pushed.
fn path_obstacle(narrowed: &EventTrigger, trigger: &Trigger) -> Option<String> {
    let (Some(filter), Some(paths), None) = (&narrowed.paths, &trigger.changed_paths, &trigger.tag) else {
        return None;
    };
    let is_taken = paths.iter().any(|path| filter.takes(path));
    (!is_taken).then(|| "none of the changed files passes the filter on paths".to_owned())
}

impl Filter {
    /// Whether the filter lets `name` pass.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Self::Only(patterns) => patterns.takes(name),
            Self::Ignore(patterns) => !patterns.takes(name),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::workflow::parse;

    fn starts(on: &str, trigger: &Trigger) -> bool {
        let text = format!("on: {on}\njobs: {{a: {{runs-on: x, steps: [run: x]}}}}\n");
        let workflow = parse("w.yml", &text).unwrap_or_else(|errors| panic!("{}", errors[0]));
        matches(&workflow, trigger) == Match::Starts
    }

    fn pull_request(action: &str, base: &str, paths: &[&str]) -> Trigger {
        Trigger {
            event: "pull_request".into(),
            action: Some(action.into()),
            branch: Some(base.into()),
            tag: None,
            changed_paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()),
        }
    }

    fn push(branch: Option<&str>, tag: Option<&str>, paths: Option<&[&str]>) -> Trigger {
        Trigger {
            event: "push".into(),
            action: None,
            branch: branch.map(Into::into),
            tag: tag.map(Into::into),
            changed_paths: paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect()),
        }
    }

    #[test]
    fn pull_requests_start_on_their_usual_activities() {
        for (action, usual) in
            [("opened", true), ("synchronize", true), ("reopened", true), ("closed", false), ("labeled", false)]
        {
            assert_eq!(starts("pull_request", &pull_request(action, "main", &[])), usual, "{action}");
            assert_eq!(starts("[push, pull_request]", &pull_request(action, "main", &[])), usual, "{action}");
        }
        let labeled = "{pull_request: {types: [labeled]}}";
        assert!(starts(labeled, &pull_request("labeled", "main", &[])));
        assert!(!starts(labeled, &pull_request("opened", "main", &[])));
        assert!(!starts("push", &pull_request("opened", "main", &[])));
    }

    #[test]
    fn branches_are_the_targets_of_pull_requests() {
        let only = "{pull_request: {branches: ['main', 'release/**', '!release/old/**']}}";
        assert!(starts(only, &pull_request("opened", "release/9/x", &[])));
        assert!(!starts(only, &pull_request("opened", "release/old/x", &[])));
        assert!(!starts(only, &pull_request("opened", "feature", &[])));
        assert!(!starts("{pull_request: {branches-ignore: 'm*'}}", &pull_request("opened", "main", &[])));
    }

    #[test]
    fn a_filter_on_one_kind_of_ref_leaves_out_the_other() {
        let branch = push(Some("main"), None, None);
        let tag = push(None, Some("v1"), None);
        for (on, on_branch, on_tag) in [
            ("push", true, true),
            ("{push: {branches: [main]}}", true, false),
            ("{push: {branches-ignore: [x]}}", true, false),
            ("{push: {tags: [v*]}}", false, true),
            ("{push: {tags-ignore: [v*]}}", false, false),
            ("{push: {branches: [main], tags: [v*]}}", true, true),
        ] {
            assert_eq!(starts(on, &branch), on_branch, "{on}");
            assert_eq!(starts(on, &tag), on_tag, "{on}");
        }
    }

    #[test]
    fn one_changed_file_that_passes_is_enough() {
        let only = "{push: {paths: ['src/**', '!**/*.md']}}";
        let ignore = "{push: {paths-ignore: ['**.md']}}";
        let changed = |paths| push(Some("main"), None, paths);
        assert!(starts(only, &changed(Some(&["README.md", "src/a.rs"]))));
        assert!(!starts(only, &changed(Some(&["src/README.md"]))));
        assert!(starts(ignore, &changed(Some(&["a.md", "b.rs"]))));
        assert!(!starts(ignore, &changed(Some(&["a.md", "docs/b.md"]))));
        // Unknown changes and tags pass.
        assert!(starts(only, &changed(None)));
        assert!(starts(only, &push(None, Some("v1"), Some(&["x"]))));
    }

    #[test]
    fn reasons_are_for_people() {
        let workflow = parse("w.yml", "on: push\njobs: {a: {runs-on: x, steps: [run: x]}}").unwrap();
        let Match::Passes(reason) = matches(&workflow, &pull_request("opened", "main", &[])) else { panic!("passes") };
        insta::assert_snapshot!(reason, @"`on` does not name the event `pull_request`");
    }
}

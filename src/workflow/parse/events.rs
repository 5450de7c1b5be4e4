//! The events of the dialect: which of them start workflows, the keys that narrow each, and its activities.

/// One event.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: &'static str,
    /// Whether this version starts workflows for it.
    pub(super) starts: bool,
    pub(super) keys: &'static [&'static str],
    pub(super) types: &'static [&'static str],
}

const NO_KEYS: &[&str] = &[];
const TYPES: &[&str] = &["types"];
const OF_PUSHES: &[&str] = &["branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"];
const OF_PULL_REQUESTS: &[&str] = &["types", "branches", "branches-ignore", "paths", "paths-ignore"];

const EDITS: &[&str] = &["created", "edited", "deleted"];
const PULL_REQUEST_TYPES: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
    "stacked",
];
const ISSUE_TYPES: &[&str] = &[
    "opened",
    "edited",
    "deleted",
    "transferred",
    "pinned",
    "unpinned",
    "closed",
    "reopened",
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "locked",
    "unlocked",
    "milestoned",
    "demilestoned",
    "field_added",
    "field_removed",
    "typed",
    "untyped",
];
const DISCUSSION_TYPES: &[&str] = &[
    "created",
    "edited",
    "deleted",
    "transferred",
    "pinned",
    "unpinned",
    "labeled",
    "unlabeled",
    "locked",
    "unlocked",
    "category_changed",
    "answered",
    "unanswered",
];

const fn starting(name: &'static str, keys: &'static [&'static str], types: &'static [&'static str]) -> Event {
    Event { name, starts: true, keys, types }
}

const fn later(name: &'static str, keys: &'static [&'static str], types: &'static [&'static str]) -> Event {
    Event { name, starts: false, keys, types }
}

pub(super) const EVENTS: [Event; 36] = [
    starting("push", OF_PUSHES, &[]),
    starting("pull_request", OF_PULL_REQUESTS, PULL_REQUEST_TYPES),
    starting("merge_group", &["types", "branches", "branches-ignore"], &["checks_requested"]),
    starting("workflow_dispatch", &["inputs"], &[]),
    later("branch_protection_rule", TYPES, EDITS),
    later("check_run", TYPES, &["completed", "created", "rerequested", "requested_action"]),
    later("check_suite", TYPES, &["completed"]),
    later("create", NO_KEYS, &[]),
    later("delete", NO_KEYS, &[]),
    later("deployment", NO_KEYS, &[]),
    later("deployment_status", NO_KEYS, &[]),
    later("discussion", TYPES, DISCUSSION_TYPES),
    later("discussion_comment", TYPES, EDITS),
    later("fork", NO_KEYS, &[]),
    later("gollum", NO_KEYS, &[]),
    later("image_version", &["types", "names", "versions"], &["created", "ready", "deleted"]),
    later("issue_comment", TYPES, EDITS),
    later("issues", TYPES, ISSUE_TYPES),
    later("label", TYPES, EDITS),
    later("milestone", TYPES, &["created", "closed", "opened", "edited", "deleted"]),
    later("page_build", NO_KEYS, &[]),
    later("project", TYPES, &["created", "closed", "reopened", "edited", "deleted"]),
    later("project_card", TYPES, &["created", "moved", "converted", "edited", "deleted"]),
    later("project_column", TYPES, &["created", "updated", "moved", "deleted"]),
    later("public", NO_KEYS, &[]),
    later("pull_request_comment", TYPES, EDITS),
    later("pull_request_review", TYPES, &["submitted", "edited", "dismissed"]),
    later("pull_request_review_comment", TYPES, EDITS),
    later("pull_request_target", OF_PULL_REQUESTS, PULL_REQUEST_TYPES),
    later("registry_package", TYPES, &["published", "updated"]),
    later("release", TYPES, &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"]),
    // Its activities are whatever the sender calls them.
    starting("repository_dispatch", TYPES, &[]),
    starting("schedule", NO_KEYS, &[]),
    later("status", NO_KEYS, &[]),
    later("watch", TYPES, &["started"]),
    later(
        "workflow_run",
        &["types", "workflows", "branches", "branches-ignore"],
        &["requested", "completed", "in_progress"],
    ),
];

/// What is called by other workflows, and started by no event.
pub(super) const WORKFLOW_CALL: &str = "workflow_call";

/// The event of this name.
pub(super) fn find(name: &str) -> Option<&'static Event> {
    EVENTS.iter().find(|event| event.name == name)
}

/// All names, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    EVENTS.iter().map(|event| event.name).chain([WORKFLOW_CALL])
}

/// Names of the events that start workflows.
pub(super) fn starting_names() -> Vec<&'static str> {
    EVENTS.iter().filter(|event| event.starts).map(|event| event.name).collect()
}

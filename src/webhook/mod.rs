//! Webhooks: bytes → verified → typed event. Takes no decisions and does no IO.
//!
//! The order is the security: [`verify_github`] runs over the raw bytes before anything looks into them, [`GitHubHeaders`]
//! admits only bounded and harmless header values, and [`parse_github`] reads the few fields that Dayfly acts upon. What a
//! payload says is a claim of the forge about its users: every text is bounded, every commit and repository name has its
//! own checked type, and a field that is used but not as expected is an error that names its JSON path. Fields, events and
//! actions that Dayfly does not know are no errors, because forges add them at any time.

mod event;
mod github;
mod gitlab;
mod json;
mod signature;

use crate::forge;
pub use event::{
    AuthorAssociation, CheckRunRerequested, CheckSuiteRerequested, DeliveryId, Dispatch, Event, EventName,
    IssueComment, IssueCommentAction, MergeGroup, MergeGroupAction, PullRequest, PullRequestAction, Push, PushTarget,
    Repository, WorkflowJob,
};
use github::parse_dispatch;

pub use github::{GitHubHeaders, HeaderError, MAX_BODY, parse_github};
pub use gitlab::signature::{Proof, WebhookSecret};
pub use gitlab::{GitLabHeaders, is_of_jobs, kind_of, parse_gitlab};
pub use json::PayloadError;
pub use signature::{SignatureError, check_github_signature, verify_github};

/// Reads the body of a delivery of the forge of that name, as [`parse_github`] does.
///
/// # Errors
/// As there.
pub fn parse(forge: &str, name: &EventName, body: &[u8]) -> Result<Event, PayloadError> {
    match (forge, name.as_str()) {
        (forge::github::NAME, _) => parse_github(name, body),
        (_, "workflow_dispatch" | "repository_dispatch" | "schedule") => parse_dispatch(forge, name, body),
        _ => parse_gitlab(forge, name, body),
    }
}

/// What `github.event` is for an event with that payload.
pub fn as_event(event: &Event, payload: serde_json::Value) -> serde_json::Value {
    match event.repository() {
        Some(repository) if repository.forge != forge::github::NAME => gitlab::as_event(event, payload),
        _ => payload,
    }
}

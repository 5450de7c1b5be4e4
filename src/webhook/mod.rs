//! Webhooks: bytes → verified → typed event. Takes no decisions and does no IO.
//!
//! The order is the security: [`verify_github`] runs over the raw bytes before anything looks into them, [`GitHubHeaders`]
//! admits only bounded and harmless header values, and [`parse_github`] reads the few fields that Dayfly acts upon. What a
//! payload says is a claim of the forge about its users: every text is bounded, every commit and repository name has its
//! own checked type, and a field that is used but not as expected is an error that names its JSON path. Fields, events and
//! actions that Dayfly does not know are no errors, because forges add them at any time.

mod event;
mod github;
mod json;
mod signature;

pub use event::{
    AuthorAssociation, CheckRunRerequested, CheckSuiteRerequested, DeliveryId, Dispatch, Event, EventName,
    IssueComment, IssueCommentAction, MergeGroup, MergeGroupAction, PullRequest, PullRequestAction, Push, PushTarget,
    Repository, WorkflowJob,
};
pub use github::{GitHubHeaders, HeaderError, MAX_BODY, parse_github};
pub use json::PayloadError;
pub use signature::{SignatureError, check_github_signature, verify_github};

//! The payloads of webhooks, in the shape that GitHub documents.

use serde_json::{Value, json};

use super::Forge;
use super::checks::{run_json, suite_id};
use super::pulls::{PullRequest, pull_json};
use super::state::CheckRun;

const NULL_ID: &str = "0000000000000000000000000000000000000000";

/// What a push moved, for [`Forge::push_payload`].
#[derive(Debug, Clone, Copy)]
pub struct Pushed<'a> {
    pub branch: &'a str,
    /// `None` when the push made the branch.
    pub before: Option<&'a str>,
    /// `None` when the push deleted the branch.
    pub after: Option<&'a str>,
    pub changed: &'a [&'a str],
}

impl Forge {
    /// `pull_request`: `opened`, `synchronize` and so on.
    pub fn pull_request_payload(&self, pull: &PullRequest, action: &str) -> Value {
        let mut payload = self.envelope(&pull.repository, &pull.author);
        payload["action"] = action.into();
        payload["number"] = pull.number.into();
        if let Some(before) = pull.before.as_ref().filter(|_| action == "synchronize") {
            payload["before"] = before.as_str().into();
            payload["after"] = pull.sha.as_str().into();
        }
        let state = self.shared.state();
        payload["pull_request"] = state.repository(&pull.repository).map(|found| pull_json(pull, found)).into();
        payload
    }

    /// `issue_comment` with `created`: somebody wrote under a pull request.
    pub fn comment_payload(&self, pull: &PullRequest, author: &str, body: &str) -> Value {
        let mut payload = self.envelope(&pull.repository, author);
        let user = payload["sender"].clone();
        let address = format!("{}/repos/{}/pulls/{}", self.api_url(), pull.repository, pull.number);
        let mut state = self.shared.state();
        let association = state.repository(&pull.repository).map_or("NONE", |found| found.association(author));
        payload["action"] = "created".into();
        payload["issue"] = json!({
            "id": 3_000_000 + pull.number, "number": pull.number, "title": pull.title, "locked": false,
            "state": if pull.is_open { "open" } else { "closed" }, "user": {"login": pull.author, "type": "User"},
            "pull_request": {"url": address},
        });
        payload["comment"] = json!({
            "id": state.next_id(), "body": body, "user": user, "author_association": association,
            "created_at": "2023-11-14T22:13:20Z", "updated_at": "2023-11-14T22:13:20Z",
        });
        payload
    }

    /// `push` to a branch.
    pub fn push_payload(&self, repository: &str, pushed: Pushed<'_>) -> Value {
        let mut payload = self.envelope(repository, "octocat");
        payload["ref"] = format!("refs/heads/{}", pushed.branch).into();
        payload["before"] = pushed.before.unwrap_or(NULL_ID).into();
        payload["after"] = pushed.after.unwrap_or(NULL_ID).into();
        payload["created"] = pushed.before.is_none().into();
        payload["deleted"] = pushed.after.is_none().into();
        payload["forced"] = false.into();
        let commit = pushed.after.map(|sha| {
            json!({"id": sha, "message": "A change", "distinct": true, "added": [], "removed": [], "modified": pushed.changed,
                "timestamp": "2023-11-14T22:13:20Z", "author": {"name": "Demo", "email": "demo@example.invalid"}})
        });
        payload["commits"] = commit.iter().cloned().collect();
        payload["head_commit"] = commit.unwrap_or(Value::Null);
        payload["pusher"] = json!({"name": "octocat"});
        payload
    }

    /// `ping`, which GitHub sends when a webhook is made.
    pub fn ping_payload(&self, repository: &str) -> Value {
        let mut payload = self.envelope(repository, "octocat");
        payload["zen"] = "Small things first.".into();
        payload["hook_id"] = 1.into();
        payload["hook"] = json!({"type": "App", "id": 1, "active": true, "events": ["pull_request", "push"]});
        payload
    }

    /// `check_run` with `rerequested`: a person pressed "Re-run".
    pub fn check_run_rerequested_payload(&self, run: &CheckRun) -> Value {
        let mut payload = self.envelope(&run.repository, "octocat");
        payload["action"] = "rerequested".into();
        payload["check_run"] = run_json(run, self.app_id());
        payload
    }

    /// `check_suite` with `rerequested`: a person pressed "Re-run all checks". `branch` is absent for a fork's commit.
    pub fn check_suite_rerequested_payload(&self, repository: &str, sha: &str, branch: Option<&str>) -> Value {
        let mut payload = self.envelope(repository, "octocat");
        payload["action"] = "rerequested".into();
        payload["check_suite"] = json!({
            "id": suite_id(sha), "head_sha": sha, "head_branch": branch, "status": "completed", "pull_requests": [],
            "app": {"id": self.app_id(), "slug": "dayfly"},
        });
        payload
    }

    /// What all payloads of a repository have in common.
    fn envelope(&self, repository: &str, sender: &str) -> Value {
        let state = self.shared.state();
        json!({
            "repository": state.repository(repository).map(|found| found.to_json()),
            "sender": {"login": sender, "id": 583_231, "type": "User"},
            "installation": {"id": self.installation(), "node_id": "MDIzOkludGVncmF0aW9u"},
        })
    }
}

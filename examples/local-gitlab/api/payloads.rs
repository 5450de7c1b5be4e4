//! The bodies of webhooks.

use serde_json::{Value, json};

use super::Api;
use super::files::project_json;
use super::requests::MergeRequest;

const NOBODY: &str = "0000000000000000000000000000000000000000";

impl Api {
    /// `Merge Request Hook`; `oldrev` is the head that a push replaced.
    pub fn merge_request_payload(&self, request: &MergeRequest, action: &str, oldrev: Option<&str>) -> Value {
        let mut payload = json!({
            "object_kind": "merge_request", "event_type": "merge_request", "user": self.account(&request.author),
            "project": self.project_json(request.project), "labels": [], "changes": {},
            "object_attributes": {
                "iid": request.iid, "title": request.title, "description": "", "state": request.state, "action": action,
                "author_id": self.account(&request.author)["id"], "draft": request.draft,
                "source_branch": request.source_branch, "target_branch": "main",
                "source_project_id": request.source_project, "target_project_id": request.project,
                "source": {"path_with_namespace": if request.is_fork() { "stranger/app" } else { "acme/app" }},
                "last_commit": {"id": request.sha}, "updated_at": request.updated_at(),
            },
        });
        if let Some(oldrev) = oldrev {
            payload["object_attributes"]["oldrev"] = oldrev.into();
        }
        payload
    }

    /// `Push Hook`, for a branch.
    pub fn push_payload(&self, path: &str, branch: &str, before: Option<&str>, after: &str, by: &str) -> Value {
        json!({
            "object_kind": "push", "event_name": "push", "ref": format!("refs/heads/{branch}"),
            "before": before.unwrap_or(NOBODY), "after": after, "checkout_sha": after, "user_username": by,
            "user_id": self.account(by)["id"], "project": self.project_json(self.project_of(path).id),
            "commits": [{"id": after, "message": "A change", "added": ["new"], "modified": [], "removed": []}],
            "total_commits_count": 1,
        })
    }

    /// `Note Hook`, on a merge request.
    pub fn note_payload(&self, request: &MergeRequest, by: &str, text: &str) -> Value {
        let user = self.account(by);
        let at = "2023-11-14 22:13:20 UTC";
        json!({
            "object_kind": "note", "event_type": "note", "project": self.project_json(request.project),
            "object_attributes": {
                "id": 1, "note": text, "noteable_type": "MergeRequest", "author_id": user["id"], "system": false,
                "action": "create", "created_at": at, "updated_at": at,
            },
            "user": user,
            "merge_request": {"iid": request.iid, "state": request.state, "last_commit": {"id": request.sha}},
        })
    }

    fn account(&self, name: &str) -> Value {
        json!({"id": self.shared.state().user(name), "username": name, "name": name})
    }

    fn project_json(&self, id: u64) -> Value {
        let state = self.shared.state();
        let project = state.projects.iter().find(|project| project.id == id).expect("the project was made").clone();
        drop(state);
        project_json(&self.shared, &project)
    }
}

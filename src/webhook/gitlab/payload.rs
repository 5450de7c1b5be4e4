//! What `github.event` is for an event of GitLab: its payload, and beside it the members by which workflows ask on GitHub.

use serde_json::{Map, Value, json};

use super::super::event::{Event, PullRequest, PullRequestAction, Push, Repository};

/// The payload with GitHub's names for what it says. What GitLab says under the same name stays below `gitlab`'s own members,
/// but for `repository`, which gets more of them.
pub(in crate::webhook) fn as_event(event: &Event, mut payload: Value) -> Value {
    let more = match event {
        Event::PullRequest(pull) => of_pull_request(pull, &payload),
        Event::Push(push) => of_push(push, &payload),
        _ => return payload,
    };
    let Some(members) = payload.as_object_mut() else { return payload };
    for (name, value) in more {
        match (members.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(new)) => known.extend(new),
            (_, value) => drop(members.insert(name, value)),
        }
    }
    payload
}

fn of_pull_request(pull: &PullRequest, payload: &Value) -> Map<String, Value> {
    let (about, project) = (&payload["object_attributes"], &payload["project"]);
    let base = repository(&pull.repository, project);
    let head = pull.head_repo.as_ref().map(|repo| {
        let (id, url) = (&about["source_project_id"], &about["source"]["web_url"]);
        json!({"id": id, "full_name": repo, "name": repo.name(), "fork": pull.is_fork, "html_url": url})
    });
    let titles = payload["labels"].as_array().into_iter().flatten();
    let labels: Vec<Value> = titles.map(|label| json!({"name": label["title"]})).collect();
    let is_open = !matches!(pull.action, PullRequestAction::Closed);
    let mut more = object(json!({
        "action": pull.action.as_str(),
        "number": pull.number,
        "pull_request": {
            "number": pull.number,
            "title": pull.title,
            "body": about["description"],
            "state": if is_open { "open" } else { "closed" },
            "draft": pull.draft,
            "merged": pull.merged,
            "html_url": about["url"],
            "user": {"login": pull.author, "id": about["author_id"]},
            "labels": labels,
            "head": {"ref": pull.head_ref, "sha": pull.head_sha, "repo": head},
            "base": {"ref": pull.base_ref, "repo": base},
        },
        "repository": base,
        "sender": sender(&pull.sender, &payload["user"]),
    }));
    if let Some(before) = &pull.before {
        more.insert("before".to_owned(), json!(before));
        more.insert("after".to_owned(), json!(pull.head_sha));
    }
    if let Some(label) = &pull.label {
        more.insert("label".to_owned(), json!({"name": label}));
    }
    more
}

fn of_push(push: &Push, payload: &Value) -> Map<String, Value> {
    let commits = payload["commits"].as_array();
    let is_head = |commit: &&Value| push.after.as_ref().is_some_and(|sha| commit["id"] == sha.as_str());
    object(json!({
        "repository": repository(&push.repository, &payload["project"]),
        "sender": {"login": push.sender, "id": payload["user_id"], "avatar_url": payload["user_avatar"]},
        "pusher": {"name": push.sender},
        "created": push.created,
        "deleted": push.deleted,
        "forced": false,
        "head_commit": commits.into_iter().flatten().find(is_head),
    }))
}

fn repository(repository: &Repository, project: &Value) -> Value {
    let repo = &repository.access.repo;
    json!({
        "id": repository.id,
        "name": repo.name(),
        "full_name": repo,
        "default_branch": repository.default_branch,
        "html_url": project["web_url"],
        "clone_url": project["git_http_url"],
        "owner": {"login": repo.owner(), "name": repo.owner()},
    })
}

fn sender(name: &str, user: &Value) -> Value {
    json!({"login": name, "id": user["id"], "avatar_url": user["avatar_url"]})
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

//! Merge requests as they are now, made into the event that would have told of them.
//!
//! There is one reader of merge requests, the one of webhooks: what counts as a fork, and which names and commits are
//! acceptable, is decided there, whichever way a merge request comes.

use serde_json::{Value, json};

use super::GitLab;
use super::client::{Call, unexpected};
use super::contents::{Project, project};
use crate::forge::{ForgeError, PullRequestNow, RepoAccess};
use crate::webhook::{Event, EventName, PullRequest, parse_gitlab};

/// Merge requests of one page, pages that are read, and the largest page in bytes. Strangers choose their texts.
const PER_PAGE: usize = 30;
const MAX_PAGES: usize = 10;
const MAX_PAGE: usize = 40 * 1024 * 1024;
/// Bytes that are kept of what the author wrote, so that a list of the longest ones is bearable.
const MAX_TEXT: usize = 64 * 1024;

/// One merge request.
pub(super) async fn one(gitlab: &GitLab, access: &RepoAccess, number: u64) -> Result<PullRequestNow, ForgeError> {
    let what = format!("looking at merge request {number} of {}", access.repo);
    let url = gitlab.client.of_project(&access.repo, ["merge_requests", &number.to_string()]);
    let request: Value = gitlab.client.ask(&Call::get(what.clone(), url, MAX_PAGE)).await?;
    let project = project(gitlab, access).await?;
    read(gitlab, &project, request).map_err(|detail| unexpected(&what, &detail))
}

/// The open ones, last changed first. One that cannot be read is left out: it must not hide the others.
pub(super) async fn open(gitlab: &GitLab, access: &RepoAccess) -> Result<Vec<PullRequestNow>, ForgeError> {
    let what = format!("listing the open merge requests of {}", access.repo);
    let project = project(gitlab, access).await?;
    let mut found: Vec<PullRequestNow> = Vec::new();
    for page in 1..=MAX_PAGES {
        let mut url = gitlab.client.of_project(&access.repo, ["merge_requests"]);
        url.query_pairs_mut()
            .append_pair("state", "opened")
            .append_pair("order_by", "updated_at")
            .append_pair("sort", "desc")
            .append_pair("per_page", &PER_PAGE.to_string())
            .append_pair("page", &page.to_string());
        let requests: Vec<Value> = gitlab.client.ask(&Call::get(what.clone(), url, MAX_PAGE)).await?;
        let is_last = requests.len() < PER_PAGE;
        for request in requests.into_iter().take(PER_PAGE) {
            match read(gitlab, &project, request) {
                // What changes while pages are read moves to the first one, and pushes others over a border.
                Ok(request) if found.iter().any(|known| known.number == request.number) => {}
                Ok(request) => found.push(request),
                Err(detail) => {
                    tracing::warn!(repo = %access.repo, detail, "a merge request in the forge's list is odd")
                }
            }
        }
        if is_last {
            break;
        }
    }
    Ok(found)
}

fn read(gitlab: &GitLab, project: &Project, request: Value) -> Result<PullRequestNow, String> {
    let is_open = request["state"] == "opened";
    let event = update_event(project, request).to_string().into_bytes();
    let name = EventName::parse("merge_request").expect("the name is a constant");
    match parse_gitlab(&gitlab.name, &name, &event) {
        Ok(Event::PullRequest(PullRequest { repository, number, head_sha, is_fork, changed_at, .. })) => {
            let repo = repository.access.repo;
            Ok(PullRequestNow { repo, number, is_open, head_sha, is_fork, changed_at, event })
        }
        Ok(_) => Err("it has no commit".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What GitLab would send if the head had just been pushed. Who pushed is not known: the author stands for them. Nor is what was
/// the head before: the head itself stands for that.
fn update_event(project: &Project, mut request: Value) -> Value {
    if let Some(Value::String(text)) = request.get_mut("description") {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    let author = request["author"].clone();
    let is_own = request["source_project_id"] == json!(project.id);
    let source =
        is_own.then(|| json!({"path_with_namespace": project.path_with_namespace, "web_url": project.web_url}));
    let member = |name: &str| request.get(name).cloned().unwrap_or_default();
    let commit = request["sha"].as_str().map(|sha| json!({ "id": sha }));
    let labels: Vec<Value> =
        request["labels"].as_array().into_iter().flatten().map(|title| json!({ "title": title })).collect();
    json!({
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": author,
        "project": project.as_event(),
        "labels": labels,
        "object_attributes": {
            "action": "update",
            "oldrev": member("sha"),
            "iid": member("iid"),
            "title": member("title"),
            "description": member("description"),
            "state": member("state"),
            "draft": member("draft"),
            "url": member("web_url"),
            "author_id": author["id"],
            "source_branch": member("source_branch"),
            "target_branch": member("target_branch"),
            "source_project_id": member("source_project_id"),
            "target_project_id": member("target_project_id"),
            "source": source,
            "updated_at": member("updated_at"),
            "last_commit": commit,
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::forge::gitlab::GitLabSettings;
    use crate::webhook::PullRequestAction;

    fn gitlab() -> GitLab {
        let url = "http://127.0.0.1:1/".parse().unwrap();
        let token = SecretString::from("glpat-x");
        GitLab::new(GitLabSettings { name: "lab".to_owned(), url, ca_bundle: None, token }).unwrap()
    }

    fn project() -> Project {
        serde_json::from_value(json!({
            "id": 15, "name": "App", "path_with_namespace": "acme/tools/app", "default_branch": "trunk", "web_url": "w",
        }))
        .unwrap()
    }

    fn request(source: Value) -> Value {
        json!({
            "iid": 7, "state": "opened", "title": "Grüße", "description": "é".repeat(MAX_TEXT), "draft": true, "labels": ["a"],
            "sha": "a1".repeat(20), "source_branch": "topic", "target_branch": "trunk", "source_project_id": source,
            "target_project_id": 15, "author": {"id": 3, "username": "ann.r"}, "updated_at": "2023-11-14T22:13:20.123Z",
        })
    }

    #[test]
    fn a_merge_request_is_read_as_its_event_would_be() {
        for (source, is_fork) in [(json!(15), false), (json!(16), true), (Value::Null, true)] {
            let now = read(&gitlab(), &project(), request(source)).unwrap();
            assert_eq!((now.number, now.is_open, now.is_fork), (7, true, is_fork));
            assert_eq!((now.repo.as_str(), now.changed_at), ("acme/tools/app", Some(1_700_000_000_123)));
            assert!(now.event.len() < MAX_TEXT + 2000, "the text is cut: {}", now.event.len());
            let name = EventName::parse("pull_request").unwrap();
            let Event::PullRequest(event) = parse_gitlab("lab", &name, &now.event).unwrap() else { panic!() };
            assert_eq!((event.action, event.sender.as_str()), (PullRequestAction::Synchronize, "ann.r"));
            assert_eq!((event.before.as_ref(), event.draft), (Some(&event.head_sha), true));
        }
        let mut merged = request(json!(15));
        merged["state"] = "merged".into();
        assert!(!read(&gitlab(), &project(), merged).unwrap().is_open);
    }

    #[test]
    fn an_odd_one_says_what_is_odd() {
        let with = |name: &str, value: Value| {
            let mut odd = request(json!(15));
            odd[name] = value;
            read(&gitlab(), &project(), odd).unwrap_err()
        };
        insta::assert_snapshot!(with("sha", "main".into()), @"`object_attributes.oldrev`: `main` is not a full commit id");
        assert_eq!(with("sha", Value::Null), "it has no commit");
    }
}

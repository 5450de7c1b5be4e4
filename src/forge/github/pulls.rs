//! Pull requests as they are now, made into the event that would have told of them.
//!
//! There is one reader of pull requests, the one of webhooks: what counts as a fork, and which names and commits are
//! acceptable, is decided there, whichever way a pull request comes.

use axum::http::Method;
use serde_json::{Value, json};

use super::auth::{Purpose, Scope};
use super::client::{Call, JSON};
use super::{GitHub, parse, unexpected};
use crate::forge::{ForgeError, PullRequestNow, RepoAccess};
use crate::webhook::{self, Event, EventName, parse_github};

/// Pull requests of one page. Strangers choose their texts: a page of the longest ones must stay within [`MAX_PAGE`].
const PER_PAGE: usize = 30;
/// Pages that are read: 300 pull requests.
const MAX_PAGES: usize = 10;
/// Largest accepted page, in bytes. One pull request has up to about 400 KB of text and 30 KB of addresses.
const MAX_PAGE: usize = 16 * 1024 * 1024;
/// Bytes that are kept of what the author wrote, so that a list of the longest ones is bearable.
const MAX_TEXT: usize = 64 * 1024;

/// One pull request.
pub(super) async fn one(github: &GitHub, access: &RepoAccess, number: u64) -> Result<PullRequestNow, ForgeError> {
    let what = format!("looking at pull request {number} of {}", access.repo);
    let (owner, name) = (access.repo.owner(), access.repo.name());
    let url = github.client.url(["repos", owner, name, "pulls", &number.to_string()]);
    let call = Call { what, method: Method::GET, url, accept: JSON, body: None, limit: MAX_PAGE };
    let answer = github.ask_within(&scope(access), &call).await?;
    read(access, parse(&call.what, &answer.body)?).map_err(|detail| unexpected(&call.what, &detail))
}

/// The open ones, last changed first. One that cannot be read is left out: it must not hide the others.
pub(super) async fn open(github: &GitHub, access: &RepoAccess) -> Result<Vec<PullRequestNow>, ForgeError> {
    let what = format!("listing the open pull requests of {}", access.repo);
    let mut found: Vec<PullRequestNow> = Vec::new();
    for page in 1..=MAX_PAGES {
        let mut url = github.client.url(["repos", access.repo.owner(), access.repo.name(), "pulls"]);
        url.query_pairs_mut()
            .append_pair("state", "open")
            .append_pair("sort", "updated")
            .append_pair("direction", "desc")
            .append_pair("per_page", &PER_PAGE.to_string())
            .append_pair("page", &page.to_string());
        let call = Call { what: what.clone(), method: Method::GET, url, accept: JSON, body: None, limit: MAX_PAGE };
        let answer = github.ask_within(&scope(access), &call).await?;
        let pulls: Vec<Value> = parse(&what, &answer.body)?;
        let is_last = pulls.len() < PER_PAGE;
        for pull in pulls.into_iter().take(PER_PAGE) {
            match read(access, pull) {
                // What changes while pages are read moves to the first one, and pushes others over a border.
                Ok(pull) if found.iter().any(|known| known.number == pull.number) => {}
                Ok(pull) => found.push(pull),
                Err(detail) => tracing::warn!(repo = %access.repo, detail, "a pull request in the forge's list is odd"),
            }
        }
        if is_last {
            break;
        }
    }
    Ok(found)
}

fn scope(access: &RepoAccess) -> Scope {
    Scope::One(access.clone(), Purpose::Review)
}

fn read(access: &RepoAccess, mut pull: Value) -> Result<PullRequestNow, String> {
    let is_open = pull["state"] == "open";
    if let Some(Value::String(text)) = pull.get_mut("body") {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    let event = synchronize_event(access, pull).to_string().into_bytes();
    let name = EventName::parse("pull_request").expect("the name is a constant");
    match parse_github(&name, &event) {
        Ok(Event::PullRequest(read)) => {
            let webhook::PullRequest { repository, number, head_sha, is_fork, changed_at, .. } = read;
            let repo = repository.access.repo;
            Ok(PullRequestNow { repo, number, is_open, head_sha, is_fork, changed_at, event })
        }
        Ok(_) => Err("it is no pull request".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What GitHub would send if the head had just been pushed. Who pushed is not known: the author stands for them.
fn synchronize_event(access: &RepoAccess, pull: Value) -> Value {
    let mut event = json!({
        "action": "synchronize",
        "number": pull["number"],
        "repository": pull["base"]["repo"],
        "sender": pull["user"],
    });
    if let Some(installation) = access.installation {
        event["installation"] = json!({ "id": installation });
    }
    event["pull_request"] = pull;
    event
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::RepoName;

    fn access() -> RepoAccess {
        RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: Some(815) }
    }

    fn pull(head_repo: Value) -> Value {
        let repo = json!({"id": 7, "full_name": "demo/hello", "default_branch": "main"});
        json!({
            "number": 3, "state": "open", "title": "A change", "user": {"login": "octocat"}, "body": "é".repeat(MAX_TEXT),
            "head": {"sha": "a".repeat(40), "ref": "change", "repo": head_repo},
            "base": {"sha": "b".repeat(40), "ref": "main", "repo": repo},
        })
    }

    #[test]
    fn a_pull_request_is_read_as_its_event_would_be() {
        let same = json!({"id": 7, "full_name": "demo/hello"});
        let fork = json!({"id": 8, "full_name": "stranger/hello"});
        for (head_repo, is_fork) in [(same, false), (fork, true), (Value::Null, true)] {
            let now = read(&access(), pull(head_repo)).unwrap();
            assert_eq!((now.number, now.is_open, now.is_fork), (3, true, is_fork));
            assert!(now.event.len() < MAX_TEXT + 2000, "the text is cut: {}", now.event.len());
            let name = EventName::parse("pull_request").unwrap();
            let Event::PullRequest(event) = parse_github(&name, &now.event).unwrap() else { panic!() };
            assert_eq!((event.action.as_str(), event.repository.access), ("synchronize", access()));
            assert_eq!((event.sender.as_str(), event.head_sha), ("octocat", now.head_sha));
        }
        let mut closed = pull(Value::Null);
        closed["state"] = "closed".into();
        assert!(!read(&access(), closed).unwrap().is_open);
    }

    #[test]
    fn the_repository_is_named_as_the_forge_spells_it() {
        let asked = RepoAccess { repo: RepoName::parse("Demo/HELLO").unwrap(), ..access() };
        assert_eq!(read(&asked, pull(Value::Null)).unwrap().repo, access().repo);
    }

    #[test]
    fn an_odd_one_says_what_is_odd() {
        let mut odd = pull(Value::Null);
        odd["head"]["sha"] = "main".into();
        insta::assert_snapshot!(read(&access(), odd).unwrap_err(), @"`pull_request.head.sha`: `main` is not a full commit id");
    }
}

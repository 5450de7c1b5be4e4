//! The event that a local run pretends to have received. Pure.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::forge::{CommitSha, RepoAccess, RepoName, github};
use crate::policy::{Request, Subject};
use crate::workflow::trigger::Trigger;

/// The forge that `GITHUB_SERVER_URL` names where `origin` names none.
const USUAL_SERVER: &str = "https://github.com";

/// The owner of a repository that has no `origin`.
const LOCAL_OWNER: &str = "local";

/// The largest payload that is read, in bytes.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// The number of the pull request that there is none of.
const PULL_REQUEST: u64 = 1;

/// What is known of the repository and its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub repo: RepoName,
    /// The forge's address, without a slash at the end.
    pub server_url: String,
    pub sha: CommitSha,
    /// Absent where `HEAD` is detached.
    pub branch: Option<String>,
    pub default_branch: String,
    /// The user's name on this host.
    pub actor: String,
    /// What a person gave of the event's payload, an object, or null. It goes before what is made up.
    pub given: Json,
}

impl Facts {
    /// The forge's API, as GitHub and GitHub Enterprise Server have it.
    pub fn api_url(&self) -> String {
        if self.server_url == USUAL_SERVER {
            return "https://api.github.com".to_owned();
        }
        format!("{}/api/v3", self.server_url)
    }

    /// The event of that name as a request to run it. What a person gave of its payload counts here, too; only the commit
    /// is always that of the repository.
    pub fn request(&self, event: &str) -> Request {
        let payload = self.payload(event);
        let at = |place: &str| payload.pointer(place).and_then(Json::as_str).map(str::to_owned);
        let subject = self.subject(event, &payload);
        let branch = subject.git_ref.strip_prefix("refs/heads/").map(str::to_owned);
        let trigger = Trigger {
            event: event.to_owned(),
            action: at("/action"),
            branch: match event {
                "push" => branch,
                "merge_group" => at("/merge_group/base_ref").map(|base| short(&base).to_owned()),
                _ if is_pull_request(event) => Some(subject.base_ref.clone()),
                _ => None,
            },
            tag: subject.git_ref.strip_prefix("refs/tags/").filter(|_| event == "push").map(str::to_owned),
            changed_paths: changed_paths(&payload),
        };
        let access = RepoAccess { repo: self.repo.clone(), installation: None };
        let repository_id = payload.pointer("/repository/id").and_then(Json::as_u64).unwrap_or(0);
        Request {
            forge: github::NAME.to_owned(),
            access,
            repository_id,
            sha: self.sha.clone(),
            trigger,
            subject,
            pull_request: None,
        }
    }

    fn subject(&self, event: &str, payload: &Json) -> Subject {
        let at = |place: &str| payload.pointer(place).and_then(Json::as_str).map(str::to_owned);
        let actor = at("/sender/login").unwrap_or_else(|| self.actor.clone());
        if is_pull_request(event) {
            let number = payload.pointer("/pull_request/number").and_then(Json::as_u64).unwrap_or(PULL_REQUEST);
            return Subject {
                git_ref: format!("refs/pull/{number}/head"),
                ref_name: format!("{number}/head"),
                ref_type: "branch".to_owned(),
                head_ref: at("/pull_request/head/ref").unwrap_or_default(),
                base_ref: at("/pull_request/base/ref").unwrap_or_else(|| self.default_branch.clone()),
                actor,
            };
        }
        let of_release = at("/release/tag_name").map(|tag| format!("refs/tags/{tag}"));
        let git_ref = at("/ref").or_else(|| at("/merge_group/head_ref")).or(of_release);
        let git_ref = git_ref.map_or_else(|| self.git_ref(), |name| full(name, at("/ref_type").as_deref()));
        let ref_type = if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" }.to_owned();
        Subject { ref_name: short(&git_ref).to_owned(), ref_type, git_ref, actor, ..Subject::default() }
    }

    /// The payload of that event, with the members that workflows use most, and those that a person gave.
    pub fn payload(&self, event: &str) -> Json {
        let sender = json!({"login": self.actor, "type": "User"});
        let repository = json!({
            "name": self.repo.name(),
            "full_name": self.repo.as_str(),
            "private": false,
            "owner": {"login": self.repo.owner()},
            "default_branch": self.default_branch,
            "html_url": format!("{}/{}", self.server_url, self.repo),
        });
        let mut payload = json!({"repository": repository, "sender": sender});
        let more = match event {
            _ if is_pull_request(event) => self.pull_request(&sender, &repository),
            "push" => json!({
                "ref": self.git_ref(),
                "after": self.sha.as_str(),
                "deleted": false,
                "forced": false,
                "pusher": {"name": self.actor},
                "head_commit": {"id": self.sha.as_str()},
            }),
            "merge_group" => json!({
                "action": "checks_requested",
                "merge_group": {
                    "head_sha": self.sha.as_str(),
                    "head_ref": self.git_ref(),
                    "base_ref": format!("refs/heads/{}", self.default_branch),
                },
            }),
            "release" => json!({"action": "published"}),
            _ => json!({"ref": self.git_ref()}),
        };
        overlay(&mut payload, more);
        overlay(&mut payload, self.given.clone());
        payload
    }

    fn pull_request(&self, sender: &Json, repository: &Json) -> Json {
        json!({
            "action": "opened",
            "number": PULL_REQUEST,
            "pull_request": {
                "number": PULL_REQUEST,
                "title": self.branch.as_deref().unwrap_or("HEAD"),
                "body": null,
                "draft": false,
                "state": "open",
                "user": sender,
                "head": {"ref": self.branch, "sha": self.sha.as_str(), "repo": repository},
                "base": {"ref": self.default_branch, "repo": repository},
            },
        })
    }

    fn git_ref(&self) -> String {
        self.branch.as_ref().map_or_else(|| "HEAD".to_owned(), |branch| format!("refs/heads/{branch}"))
    }
}

fn is_pull_request(event: &str) -> bool {
    matches!(event, "pull_request" | "pull_request_target")
}

/// A ref as git has it. Some payloads have its short name, and say of which kind it is.
fn full(name: String, kind: Option<&str>) -> String {
    match kind {
        _ if name.starts_with("refs/") || name == "HEAD" => name,
        Some("tag") => format!("refs/tags/{name}"),
        _ => format!("refs/heads/{name}"),
    }
}

/// A ref without what git puts before it.
fn short(git_ref: &str) -> &str {
    git_ref.strip_prefix("refs/heads/").or_else(|| git_ref.strip_prefix("refs/tags/")).unwrap_or(git_ref)
}

/// The files that the commits of a push say that they changed; nothing where the payload has no commits.
fn changed_paths(payload: &Json) -> Option<Vec<String>> {
    let commits = payload.get("commits")?.as_array()?;
    let kinds = ["added", "modified", "removed"];
    let lists = commits.iter().flat_map(|commit| kinds.map(|kind| commit.get(kind).and_then(Json::as_array)));
    let paths = lists.flatten().flatten().filter_map(Json::as_str).map(str::to_owned);
    Some(paths.collect::<BTreeSet<_>>().into_iter().collect())
}

/// Puts the members of one object over those of another; objects in both are joined the same way.
fn overlay(below: &mut Json, above: Json) {
    match (below, above) {
        (Json::Object(below), Json::Object(above)) => {
            for (name, value) in above {
                match below.get_mut(&name) {
                    Some(known) if known.is_object() && value.is_object() => overlay(known, value),
                    _ => _ = below.insert(name, value),
                }
            }
        }
        (_, Json::Null) => {}
        (below, above) => *below = above,
    }
}

/// The payload in a file's text.
///
/// # Errors
/// It is no JSON object, or larger than [`MAX_PAYLOAD`].
pub fn read_payload(text: &str) -> Result<Json, String> {
    if text.len() > MAX_PAYLOAD {
        return Err(format!("a payload has at most {} MiB", MAX_PAYLOAD >> 20));
    }
    // Editors of some systems begin files with a byte order mark.
    let payload: Json = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| error.to_string())?;
    if payload.is_object() { Ok(payload) } else { Err("a payload is a JSON object".to_owned()) }
}

/// Which event a payload is of, as far as its members tell.
pub fn event_of(payload: &Json) -> Option<&'static str> {
    let has = |name: &str| payload.get(name).is_some_and(|value| !value.is_null());
    // What is more special comes first: the payload of a workflow's run has a workflow, too.
    let told = [
        ("pull_request", "pull_request"),
        ("merge_group", "merge_group"),
        ("release", "release"),
        ("workflow_run", "workflow_run"),
        ("client_payload", "repository_dispatch"),
        ("schedule", "schedule"),
        ("comment", "issue_comment"),
        ("issue", "issues"),
        ("inputs", "workflow_dispatch"),
        ("commits", "push"),
        ("head_commit", "push"),
        ("pusher", "push"),
        ("after", "push"),
        ("workflow", "workflow_dispatch"),
    ];
    told.into_iter().find(|(member, _)| has(member)).map(|(_, event)| event)
}

/// What the repository is called, and its forge's address: from `origin`, else from its directory.
pub fn names(origin: Option<&str>, directory: &str) -> (RepoName, String) {
    let named = origin.and_then(|origin| {
        let (server, path) = split_address(origin)?;
        let mut parts = path.trim_end_matches('/').trim_end_matches(".git").rsplit('/');
        let (name, owner) = (parts.next()?, parts.next()?);
        Some((RepoName::parse(&format!("{owner}/{name}")).ok()?, server))
    });
    named.unwrap_or_else(|| {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let name: String = directory.trim_end_matches(".git").chars().map(plain).take(100).collect();
        let repo = RepoName::parse(&format!("{LOCAL_OWNER}/{name}"));
        let unnamed = || RepoName::parse("local/repository").expect("it is a name");
        (repo.unwrap_or_else(|_| unnamed()), USUAL_SERVER.to_owned())
    })
}

/// The server's address and the path of `https://HOST/PATH`, `ssh://USER@HOST/PATH` or `USER@HOST:PATH`. Nothing of a
/// credential in it is kept.
fn split_address(origin: &str) -> Option<(String, &str)> {
    let (scheme, rest) = origin.split_once("://").unwrap_or(("", origin));
    let (host, path) = match scheme {
        "" => rest.split_once(':').filter(|(host, _)| !host.contains('/'))?,
        "http" | "https" | "ssh" | "git" => rest.split_once('/')?,
        _ => return None,
    };
    let host = host.rsplit('@').next().unwrap_or(host);
    // Over ssh the port is not the one of the pages.
    let host = if matches!(scheme, "http" | "https") { host } else { host.split(':').next().unwrap_or(host) };
    let scheme = if scheme == "http" { "http" } else { "https" };
    (!host.is_empty()).then(|| (format!("{scheme}://{host}"), path))
}

/// A topic branch of somebody's, with what a person gave of the payload.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) fn sample(given: Json) -> Facts {
    Facts {
        repo: RepoName::parse("acme/site").unwrap(),
        server_url: "https://github.com".into(),
        sha: crate::forge::CommitSha::parse(&"a1".repeat(20)).unwrap(),
        branch: Some("topic".into()),
        default_branch: "main".into(),
        actor: "somebody".into(),
        given,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_after_its_origin_or_its_directory() {
        for (origin, directory, expected) in [
            (Some("https://github.com/acme/site.git"), "x", "acme/site at https://github.com"),
            (
                Some("https://user:secret@git.example.org:8443/acme/site"),
                "x",
                "acme/site at https://git.example.org:8443",
            ),
            (Some("git@github.com:acme/site.git"), "x", "acme/site at https://github.com"),
            (Some("ssh://git@git.example.org:2222/group/sub/site.git"), "x", "sub/site at https://git.example.org"),
            (Some("/srv/git/site.git"), "work", "local/work at https://github.com"),
            (Some("../site"), "my site", "local/my-site at https://github.com"),
            (Some("file:///srv/acme/site"), "work", "local/work at https://github.com"),
            (None, "..", "local/repository at https://github.com"),
            (None, "", "local/repository at https://github.com"),
        ] {
            let (repo, server) = names(origin, directory);
            assert_eq!(format!("{repo} at {server}"), expected, "{origin:?} {directory:?}");
        }
    }

    #[test]
    fn events_say_the_same_in_their_trigger_context_and_payload() {
        let facts = sample(Json::Null);
        let shown = ["push", "pull_request", "workflow_dispatch"].map(|event| {
            let request = facts.request(event);
            let payload = facts.payload(event);
            let Subject { git_ref, ref_name, head_ref, base_ref, .. } = &request.subject;
            let at = |place: &str| payload.pointer(place).and_then(Json::as_str).unwrap_or("-").to_owned();
            format!(
                "{event}: {git_ref} {ref_name} [{head_ref}] [{base_ref}] {:?} | {} {} {}",
                request.trigger.branch,
                at("/ref"),
                at("/pull_request/head/ref"),
                at("/pull_request/base/ref")
            )
        });
        insta::assert_snapshot!(shown.join("\n"), @r#"
        push: refs/heads/topic topic [] [] Some("topic") | refs/heads/topic - -
        pull_request: refs/pull/1/head 1/head [topic] [main] Some("main") | - topic main
        workflow_dispatch: refs/heads/topic topic [] [] None | refs/heads/topic - -
        "#);
    }

    fn given(text: &str) -> Facts {
        sample(read_payload(text).unwrap())
    }

    #[test]
    fn what_a_person_gives_of_a_payload_counts_everywhere() {
        let pull = given(
            r#"{"action": "labeled", "number": 7, "sender": {"login": "ada"},
            "pull_request": {"number": 7, "draft": true, "base": {"ref": "release"}}}"#,
        );
        let request = pull.request("pull_request");
        assert_eq!(request.subject.git_ref, "refs/pull/7/head");
        assert_eq!((request.subject.head_ref.as_str(), request.subject.base_ref.as_str()), ("topic", "release"));
        assert_eq!(
            (request.trigger.action.as_deref(), request.trigger.branch.as_deref()),
            (Some("labeled"), Some("release"))
        );
        assert_eq!(request.subject.actor, "ada");
        let payload = pull.payload("pull_request");
        assert_eq!(payload.pointer("/pull_request/draft"), Some(&json!(true)));
        assert_eq!(payload.pointer("/pull_request/head/ref"), Some(&json!("topic")), "the rest is made up");

        let tag =
            given(r#"{"ref": "refs/tags/v1.2", "commits": [{"added": ["b"], "modified": ["a"]}, {"removed": ["a"]}]}"#);
        let request = tag.request("push");
        assert_eq!((request.subject.ref_name.as_str(), request.subject.ref_type.as_str()), ("v1.2", "tag"));
        assert_eq!((request.trigger.tag.as_deref(), request.trigger.branch), (Some("v1.2"), None));
        assert_eq!(request.trigger.changed_paths, Some(vec!["a".to_owned(), "b".to_owned()]));

        let release = given(r#"{"release": {"tag_name": "v2"}}"#).request("release");
        assert_eq!(
            (release.subject.git_ref.as_str(), release.trigger.action.as_deref()),
            ("refs/tags/v2", Some("published"))
        );
    }

    #[test]
    fn a_payload_tells_its_event_or_is_refused() {
        for (text, event) in [
            (r#"{"pull_request": {}, "number": 1}"#, Some("pull_request")),
            (r#"{"ref": "refs/heads/main", "after": "x", "commits": []}"#, Some("push")),
            (r#"{"inputs": {"a": "b"}, "ref": "x"}"#, Some("workflow_dispatch")),
            (r#"{"inputs": null, "workflow": "ci.yml"}"#, Some("workflow_dispatch")),
            (r#"{"schedule": "0 0 * * *"}"#, Some("schedule")),
            ("{}", None),
        ] {
            assert_eq!(event_of(&read_payload(text).unwrap()), event, "{text}");
        }
        assert!(read_payload("\u{feff}{}").is_ok());
        for text in ["[]", "", "{", "null", "1"] {
            assert!(read_payload(text).is_err(), "{text}");
        }
        assert!(read_payload(&format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_PAYLOAD))).is_err());
    }
}

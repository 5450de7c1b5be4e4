//! The event that a local run pretends to have received. Pure.

use serde_json::{Value as Json, json};

use crate::forge::{CommitSha, RepoAccess, RepoName};
use crate::policy::{Request, Subject};
use crate::workflow::trigger::Trigger;

/// The forge that `GITHUB_SERVER_URL` names where `origin` names none.
const USUAL_SERVER: &str = "https://github.com";

/// The owner of a repository that has no `origin`.
const LOCAL_OWNER: &str = "local";

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
}

impl Facts {
    /// The forge's API, as GitHub and GitHub Enterprise Server have it.
    pub fn api_url(&self) -> String {
        if self.server_url == USUAL_SERVER {
            return "https://api.github.com".to_owned();
        }
        format!("{}/api/v3", self.server_url)
    }

    /// The event of that name as a request to run it.
    pub fn request(&self, event: &str) -> Request {
        let is_pull_request = is_pull_request(event);
        let (branch, base) = (self.branch.clone(), self.default_branch.clone());
        let subject = if is_pull_request {
            Subject {
                git_ref: format!("refs/pull/{PULL_REQUEST}/head"),
                ref_name: format!("{PULL_REQUEST}/head"),
                ref_type: "branch".to_owned(),
                head_ref: branch.clone().unwrap_or_default(),
                base_ref: base.clone(),
                actor: self.actor.clone(),
            }
        } else {
            Subject {
                git_ref: self.git_ref(),
                ref_name: branch.clone().unwrap_or_else(|| "HEAD".to_owned()),
                ref_type: "branch".to_owned(),
                actor: self.actor.clone(),
                ..Subject::default()
            }
        };
        let trigger = Trigger {
            event: event.to_owned(),
            action: is_pull_request.then(|| "opened".to_owned()),
            branch: match event {
                "push" => branch,
                _ if is_pull_request => Some(base),
                _ => None,
            },
            tag: None,
            changed_paths: None,
        };
        let access = RepoAccess { repo: self.repo.clone(), installation: None };
        Request { access, repository_id: 0, sha: self.sha.clone(), trigger, subject, pull_request: None }
    }

    /// The payload of that event, with the members that workflows use most.
    pub fn payload(&self, event: &str) -> Json {
        let sender = json!({"login": self.actor, "type": "User"});
        let repository = json!({
            "name": self.repo.name(),
            "full_name": self.repo.as_str(),
            "owner": {"login": self.repo.owner()},
            "default_branch": self.default_branch,
            "html_url": format!("{}/{}", self.server_url, self.repo),
        });
        let mut payload = json!({"repository": repository, "sender": sender});
        let more = if is_pull_request(event) {
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
        } else if event == "push" {
            json!({
                "ref": self.git_ref(),
                "after": self.sha.as_str(),
                "deleted": false,
                "forced": false,
                "pusher": {"name": self.actor},
                "head_commit": {"id": self.sha.as_str()},
            })
        } else {
            json!({"ref": self.git_ref()})
        };
        if let (Some(payload), Json::Object(more)) = (payload.as_object_mut(), more) {
            payload.extend(more);
        }
        payload
    }

    fn git_ref(&self) -> String {
        self.branch.as_ref().map_or_else(|| "HEAD".to_owned(), |branch| format!("refs/heads/{branch}"))
    }
}

fn is_pull_request(event: &str) -> bool {
    matches!(event, "pull_request" | "pull_request_target")
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
        let facts = Facts {
            repo: RepoName::parse("acme/site").unwrap(),
            server_url: "https://github.com".into(),
            sha: CommitSha::parse(&"a1".repeat(20)).unwrap(),
            branch: Some("topic".into()),
            default_branch: "main".into(),
            actor: "somebody".into(),
        };
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
}

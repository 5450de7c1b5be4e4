//! What is sent: deliveries as GitHub sends them for a pull request, each with an id of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// Different bodies. Signing them beforehand keeps the client's own work out of the measurement.
const BODIES: u64 = 64;

/// Names that a repository has an address for, in every payload that mentions it.
const REPOSITORY_LINKS: [&str; 38] = [
    "forks",
    "keys",
    "collaborators",
    "teams",
    "hooks",
    "issue_events",
    "events",
    "assignees",
    "branches",
    "tags",
    "blobs",
    "git_tags",
    "git_refs",
    "trees",
    "statuses",
    "languages",
    "stargazers",
    "contributors",
    "subscribers",
    "subscription",
    "commits",
    "git_commits",
    "comments",
    "issue_comment",
    "contents",
    "compare",
    "merges",
    "archive",
    "downloads",
    "issues",
    "pulls",
    "milestones",
    "notifications",
    "labels",
    "releases",
    "deployments",
    "clone",
    "svn",
];

/// And those of an account.
const ACCOUNT_LINKS: [&str; 9] = [
    "followers",
    "following",
    "gists",
    "starred",
    "subscriptions",
    "organizations",
    "repos",
    "events",
    "received_events",
];

/// An endless supply of deliveries.
#[derive(Debug)]
pub(super) struct Deliveries {
    bodies: Vec<SignedBody>,
    next: AtomicU64,
}

#[derive(Debug)]
struct SignedBody {
    bytes: Vec<u8>,
    signature: String,
}

impl Deliveries {
    /// Deliveries with bodies of `size` bytes, or as short as they can be.
    pub(super) fn new(secret: &str, size: usize) -> Self {
        let sign = |bytes: Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
            mac.update(&bytes);
            SignedBody { signature: hex::encode(mac.finalize().into_bytes()), bytes }
        };
        Self { bodies: (1..=BODIES).map(|number| sign(body(number, size))).collect(), next: AtomicU64::new(0) }
    }

    /// The next delivery, whole.
    pub(super) fn next_request(&self, path: &str) -> Vec<u8> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let SignedBody { bytes, signature } = &self.bodies[(number % BODIES) as usize];
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: GitHub-Hookshot/0000000\r\nAccept: */*\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: pull_request\r\n\
             X-GitHub-Delivery: 00000000-0000-0000-0000-{number:012}\r\nX-Hub-Signature-256: sha256={signature}\r\n\r\n",
            bytes.len()
        );
        [head.as_bytes(), bytes].concat()
    }
}

fn body(number: u64, size: usize) -> Vec<u8> {
    let whole = |description: &str| pull_request(number, description).to_string().into_bytes();
    let bare = whole("").len();
    whole(&"Some words. ".chars().cycle().take(size.saturating_sub(bare)).collect::<String>())
}

fn pull_request(number: u64, description: &str) -> Value {
    let repository = repository();
    let sha = |of: u64| format!("{of:040x}");
    let end = |branch: &str, of: u64| json!({"label": format!("example:{branch}"), "ref": branch, "sha": sha(of), "user": account(), "repo": repository});
    json!({
        "action": "synchronize",
        "number": number,
        "pull_request": {
            "id": 1_000_000 + number, "number": number, "state": "open", "locked": false,
            "title": format!("Change number {number}"), "body": description, "user": account(),
            "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:06Z", "closed_at": null,
            "merge_commit_sha": sha(number + 3), "assignees": [], "requested_reviewers": [], "labels": [],
            "head": end("change", number + 1), "base": end("main", number + 2),
            "author_association": "MEMBER", "draft": false, "merged": false, "mergeable": null, "comments": 0,
            "commits": 1, "additions": 12, "deletions": 3, "changed_files": 2,
        },
        "before": sha(number + 4), "after": sha(number + 1),
        "repository": repository, "sender": account(), "installation": {"id": 815},
    })
}

fn repository() -> Value {
    let mut repository = json!({
        "id": 4711, "name": "website", "full_name": "example/website", "private": false, "owner": account(), "fork": false,
        "description": "What the world sees", "default_branch": "main", "visibility": "public", "topics": [],
        "stargazers_count": 80, "watchers_count": 80, "language": "Rust", "open_issues_count": 7, "archived": false,
    });
    for name in REPOSITORY_LINKS {
        repository[format!("{name}_url")] =
            format!("https://api.example.org/repos/example/website/{name}{{/sha}}").into();
    }
    repository
}

fn account() -> Value {
    let mut account = json!({"login": "example", "id": 42, "node_id": "U_42", "type": "User", "site_admin": false});
    for name in ACCOUNT_LINKS {
        account[format!("{name}_url")] = format!("https://api.example.org/users/example/{name}").into();
    }
    account
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::webhook::{Event, EventName, parse_github, verify_github};

    #[test]
    fn deliveries_are_what_the_service_takes() {
        let deliveries = Deliveries::new("secret", 22 * 1024);
        let SignedBody { bytes, signature } = &deliveries.bodies[0];
        assert_eq!(bytes.len(), 22 * 1024);
        let signature = format!("sha256={signature}");
        verify_github(&"secret".into(), Some(signature.as_bytes()), bytes).unwrap();
        let event = parse_github(&EventName::parse("pull_request").unwrap(), bytes).unwrap();
        assert!(matches!(event, Event::PullRequest(pull) if pull.number == 1 && !pull.is_fork));
        assert_ne!(deliveries.next_request("/"), deliveries.next_request("/"));
    }
}

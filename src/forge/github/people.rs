//! What people may do in a repository.

use axum::http::Method;
use serde::Deserialize;

use super::auth::{Purpose, Scope};
use super::client::{Call, JSON};
use super::{GitHub, parse};
use crate::forge::{ForgeError, Permission, RepoAccess};

/// Longest account name, in bytes. GitHub allows 39, and suffixes such as `[bot]`.
const MAX_LOGIN: usize = 100;
/// Largest accepted answer, in bytes: a permission and an account.
const MAX_ANSWER: usize = 64 * 1024;

#[derive(Deserialize)]
struct PermissionAnswer {
    permission: String,
}

/// Asked anew each time: a right that was taken away a second ago must not count.
pub(super) async fn permission(github: &GitHub, access: &RepoAccess, user: &str) -> Result<Permission, ForgeError> {
    // The name comes from a comment, and nobody is called `..`.
    if !is_login(user) {
        return Ok(Permission::None);
    }
    let what = format!("asking what `{user}` may do in {}", access.repo);
    let (owner, name) = (access.repo.owner(), access.repo.name());
    let url = github.client.url(["repos", owner, name, "collaborators", user, "permission"]);
    let call = Call { what, method: Method::GET, url, accept: JSON, body: None, limit: MAX_ANSWER };
    match github.ask_within(&Scope::One(access.clone(), Purpose::Review), &call).await {
        Ok(answer) => {
            let PermissionAnswer { permission } = parse(&call.what, &answer.body)?;
            Ok(level(&permission))
        }
        Err(ForgeError::NotFound { .. }) => Ok(Permission::None),
        Err(error) => Err(error),
    }
}

fn is_login(user: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'[' | b']');
    !user.is_empty() && user.len() <= MAX_LOGIN && user.bytes().all(is_letter)
}

/// Words that Dayfly does not know allow nothing.
fn level(word: &str) -> Permission {
    match word {
        "admin" => Permission::Admin,
        "write" | "maintain" => Permission::Write,
        "read" | "triage" => Permission::Read,
        _ => Permission::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_account_is_not_asked_for() {
        for good in ["octocat", "dependabot[bot]", "octo_corp", "a-1"] {
            assert!(is_login(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a?x=1", "é", "a\n", "%2e%2e", &"a".repeat(101)] {
            assert!(!is_login(bad), "{bad}");
        }
    }

    #[test]
    fn roles_are_rounded_down() {
        let words = ["admin", "maintain", "write", "triage", "read", "none", "owner", ""];
        let levels = words.map(level);
        use Permission::{Admin, None, Read, Write};
        assert_eq!(levels, [Admin, Write, Write, Read, Read, None, None, None]);
        assert!(None < Read && Read < Write && Write < Admin);
    }
}

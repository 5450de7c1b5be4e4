//! What people may do in a project.

use serde::Deserialize;

use super::GitLab;
use super::client::Call;
use crate::forge::{ForgeError, Permission, RepoAccess};

/// Longest account name, in bytes.
const MAX_USERNAME: usize = 255;
/// Largest accepted answer, in bytes: an account, or a membership.
const MAX_ANSWER: usize = 64 * 1024;

/// The roles Developer, who may push, and Maintainer, who may push to protected branches.
const DEVELOPER: u64 = 30;
const MAINTAINER: u64 = 40;

#[derive(Deserialize)]
struct User {
    id: u64,
    username: String,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct Member {
    access_level: u64,
    #[serde(default)]
    state: String,
}

/// Asked anew each time: a role that was taken away a second ago must not count.
pub(super) async fn permission(gitlab: &GitLab, access: &RepoAccess, user: &str) -> Result<Permission, ForgeError> {
    // The name comes from a note.
    if !is_username(user) {
        return Ok(Permission::None);
    }
    let what = format!("asking what `{user}` may do in {}", access.repo);
    let mut url = gitlab.client.url(["users"]);
    url.query_pairs_mut().append_pair("username", user);
    let found: Vec<User> = gitlab.client.ask(&Call::get(what.clone(), url, MAX_ANSWER)).await?;
    let is_asked = |known: &&User| known.username.eq_ignore_ascii_case(user) && is_active(&known.state);
    let Some(known) = found.iter().find(is_asked) else { return Ok(Permission::None) };
    let url = gitlab.client.of_project(&access.repo, ["members", "all", &known.id.to_string()]);
    match gitlab.client.ask::<Member>(&Call::get(what, url, MAX_ANSWER)).await {
        Ok(member) if is_active(&member.state) => Ok(level(member.access_level)),
        Ok(_) | Err(ForgeError::NotFound { .. }) => Ok(Permission::None),
        Err(error) => Err(error),
    }
}

/// Whoever is blocked, or waits to be admitted, may do nothing.
fn is_active(state: &str) -> bool {
    matches!(state, "" | "active")
}

fn is_username(user: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !user.is_empty() && user.len() <= MAX_USERNAME && user.bytes().all(is_letter)
}

/// Roles between those that are known count as the lower one.
fn level(access_level: u64) -> Permission {
    match access_level {
        MAINTAINER.. => Permission::Admin,
        DEVELOPER.. => Permission::Write,
        1.. => Permission::Read,
        0 => Permission::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_account_is_not_asked_for() {
        assert!(is_username("ann.r-1_x"));
        for bad in ["", "a/b", "a b", "#9", "é", "a&username=b", &"a".repeat(256)] {
            assert!(!is_username(bad), "{bad}");
        }
    }

    #[test]
    fn roles_are_rounded_down() {
        use Permission::{Admin, None, Read, Write};
        assert_eq!(
            [0, 5, 10, 15, 20, 29, 30, 39, 40, 50, 60].map(level),
            [None, Read, Read, Read, Read, Read, Write, Write, Admin, Admin, Admin]
        );
    }
}

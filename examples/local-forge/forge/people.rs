//! What people may do in a repository.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::Forge;
use super::credentials::Caller;
use super::server::ApiError;
use super::state::{Repository, Shared};

const ROLES: [&str; 6] = ["admin", "maintain", "write", "triage", "read", "none"];

impl Forge {
    /// Gives a person a role in a repository from now on: `admin`, `maintain`, `write`, `triage`, `read` or `none`. Without
    /// it the owner is `admin`, whoever opened a pull request from a branch has `write` and from a fork `read`, and nobody
    /// else exists.
    pub fn set_permission(&self, repository: &str, user: &str, role: &str) -> io::Result<()> {
        let refused = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if !ROLES.contains(&role) {
            return refused(&format!("`{role}` is none of {}", ROLES.join(", ")));
        }
        let mut state = self.shared.state();
        let Some(found) = state.repository_mut(repository) else {
            return refused(&format!("there is no repository `{repository}`"));
        };
        found.roles.insert(user.to_ascii_lowercase(), role.to_owned());
        Ok(())
    }
}

impl Repository {
    /// The role of somebody who exists.
    pub fn role(&self, user: &str) -> Option<&str> {
        if let Some(role) = self.roles.get(&user.to_ascii_lowercase()) {
            return Some(role);
        }
        if self.name.split('/').next().is_some_and(|owner| owner.eq_ignore_ascii_case(user)) {
            return Some("admin");
        }
        let own = self.pulls.iter().filter(|pull| pull.author.eq_ignore_ascii_case(user));
        own.map(|pull| if pull.fork.is_some() { "read" } else { "write" }).max()
    }

    /// How close GitHub would say that a person is.
    pub fn association(&self, user: &str) -> &'static str {
        match self.role(user) {
            Some("admin") => "OWNER",
            Some("maintain" | "write" | "triage") => "COLLABORATOR",
            _ => "NONE",
        }
    }
}

/// `GET /repos/OWNER/NAME/collaborators/USER/permission`
pub async fn permission(
    State(shared): State<Arc<Shared>>, Path((owner, name, user)): Path<(String, String, String)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "metadata", "read")?;
    let state = shared.state();
    let found = state.repository(&repository).ok_or_else(ApiError::not_found)?;
    let role = found.role(&user).ok_or_else(ApiError::not_found)?;
    let permission = match role {
        "maintain" => "write",
        "triage" => "read",
        role => role,
    };
    Ok(Json(json!({"permission": permission, "role_name": role, "user": {"login": user, "type": "User"}})))
}

//! Repositories that have another name by now: their old names lead to their numbers, and those to what they are called.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower::ServiceExt as _;

use super::Forge;
use super::server::ApiError;
use super::state::Shared;

impl Forge {
    /// Gives a repository another name. Tokens are of the repository, whatever its name.
    pub fn rename_repository(&self, from: &str, to: &str) {
        let mut state = self.shared.state();
        let repository = state.repository_mut(from).expect("the repository exists");
        repository.name = to.to_owned();
        let id = repository.id;
        state.renamed.insert(from.to_owned(), id);
        let short = |name: &str| name.split_once('/').map_or(name, |(_, name)| name).to_owned();
        for name in state.tokens.values_mut().filter_map(|grant| grant.repositories.as_mut()).flatten() {
            if *name == short(from) {
                *name = short(to);
            }
        }
    }
}

/// Redirects what is asked of a name that is one no longer. Within `/api/v3`.
pub async fn redirect(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
    let moved = asked.strip_prefix("/repos/").and_then(|asked| {
        let end = asked.match_indices('/').nth(1).map_or(asked.len(), |(at, _)| at);
        let id = *shared.state().renamed.get(&asked[..end])?;
        Some(format!("{}/repositories/{id}{}", shared.api_url(), &asked[end..]))
    });
    match moved {
        Some(location) => (StatusCode::MOVED_PERMANENTLY, [(LOCATION, location)]).into_response(),
        None => next.run(request).await,
    }
}

/// Answers what is asked of a repository by its number: `/repositories/ID…` as `/repos/OWNER/NAME…`.
pub async fn by_number(State((shared, api)): State<(Arc<Shared>, Router)>, mut request: Request) -> Response {
    let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
    let asked = asked.strip_prefix("/repositories/").unwrap_or_default();
    let end = asked.find(['/', '?']).unwrap_or(asked.len());
    let id = asked[..end].parse::<u64>().ok();
    let name = id.and_then(|id| shared.state().repositories.iter().find(|it| it.id == id).map(|it| it.name.clone()));
    let Some(name) = name else { return ApiError::not_found().into_response() };
    *request.uri_mut() = format!("/repos/{name}{}", &asked[end..]).parse().expect("it was an address before");
    // Else its parameters here would count among those of the other route.
    request.extensions_mut().clear();
    api.oneshot(request).await.into_response()
}

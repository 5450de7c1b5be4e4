//! What the control API answers when it does not do what was asked: `{"error", "hint"}`, for people.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::document::reader::quoted;
use crate::log::LogError;
use crate::store::StoreError;

/// A refusal. The cause of an internal failure goes to the log; the client learns that there was one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    error: String,
    hint: Option<String>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: None }
    }

    /// What to do about it.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error, "hint": self.hint }))).into_response()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the control API cannot read the store");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the store cannot be read").hint("the service's log says why")
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        tracing::error!(%error, "the control API cannot read a log");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the log cannot be read").hint("the service's log says why")
    }
}

/// The parameters behind `?`, refused in the form of this API.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => {
                Err(Failure::bad_request(misread(parts.uri.query().unwrap_or_default(), &cause(&rejection))))
            }
        }
    }
}

/// A body of JSON, refused in the form of this API.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(sent)) => Ok(Self(sent)),
            Err(rejection) => {
                Err(Failure::new(rejection.status(), format!("the body cannot be read: {}", cause(&rejection))))
            }
        }
    }
}

/// What is wrong, without the words of the library that found it.
fn cause(rejection: &dyn std::error::Error) -> String {
    rejection.source().map_or_else(|| rejection.to_string(), ToString::to_string)
}

/// Says which parameter of a query is wrong, and its value, where `why` begins with the parameter's name.
fn misread(query: &str, why: &str) -> String {
    let is_known = !why.contains("unknown field");
    let named = why.split_once(": ").filter(|_| is_known).and_then(|(name, why)| {
        let (_, value) = url::form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name)?;
        Some((name, quoted(&value), why))
    });
    match named {
        Some((name, value, why)) if why.contains(&value) => format!("the parameter `{name}`: {why}"),
        Some((name, value, why)) => format!("the parameter `{name}` cannot be {value}: {why}"),
        None => format!("the parameters cannot be read: {why}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::forge::RepoName;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the refusals are looked at")]
    struct Wanted {
        repo: Option<RepoName>,
        limit: Option<u32>,
        follow: Option<bool>,
    }

    #[tokio::test]
    async fn a_wrong_parameter_is_named_with_its_value() {
        let mut told = Vec::new();
        for query in ["repo=nope", "limit=ten", "follow=maybe", "limits=3", "limit=-1"] {
            let request = axum::http::Request::get(format!("http://dayfly/v1/jobs?{query}")).body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            let refused = Asked::<Wanted>::from_request_parts(&mut parts, &()).await.err().unwrap();
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
            told.push(refused.error);
        }
        insta::assert_snapshot!(told.join("\n"), @"
        the parameter `repo`: `nope` is not a project's `group/name`
        the parameter `limit` cannot be `ten`: invalid digit found in string
        the parameter `follow` cannot be `maybe`: provided string was not `true` or `false`
        the parameters cannot be read: limits: unknown field `limits`, expected one of `repo`, `limit`, `follow`
        the parameter `limit` cannot be `-1`: invalid digit found in string
        ");
    }

    #[tokio::test]
    async fn a_wrong_body_is_told_without_the_words_of_a_library() {
        let request = axum::http::Request::post("http://dayfly/v1/approvals")
            .header("content-type", "application/json")
            .body(axum::body::Body::from(r#"{"repo": "nope"}"#))
            .unwrap();
        let refused = Sent::<Wanted>::from_request(request, &()).await.err().unwrap();
        insta::assert_snapshot!(refused.error, @"the body cannot be read: repo: `nope` is not a project's `group/name` at line 1 column 16");
    }
}

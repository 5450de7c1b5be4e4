//! What was asked of the REST API and answered, for those who compare it with GitHub's own description.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::server::{ApiError, MAX_BODY};
use super::state::Shared;

/// One request with its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Exchange {
    pub method: String,
    /// Below the API's address, as it was asked for.
    pub path: String,
    pub query: String,
    pub accept: String,
    pub content_type: String,
    pub body: String,
    pub status: u16,
    pub answer_type: String,
    pub answer: String,
}

/// Keeps an exchange, where that is asked for.
pub async fn record(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if !shared.options.is_recorded {
        return next.run(request).await;
    }
    match exchange(request, next).await {
        Ok((exchange, response)) => {
            shared.state().exchanges.push(exchange);
            response
        }
        Err(error) => ApiError::internal(&std::io::Error::other(error)).into_response(),
    }
}

async fn exchange(request: Request, next: Next) -> Result<(Exchange, Response), axum::Error> {
    let header = |headers: &HeaderMap, name| {
        let value = headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await?;
    let mut exchange = Exchange {
        method: head.method.to_string(),
        path: head.uri.path().trim_start_matches("/api/v3").to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        accept: header(&head.headers, ACCEPT),
        content_type: header(&head.headers, CONTENT_TYPE),
        body: String::from_utf8_lossy(&body).into_owned(),
        status: 0,
        answer_type: String::new(),
        answer: String::new(),
    };
    let (answered, body) = next.run(Request::from_parts(head, Body::from(body))).await.into_parts();
    let body = to_bytes(body, MAX_BODY).await?;
    exchange.status = answered.status.as_u16();
    exchange.answer_type = header(&answered.headers, CONTENT_TYPE);
    exchange.answer = String::from_utf8_lossy(&body).into_owned();
    Ok((exchange, Response::from_parts(answered, Body::from(body))))
}

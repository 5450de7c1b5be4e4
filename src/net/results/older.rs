//! The older cache service, which `@actions/cache` uses where the forge is a server of one's own: the same entries by other words.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_RANGE;
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use url::form_urlencoded;

use super::reply::{Failure, empty, json, read_json};
use super::{Shared, base_of};
use crate::core::heavy;

/// What the paths of this service begin with.
pub(super) const PREFIX: &str = "/_apis/artifactcache/";

#[derive(Debug, Deserialize)]
struct Reserve {
    key: String,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Deserialize)]
struct Commit {
    size: u64,
}

impl Shared {
    pub(super) async fn older(
        self: &Arc<Self>, path: &str, request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        if !self.tenant.depot.limits().cache {
            let message = "caches are switched off on this runner";
            return Err(Failure::new(StatusCode::FORBIDDEN, "permission_denied", message));
        }
        match (request.method().clone(), path.split_once('/').unwrap_or((path, ""))) {
            (Method::GET, ("cache", "")) => {
                self.older_look_up(&base_of(&request), request.uri().query().unwrap_or_default())
            }
            (Method::POST, ("caches", "")) => {
                let Reserve { key, version } = read_json(request.into_body()).await?;
                let number = heavy(|| self.begin_cache(&key, &version))?;
                Ok(json(StatusCode::CREATED, &json!({"cacheId": number})))
            }
            (Method::PATCH, ("caches", number)) => {
                let first = first_byte(&request).ok_or_else(|| Failure::invalid("the range is missing"))?;
                // The order of names is that of their bytes.
                let piece = format!("{first:020}");
                let number = number_of(number)?;
                self.receive(number, &piece, request.into_body()).await?;
                self.uploads.note_piece(number, piece)?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            (Method::POST, ("caches", number)) => {
                let Commit { size } = read_json(request.into_body()).await?;
                let number = number_of(number)?;
                let pieces = self.uploads.pieces(number)?;
                self.commit(number, &pieces)?;
                heavy(|| self.finish_cache(|own, _| own == number, Some(size)))?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            _ => Err(Failure::new(StatusCode::NOT_FOUND, "bad_route", "there is no such call here")),
        }
    }

    fn older_look_up(&self, base: &str, query: &str) -> Result<Response<Body>, Failure> {
        let (mut keys, mut version) = (Vec::new(), String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "keys" => keys = value.split(',').map(str::to_owned).collect(),
                "version" => version = value.into_owned(),
                _ => {}
            }
        }
        Ok(match heavy(|| self.look_up(base, &keys, &version))? {
            Some((url, key)) => {
                json(StatusCode::OK, &json!({"cacheKey": key, "archiveLocation": url, "result": "hit"}))
            }
            None => empty(StatusCode::NO_CONTENT),
        })
    }
}

fn number_of(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::not_found("there is no such upload"))
}

/// Where a piece begins, in `bytes FIRST-LAST/*`.
fn first_byte(request: &Request<Incoming>) -> Option<u64> {
    let range = request.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

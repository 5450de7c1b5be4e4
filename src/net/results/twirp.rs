//! The calls of both services: Twirp in JSON, with protobuf's rules for it (numbers of 64 bits are texts).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{Failure, json, read_json};
use super::uploads::{Grant, Purpose};
use super::{Shared, base_of, blob};
use crate::clock;
use crate::core::heavy;
use crate::depot::artifacts::ZIP;
use crate::depot::{Artifact, DepotError};

/// Bytes of a type of content.
const MAX_MIME: usize = 127;

#[derive(Debug, Deserialize)]
struct CacheCall {
    key: String,
    #[serde(default)]
    version: String,
    #[serde(default, alias = "restoreKeys")]
    restore_keys: Vec<String>,
    #[serde(default, alias = "sizeBytes")]
    size_bytes: Option<Number>,
}

#[derive(Debug, Deserialize)]
struct ArtifactCall {
    #[serde(default, alias = "workflowRunBackendId")]
    workflow_run_backend_id: String,
    #[serde(default)]
    name: String,
    #[serde(default, alias = "expiresAt")]
    expires_at: Option<String>,
    #[serde(default, alias = "mimeType")]
    mime_type: Option<String>,
    #[serde(default)]
    size: Option<Number>,
    #[serde(default)]
    hash: Option<String>,
    #[serde(default, alias = "nameFilter")]
    name_filter: Option<String>,
    #[serde(default, alias = "idFilter")]
    id_filter: Option<Number>,
}

/// A number of 64 bits in either of its two forms.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    fn get(&self) -> Option<u64> {
        match self {
            Self::Plain(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl Shared {
    pub(super) async fn twirp(
        self: &Arc<Self>, call: &str, request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        if request.method() != Method::POST {
            return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "bad_route", "calls are made by POST"));
        }
        let (limits, base) = (self.tenant.depot.limits(), base_of(&request));
        let (service, method) = call.split_once('/').unwrap_or((call, ""));
        let off = |what: &str| {
            Failure::new(StatusCode::FORBIDDEN, "permission_denied", format!("{what} are switched off on this runner"))
        };
        let answer = match service {
            "github.actions.results.api.v1.CacheService" if !limits.cache => return Err(off("caches")),
            "github.actions.results.api.v1.CacheService" => {
                let call: CacheCall = read_json(request.into_body()).await?;
                heavy(|| self.cache_call(&base, method, &call))?
            }
            "github.actions.results.api.v1.ArtifactService" if !limits.artifacts => return Err(off("artifacts")),
            "github.actions.results.api.v1.ArtifactService" => {
                let call: ArtifactCall = read_json(request.into_body()).await?;
                if call.workflow_run_backend_id != self.tenant.run.as_str() {
                    let message = "the artifacts of another run are not to be had";
                    return Err(Failure::new(StatusCode::FORBIDDEN, "permission_denied", message));
                }
                heavy(|| self.artifact_call(&base, method, &call))?
            }
            _ => return Err(unknown()),
        };
        Ok(json(StatusCode::OK, &answer))
    }

    fn cache_call(&self, base: &str, method: &str, call: &CacheCall) -> Result<Value, Failure> {
        match method {
            "CreateCacheEntry" => match self.begin_cache(&call.key, &call.version) {
                Ok(number) => Ok(json!({"ok": true, "signed_upload_url": self.upload_url(base, number)})),
                Err(DepotOr::Depot(DepotError::Refused(why))) => Ok(json!({"ok": false, "message": why})),
                Err(error) => Err(error.into()),
            },
            "FinalizeCacheEntryUpload" => {
                let is_it = |purpose: &Purpose| {
                    matches!(purpose, Purpose::Cache { key, version, .. }
                    if *key == call.key && *version == call.version)
                };
                let size = call.size_bytes.as_ref().and_then(Number::get);
                let id = self.finish_cache(|_, purpose| is_it(purpose), size)?;
                Ok(json!({"ok": true, "entry_id": id.to_string()}))
            }
            "GetCacheEntryDownloadURL" => {
                let keys: Vec<String> = std::iter::once(&call.key).chain(&call.restore_keys).cloned().collect();
                Ok(match self.look_up(base, &keys, &call.version)? {
                    Some((url, key)) => json!({"ok": true, "signed_download_url": url, "matched_key": key}),
                    None => json!({"ok": false}),
                })
            }
            _ => Err(unknown()),
        }
    }

    /// Begins an entry of a cache; gives its upload's number.
    pub(super) fn begin_cache(&self, key: &str, version: &str) -> Result<u64, DepotOr> {
        let reservation = self.tenant.reserve_cache(key, version)?;
        let purpose = Purpose::Cache { key: key.to_owned(), version: version.to_owned(), reservation };
        Ok(self.uploads.open(purpose, self.tenant.begin_cache()?)?)
    }

    /// Makes an upload an entry of a cache; gives its id.
    pub(super) fn finish_cache(
        &self, is_wanted: impl Fn(u64, &Purpose) -> bool, size: Option<u64>,
    ) -> Result<u64, Failure> {
        let (purpose, uploaded) = self.uploads.take(is_wanted)?;
        let Purpose::Cache { key, version, reservation } = purpose else {
            return Err(Failure::not_found("the upload is of no cache"));
        };
        if size.is_some_and(|size| size != uploaded.size) {
            return Err(Failure::invalid(format!("{} bytes were uploaded, and others announced", uploaded.size)));
        }
        Ok(self.tenant.store_cache(&key, &version, &reservation, uploaded)?.id)
    }

    /// Where to download the entry for these keys, and its key.
    pub(super) fn look_up(
        &self, base: &str, keys: &[String], version: &str,
    ) -> Result<Option<(String, String)>, Failure> {
        let Some(found) = self.tenant.find_cache(keys, version)? else { return Ok(None) };
        let (id, key) = (found.entry.id, found.entry.key.clone());
        self.uploads.grant(id, Grant::Cache(Arc::new(found)))?;
        Ok(Some((self.address(base, &format!("cache/{id}")), key)))
    }

    fn artifact_call(&self, base: &str, method: &str, call: &ArtifactCall) -> Result<Value, Failure> {
        match method {
            "CreateArtifact" => self.create_artifact(base, call),
            "FinalizeArtifact" => self.finalize_artifact(call),
            "ListArtifacts" => {
                let id = call.id_filter.as_ref().map(Number::get);
                let is_wanted = |artifact: &Artifact| {
                    call.name_filter.as_ref().is_none_or(|name| artifact.name == *name)
                        && id.is_none_or(|id| id == Some(artifact.id))
                };
                let artifacts = self.tenant.artifacts().into_iter().filter(is_wanted);
                let described: Vec<Value> = artifacts.map(|artifact| self.describe(&artifact)).collect();
                Ok(json!({"artifacts": described}))
            }
            "GetSignedArtifactURL" => {
                let artifact = self.named(&call.name)?;
                let url = self.address(base, &format!("artifact/{}", artifact.id));
                self.uploads.grant(artifact.id, Grant::Artifact(Box::new(artifact)))?;
                Ok(json!({"signed_url": url}))
            }
            "DeleteArtifact" => {
                let artifact = self.named(&call.name)?;
                self.tenant.depot.remove_artifact(&self.tenant.run, &artifact.name);
                Ok(json!({"ok": true, "artifact_id": artifact.id.to_string()}))
            }
            _ => Err(unknown()),
        }
    }

    fn create_artifact(&self, base: &str, call: &ArtifactCall) -> Result<Value, Failure> {
        let retention = match &call.expires_at {
            Some(text) => Some(until(text).ok_or_else(|| Failure::invalid("`expires_at` is no time to come"))?),
            None => None,
        };
        let mime = call.mime_type.clone().unwrap_or_else(|| ZIP.to_owned());
        if mime.len() > MAX_MIME || !mime.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::invalid("`mime_type` is none"));
        }
        self.tenant.depot.check_new_artifact(&self.tenant.new_artifact(&call.name, &mime))?;
        self.uploads.forget_artifact(&call.name);
        let upload = self.tenant.begin_artifact()?;
        let number = self.uploads.open(Purpose::Artifact { name: call.name.clone(), mime, retention }, upload)?;
        Ok(json!({"ok": true, "signed_upload_url": self.upload_url(base, number)}))
    }

    fn finalize_artifact(&self, call: &ArtifactCall) -> Result<Value, Failure> {
        let is_it = |_: u64, purpose: &Purpose| matches!(purpose, Purpose::Artifact { name, .. } if *name == call.name);
        let (purpose, uploaded) = self.uploads.take(is_it)?;
        let Purpose::Artifact { name, mime, retention } = purpose else {
            return Err(Failure::not_found("the upload is of no artifact"));
        };
        let expected = call.hash.as_deref().map(|hash| hash.strip_prefix("sha256:").unwrap_or(hash));
        if expected.is_some_and(|expected| !expected.eq_ignore_ascii_case(&uploaded.sha256)) {
            return Err(Failure::new(StatusCode::BAD_REQUEST, "data_loss", "what was uploaded has another SHA-256"));
        }
        if call.size.as_ref().and_then(Number::get).is_some_and(|size| size != 0 && size != uploaded.size) {
            return Err(Failure::invalid(format!("{} bytes were uploaded, and others announced", uploaded.size)));
        }
        let mut new = self.tenant.new_artifact(&name, &mime);
        new.retention = retention;
        let stored = self.tenant.depot.store_artifact(&new, uploaded)?;
        Ok(json!({"ok": true, "artifact_id": stored.id.to_string()}))
    }

    fn named(&self, name: &str) -> Result<Artifact, Failure> {
        let artifact = self.tenant.depot.artifact(&self.tenant.run, name);
        artifact.ok_or_else(|| Failure::not_found("this run has no artifact of that name"))
    }

    fn describe(&self, artifact: &Artifact) -> Value {
        json!({
            "workflow_run_backend_id": artifact.run.as_str(),
            "workflow_job_run_backend_id": self.tenant.job.as_str(),
            "database_id": artifact.id.to_string(),
            "name": artifact.name,
            "size": artifact.size.to_string(),
            "created_at": Timestamp::from_millisecond(artifact.created_at).unwrap_or(Timestamp::UNIX_EPOCH).to_string(),
            "digest": format!("sha256:{}", artifact.sha256),
        })
    }

    fn upload_url(&self, base: &str, number: u64) -> String {
        self.address(base, &format!("{}{number}", blob::UPLOAD))
    }
}

/// Either of the two kinds of failures.
#[derive(Debug)]
pub(super) enum DepotOr {
    Depot(DepotError),
    Other(Failure),
}

impl From<DepotError> for DepotOr {
    fn from(error: DepotError) -> Self {
        Self::Depot(error)
    }
}

impl From<Failure> for DepotOr {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<DepotOr> for Failure {
    fn from(error: DepotOr) -> Self {
        match error {
            DepotOr::Depot(error) => error.into(),
            DepotOr::Other(failure) => failure,
        }
    }
}

fn unknown() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "bad_route", "there is no such call here")
}

/// How long it is until a time, if that is still to come.
fn until(text: &str) -> Option<Duration> {
    let at = text.parse::<Timestamp>().ok()?.as_millisecond();
    u64::try_from(at.saturating_sub(clock::now_ms())).ok().filter(|left| *left > 0).map(Duration::from_millis)
}

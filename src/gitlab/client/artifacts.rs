//! Artifacts of a job, from a file of this host to GitLab and back. Nothing is held in memory.

use std::path::Path;
use std::time::Duration;

use axum::http::header::LOCATION;
use axum::http::{HeaderMap, Method};
use futures::StreamExt as _;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Response};
use secrecy::SecretString;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use url::Url;

use super::{Client, ClientError, JOB_TOKEN, broken, refusal, token_header};
use crate::clock;
use crate::forge::backoff;
use crate::net::upstream::Question;

/// For one try to send an archive, GitLab's own handling included.
const UPLOAD_LIMIT: Duration = Duration::from_secs(60 * 60);
/// Until the head of the answer to a download is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Time without a byte of a download.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Tries of a transfer while GitLab is not able to take part in it.
const TRIES: u32 = 5;
/// Redirects of one upload that are followed.
const MAX_REDIRECTS: u32 = 3;

/// How GitLab shall keep what is uploaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtifactParams {
    /// Of the file, as people download it.
    pub name: String,
    /// `zip`, `gzip` or `raw`.
    pub format: &'static str,
    /// `archive`, `metadata`, `trace`, or a kind of report such as `junit`.
    pub kind: String,
    /// As the job has it, such as `1 week`.
    pub expire_in: Option<String>,
    /// `public`, `private` or `none`, where the job says.
    pub access: Option<String>,
}

/// What came of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The file is there, as GitLab sent it.
    Zip,
    /// The job has no artifacts, or no longer.
    Absent,
}

impl Client {
    /// Sends `file` as an artifact of a job, with the job's token. Tried again while GitLab cannot; a redirect (307) is
    /// followed at GitLab's own origin.
    ///
    /// # Errors
    /// [`ClientError::TooLarge`] for 413, [`ClientError::Forbidden`] for 401 and 403, and whatever stays transient.
    pub async fn upload_artifact(
        &self, job: u64, token: &SecretString, params: &ArtifactParams, file: &Path,
    ) -> Result<(), ClientError> {
        let what = format!("uploading the artifact `{}`", params.name);
        let mut tried = 0;
        loop {
            match self.upload_once(&what, job, token, params, file).await {
                Err(error) if error.is_transient() && tried + 1 < TRIES => {
                    tracing::debug!(job, %error, "an upload is tried again");
                    let wait = backoff(tried, clock::jitter()).max(error.retry_after().unwrap_or_default());
                    tokio::time::sleep(wait).await;
                    tried += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn upload_once(
        &self, what: &str, job: u64, token: &SecretString, params: &ArtifactParams, file: &Path,
    ) -> Result<(), ClientError> {
        let mut url = self.endpoint(["jobs", &job.to_string(), "artifacts"]);
        url.query_pairs_mut().extend_pairs(
            [("artifact_format", Some(params.format)), ("artifact_type", Some(params.kind.as_str()))]
                .into_iter()
                .chain([("expire_in", params.expire_in.as_deref()), ("accessibility", params.access.as_deref())])
                .filter_map(|(key, value)| Some((key, value?))),
        );
        for _ in 0..=MAX_REDIRECTS {
            let form = form_of(what, &params.name, file).await?;
            let request = self.upstream.own(&url).request(Method::POST, url.clone()).timeout(UPLOAD_LIMIT);
            let request = request.headers(token_header(JOB_TOKEN, token)?).multipart(form);
            let answer = request.send().await.map_err(|error| broken(what, error))?;
            match answer.status().as_u16() {
                201 | 200 => return Ok(()),
                307 | 308 => url = self.elsewhere(what, &url, answer.headers())?,
                _ => return Err(refusal(what, answer, token).await),
            }
        }
        Err(ClientError::failed(what, format!("GitLab redirects it more than {MAX_REDIRECTS} times")))
    }

    /// Where a redirect leads, which must be at GitLab: the token goes with it.
    fn elsewhere(&self, what: &str, from: &Url, headers: &HeaderMap) -> Result<Url, ClientError> {
        let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
        match location.and_then(|location| from.join(location).ok()) {
            Some(next) if next.origin() == self.url.origin() => Ok(next),
            Some(next) => {
                let host = next.host_str().unwrap_or_default();
                Err(ClientError::failed(what, format!("GitLab redirects it to `{host}`, which may not have the token")))
            }
            None => Err(ClientError::failed(what, "GitLab redirects it to nowhere")),
        }
    }

    /// Writes the archive of a job's artifacts to `to`, which must not exist, with the token of that job. Tried again while
    /// GitLab cannot. A redirect to a store of files is followed without the token. What is not complete is removed.
    ///
    /// # Errors
    /// [`ClientError::TooLarge`] beyond `limit` bytes; [`ClientError::Forbidden`]; whatever stays transient.
    pub async fn download_artifact(
        &self, job: u64, token: &SecretString, to: &Path, limit: u64,
    ) -> Result<Fetched, ClientError> {
        let what = format!("downloading the artifacts of job {job}");
        let mut tried = 0;
        loop {
            let ended = self.download_once(&what, job, token, to, limit).await;
            if ended.is_err() {
                tokio::fs::remove_file(to).await.ok();
            }
            match ended {
                Err(error) if error.is_transient() && tried + 1 < TRIES => {
                    tracing::debug!(job, %error, "a download is tried again");
                    let wait = backoff(tried, clock::jitter()).max(error.retry_after().unwrap_or_default());
                    tokio::time::sleep(wait).await;
                    tried += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn download_once(
        &self, what: &str, job: u64, token: &SecretString, to: &Path, limit: u64,
    ) -> Result<Fetched, ClientError> {
        let question = Question {
            method: Method::GET,
            url: self.endpoint(["jobs", &job.to_string(), "artifacts"]),
            headers: HeaderMap::new(),
            own: &self.url,
            credential: (self.url.origin(), token_header(JOB_TOKEN, token)?),
        };
        let asked = timeout(ANSWER_LIMIT, self.upstream.ask(question)).await;
        let (answer, _) = asked
            .map_err(|_| ClientError::transient(what, "no answer in time"))?
            .map_err(|failure| ClientError::transient(what, failure.detail))?;
        match answer.status().as_u16() {
            200 => save(what, answer, to, limit).await.map(|()| Fetched::Zip),
            404 => Ok(Fetched::Absent),
            _ => Err(refusal(what, answer, token).await),
        }
    }
}

/// The file as the one part of a form, read as it is sent.
async fn form_of(what: &str, name: &str, file: &Path) -> Result<Form, ClientError> {
    let unreadable = |error| ClientError::failed(what, format!("the file cannot be read: {error}"));
    let file = File::open(file).await.map_err(unreadable)?;
    let length = file.metadata().await.map_err(unreadable)?.len();
    let part = Part::stream_with_length(Body::from(file), length).file_name(name.to_owned());
    Ok(Form::new().part("file", part))
}

async fn save(what: &str, answer: Response, to: &Path, limit: u64) -> Result<(), ClientError> {
    let unwritable = |error| ClientError::failed(what, format!("it cannot be written: {error}"));
    let too_large =
        || ClientError::TooLarge { what: what.to_owned(), detail: format!("it has more than {limit} bytes") };
    if answer.content_length().is_some_and(|announced| announced > limit) {
        return Err(too_large());
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).await.map_err(unwritable)?;
    let (mut written, mut chunks) = (0, answer.bytes_stream());
    loop {
        let next = timeout(IDLE_LIMIT, chunks.next()).await;
        let next = next.map_err(|_| ClientError::transient(what, "nothing comes any more"))?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|error| broken(what, error))?;
        written += chunk.len() as u64;
        if written > limit {
            return Err(too_large());
        }
        file.write_all(&chunk).await.map_err(unwritable)?;
    }
    file.flush().await.map_err(unwritable)
}

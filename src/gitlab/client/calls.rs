//! What a runner says to GitLab, and what it hears.

use std::time::Duration;

use axum::http::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Client, ClientError, JOB_TOKEN, body, broken, refusal, token_header};
use crate::clock;
use crate::document::text::one_line;
use crate::gitlab::ranges::Patch;

/// For a call and its answer.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The same where GitLab may hold the answer back until there is a job.
const ASK_LIMIT: Duration = Duration::from_secs(75);
/// For a megabyte of a trace.
const TRACE_LIMIT: Duration = Duration::from_secs(60);

/// Largest description of a job, in bytes. Real ones have some tens of KiB; variables of a group can make it more.
const MAX_JOB: usize = 8 << 20;
/// Largest answer to anything else.
const MAX_ANSWER: usize = 64 << 10;

/// Longer waits between two patches are not believed.
const LONGEST_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// What a runner says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct RunnerInfo {
    pub name: &'static str,
    pub version: &'static str,
    pub platform: &'static str,
    pub architecture: &'static str,
    pub executor: &'static str,
    pub shell: &'static str,
    /// Names of what it can do.
    pub features: Value,
}

/// What came of asking for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A job's description as it came. GitLab takes it as given out, whether or not it can be read.
    Job(Vec<u8>),
    Nothing,
    /// Another runner was faster: ask again at once.
    Conflict,
}

/// What GitLab says of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// `Job-Status`: what the job is for GitLab.
    pub job_status: Option<String>,
    /// How long to wait before the next patch of a trace that is being written.
    pub interval: Option<Duration>,
    /// How many bytes of the trace GitLab has.
    pub has: Option<u64>,
    /// How long GitLab wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// `PUT /jobs/:id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Update {
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Of all bytes of the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

/// By which GitLab tells whether it has the whole trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// `crc32:` and eight digits.
    pub checksum: String,
    pub bytesize: u64,
}

impl Client {
    /// Whether the token is that of a runner. Gives until when it is good, in GitLab's words, if not for ever.
    ///
    /// # Errors
    /// [`ClientError::Forbidden`] where it is not.
    pub async fn verify(
        &self, token: &SecretString, system_id: &str, info: &RunnerInfo,
    ) -> Result<Option<String>, ClientError> {
        let what = "verifying the runner";
        let asked = json!({"token": token.expose_secret(), "system_id": system_id, "info": info});
        let answer = self.post(what, &["runners", "verify"], &asked, CALL_LIMIT).await?;
        if !answer.status().is_success() {
            return Err(refusal(what, answer, token).await);
        }
        let said: Value = serde_json::from_slice(&body(what, answer, MAX_ANSWER).await?).unwrap_or_default();
        Ok(said["token_expires_at"].as_str().map(|time| one_line(time, 40)))
    }

    /// Asks for a job. `last_update` is what the last answer told, and gets what this one tells: GitLab answers later, but
    /// then at once, where nothing changed since.
    ///
    /// # Errors
    /// [`ClientError::Forbidden`] where the runner was removed or the token is wrong.
    pub async fn request_job(
        &self, token: &SecretString, system_id: &str, info: &RunnerInfo, last_update: &mut String,
    ) -> Result<Asked, ClientError> {
        let what = "asking for a job";
        let mut asked = json!({"token": token.expose_secret(), "system_id": system_id, "info": info});
        if !last_update.is_empty() {
            asked["last_update"] = json!(last_update);
        }
        let answer = self.post(what, &["jobs", "request"], &asked, ASK_LIMIT).await?;
        if let Some(told) = text_of(answer.headers(), "x-gitlab-last-update") {
            *last_update = told.to_owned();
        }
        match answer.status().as_u16() {
            201 => Ok(Asked::Job(body(what, answer, MAX_JOB).await?)),
            204 => Ok(Asked::Nothing),
            409 => Ok(Asked::Conflict),
            _ => Err(refusal(what, answer, token).await),
        }
    }

    /// Tells the state of a job. Every complete answer is a [`Reply`].
    ///
    /// # Errors
    /// [`ClientError::Transient`] without one.
    pub async fn update_job(&self, job: u64, token: &SecretString, update: &Update) -> Result<Reply, ClientError> {
        let what = "telling a job's state";
        let mut told = serde_json::to_value(update).unwrap_or_default();
        told["token"] = json!(token.expose_secret());
        let url = self.endpoint(["jobs", &job.to_string()]);
        let request = self.upstream.own(&url).request(Method::PUT, url.clone()).timeout(CALL_LIMIT);
        let request = request.headers(token_header(JOB_TOKEN, token)?);
        reply(what, with_json(request, &told)).await
    }

    /// Appends to the trace of a job. Every complete answer is a [`Reply`].
    ///
    /// # Errors
    /// [`ClientError::Transient`] without one.
    pub async fn append_trace(
        &self, job: u64, token: &SecretString, patch: Patch, bytes: Vec<u8>, is_debug: bool,
    ) -> Result<Reply, ClientError> {
        let what = "appending to a job's trace";
        let mut url = self.endpoint(["jobs", &job.to_string(), "trace"]);
        url.query_pairs_mut().append_pair("debug_trace", if is_debug { "true" } else { "false" });
        let request = self.upstream.own(&url).request(Method::PATCH, url.clone()).timeout(TRACE_LIMIT);
        let request = request
            .headers(token_header(JOB_TOKEN, token)?)
            .header(CONTENT_TYPE, "text/plain")
            .header(CONTENT_RANGE, patch.content_range())
            .body(bytes);
        reply(what, request).await
    }

    async fn post(&self, what: &str, path: &[&str], asked: &Value, limit: Duration) -> Result<Response, ClientError> {
        let url = self.endpoint(path.iter().copied());
        let request = self.upstream.own(&url).request(Method::POST, url.clone()).timeout(limit);
        with_json(request, asked).send().await.map_err(|error| broken(what, error))
    }
}

fn with_json(request: RequestBuilder, document: &Value) -> RequestBuilder {
    request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(document.to_string())
}

async fn reply(what: &str, request: RequestBuilder) -> Result<Reply, ClientError> {
    let answer = request.send().await.map_err(|error| broken(what, error))?;
    let headers = answer.headers();
    let reply = Reply {
        status: answer.status().as_u16(),
        job_status: text_of(headers, "job-status").map(str::to_ascii_lowercase),
        interval: text_of(headers, "x-gitlab-trace-update-interval").and_then(interval_of),
        has: text_of(headers, RANGE.as_str()).and_then(end_of),
        retry_after: retry_after(answer.status(), headers, clock::now_ms()),
    };
    // Read, so that the connection is good for the next call; what it says is in the head already.
    body(what, answer, MAX_ANSWER).await?;
    Ok(reply)
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// How long the other side wants to be left alone, by `Retry-After` in seconds, or by the time at which a limit is over.
pub(super) fn retry_after(status: StatusCode, headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let number = |name: &str| text_of(headers, name).and_then(|text| text.parse::<i64>().ok());
    let is_limited = status == StatusCode::TOO_MANY_REQUESTS;
    let until_reset = || number("ratelimit-reset").map(|reset| reset.saturating_sub(now_ms / 1000));
    let seconds = number(RETRY_AFTER.as_str()).or_else(|| until_reset().filter(|_| is_limited))?;
    u64::try_from(seconds).ok().map(|seconds| Duration::from_secs(seconds).min(LONGEST_INTERVAL))
}

/// Whole seconds; nothing where they make no sense.
fn interval_of(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds).min(LONGEST_INTERVAL))
}

/// The second number of `0-N`.
fn end_of(range: &str) -> Option<u64> {
    range.rsplit_once('-').and_then(|(_, end)| end.trim().parse().ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_in_a_header_is_not_there() {
        assert_eq!(
            ["10", "0", "-3", "soon", "99999999"].map(|text| interval_of(text).map(|wait| wait.as_secs())),
            [Some(10), None, None, None, Some(900)]
        );
        assert_eq!(
            ["0-41", "0-0", "bytes 0-7", "41", "0-", "0-99999999999999999999"].map(end_of),
            [Some(41), Some(0), Some(7), None, None, None]
        );
    }
}

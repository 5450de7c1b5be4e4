//! Traces grow where they end, and nowhere else.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::state::{self, JobState, Shared, job_token, refusal};

/// Bytes of one patch.
const MAX_PATCH: usize = 1 << 20;

pub async fn append(
    State(shared): State<Arc<Shared>>, Path(id): Path<u64>, headers: HeaderMap, body: Bytes,
) -> Response {
    shared.change(|state| {
        let patched = patch(state, id, &headers, &body);
        let (status, length) = match patched {
            Ok(patched) => patched,
            Err(refused) => return refused,
        };
        let job_status = state.job(id).map_or("", |job| job.state.as_str());
        let headers = [
            ("job-status", job_status.to_owned()),
            ("range", format!("0-{length}")),
            ("x-gitlab-trace-update-interval", shared.options.update_interval.to_string()),
        ];
        (status, headers, status.as_u16().to_string()).into_response()
    })
}

/// The status and the length of the trace then.
fn patch(
    state: &mut state::State, id: u64, headers: &HeaderMap, body: &Bytes,
) -> Result<(StatusCode, usize), Response> {
    let range = headers.get("content-range").and_then(|value| value.to_str().ok()).and_then(parse);
    if let Some(complaint) = complaint(headers, range, body.len()) {
        state.violate(format!("job {id}: {complaint}"));
        return Err(refusal(StatusCode::BAD_REQUEST, &complaint, None));
    }
    let job = state.authenticated(id, job_token(headers))?;
    if job.state == JobState::WaitingForRunner {
        state.violate(format!("job {id}: a trace before the job runs"));
        return Err(refusal(StatusCode::FORBIDDEN, "403 Forbidden", Some(JobState::WaitingForRunner)));
    }
    let (start, _) = range.unwrap_or_default();
    if start == 0 && job.may_begin_anew {
        job.may_begin_anew = false;
        job.trace.clear();
    }
    if start != job.trace.len() {
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, job.trace.len()));
    }
    job.trace.extend_from_slice(body);
    Ok((StatusCode::ACCEPTED, job.trace.len()))
}

/// First and last byte.
fn parse(range: &str) -> Option<(usize, usize)> {
    let (start, end) = range.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

fn complaint(headers: &HeaderMap, range: Option<(usize, usize)>, length: usize) -> Option<String> {
    let Some((start, end)) = range else { return Some("a patch without a range".to_owned()) };
    if headers.get("content-type").is_none_or(|kind| kind != "text/plain") {
        return Some("a patch that is not `text/plain`".to_owned());
    }
    if length == 0 || length > MAX_PATCH {
        return Some(format!("a patch of {length} bytes"));
    }
    (start + length - 1 != end).then(|| format!("the range {start}-{end} of {length} bytes"))
}

//! Makes GitHub show a report: a check run where Dayfly is an App, and a commit status in any case.
//!
//! A check run is sent every time; a commit status only when it changes, because GitHub takes 1,000 of them per commit and
//! context. A completed check run is never reopened: what happens after an approval gets a new one of the same name, which
//! GitHub shows in place of the old.

use axum::http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Call, JSON};
use super::presentation::{check_run_body, commit_status_body, is_completed, next_annotations, without_annotations};
use super::{GitHub, parse};
use crate::forge::{Earlier, ExternalIds, ForgeError, Report};

/// Check runs of one name and commit that are looked through for ours. Each re-run makes one.
const LISTED_CHECK_RUNS: &str = "30";
/// Largest accepted list of check runs, in bytes: each repeats its summary and its text.
const MAX_LIST: usize = 8 * 1024 * 1024;
/// Largest accepted answer to a write, in bytes: it repeats what was written.
const MAX_ANSWER: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
struct CheckRun {
    id: u64,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    output: Output,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Output {
    annotations_count: usize,
}

#[derive(Debug, Deserialize)]
struct CheckRunList {
    check_runs: Vec<CheckRun>,
}

pub(super) async fn publish(
    github: &GitHub, report: &Report, known: &ExternalIds, earlier: Earlier,
) -> Result<ExternalIds, ForgeError> {
    let mut ids = known.clone();
    if let Some(app) = github.credentials.app_id() {
        let id = publish_check_run(github, report, known, earlier, app).await?;
        (ids.check_run, ids.annotations) = (Some(id), report.annotations.len());
        ids.check_run_completed = is_completed(report.state);
    }
    let status = commit_status_body(report);
    let words = status.to_string();
    // After an uncertain attempt nobody knows which status GitHub has.
    if earlier == Earlier::Uncertain || ids.last_status.as_ref() != Some(&words) {
        let what = format!("setting the status of `{}` at {}", report.context, report.sha.short());
        write(github, report, what, Method::POST, &["statuses", report.sha.as_str()], status).await?;
        ids.last_status = Some(words);
    }
    Ok(ids)
}

async fn publish_check_run(
    github: &GitHub, report: &Report, known: &ExternalIds, earlier: Earlier, app: u64,
) -> Result<u64, ForgeError> {
    let stays_completed = is_completed(report.state);
    // After a completed one, an uncertain attempt may have made another, which then is the one to change.
    let is_settled = stays_completed && earlier == Earlier::None;
    let usable = known.check_run.filter(|_| is_settled || !known.check_run_completed);
    let existing = match (usable, earlier) {
        (Some(id), _) => Some(id),
        (None, Earlier::None) => None,
        (None, Earlier::Uncertain) => find_check_run(github, report, app)
            .await?
            .filter(|found| stays_completed || found.status != "completed")
            .map(|found| found.id),
    };
    let mut has = match existing {
        None => 0,
        Some(_) if earlier == Earlier::None || report.annotations.is_empty() => known.annotations,
        // What arrived of an attempt that failed is there, and would come twice.
        Some(id) => {
            let found = find_check_run(github, report, app).await?.filter(|found| found.id == id);
            found.map_or(known.annotations, |found| found.output.annotations_count)
        }
    };
    let mut id = existing;
    loop {
        let annotations = next_annotations(report, has);
        has += annotations.len();
        let sent = match set_check_run(github, report, id, &annotations).await {
            // What is wrong with one of them must not keep the result from being seen.
            Err(ForgeError::Permanent { what, detail }) if !annotations.is_empty() => {
                tracing::warn!(what, detail, "a check run is shown without its annotations");
                has = report.annotations.len();
                set_check_run(github, &without_annotations(report, &detail), id, &[]).await?
            }
            sent => sent?,
        };
        id = Some(sent);
        if next_annotations(report, has).is_empty() {
            return Ok(sent);
        }
    }
}

/// Makes the check run, or changes it; gives its id.
async fn set_check_run(
    github: &GitHub, report: &Report, id: Option<u64>, annotations: &[Value],
) -> Result<u64, ForgeError> {
    let what = format!("setting the check run `{}` at {}", report.context, report.sha.short());
    let mut body = check_run_body(report, id.is_none());
    if !annotations.is_empty() {
        body["output"]["annotations"] = annotations.into();
    }
    let answer = match id {
        Some(id) => write(github, report, what, Method::PATCH, &["check-runs", &id.to_string()], body).await?,
        None => write(github, report, what, Method::POST, &["check-runs"], body).await?,
    };
    Ok(answer.id)
}

/// The newest check run that an earlier attempt made for this report.
async fn find_check_run(github: &GitHub, report: &Report, app: u64) -> Result<Option<CheckRun>, ForgeError> {
    let what = format!("looking for the check run `{}` at {}", report.context, report.sha.short());
    let repo = &report.access.repo;
    let mut url = github.client.url(["repos", repo.owner(), repo.name(), "commits", report.sha.as_str(), "check-runs"]);
    url.query_pairs_mut()
        .append_pair("check_name", &report.context)
        .append_pair("app_id", &app.to_string())
        .append_pair("filter", "all")
        .append_pair("per_page", LISTED_CHECK_RUNS);
    let call = Call { what, method: Method::GET, url, accept: JSON, body: None, limit: MAX_LIST };
    let body = github.ask(&report.access, &call).await?;
    let list: CheckRunList = parse(&call.what, &body)?;
    let ours = list.check_runs.into_iter().filter(|run| run.external_id.as_deref() == Some(report.id.as_str()));
    Ok(ours.max_by_key(|run| run.id))
}

async fn write(
    github: &GitHub, report: &Report, what: String, method: Method, path: &[&str], body: Value,
) -> Result<CheckRun, ForgeError> {
    let repo = &report.access.repo;
    let url = github.client.url(["repos", repo.owner(), repo.name()].into_iter().chain(path.iter().copied()));
    let call = Call { what, method, url, accept: JSON, body: Some(body), limit: MAX_ANSWER };
    let answer = github.ask(&report.access, &call).await?;
    parse(&call.what, &answer)
}

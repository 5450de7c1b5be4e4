//! Check runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::credentials::Caller;
use super::server::ApiError;
use super::state::{CheckRun, Shared, WriteKind};
use super::statuses::require_commit;

/// In the order in which a check run goes through them; none is gone back to.
const STATUSES: [&str; 3] = ["queued", "in_progress", "completed"];
const CONCLUSIONS: [&str; 7] =
    ["action_required", "cancelled", "failure", "neutral", "skipped", "success", "timed_out"];
/// Of summary and text each; counted in bytes, the stricter reading of GitHub's documentation.
const MAX_OUTPUT: usize = 65_535;
const MAX_ANNOTATIONS: usize = 50;
const MAX_ACTIONS: usize = 3;

/// What both writes can carry.
#[derive(Debug, Default, Deserialize)]
pub struct Change {
    name: Option<String>,
    head_sha: Option<String>,
    external_id: Option<String>,
    status: Option<String>,
    conclusion: Option<String>,
    details_url: Option<String>,
    started_at: Option<String>,
    completed_at: Option<String>,
    output: Option<Value>,
    actions: Option<Vec<Value>>,
}

impl Change {
    fn parse(body: &Value) -> Result<Self, ApiError> {
        let change: Self = serde_json::from_value(body.clone())
            .map_err(|error| ApiError::invalid(&format!("Invalid request: {error}")))?;
        change.validate()?;
        Ok(change)
    }

    fn validate(&self) -> Result<(), ApiError> {
        let is_known = |word: &Option<String>, known: &[&str]| word.as_deref().is_none_or(|word| known.contains(&word));
        let require = |holds: bool, message: &str| if holds { Ok(()) } else { Err(ApiError::invalid(message)) };
        require(is_known(&self.status, &STATUSES), "Status is not a member of the enum")?;
        require(is_known(&self.conclusion, &CONCLUSIONS), "Conclusion is not a member of the enum")?;
        let completes = self.status.as_deref() == Some("completed");
        require(!completes || self.conclusion.is_some(), "Conclusion is required for the status `completed`")?;
        require(
            self.conclusion.is_none() || self.status.is_none() || completes,
            "Only a completed run has a conclusion",
        )?;
        let is_address = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        require(self.details_url.as_ref().is_none_or(is_address), "Details url must use http(s) scheme")?;
        let has_few_actions = self.actions.as_ref().is_none_or(|actions| actions.len() <= MAX_ACTIONS);
        require(has_few_actions, "Only 3 actions are allowed")?;
        self.output.as_ref().map_or(Ok(()), validate_output)
    }

    fn apply(self, run: &mut CheckRun) {
        let (status, conclusion) = (self.status, self.conclusion);
        if conclusion.is_some() {
            run.status = "completed".to_owned();
            run.conclusion = conclusion;
        } else if let Some(status) = status {
            run.status = status;
        }
        if let Some(name) = self.name {
            run.name = name;
        }
        if let Some(external_id) = self.external_id {
            run.external_id = external_id;
        }
        if let Some(output) = self.output {
            run.output = with_annotations_of(&run.output, output);
        }
        run.details_url = self.details_url.or(run.details_url.take());
        run.started_at = self.started_at.or(run.started_at.take());
        run.completed_at = self.completed_at.or(run.completed_at.take());
    }
}

/// Annotations are only ever added.
fn with_annotations_of(before: &Value, mut output: Value) -> Value {
    let of = |output: &Value| output["annotations"].as_array().cloned().unwrap_or_default();
    let all = [of(before), of(&output)].concat();
    if !all.is_empty() {
        output["annotations_count"] = all.len().into();
        output["annotations"] = all.into();
    }
    output
}

fn validate_annotation(annotation: &Value) -> Result<(), ApiError> {
    let text = |key: &str| annotation[key].as_str().filter(|text| !text.is_empty());
    let number = |key: &str| annotation[key].as_u64().filter(|number| *number > 0);
    let (Some(start), Some(end)) = (number("start_line"), number("end_line")) else {
        return Err(ApiError::invalid("An annotation needs its lines"));
    };
    let is_level = text("annotation_level").is_some_and(|level| ["notice", "warning", "failure"].contains(&level));
    if text("path").is_none() || text("message").is_none() || !is_level || end < start {
        return Err(ApiError::invalid("An annotation needs a path, a message and a level"));
    }
    if start != end && (number("start_column").is_some() || number("end_column").is_some()) {
        return Err(ApiError::invalid("Columns are only for annotations of one line"));
    }
    Ok(())
}

fn validate_output(output: &Value) -> Result<(), ApiError> {
    for part in ["title", "summary"] {
        if output[part].as_str().is_none_or(str::is_empty) {
            return Err(ApiError::invalid(&format!("Output needs a {part}")));
        }
    }
    for part in ["summary", "text"] {
        if output[part].as_str().is_some_and(|text| text.len() > MAX_OUTPUT) {
            return Err(ApiError::invalid(&format!("Output {part} exceeds a maximum of {MAX_OUTPUT} characters")));
        }
    }
    if output["annotations"].as_array().is_some_and(|annotations| annotations.len() > MAX_ANNOTATIONS) {
        return Err(ApiError::invalid("At most 50 annotations are allowed in a request"));
    }
    output["annotations"].as_array().into_iter().flatten().try_for_each(validate_annotation)
}

/// `POST /repos/OWNER/NAME/check-runs`
pub async fn create(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let repository = format!("{owner}/{name}");
    let caller = Caller::of_request(&shared, &headers)?;
    caller.require_app()?;
    caller.require(&repository, "checks", "write")?;
    let change = Change::parse(&body)?;
    let (Some(name), Some(head_sha)) = (change.name.clone(), change.head_sha.clone()) else {
        return Err(ApiError::invalid("`name` and `head_sha` are required"));
    };
    require_commit(&shared, &repository, &head_sha).await?;

    let mut state = shared.state();
    let id = state.next_id();
    let mut run = CheckRun {
        id,
        repository: repository.clone(),
        head_sha: head_sha.clone(),
        name,
        external_id: String::new(),
        status: "queued".to_owned(),
        conclusion: None,
        details_url: None,
        started_at: None,
        completed_at: None,
        output: Value::Null,
    };
    change.apply(&mut run);
    let answer = run_json(&run, shared.options.app_id);
    state.check_runs.push(run);
    state.record(WriteKind::CheckRunCreated { id }, &repository, &head_sha, body);
    drop(state);
    shared.changed.send_replace(());
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `PATCH /repos/OWNER/NAME/check-runs/ID`
pub async fn update(
    State(shared): State<Arc<Shared>>, Path((owner, name, id)): Path<(String, String, u64)>, headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    let caller = Caller::of_request(&shared, &headers)?;
    caller.require_app()?;
    caller.require(&repository, "checks", "write")?;
    let change = Change::parse(&body)?;

    let mut state = shared.state();
    let run = state.check_runs.iter_mut().find(|run| run.id == id && run.repository == repository);
    let run = run.ok_or_else(ApiError::not_found)?;
    let rank = |status: &str| STATUSES.iter().position(|known| *known == status);
    if change.status.as_deref().is_some_and(|status| rank(status) < rank(&run.status)) {
        return Err(ApiError::invalid(&format!("A check run does not go back from `{}`", run.status)));
    }
    change.apply(run);
    let (answer, sha) = (run_json(run, shared.options.app_id), run.head_sha.clone());
    state.record(WriteKind::CheckRunUpdated { id }, &repository, &sha, body);
    drop(state);
    shared.changed.send_replace(());
    Ok(Json(answer))
}

/// `GET /repos/OWNER/NAME/check-runs/ID`
pub async fn show(
    State(shared): State<Arc<Shared>>, Path((owner, name, id)): Path<(String, String, u64)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "checks", "read")?;
    let state = shared.state();
    let run = state.check_runs.iter().find(|run| run.id == id && run.repository == repository);
    run.map(|run| Json(run_json(run, shared.options.app_id))).ok_or_else(ApiError::not_found)
}

#[derive(Debug, Deserialize)]
pub struct ListFilter {
    check_name: Option<String>,
    app_id: Option<u64>,
    filter: Option<String>,
    #[serde(default = "default_per_page")]
    per_page: usize,
}

fn default_per_page() -> usize {
    30
}

/// `GET /repos/OWNER/NAME/commits/SHA/check-runs`: newest first; of each name only the newest, unless `filter=all`.
pub async fn list(
    State(shared): State<Arc<Shared>>, Path((owner, name, sha)): Path<(String, String, String)>,
    Query(asked): Query<ListFilter>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "checks", "read")?;
    let app_id = shared.options.app_id;
    let state = shared.state();
    let mut found: Vec<&CheckRun> = Vec::new();
    for run in state.check_runs.iter().rev() {
        let is_asked_for = run.repository == repository
            && run.head_sha == sha
            && asked.check_name.as_ref().is_none_or(|name| *name == run.name)
            && asked.app_id.is_none_or(|asked| asked == app_id);
        let is_outdated = asked.filter.as_deref() != Some("all") && found.iter().any(|newer| newer.name == run.name);
        if is_asked_for && !is_outdated {
            found.push(run);
        }
    }
    let runs: Vec<Value> = found.iter().take(asked.per_page.min(100)).map(|run| run_json(run, app_id)).collect();
    Ok(Json(json!({"total_count": found.len(), "check_runs": runs})))
}

/// The one suite in which an App's check runs of a commit are.
pub fn suite_id(sha: &str) -> u64 {
    u64::from_str_radix(sha.get(..8).unwrap_or_default(), 16).unwrap_or_default()
}

/// The check run as GitHub's answers and payloads show it.
pub fn run_json(run: &CheckRun, app_id: u64) -> Value {
    json!({
        "id": run.id, "name": run.name, "head_sha": run.head_sha, "external_id": run.external_id,
        "status": run.status, "conclusion": run.conclusion, "details_url": run.details_url,
        "started_at": run.started_at, "completed_at": run.completed_at, "output": run.output,
        "check_suite": {"id": suite_id(&run.head_sha)}, "app": {"id": app_id, "slug": "dayfly"}, "pull_requests": [],
    })
}

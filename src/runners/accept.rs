//! A machine for GitHub's jobs as a job of this service.

use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::Group;
use super::{KIND, Request, SOURCE};
use crate::clock;
use crate::core::Core;
use crate::forge::{Report, ReportPlace, ReportState, RunnerAccess, github};
use crate::ids::{JobId, LogToken, ReportId, RunId};
use crate::store::{NewForeign, NewJob, NewRun, Origin, StoreError, Telling, WorkflowJob};

/// What people see of such a job in lists, before GitHub says which one it got.
const WORKFLOW: &str = "GitHub Actions";

/// Stores one more machine of the group. The job is the one that people are told it is there for.
pub(super) async fn accept(core: &Arc<Core>, group: &Group, waits: &WorkflowJob) -> Result<(), StoreError> {
    let now = clock::now_ms();
    let at = RunnerAccess { place: group.place.clone(), access: waits.access.clone() };
    let request = Request { kind: KIND.to_owned(), profile: group.profile.clone(), at };
    let job = new_job(group, waits);
    let (id, name) = (job.id.clone(), job.name.clone());
    let run = NewRun {
        id: RunId::random(),
        forge: github::NAME.to_owned(),
        access: waits.access.clone(),
        event: "workflow_job".to_owned(),
        sha: waits.sha.clone(),
        workflow_path: format!("{KIND}/{}", group.profile),
        workflow_name: WORKFLOW.to_owned(),
        context: Value::Object(serde_json::Map::new()),
        origin: Origin { arrived_at: waits.seen_at, ..Origin::default() },
        report: None,
        called: Vec::new(),
        jobs: vec![job],
    };
    let request = serde_json::to_value(request).unwrap_or_default();
    let foreign = NewForeign { source: SOURCE.to_owned(), external_id: id.to_string(), request };
    core.store.accept_foreign(run, foreign, now).await?;
    core.timeline.record(&id, 1, "job_queued", &format!("for `{name}`, or any other job with its labels"));
    tracing::info!(job = %id, profile = group.profile, place = %group.place, "a machine for GitHub's jobs is wanted");
    Ok(())
}

fn new_job(group: &Group, waits: &WorkflowJob) -> NewJob {
    let name = if waits.name.is_empty() { group.profile.clone() } else { waits.name.clone() };
    NewJob {
        id: JobId::random(),
        key: "runner".to_owned(),
        spec: json!({}),
        needs: Vec::new(),
        profile: Some(group.profile.clone()),
        log_token: LogToken::random(),
        report: Report {
            id: ReportId::random(),
            access: waits.access.clone(),
            sha: waits.sha.clone(),
            context: format!("dayfly/{KIND}/{}", group.profile),
            state: ReportState::Queued,
            title: String::new(),
            summary: String::new(),
            log: String::new(),
            annotations: Vec::new(),
            coverage: None,
            place: ReportPlace::default(),
            details_url: None,
            started_at: None,
            finished_at: None,
        },
        telling: Telling::Never,
        outcome: None,
        name,
    }
}

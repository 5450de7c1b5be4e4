//! What a job reached and was refused.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;

use super::failure::Failure;
use super::find;
use crate::core::Core;
use crate::net::egress::log::{EgressLog, Verdict};

/// The egress log of one attempt.
#[derive(Debug, Serialize)]
pub(super) struct AttemptView {
    attempt: u32,
    #[serde(flatten)]
    log: EgressLog,
}

/// All attempts of a job together: connections by how they ended, and bytes.
#[derive(Debug, Serialize)]
pub(super) struct SummaryView {
    allowed: u64,
    audited: u64,
    refused: u64,
    failed: u64,
    sent: u64,
    received: u64,
}

/// `GET /v1/jobs/{id}/egress`: attempts without any connection are left out.
pub(super) async fn show(
    State(core): State<Arc<Core>>, Path(id): Path<String>,
) -> Result<Json<Vec<AttemptView>>, Failure> {
    let id = find::job(&core.store, &id).await?;
    let logs = core.store.egress(&id).await?;
    Ok(Json(logs.into_iter().map(|(attempt, log)| AttemptView { attempt, log }).collect()))
}

/// The summary; nothing of a job without any connection.
pub(super) fn summary(logs: &[(u32, EgressLog)]) -> Option<SummaryView> {
    let sum = |of: &dyn Fn(&EgressLog) -> u64| logs.iter().map(|(_, log)| of(log)).fold(0, u64::saturating_add);
    let count = |verdict| sum(&|log| log.count(verdict));
    (!logs.is_empty()).then(|| SummaryView {
        allowed: count(Verdict::Allowed),
        audited: count(Verdict::Audited),
        refused: count(Verdict::Refused),
        failed: count(Verdict::Failed),
        sent: sum(&|log| log.sent),
        received: sum(&|log| log.received),
    })
}

//! GitHub's own jobs, and the machines for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::failure::Failure;
use crate::core::Core;
use crate::runners::view::{RunnersView, view};

/// `GET /v1/runners`: what waits, and what there is for it; each oldest first.
pub(super) async fn list(State(core): State<Arc<Core>>) -> Result<Json<RunnersView>, Failure> {
    Ok(Json(view(&core).await?))
}

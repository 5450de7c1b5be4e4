//! Artifacts of a job's run: a list, one as a download, and removing one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::failure::Failure;
use super::find;
use crate::core::Core;
use crate::depot::{Artifact, DepotError};
use crate::document::reader::quoted;
use crate::http::artifacts;
use crate::ids::RunId;

/// An artifact as the API tells of it.
#[derive(Debug, Serialize)]
pub(super) struct ArtifactView {
    id: u64,
    name: String,
    /// The name of the job that made it.
    job: String,
    /// Bytes of the stored file.
    size: u64,
    sha256: String,
    /// What the download is called.
    file: String,
    is_archive: bool,
    created_at: i64,
    expires_at: i64,
}

impl From<Artifact> for ArtifactView {
    fn from(artifact: Artifact) -> Self {
        let (file, is_archive) = (artifact.file_name(), artifact.is_zip());
        let Artifact { id, job, name, size, sha256, created_at, expires_at, .. } = artifact;
        Self { id, name, job, size, sha256, file, is_archive, created_at, expires_at }
    }
}

/// `GET /v1/jobs/{id}/artifacts`: those of all jobs of its run.
pub(super) async fn list(
    State(core): State<Arc<Core>>, Path(id): Path<String>,
) -> Result<Json<Vec<ArtifactView>>, Failure> {
    let run = run_of(&core, &id).await?;
    let depot = core.depot.clone();
    let listed = artifacts::blocking(move || depot.artifacts(&run)).await;
    Ok(Json(listed.into_iter().map(ArtifactView::from).collect()))
}

/// `GET /v1/jobs/{id}/artifacts/{name}`: the stored file.
pub(super) async fn download(
    State(core): State<Arc<Core>>, Path((id, name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let run = run_of(&core, &id).await?;
    let artifact = core.depot.artifact(&run, &name).ok_or_else(|| unknown(&name))?;
    artifacts::download(&core.depot, &artifact).await?.ok_or_else(|| unknown(&name))
}

/// `POST /v1/jobs/{id}/artifacts/{name}/remove`
pub(super) async fn remove(
    State(core): State<Arc<Core>>, Path((id, name)): Path<(String, String)>,
) -> Result<Json<ArtifactView>, Failure> {
    let run = run_of(&core, &id).await?;
    let (depot, wanted) = (core.depot.clone(), name.clone());
    let removed = artifacts::blocking(move || depot.remove_artifact(&run, &wanted)).await;
    removed.map(|artifact| Json(artifact.into())).ok_or_else(|| unknown(&name))
}

async fn run_of(core: &Core, job: &str) -> Result<RunId, Failure> {
    let id = find::job(&core.store, job).await?;
    let (_, run) = find::job_and_run(&core.store, &id).await?;
    Ok(run.root().clone())
}

fn unknown(name: &str) -> Failure {
    let error = format!("the run of this job has no artifact {}", quoted(name));
    Failure::new(StatusCode::NOT_FOUND, error).hint("`dayfly artifact list JOB` lists those that it has")
}

impl From<DepotError> for Failure {
    fn from(error: DepotError) -> Self {
        tracing::error!(%error, "the control API cannot read an artifact");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the artifact cannot be read").hint("the service's log says why")
    }
}

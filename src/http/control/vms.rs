//! The VMs of which something may still exist.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::failure::Failure;
use crate::core::Core;
use crate::store::VmState;

/// A VM with the job that it serves. What only the configuration knows is absent once the profile is gone from it.
#[derive(Debug, Serialize)]
pub(super) struct VmView {
    id: String,
    state: VmState,
    job: String,
    job_name: Option<String>,
    repo: Option<String>,
    attempt: u32,
    profile: Option<String>,
    image: Option<String>,
    vcpus: Option<u32>,
    memory_mib: Option<u64>,
    created_at: i64,
}

/// `GET /v1/vms`: oldest first.
pub(super) async fn list(State(core): State<Arc<Core>>) -> Result<Json<Vec<VmView>>, Failure> {
    let mut views = Vec::new();
    for vm in core.store.vms_not_gone().await? {
        let job = core.store.job(&vm.job).await?;
        let run = match &job {
            Some(job) => core.store.run(&job.run).await?,
            None => None,
        };
        let profile = job.as_ref().and_then(|job| job.profile.clone());
        let known = profile.as_deref().and_then(|name| core.config.profile(name));
        views.push(VmView {
            id: vm.id.to_string(),
            state: vm.state,
            job: vm.job.to_string(),
            job_name: job.map(|job| job.name),
            repo: run.map(|run| run.access.repo.to_string()),
            attempt: vm.attempt,
            image: known.map(|profile| profile.image.clone()),
            vcpus: known.map(|profile| profile.vcpus),
            memory_mib: known.map(|profile| profile.memory >> 20),
            profile,
            created_at: vm.created_at,
        });
    }
    Ok(Json(views))
}

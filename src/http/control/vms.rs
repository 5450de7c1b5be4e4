//! The VMs of which something may still exist.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::failure::Failure;
use crate::core::Core;
use crate::ids::VmId;
use crate::pool::plan::Stage;
use crate::store::Lifecycle;
use crate::upkeep::Activity;
use crate::vm::usage::{self, Usage};

/// A VM with the job that it serves, if it serves one yet. What only the configuration knows is absent once the profile is gone
/// from it; the memory, where no monitor runs.
#[derive(Debug, Serialize)]
pub(super) struct VmView {
    id: String,
    /// For what it is there: `job`, `pool`, or `upkeep` for what is made for later jobs.
    kind: &'static str,
    /// As the store has it; of a VM of a pool `pool_making`, `pool_ready` or `pool_leaving`; of one for upkeep `preparing`,
    /// `filling` or `examining`.
    state: &'static str,
    job: Option<String>,
    job_name: Option<String>,
    repo: Option<String>,
    attempt: Option<u32>,
    profile: Option<String>,
    image: Option<String>,
    vcpus: Option<u32>,
    memory_mib: Option<u64>,
    /// Memory of the host that nobody else has.
    private_bytes: Option<u64>,
    /// The same, and its share of what VMs have in common: over all VMs the sum counts each page once.
    proportional_bytes: Option<u64>,
    created_at: i64,
}

/// `GET /v1/vms`: oldest first.
pub(super) async fn list(State(core): State<Arc<Core>>) -> Result<Json<Vec<VmView>>, Failure> {
    let mut views = Vec::new();
    let idling = core.pools.idling();
    for vm in core.store.vms_not_gone().await? {
        let job = core.store.job(&vm.job).await?;
        let run = match &job {
            Some(job) => core.store.run(&job.run).await?,
            None => None,
        };
        views.push(VmView {
            kind: "job",
            state: vm.state.as_str(),
            job: Some(vm.job.to_string()),
            job_name: job.as_ref().map(|job| job.name.clone()),
            repo: run.map(|run| run.access.repo.to_string()),
            attempt: Some(vm.attempt),
            ..machine(&core, &vm.id, job.and_then(|job| job.profile), vm.created_at)
        });
    }
    for idle in idling {
        // One that was handed to its job meanwhile is listed with that.
        if views.iter().all(|view| view.id != idle.vm.as_str()) {
            let machine = machine(&core, &idle.vm, Some(idle.profile), idle.created_at);
            views.push(VmView { kind: "pool", state: word(idle.stage), ..machine });
        }
    }
    for occupant in core.desk.occupants() {
        views.push(VmView {
            kind: "upkeep",
            state: activity_word(occupant.activity),
            repo: Some(occupant.repo.to_string()),
            ..machine(&core, &occupant.vm, Some(occupant.profile), occupant.since)
        });
    }
    views.sort_by_key(|view| view.created_at);
    add_memory(&core, &mut views).await;
    Ok(Json(views))
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Making => "pool_making",
        Stage::Ready { .. } => "pool_ready",
        Stage::Leaving => "pool_leaving",
    }
}

fn activity_word(activity: Activity) -> &'static str {
    match activity {
        Activity::Preparing => "preparing",
        Activity::Filling => "filling",
        Activity::Examining => "examining",
    }
}

/// A VM of which only this much is known.
fn machine(core: &Core, id: &VmId, profile: Option<String>, created_at: i64) -> VmView {
    let known = profile.as_deref().and_then(|name| core.config.profile(name));
    VmView {
        id: id.to_string(),
        kind: "",
        state: "",
        job: None,
        job_name: None,
        repo: None,
        attempt: None,
        image: known.map(|profile| profile.image.clone()),
        vcpus: known.map(|profile| profile.vcpus),
        memory_mib: known.map(|profile| profile.memory >> 20),
        profile,
        private_bytes: None,
        proportional_bytes: None,
        created_at,
    }
}

/// Adds what the monitors take; a list without it is still a list.
async fn add_memory(core: &Core, views: &mut [VmView]) {
    let homes = core.engine.homes().clone();
    let found = tokio::task::spawn_blocking(move || usage::by_vm(&homes)).await.map_err(std::io::Error::other);
    let by_vm = match found.and_then(|found| found) {
        Ok(by_vm) => by_vm,
        Err(error) => {
            tracing::error!(%error, "the memory of the VMs cannot be read");
            return;
        }
    };
    let by_vm: HashMap<&str, &Usage> = by_vm.iter().map(|(id, usage)| (id.as_str(), usage)).collect();
    for view in views {
        let usage = by_vm.get(view.id.as_str());
        view.private_bytes = usage.map(|usage| usage.private);
        view.proportional_bytes = usage.map(|usage| usage.total());
    }
}

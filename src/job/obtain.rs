//! How an attempt gets its VM: one that waited for it in a pool, one that starts where its commit was prepared, where the first
//! cell of its matrix stood, or at the image.
//!
//! The first of these that there is, is tried first; what does not start is replaced by the next. A VM has the id of the lease in
//! any case, so that another one may have it only when nothing of the first is left.

use std::sync::Arc;
use std::time::Duration;

use super::checkout::Workspace;
use super::driver::{Lease, shape_of};
use super::matrix;
use super::sharing::Part;
use crate::clock;
use crate::config::Profile;
use crate::core::Core;
use crate::engine::Prepared;
use crate::forge::RepoName;
use crate::image::{ImageError, Logged};
use crate::pool::Reserved;
use crate::store::Reason;
use crate::upkeep::{Origin, origin};
use crate::vm::VmError;
use crate::vm::machine::Machine;
use crate::vm::volume::CacheMount;

/// What the timeline says of a VM that was restored before its job came.
const FROM_POOL: &str = "from the pool";

/// A VM, and what its job has to know of how it began.
pub(super) struct Obtained {
    pub(super) machine: Machine,
    pub(super) prepared: Arc<Prepared>,
    pub(super) workspace: Workspace,
    /// For the job's log.
    pub(super) note: Option<String>,
}

impl Obtained {
    /// What the VM started from is free to go from here on: a VM that runs has its files open.
    fn new(machine: Machine, origin: Origin) -> Self {
        let workspace = if origin.snapshot.is_some() { Workspace::Prepared } else { Workspace::Empty };
        Self { machine, prepared: origin.prepared, workspace, note: origin.note }
    }
}

/// Why a VM could not be had, and whether another try may.
pub(crate) struct NoVm {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    pub(super) is_worth_a_retry: bool,
}

/// The VM that waited for the job, or one that is made for it.
pub(super) async fn get_vm(
    core: &Arc<Core>, lease: &Lease, idle: Option<Reserved>, profile: &Profile,
) -> Result<Obtained, NoVm> {
    let image = tokio::select! {
        image = core.engine.prepare(&profile.image, shape_of(profile), &Logged) => image?,
        // To make an image may take minutes, which no stop waits for.
        () = core.shutdown.drain.cancelled() => return Err(stopped()),
    };
    let origin = match &lease.part {
        // Its machine has what was prepared, if anything was.
        Part::Follow(_) => Origin::image(&image, None),
        Part::Alone | Part::Lead(_) => origin(core, &lease.job, &lease.run, profile, &image).await,
    };
    let (machine, origin) = match idle {
        // What was prepared for the commit is worth more than a machine that only waits.
        Some(idle) if origin.snapshot.is_some() => {
            idle.decline().await?;
            create_vm(core, lease, profile, &image, origin).await?
        }
        Some(idle) => match idle.claim(core).await {
            Ok((machine, pooled)) => {
                let prepared = as_known_now(pooled, &image);
                for kind in ["vm_restored", "agent_answered", "vm_identified"] {
                    core.timeline.record(&lease.job.id, lease.job.attempt, kind, FROM_POOL);
                }
                (machine, Origin { prepared, ..origin })
            }
            Err(error) => {
                require_absent(core, lease, &error)?;
                tracing::warn!(vm = %lease.vm, %error, "a VM of the pool is of no use; another one is made");
                create_vm(core, lease, profile, &image, origin).await?
            }
        },
        None => create_vm(core, lease, profile, &image, origin).await?,
    };
    core.timeline.record(&lease.job.id, lease.job.attempt, "vm_origin", &origin.words());
    Ok(Obtained::new(machine, origin))
}

/// What a VM of a pool started from, with what is true of it when its job comes: that it stands in for an image which could not be
/// made, say, may have become true while the VM waited.
fn as_known_now(pooled: Arc<Prepared>, image: &Arc<Prepared>) -> Arc<Prepared> {
    if pooled.starts_like(image) { Arc::clone(image) } else { pooled }
}

async fn create_vm(
    core: &Arc<Core>, lease: &Lease, profile: &Profile, image: &Arc<Prepared>, origin: Origin,
) -> Result<(Machine, Origin), NoVm> {
    let cache = match &lease.part {
        // It has that of the cell that led.
        Part::Follow(_) => None,
        Part::Alone | Part::Lead(_) => {
            cache_mount(core, profile, Some((&lease.run.forge, &lease.run.access.repo)), image).await?
        }
    };
    let (machine, origin) = restore(core, lease, image, origin, cache.as_ref()).await?;
    core.metrics.vms.restored(&machine.timings);
    let now = clock::now_us();
    let back = |earlier: Duration| now - (machine.timings.identified - earlier).as_micros() as i64;
    let job = &lease.job;
    for (at, kind) in [
        (back(machine.timings.loaded), "vm_restored"),
        (back(machine.timings.answered), "agent_answered"),
        (now, "vm_identified"),
    ] {
        core.timeline.record_at(&job.id, job.attempt, at, kind, "");
    }
    Ok((machine, origin))
}

/// Another VM may have the id only when nothing of the first is left; else the job is queued again, for a new one.
fn require_absent(core: &Core, lease: &Lease, error: &VmError) -> Result<(), NoVm> {
    if core.engine.homes().is_absent(&lease.vm).unwrap_or(false) {
        return Ok(());
    }
    Err(NoVm { reason: Reason::VmLost, detail: error.to_string(), is_worth_a_retry: true })
}

/// Restores the VM from what was prepared for its commit, or else from the image.
async fn restore(
    core: &Arc<Core>, lease: &Lease, image: &Arc<Prepared>, origin: Origin, cache: Option<&CacheMount>,
) -> Result<(Machine, Origin), NoVm> {
    let restored = matrix::restore(core, lease, Arc::clone(&origin.prepared), cache).await;
    match restored {
        Err(error) if origin.snapshot.is_some() && !error.is_disk_full() => {
            require_absent(core, lease, &error)?;
            tracing::warn!(job = %lease.job.id, %error, "a VM could not be restored from what was prepared for it");
            let note = "note: the prepared machine does not start, so this one starts from the image.";
            let (machine, prepared) = matrix::restore(core, lease, Arc::clone(image), cache).await?;
            Ok((machine, Origin::image(&prepared, Some(note.to_owned()))))
        }
        restored => {
            let (machine, prepared) = restored?;
            Ok((machine, Origin { prepared, ..origin }))
        }
    }
}

/// The cache that the VMs of a profile mount: those of one repository of a forge, or those that wait for any.
pub(crate) async fn cache_mount(
    core: &Core, profile: &Profile, repo: Option<(&str, &RepoName)>, prepared: &Prepared,
) -> Result<Option<CacheMount>, ImageError> {
    let Some(cache) = &profile.cache else { return Ok(None) };
    let id = core.config.cache_of(repo, profile);
    core.engine.cache(cache, id.as_ref(), prepared).await.map(Some)
}

fn stopped() -> NoVm {
    NoVm { reason: Reason::Internal, detail: "the service is being stopped".to_owned(), is_worth_a_retry: true }
}

impl From<ImageError> for NoVm {
    fn from(error: ImageError) -> Self {
        let reason = if error.is_disk_full() { Reason::DiskFull } else { Reason::Image };
        Self { reason, detail: error.to_string(), is_worth_a_retry: false }
    }
}

impl From<VmError> for NoVm {
    fn from(error: VmError) -> Self {
        let (reason, is_worth_a_retry) = match &error {
            error if error.is_disk_full() => (Reason::DiskFull, false),
            VmError::NoMonitor { .. } => (Reason::Image, false),
            // It is made again for the next one who needs it.
            VmError::TemplateLost { .. } => (Reason::Image, true),
            _ => (Reason::VmLost, true),
        };
        Self { reason, detail: error.to_string(), is_worth_a_retry }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vm::machine::Template;
    use crate::vm::spec::{Accelerator, Boot, Shape};

    /// The snapshot at `state`, of which its jobs are told `note`.
    fn prepared(state: &str, note: &str) -> Arc<Prepared> {
        let user = json!({ "name": "ci", "uid": 1000, "gid": 1000 });
        let info = json!({ "name": "base", "digest": "d", "description": "", "kernel": "1", "user": user,
            "environment": [], "packages": [], "built_at": 0 });
        let bake = json!({ "key": "k", "shape": Shape::default(), "accelerator": Accelerator::Tcg, "monitor": "1",
            "command_line": "", "baked_at": 0 });
        let template = Template {
            vmm: "qemu".into(),
            accelerator: Accelerator::Tcg,
            shape: Shape::default(),
            boot: Boot { kernel: "/kernel".into(), initramfs: "/initramfs".into(), command_line: String::new() },
            root: "/root.erofs".into(),
            layer: None,
            memory: "/memory".into(),
            state: state.into(),
            scratch: "/scratch".into(),
            cache_placeholder: "/placeholder".into(),
            mounted: None,
        };
        Arc::new(Prepared {
            info: serde_json::from_value(info).unwrap(),
            bake: serde_json::from_value(bake).unwrap(),
            template,
            why_not_kvm: Some(note.to_owned()),
            ready: None,
        })
    }

    #[test]
    fn a_job_is_told_what_is_true_when_it_comes_of_the_machine_that_it_gets() {
        let image = prepared("/one/state", "now");
        let told = |pooled| as_known_now(pooled, &image).notes();
        assert_eq!(told(prepared("/one/state", "before")), image.notes());
        let older = prepared("/older/state", "before");
        assert_eq!(told(Arc::clone(&older)), older.notes());
    }
}

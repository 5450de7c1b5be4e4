//! Jobs that a forge planned itself, in their VM: the way there and back is that of every job, what happens in between is of
//! the forge's own kind.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::actions_runner;
use super::driver::Lease;
use super::journal::Journal;
use super::obtain::NoVm;
use super::verdict::Ending;
use crate::config::Profile;
use crate::core::Core;
use crate::gitlab;
use crate::image::catalog::ImageInfo;
use crate::runners;
use crate::store::{ForeignJob, Reason};
use crate::vm::machine::Machine;

/// What such a job has around it.
#[derive(Clone, Copy)]
pub(super) struct ForeignScene<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) lease: &'a Lease,
    pub(super) foreign: &'a ForeignJob,
    pub(super) profile: &'a Profile,
    pub(super) image: &'a ImageInfo,
    pub(super) cancel: &'a CancellationToken,
}

/// Runs the job; how it ended is stored by the caller, and told to the forge by whoever accepted it.
pub(super) async fn run(
    scene: &ForeignScene<'_>, machine: &mut Machine, journal: &mut Journal,
) -> Result<Ending, NoVm> {
    let kind = scene.foreign.request.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default();
    if kind == gitlab::KIND {
        return match is_ours(scene).await {
            true => super::gitlab::run(scene, machine, journal).await,
            false => Ok(Ending::Cancelled(gitlab::ABORTED.to_owned())),
        };
    }
    if kind == runners::KIND {
        return Ok(actions_runner::run(scene, machine, journal).await);
    }
    let detail = format!("nothing here runs jobs of the kind `{kind}`");
    Ok(Ending::NotStarted { reason: Reason::Internal, detail })
}

/// Whether GitLab says that the job is ours to run, now that it has a machine; not if somebody wants its end before that.
async fn is_ours(scene: &ForeignScene<'_>) -> bool {
    tokio::select! {
        is_ours = scene.core.gitlab.begin(&scene.lease.job.id) => is_ours,
        () = scene.cancel.cancelled() => false,
    }
}

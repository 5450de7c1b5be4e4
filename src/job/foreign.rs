//! Jobs that a forge planned itself, in their VM: the way there and back is that of every job, what happens in between is of
//! the forge's own kind.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::driver::Lease;
use super::journal::Journal;
use super::obtain::NoVm;
use super::verdict::Ending;
use crate::config::Profile;
use crate::core::Core;
use crate::image::catalog::ImageInfo;
use crate::store::{ForeignJob, Reason};
use crate::vm::machine::Machine;

/// What such a job has around it.
#[derive(Clone, Copy)]
#[expect(dead_code, reason = "the kinds of jobs use it")]
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
    scene: &ForeignScene<'_>, _machine: &mut Machine, _journal: &mut Journal,
) -> Result<Ending, NoVm> {
    let kind = scene.foreign.request.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default();
    let detail = format!("nothing here runs jobs of the kind `{kind}`");
    Ok(Ending::NotStarted { reason: Reason::Internal, detail })
}

//! Cells of a matrix whose first steps run once: the cell that runs them, and those that start from its machine.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::time::Instant;

use super::driver::Lease;
use super::journal::Journal;
use super::obtain::NoVm;
use super::scene::Scene;
use super::sharing::{ForkPoint, Leading, Part};
use super::steps::Witness;
use super::verdict::{Ending, StepLine};
use crate::core::Core;
use crate::engine::Prepared;
use crate::vm::VmError;
use crate::vm::machine::Machine;
use crate::vm::volume::CacheMount;
use crate::workflow::run::JobRun;

/// Restores the VM of a job; gives with it what it started from.
pub(super) async fn restore(
    core: &Core, lease: &Lease, image: Arc<Prepared>, cache: Option<&CacheMount>,
) -> Result<(Machine, Arc<Prepared>), VmError> {
    let home = || core.engine.home(lease.vm.clone());
    match &lease.part {
        Part::Alone => {}
        // It has the cache volume mounted that the first cell had.
        Part::Follow(point) => {
            let machine = core.engine.restore(home()?, &point.prepared, None).await?;
            return Ok((machine, Arc::clone(&point.prepared)));
        }
        Part::Lead(leading) => match core.engine.restore_freezable(home()?, &image, cache).await {
            // Memory of one's own takes room that a job by itself does not need.
            Err(error) if error.is_disk_full() => {
                tracing::warn!(job = %lease.job.id, %error, "the cells of a matrix are not started from one machine");
                leading.give_up();
                core.wake.scheduler.notify_one();
            }
            restored => return Ok((restored?, image)),
        },
    }
    Ok((core.engine.restore(home()?, &image, cache).await?, image))
}

/// Runs a job's steps, those before it that others ran or will not have to run included.
pub(super) async fn run(
    scene: &Scene<'_>, machine: &mut Machine, prepared: &Prepared, mut run: JobRun, journal: &mut Journal,
) -> Result<(Ending, Vec<StepLine>), NoVm> {
    match &scene.lease.part {
        Part::Lead(leading) if leading.is_awaited() => lead(scene, leading, machine, prepared, run, journal).await,
        Part::Follow(point) => {
            let ForkPoint { progress, lines, leader, leader_name, log_url, took, .. } = &**point;
            let steps = steps_up_to(lines.len());
            journal.say(0, &format!("{steps} ran once for this matrix, in the job `{leader_name}`: {log_url}")).await;
            scene.record("forked_from", leader.as_str());
            run.resume(progress.clone());
            let (ending, own) = scene.go_on(machine, *took).run(run, journal).await;
            Ok((ending, [lines.clone(), own].concat()))
        }
        Part::Alone | Part::Lead(_) => Ok(scene.begin(machine).run(run, journal).await),
    }
}

/// Runs the common steps, freezes the machine after them, and goes on in the first clone of it.
async fn lead(
    scene: &Scene<'_>, leading: &Leading, machine: &mut Machine, prepared: &Prepared, mut run: JobRun,
    journal: &mut Journal,
) -> Result<(Ending, Vec<StepLine>), NoVm> {
    let began = Instant::now();
    let (early, mut lines) = Box::pin(scene.begin(machine).run_first(leading.shared, &mut run, journal)).await;
    let (core, lease) = (scene.core, scene.lease);
    if let Some(ending) = early {
        leading.give_up();
        core.wake.scheduler.notify_one();
        return Ok((ending, lines));
    }
    let directory = core.engine.freezer().map_err(VmError::host("a directory for a frozen VM"))?;
    let took = began.elapsed();
    let point = Arc::new(
        freeze(machine, prepared, directory, |prepared, directory| ForkPoint {
            prepared,
            progress: run.progress(),
            lines: lines.clone(),
            leader: lease.job.id.clone(),
            leader_name: lease.job.name.clone(),
            log_url: core.log_url(&lease.job.log_token),
            took,
            _directory: directory,
        })
        .await?,
    );
    leading.fork(Arc::clone(&point));
    core.wake.scheduler.notify_one();
    scene.record("frozen", &format!("after step {}", lines.len()));
    let note = format!("The other jobs of this matrix start from this machine as it was after step {}.", lines.len());
    journal.say(0, &note).await;
    *machine = core.engine.restore(core.engine.home(lease.vm.clone())?, &point.prepared, None).await?;
    let (ending, own) = scene.go_on(machine, took).run(run, journal).await;
    lines.extend(own);
    Ok((ending, lines))
}

async fn freeze(
    machine: &mut Machine, origin: &Prepared, directory: TempDir,
    point: impl FnOnce(Arc<Prepared>, TempDir) -> ForkPoint,
) -> Result<ForkPoint, VmError> {
    let frozen = machine.freeze(directory.path()).await?;
    Ok(point(Arc::new(origin.frozen(&frozen)), directory))
}

fn steps_up_to(last: usize) -> String {
    if last == 1 { "Step 1".to_owned() } else { format!("Steps 1 to {last}") }
}

//! From the request to the answer of a fresh VM.

use std::time::{Duration, Instant};

use super::bare;
use super::report::{BenchReport, Distribution};
use crate::engine::{Engine, Prepared};
use crate::ids::VmId;
use crate::protocol::message::{Exec, ExitStatus, Output, Owner};
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::vm::machine::Timings;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct CreateBench {
    pub runs: usize,
    /// Also restore by hand, in turn with the engine.
    pub baseline: bool,
}

/// Runs not counted, first: they fill the page cache.
const WARM_UP: usize = 2;

/// The command that every VM runs: the smallest there is.
pub(super) fn command() -> Exec {
    Exec { argv: vec!["/bin/true".into()], env: Vec::new(), directory: "/".into(), owner: Owner::ROOT, stdin: false }
}

/// Has the guest run [`command`], and waits for its end.
pub(super) async fn ask(guest: &Guest) -> Result<(), VmError> {
    let mut running = guest.exec(command()).await?;
    loop {
        match running.next().await? {
            Output::Exited(exit) if exit.status == ExitStatus::Code(0) => return Ok(()),
            Output::Exited(exit) => {
                return Err(VmError::Refused {
                    what: "run the smallest command",
                    detail: format!("{:?}", exit.status),
                });
            }
            Output::Stdout(_) | Output::Stderr(_) => {}
        }
    }
}

/// Measures; `tell` hears of each run.
pub async fn run(
    engine: &Engine, prepared: &Prepared, bench: CreateBench, monitor: String, mut tell: impl FnMut(usize),
) -> anyhow::Result<BenchReport> {
    let mut create = Vec::new();
    let mut baseline = Vec::new();
    let mut stages: [Vec<Duration>; 6] = Default::default();
    let mut destroy = Vec::new();
    for run in 0..bench.runs + WARM_UP {
        let (elapsed, timings, destroyed) = once(engine, prepared).await?;
        let by_hand = if bench.baseline { Some(once_by_hand(engine, prepared).await?) } else { None };
        if run < WARM_UP {
            continue;
        }
        tell(run + 1 - WARM_UP);
        create.push(elapsed);
        destroy.push(destroyed);
        baseline.extend(by_hand);
        let Timings { prepared, started, loaded, answered, identified } = timings;
        let ends = [prepared, started, loaded, answered, identified, elapsed];
        let mut begin = Duration::ZERO;
        for (stage, end) in stages.iter_mut().zip(ends) {
            stage.push(end - begin);
            begin = end;
        }
    }
    let mut report = BenchReport::new("create", prepared.template.accelerator.to_string(), monitor);
    let names = [
        "create.1-disk",
        "create.2-monitor",
        "create.3-state",
        "create.4-agent",
        "create.5-identity",
        "create.6-command",
    ];
    let named = names.into_iter().zip(stages);
    for (name, times) in named.chain([("create", create.clone()), ("baseline", baseline), ("destroy", destroy)]) {
        if let Some(distribution) = Distribution::of_times(&times) {
            report.results.insert(name, distribution);
        }
    }
    report.add_ratio("create_over_baseline", "create", "baseline");
    report.add_trend("create_last_over_first", &create);
    Ok(report)
}

/// Restores on demand; gives the time until the answer, its stages, and the time of the end.
pub(super) async fn once(engine: &Engine, prepared: &Prepared) -> anyhow::Result<(Duration, Timings, Duration)> {
    let began = Instant::now();
    let mut machine = engine.restore(engine.home(VmId::random())?, prepared, None).await?;
    let answered = ask(machine.guest()).await;
    let elapsed = began.elapsed();
    let ending = Instant::now();
    machine.destroy().await?;
    answered?;
    Ok((elapsed, machine.timings, ending.elapsed()))
}

async fn once_by_hand(engine: &Engine, prepared: &Prepared) -> anyhow::Result<Duration> {
    let template = prepared.template.clone();
    // Below the VMs' directory, so on the same file system; with a home's lease, so that no reaper takes it for garbage.
    let mut home = engine.home(VmId::random())?;
    let directory = home.path().to_owned();
    let measured = tokio::task::spawn_blocking(move || bare::restore(&template, &directory)).await?;
    home.remove().await?;
    Ok(measured?)
}

//! From the request to a monitor whose guest runs: the host's part of a restore, without a word of the guest.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::bare_jail;
use super::create::CreateBench;
use super::report::{BenchReport, Distribution};
use crate::engine::Engine;
use crate::ids::VmId;
use crate::vm::backend::Vmm;
use crate::vm::machine::Template;

/// Runs not counted, first: they fill the page cache.
const WARM_UP: usize = 3;

/// Measures; `tell` hears of each run.
pub async fn run(
    engine: &Engine, template: &Template, bench: CreateBench, monitor: String, mut tell: impl FnMut(usize),
) -> anyhow::Result<BenchReport> {
    let mut create = Vec::new();
    let mut baseline = Vec::new();
    let mut destroy = Vec::new();
    for run in 0..bench.runs + WARM_UP {
        let (elapsed, destroyed) = once(engine, template).await?;
        let by_hand = if bench.baseline { Some(once_by_hand(engine, template).await?) } else { None };
        if run < WARM_UP {
            continue;
        }
        tell(run + 1 - WARM_UP);
        create.push(elapsed);
        destroy.push(destroyed);
        baseline.extend(by_hand);
    }
    let mut report = BenchReport::new("create", template.accelerator.to_string(), monitor);
    for (name, times) in [("create", &create), ("baseline", &baseline), ("destroy", &destroy)] {
        if let Some(distribution) = Distribution::of_times(times) {
            report.results.insert(name, distribution);
        }
    }
    report.add_ratio("create_over_baseline", "create", "baseline");
    report.add_trend("create_last_over_first", &create);
    report.notes.push("from the request until the guest runs; the guest is a kernel that has just begun".to_owned());
    Ok(report)
}

async fn once(engine: &Engine, template: &Template) -> anyhow::Result<(Duration, Duration)> {
    let began = Instant::now();
    let mut home = engine.home(VmId::random())?;
    let resumed = engine.resume_only(&home, template).await;
    let elapsed = began.elapsed();
    let ending = Instant::now();
    if let Ok(mut monitor) = resumed {
        monitor.kill().await?;
        home.remove().await?;
        return Ok((elapsed, ending.elapsed()));
    }
    home.remove().await?;
    Err(resumed.map(drop).expect_err("the other case has returned").into())
}

async fn once_by_hand(engine: &Engine, template: &Template) -> anyhow::Result<Duration> {
    let Vmm::Firecracker(programs) = template.vmm.clone() else {
        bail!("only Firecracker has a baseline for this stage");
    };
    // On the same file system; with a home's lease, so that no reaper takes it for garbage.
    let mut home = engine.home(VmId::random())?;
    let (template, directory): (Template, PathBuf) = (template.clone(), home.path().to_owned());
    let measured = tokio::task::spawn_blocking(move || bare_jail::resume(&template, &programs, &directory)).await?;
    home.remove().await?;
    Ok(measured?)
}

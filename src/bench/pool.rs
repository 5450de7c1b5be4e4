//! From the claim of a VM that waits in a pool to its agent's answer, and to that of a command, beside a restore on demand.

use std::time::{Duration, Instant};

use super::create::{ask, once};
use super::report::{BenchReport, Distribution};
use crate::engine::{Engine, Prepared};
use crate::ids::VmId;
use crate::pool::CLAIM_LIMIT;

/// Runs not counted, first: they fill the page cache.
const WARM_UP: usize = 2;

/// Measures so many `runs`, one of each kind in turn; `tell` hears of each.
pub async fn run(
    engine: &Engine, prepared: &Prepared, runs: usize, monitor: String, mut tell: impl FnMut(usize),
) -> anyhow::Result<BenchReport> {
    let (mut create, mut pool, mut command) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs + WARM_UP {
        let (on_demand, ..) = once(engine, prepared).await?;
        let (claimed, answered) = once_pooled(engine, prepared).await?;
        if run < WARM_UP {
            continue;
        }
        tell(run + 1 - WARM_UP);
        create.push(on_demand);
        pool.push(claimed);
        command.push(answered);
    }
    let mut report = BenchReport::new("pool", prepared.template.accelerator.to_string(), monitor);
    for (name, times) in [("create", &create), ("pool", &pool), ("pool-command", &command)] {
        if let Some(distribution) = Distribution::of_times(times) {
            report.results.insert(name, distribution);
        }
    }
    report.add_ratio("pool_over_create", "pool", "create");
    report.add_ratio("pool_command_over_create", "pool-command", "create");
    report.add_trend("pool_last_over_first", &pool);
    report.notes.extend([
        "`pool` counts until the agent has answered as the job's; `create` and `pool-command`, until it has run a command",
        "making the idle VM is not counted",
    ].map(str::to_owned));
    Ok(report)
}

/// The times until the VM has answered to its claim, and until it has run a command.
async fn once_pooled(engine: &Engine, prepared: &Prepared) -> anyhow::Result<(Duration, Duration)> {
    let idle = engine.restore_idle(engine.home(VmId::random())?, prepared, None).await?;
    let began = Instant::now();
    let mut machine = idle.claim(CLAIM_LIMIT).await?;
    let claimed = began.elapsed();
    let answered = ask(machine.guest()).await;
    let elapsed = began.elapsed();
    machine.destroy().await?;
    answered?;
    Ok((claimed, elapsed))
}

//! What a VM would cost without snapshots: the kernel boots, beside a restore of the same image and shape.

use super::create::{ask, once};
use super::report::{BenchReport, Distribution};
use crate::engine::{Engine, Prepared};

/// Measures so many `runs`, one of each kind in turn; `tell` hears of each.
pub async fn run(
    engine: &Engine, prepared: &Prepared, runs: usize, monitor: String, mut tell: impl FnMut(usize),
) -> anyhow::Result<BenchReport> {
    let (mut boot, mut create) = (Vec::new(), Vec::new());
    for run in 0..runs {
        boot.push(engine.boot_cold(prepared, ask).await?);
        let (on_demand, ..) = once(engine, prepared).await?;
        create.push(on_demand);
        tell(run + 1);
    }
    let mut report = BenchReport::new("cold-boot", prepared.template.accelerator.to_string(), monitor);
    for (name, times) in [("cold-boot", &boot), ("create", &create)] {
        if let Some(distribution) = Distribution::of_times(times) {
            report.results.insert(name, distribution);
        }
    }
    report.add_ratio("cold_boot_over_create", "cold-boot", "create");
    Ok(report)
}

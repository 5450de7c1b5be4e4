//! How much memory of the host each idle clone of a snapshot takes for itself.

use anyhow::ensure;

use super::create::ask;
use super::report::{BenchReport, Distribution};
use crate::engine::{Engine, Prepared};
use crate::ids::VmId;
use crate::vm::machine::Machine;
use crate::vm::usage::{self, Usage};

const MIB: f64 = (1 << 20) as f64;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct DensityBench {
    /// The most clones.
    pub clones: usize,
    /// Memory of all monitors together at which no more are made, in bytes.
    pub limit: u64,
}

/// Makes clones that run and have nothing to do, up to one of the two limits, and measures them; `tell` hears of each.
pub async fn run(
    engine: &Engine, prepared: &Prepared, bench: DensityBench, monitor: String, mut tell: impl FnMut(usize),
) -> anyhow::Result<BenchReport> {
    let mut clones = Vec::new();
    let measured = fill(engine, prepared, bench, &mut clones, &mut tell).await;
    for clone in &mut clones {
        clone.destroy().await?;
    }
    let usages = measured?;
    ensure!(!usages.is_empty(), "not one clone fits below the limit");
    let mut report = BenchReport::new("density", prepared.template.accelerator.to_string(), monitor);
    let private: Vec<f64> = usages.iter().map(|usage| usage.private as f64 / MIB).collect();
    let all: Vec<f64> = usages.iter().map(|usage| usage.total() as f64 / MIB).collect();
    for (name, values) in [("private_mib_per_clone", &private), ("pss_mib_per_clone", &all)] {
        if let Some(distribution) = Distribution::of_values(values, "MiB") {
            report.results.insert(name, distribution);
        }
    }
    let shared: u64 = usages.iter().map(|usage| usage.shared).sum();
    report.notes.push(format!(
        "{} clones of {} MiB take {:.0} MiB together, of which {:.0} MiB are shared and counted once",
        usages.len(),
        prepared.template.shape.memory_mib,
        all.iter().sum::<f64>(),
        shared as f64 / MIB
    ));
    Ok(report)
}

/// Leaves the clones to the caller, whatever happens.
async fn fill(
    engine: &Engine, prepared: &Prepared, bench: DensityBench, clones: &mut Vec<Machine>, tell: &mut impl FnMut(usize),
) -> anyhow::Result<Vec<Usage>> {
    while clones.len() < bench.clones {
        let machine = engine.restore(engine.home(VmId::random())?, prepared, None).await?;
        clones.push(machine);
        let Some(newest) = clones.last() else { break };
        ask(newest.guest()).await?;
        tell(clones.len());
        let taken: u64 = measure(engine, clones).await?.iter().map(|usage| usage.total()).sum();
        if taken >= bench.limit {
            break;
        }
    }
    measure(engine, clones).await
}

async fn measure(engine: &Engine, clones: &[Machine]) -> anyhow::Result<Vec<Usage>> {
    let homes = engine.homes().clone();
    let found = tokio::task::spawn_blocking(move || usage::by_vm(&homes)).await??;
    Ok(clones.iter().filter_map(|clone| found.get(clone.id()).copied()).collect())
}

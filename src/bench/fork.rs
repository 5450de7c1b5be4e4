//! From the request to the answer of a clone of a running VM: whether the last of many is made as fast as the first.

use std::path::Path;
use std::time::{Duration, Instant};

use super::create::ask;
use super::report::{BenchReport, Distribution};
use crate::engine::{Engine, Prepared};
use crate::ids::VmId;
use crate::vm::machine::Machine;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct ForkBench {
    /// Clones of one frozen VM, which are there at the same time.
    pub forks: usize,
    /// How often that is repeated, each time with a VM of its own.
    pub rounds: usize,
}

/// Rounds not counted, first: they fill the page cache.
const WARM_UP: usize = 1;

/// How long the parts of one round took.
struct Round {
    /// The VM that is frozen, from the request to its answer.
    parent: Duration,
    freeze: Duration,
    forks: Vec<Duration>,
}

/// Measures; frozen VMs are in `directory` meanwhile. `tell` hears of each round.
pub async fn run(
    engine: &Engine, prepared: &Prepared, bench: ForkBench, monitor: String, directory: &Path,
    mut tell: impl FnMut(usize),
) -> anyhow::Result<BenchReport> {
    let mut rounds = Vec::new();
    for number in 0..bench.rounds + WARM_UP {
        let round = round(engine, prepared, bench.forks, directory).await?;
        if number >= WARM_UP {
            rounds.push(round);
            tell(rounds.len());
        }
    }
    let mut report = BenchReport::new("fork", prepared.template.accelerator.to_string(), monitor);
    let times = |part: fn(&Round) -> &[Duration]| rounds.iter().flat_map(part).copied().collect::<Vec<_>>();
    for (name, times) in [
        ("parent", times(|round| std::slice::from_ref(&round.parent))),
        ("freeze", times(|round| std::slice::from_ref(&round.freeze))),
        ("fork", times(|round| &round.forks)),
        ("fork.first", times(|round| &round.forks[..1])),
        ("fork.last", times(|round| &round.forks[round.forks.len() - 1..])),
    ] {
        if let Some(distribution) = Distribution::of_times(&times) {
            report.results.insert(name, distribution);
        }
    }
    report.add_ratio("fork_last_over_first", "fork.last", "fork.first");
    report.notes.push(format!("each of {} frozen VMs had {} clones at the same time", bench.rounds, bench.forks));
    Ok(report)
}

async fn round(engine: &Engine, prepared: &Prepared, forks: usize, directory: &Path) -> anyhow::Result<Round> {
    let into = tempfile::tempdir_in(directory)?;
    let began = Instant::now();
    let parent = engine.restore_freezable(engine.home(VmId::random())?, prepared, None).await?;
    ask(parent.guest()).await?;
    let answered = began.elapsed();
    let frozen = engine.freeze(parent, prepared, into.path()).await?;
    let freeze = began.elapsed() - answered;
    let (mut clones, mut times) = (Vec::new(), Vec::new());
    let made = async {
        for _ in 0..forks {
            let began = Instant::now();
            let clone = engine.restore(engine.home(VmId::random())?, &frozen, None).await?;
            let answer = ask(clone.guest()).await;
            times.push(began.elapsed());
            clones.push(clone);
            answer?;
        }
        anyhow::Ok(())
    };
    let made = made.await;
    destroy(clones).await?;
    made.map(|()| Round { parent: answered, freeze, forks: times })
}

async fn destroy(clones: Vec<Machine>) -> anyhow::Result<()> {
    for mut clone in clones {
        clone.destroy().await?;
    }
    Ok(())
}

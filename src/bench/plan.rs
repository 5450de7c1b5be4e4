//! `bench plan`: a long workflow with a large matrix, from its text to the jobs that will run.
//!
//! Everything is arithmetic of one thread: no VM, no disk. The cost of a cell must not grow with their number, so the
//! same workflow is planned with matrices of several sizes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::report::{BenchReport, Distribution};
use crate::workflow::expression::Value;
use crate::workflow::parse;
use crate::workflow::plan::{PlanInput, plan};

/// Lines of the workflow.
const LINES: usize = 1000;

/// Sizes of the matrix, as results and as numbers of values on each of its two axes. The last is the largest that there may be.
const MATRICES: [(&str, usize); 3] = [("plan_16_cells", 4), ("plan_64_cells", 8), ("plan_256_cells", 16)];

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct PlanBench {
    /// How often each size is planned.
    pub runs: usize,
}

/// The times of one workflow.
#[derive(Debug, Default)]
struct Times {
    parsed: Vec<Duration>,
    planned: Vec<Duration>,
    both: Vec<Duration>,
}

/// Plans workflows again and again.
///
/// # Errors
/// A workflow of the benchmark that does not become the jobs that it should: a mistake in Dayfly.
pub fn run(bench: PlanBench) -> anyhow::Result<BenchReport> {
    let mut report = BenchReport::new("plan", "one thread".to_owned(), format!("{LINES} lines"));
    for (name, axis) in MATRICES {
        let cells = axis * axis;
        let times = times(&workflow(axis), cells, bench.runs)?;
        let figures = Distribution::of_times(&times.planned).context("no run was asked for")?;
        // Cells a second, at the median.
        let rate = Some(cells as f64 / (figures.p50 / 1e3).max(f64::MIN_POSITIVE));
        report.results.insert(name, Distribution { rate, ..figures });
        if Some(axis) == MATRICES.last().map(|(_, axis)| *axis) {
            add_all(&mut report, &times);
        }
    }
    report.add_rate_ratio("cost_of_a_cell_256_to_16", "plan_16_cells", "plan_256_cells");
    report.notes.push(format!("plan: the text of {LINES} lines parsed, checked and planned, with 256 cells"));
    Ok(report)
}

fn add_all(report: &mut BenchReport, times: &Times) {
    for (name, times) in [("parse", &times.parsed), ("plan", &times.both)] {
        if let Some(figures) = Distribution::of_times(times) {
            report.results.insert(name, figures);
        }
    }
}

fn times(text: &str, cells: usize, runs: usize) -> anyhow::Result<Times> {
    let github = Value::from(serde_json::json!({
        "event_name": "pull_request", "ref": "refs/pull/7/head", "sha": "0123456789abcdef0123456789abcdef01234567",
    }));
    let input = PlanInput { github, ..PlanInput::default() };
    let mut times = Times::default();
    for _ in 0..runs {
        let start = Instant::now();
        let workflow = parse("ci.yml", text).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let parsed = start.elapsed();
        let jobs = plan(&workflow, &input).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let both = start.elapsed();
        ensure!(jobs.iter().filter(|job| job.key == "matrix").count() == cells, "not {cells} cells");
        times.parsed.push(parsed);
        times.planned.push(both.saturating_sub(parsed));
        times.both.push(both);
    }
    Ok(times)
}

/// A workflow of [`LINES`] lines: one job with a matrix of `axis` times `axis` cells, and jobs that fill it up, each with what
/// real ones have.
fn workflow(axis: usize) -> String {
    let values = |prefix: &str| (0..axis).map(|value| format!("{prefix}{value}")).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "name: Large\non: {{pull_request: {{branches: [main, 'release/**']}}}}\nenv:\n  COMMIT: ${{{{ github.sha }}}}\njobs:\n  matrix:\n    \
         name: Test on ${{{{ matrix.system }}}} with ${{{{ matrix.version }}}}\n    runs-on: [linux, '${{{{ matrix.system }}}}']\n    \
         strategy:\n      matrix:\n        system: [{}]\n        version: [{}]\n    steps:\n",
        values("s"),
        values("v")
    );
    let steps = |text: &mut String, count: usize| {
        for step in 0..count {
            write!(
                text,
                "      - name: Step {step} of ${{{{ github.job }}}}\n        if: github.event_name == 'pull_request' && success()\n        \
                 env: {{N: '${{{{ format(''{{0}}-{{1}}'', github.ref, {step}) }}}}'}}\n        run: make step-{step}\n"
            )
            .expect("writing to a string does not fail");
        }
    };
    steps(&mut text, 20);
    let mut job = 0;
    while text.lines().count() + 36 <= LINES {
        write!(text, "  job{job}:\n    needs: matrix\n    runs-on: linux\n    steps:\n").expect("as above");
        steps(&mut text, 8);
        job += 1;
    }
    while text.lines().count() < LINES {
        text.push_str("# The last lines\n");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_workflows_are_what_is_said_of_them() {
        for (_, axis) in MATRICES {
            assert_eq!(workflow(axis).lines().count(), LINES);
        }
        let report = run(PlanBench { runs: 1 }).unwrap();
        let results: Vec<&str> = report.results.keys().copied().collect();
        assert_eq!(results, ["parse", "plan", "plan_16_cells", "plan_256_cells", "plan_64_cells"]);
    }
}

//! What the cells of a matrix have in common: the first steps, as far as nothing in them says which cell it is. They can run
//! once, in one machine, from which the others then start.
//!
//! Each cell still has its own outcome, with the results of the common steps in it. What a step does beside what its text
//! says, such as draw a random number, is the same in all cells then; so an operator has to ask for it.

use super::model::{Action, Step, uses};
use super::plan::JobSpec;

/// Contexts that tell one cell from another, and secrets: what is shared is written to the disk.
const OF_A_CELL: [&str; 3] = ["matrix", "strategy", "secrets"];

/// How many of a job's first steps are the same in every cell of its matrix; 0 if it has no matrix, or if nothing would be
/// saved: a checkout alone takes less than it takes to start from a machine that has it.
pub fn shared_steps(spec: &JobSpec) -> usize {
    // What Docker has started is part of a machine, but not of what is known of it on the host.
    let has_containers = spec.job.container.is_some() || spec.job.services.is_some();
    if spec.strategy.job_total < 2 || has_containers || tells_cells_apart(spec) {
        return 0;
    }
    // An action may ask for the cell by itself, and what it does after the job belongs to each machine. What is in the background has
    // an end that belongs to one of them.
    let is_plain = |step: &Step| !step.background && !matches!(step.action, Action::Uses { .. } | Action::Steer(_));
    let is_common = |step: &&Step| is_plain(step) && !step.uses(&OF_A_CELL);
    let shared: Vec<&Step> = spec.job.steps.iter().take_while(is_common).collect();
    let is_work = |step: &&Step| matches!(step.action, Action::Run { .. });
    if shared.iter().any(is_work) { shared.len() } else { 0 }
}

/// Whether what every step gets from its job and workflow depends on the cell.
fn tells_cells_apart(spec: &JobSpec) -> bool {
    let directories = [&spec.workflow_defaults, &spec.job.defaults].map(|defaults| defaults.working_directory.as_ref());
    // Its values depend on it.
    let environment = spec.job.environment.as_ref().is_some_and(|environment| environment.name.uses(&OF_A_CELL));
    environment
        || [&spec.workflow_env, &spec.job.env].into_iter().any(|variables| uses(variables, &OF_A_CELL))
        || spec.job.defaults.computed_shell.as_ref().is_some_and(|shell| shell.uses(&OF_A_CELL))
        || directories.into_iter().flatten().any(|path| path.uses(&OF_A_CELL))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::workflow::plan::{PlanInput, plan};

    /// The number of shared steps of a job with these lines and steps.
    fn shared(job: &str, steps: &[&str]) -> usize {
        let steps: String = steps.iter().map(|step| format!("      - {step}\n")).collect();
        let text = format!("on: push\njobs:\n  test:\n    runs-on: linux\n{job}    steps:\n{steps}");
        let workflow = crate::workflow::parse("ci.yml", &text).unwrap();
        let planned = plan(&workflow, &PlanInput::default()).unwrap();
        let counts: Vec<usize> = planned.iter().map(|job| shared_steps(&job.spec)).collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "cells disagree: {counts:?}");
        counts[0]
    }

    const MATRIX: &str = "    strategy: { matrix: { n: [1, 2] } }\n";

    #[test]
    fn steps_are_shared_up_to_the_first_that_knows_its_cell() {
        let plain = ["uses: actions/checkout@v4", "run: make", "run: make ${{ github.sha }}"];
        assert_eq!(shared(MATRIX, &[&plain[..], &["run: test ${{ matrix.n }}", "run: make"]].concat()), 3);
        assert_eq!(shared(MATRIX, &plain), 3, "also if it is all of them");
        for own in [
            "run: echo ${{ matrix.n }}",
            "run: echo ${{ MATRIX['n'] }}",
            "run: echo ${{ toJSON(strategy) }}",
            "run: echo ${{ github.event[format('{0}', matrix.n)] }}",
            "{ run: echo, if: \"!startsWith(matrix.n, 'x')\" }",
            "{ run: echo, if: matrix.n == 1 && success() }",
            "{ run: echo, env: { N: \"${{ strategy.job-index }}\" } }",
            "{ run: echo, name: \"${{ matrix.n }}\" }",
            "{ run: echo, working-directory: \"${{ matrix.n }}\" }",
            "{ run: echo, timeout-minutes: \"${{ matrix.n }}\" }",
            "{ run: echo, continue-on-error: \"${{ matrix.n == 1 }}\" }",
            "{ uses: actions/checkout@v4, with: { path: \"${{ matrix.n }}\" } }",
            "{ run: serve, background: true }",
            "{ parallel: [{ run: a }, { run: b }] }",
            "wait-all:",
            "{ uses: actions/checkout@v4, with: { fetch-depth: \"${{ matrix.n }}\" } }",
            "{ uses: actions/checkout@v4, with: { clean: \"${{ matrix.n == 1 }}\" } }",
        ] {
            assert_eq!(shared(MATRIX, &["run: make", own, "run: make"]), 1, "{own}");
        }
    }

    #[test]
    fn nothing_is_shared_where_all_steps_know_their_cell_or_nothing_is_saved() {
        let steps = ["run: make", "run: test ${{ matrix.n }}"];
        assert_eq!(shared(MATRIX, &steps), 1);
        for (job, steps) in [
            (String::new(), &["run: make"][..]),
            ("    strategy: { matrix: { n: [1] } }\n".to_owned(), &["run: make"]),
            (format!("{MATRIX}    env: {{ N: \"${{{{ matrix.n }}}}\" }}\n"), &steps),
            (format!("{MATRIX}    defaults: {{ run: {{ working-directory: \"${{{{ matrix.n }}}}\" }} }}\n"), &steps),
            (MATRIX.to_owned(), &["run: test ${{ matrix.n }}", "run: make"]),
            (MATRIX.to_owned(), &["uses: actions/checkout@v4", "run: test ${{ matrix.n }}"]),
        ] {
            assert_eq!(shared(&job, steps), 0, "{job}{steps:?}");
        }
    }

    #[test]
    fn what_is_about_the_job_as_a_whole_keeps_nothing_from_being_shared() {
        let job = format!(
            "{MATRIX}    continue-on-error: ${{{{ matrix.n == 2 }}}}\n    timeout-minutes: ${{{{ matrix.n }}}}\n"
        );
        assert_eq!(shared(&job, &["run: make", "run: test ${{ matrix.n }}"]), 1);
    }
}

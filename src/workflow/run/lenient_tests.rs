//! What GitHub's runner forgives: a step runs although something beside its work cannot be had.

#![allow(clippy::unwrap_used)]

use super::tests::{end, expect_run, job, script};
use super::*;
use crate::workflow::file_commands::MAX_FILE_BYTES;

#[test]
fn only_the_runners_own_variables_are_kept_from_a_workflow() {
    let mut run = job(
        "env: {GITHUB_TOKEN: of workflow, RUNNER_X: own}",
        "    steps:\n    - {run: 'echo ${{ env.GITHUB_FOO }}', env: {GITHUB_REF: forged, GITHUB_ENV: forged}}\n    - {run: 'echo ${{ env.GITHUB_FOO }}'}\n",
    );
    let first = expect_run(&mut run);
    assert_eq!([&first.env["GITHUB_TOKEN"], &first.env["RUNNER_X"]], ["of workflow", "own"]);
    assert_eq!([&first.env["GITHUB_REF"], &first.env["GITHUB_ENV"]], ["", "/guest/commands/env_1"]);
    run.finish_step(StepResult {
        env: b"GITHUB_FOO=1\nGITHUB_SHA=2\n".to_vec(),
        ..StepResult::new(StepEnd::Exited(0))
    });
    let second = expect_run(&mut run);
    assert_eq!((script(&second).0, second.env["GITHUB_SHA"].as_str()), ("echo 1", "0123"));
}

#[test]
fn what_is_said_of_a_failure_is_computed_when_there_is_one() {
    let steps = "    steps:\n    - {run: x, continue-on-error: '${{ matrix.none }}'}\n    - {run: y, continue-on-error: '${{ matrix.none }}'}\n";
    let mut run = job("", steps);
    expect_run(&mut run);
    assert_eq!(end(&mut run, 0).conclusion, Outcome::Success);
    expect_run(&mut run);
    let report = end(&mut run, 1);
    assert_eq!(report.conclusion, Outcome::Failure);
    insta::assert_snapshot!(report.errors[1], @"`continue-on-error`: in the expression `matrix.none`: expected true or false, but the expression gives null");
}

#[test]
fn no_time_limit_is_none_and_one_that_cannot_be_computed_is_told() {
    let steps = "    steps:\n    - {run: x, timeout-minutes: 0}\n    - {run: x, timeout-minutes: -3}\n    - {run: x, timeout-minutes: '${{ github.sha }}'}\n    \
                 - {run: x, timeout-minutes: '${{ matrix.none }}'}\n    - {run: x, timeout-minutes: 1e9}\n";
    let mut run = job("", steps);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let plan = expect_run(&mut run);
        seen.push(format!("{:?} {}", plan.timeout.map(|limit| limit.as_secs()), plan.remark.unwrap_or_default()));
        end(&mut run, 0);
    }
    insta::assert_snapshot!(seen.join("\n"), @r"
    None 
    None 
    Some(7380) 
    None the step has no time limit: in the expression `matrix.none`: expected a number, but the expression gives null
    Some(2592000) 
    ");
}

#[test]
fn a_variable_that_nobody_may_set_is_left_out_alone() {
    let mut run = job("", "    steps: [{run: x}, {run: 'echo ${{ env.A }}${{ env.B }}'}]\n");
    expect_run(&mut run);
    let env = b"A=1\nNODE_OPTIONS=x\nB=2\n".to_vec();
    let report = run.finish_step(StepResult { env, ..StepResult::new(StepEnd::Exited(0)) }).unwrap();
    assert_eq!((report.outcome, report.annotations.len()), (Outcome::Success, 1));
    assert_eq!(script(&expect_run(&mut run)).0, "echo 12");
}

#[test]
fn a_step_goes_on_after_a_cancellation_if_it_would_begin_then() {
    let steps = "    steps:\n    - {run: x}\n    - {run: x, if: always()}\n    - {run: x, if: '!failure()'}\n    - {run: x, if: success() || cancelled()}\n    \
                 - {run: x, if: '!cancelled()'}\n    - {run: x, if: always(), background: true}\n    - {run: x, if: always()}\n";
    let mut run = job("", steps);
    let mut outlast = Vec::new();
    loop {
        match run.next_step() {
            Next::Run(plan) => {
                outlast.push(plan.outlasts_cancel);
                end(&mut run, 0);
            }
            Next::Aside => match run.ready() {
                Some(Ready::Start(plan, mut own)) => {
                    outlast.push(plan.outlasts_cancel);
                    let report = own.finish_step(StepResult::new(StepEnd::Exited(0))).unwrap();
                    run.take_back(*own, &report);
                }
                other => panic!("{other:?}"),
            },
            _ => break,
        }
    }
    assert_eq!(outlast, [false, true, true, true, false, false, true]);
}

#[test]
fn names_of_variables_heed_letter_case_and_those_of_outputs_do_not() {
    let mut run = job(
        "",
        "    env: {foo: x}\n    steps: [{id: s, run: '${{ env.FOO }}.${{ env.foo }}'}, {run: '${{ steps.s.outputs.FOO }}'}]\n",
    );
    assert_eq!(script(&expect_run(&mut run)).0, ".x");
    run.finish_step(StepResult { output: b"Foo=1\nfoo=2\n".to_vec(), ..StepResult::new(StepEnd::Exited(0)) });
    assert_eq!(script(&expect_run(&mut run)).0, "2");
}

#[test]
fn each_step_may_write_a_summary_of_its_own() {
    let mut run = job("", "    steps: [{run: x}, {run: x}]\n");
    for _ in 0..2 {
        expect_run(&mut run);
        let summary = vec![b'x'; MAX_FILE_BYTES];
        let report = run.finish_step(StepResult { summary, ..StepResult::new(StepEnd::Exited(0)) }).unwrap();
        assert_eq!((report.outcome, report.annotations.len()), (Outcome::Success, 0));
    }
    assert!(run.finish().summary.len() > 2 * MAX_FILE_BYTES);
}

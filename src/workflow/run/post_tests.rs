#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::tests::{end, expect_run, job, script};
use super::*;
use crate::workflow::commands::Said;
use crate::workflow::expression::{Expression, Scope};
use crate::workflow::setting::Condition;

const TWO_STEPS: &str = "    steps:\n    - {run: one, id: first, env: {A: '${{ env.B }}'}}\n    - {run: two}\n";

fn post(of: usize, name: &str, condition: Condition) -> PostStep {
    let action = StepAction::Script {
        text: name.to_owned(),
        extension: ".sh",
        argv: vec!["sh".to_owned()],
        working_directory: "/".to_owned(),
    };
    PostStep { of, name: name.to_owned(), condition, action, env: BTreeMap::from([("INPUT_X".into(), "x".into())]) }
}

/// The names of the steps that run from here on, and of those that do not.
fn rest(run: &mut JobRun) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        match run.next_step() {
            Next::Run(plan) => {
                names.push(plan.name.clone());
                end(run, 0);
            }
            Next::Skipped(report) => names.push(format!("not {}", report.name)),
            Next::Done => return names,
            other => panic!("{other:?}"),
        }
    }
}

fn on_failure() -> Condition {
    let scope = Scope { contexts: &[], status_functions: true, hash_files: false };
    Condition::new(Expression::parse("failure()", &scope).unwrap())
}

#[test]
fn post_steps_run_after_all_others_the_last_one_first() {
    let mut run = job("", TWO_STEPS);
    expect_run(&mut run);
    run.add_post(post(0, "Post one", Condition::always()));
    end(&mut run, 0);
    expect_run(&mut run);
    run.add_post(post(1, "Post two", Condition::default()));
    run.add_post(post(1, "Post fail", on_failure()));
    end(&mut run, 0);
    assert_eq!(rest(&mut run), ["not Post fail", "Post two", "Post one"]);
    run.add_post(post(0, "too late", Condition::always()));
    assert_eq!(run.next_step(), Next::Done);
    assert_eq!(run.finish().outcome, Outcome::Success);
}

#[test]
fn post_steps_run_after_failure_and_cancellation_if_they_say_so() {
    for (is_cancelled, expected, outcome) in [
        (false, ["not Run two", "Post fail", "not Post plain", "Post always"], Outcome::Failure),
        (true, ["not Run two", "not Post fail", "not Post plain", "Post always"], Outcome::Cancelled),
    ] {
        let mut run = job("", TWO_STEPS);
        expect_run(&mut run);
        run.add_post(post(0, "Post always", Condition::always()));
        run.add_post(post(0, "Post plain", Condition::default()));
        run.add_post(post(0, "Post fail", on_failure()));
        if is_cancelled {
            run.cancel();
            end(&mut run, 0);
        } else {
            end(&mut run, 1);
        }
        assert_eq!(rest(&mut run), expected);
        assert_eq!(run.finish().outcome, outcome);
    }
}

#[test]
fn a_post_step_has_what_its_step_had_and_kept() {
    let mut run = job("env: {B: workflow}", TWO_STEPS);
    expect_run(&mut run);
    run.add_post(post(0, "Post one", Condition::always()));
    let mut said = Said::default();
    said.state.push(("said".into(), "aloud".into()));
    run.finish_step(StepResult { state: b"kept=by file\n".to_vec(), said, ..StepResult::new(StepEnd::Exited(0)) });
    expect_run(&mut run);
    run.finish_step(StepResult {
        env: b"B=later\n".to_vec(),
        state: b"kept=not mine\n".to_vec(),
        ..StepResult::new(StepEnd::Exited(0))
    });
    let plan = expect_run(&mut run);
    let env = |name: &str| plan.env.get(name).map(String::as_str);
    assert_eq!((env("STATE_kept"), env("STATE_said"), env("INPUT_X")), (Some("by file"), Some("aloud"), Some("x")));
    assert_eq!((env("A"), env("GITHUB_ACTION"), plan.index), (Some("later"), Some("first"), 2));
    assert_eq!(script(&plan).0, "Post one");
    let report = end(&mut run, 3);
    assert_eq!((report.outcome, report.index), (Outcome::Failure, 2));
    assert_eq!(run.finish().outcome, Outcome::Failure);
}

#[test]
fn what_is_said_of_a_step_goes_for_its_post_step() {
    let mut run = job("", "    steps:\n    - {run: one, continue-on-error: true, timeout-minutes: 1}\n");
    expect_run(&mut run);
    run.add_post(post(0, "Post one", Condition::always()));
    end(&mut run, 0);
    let plan = expect_run(&mut run);
    assert_eq!((plan.timeout, plan.outlasts_cancel), (Some(Duration::from_secs(60)), true));
    let report = end(&mut run, 3);
    assert_eq!((report.outcome, report.conclusion), (Outcome::Failure, Outcome::Success));
    assert_eq!(run.finish().outcome, Outcome::Success);
}

#[test]
fn a_job_that_is_given_up_before_its_post_steps_was_cancelled() {
    let mut run = job("", TWO_STEPS);
    for _ in 0..2 {
        expect_run(&mut run);
        run.add_post(post(0, "Post", Condition::always()));
        end(&mut run, 0);
    }
    assert_eq!(run.finish().outcome, Outcome::Cancelled);
}

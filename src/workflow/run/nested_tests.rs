#![allow(clippy::unwrap_used)]

use super::tests::{end, expect_run, job};
use super::*;
use crate::workflow::action::Manifest;
use crate::workflow::action::manifest::Runs;

fn manifest(steps: &str) -> Manifest {
    let text = format!(
        "inputs:\n  who: {{ default: \"${{{{ github.event_name }}}}\" }}\noutputs:\n  said: {{ value: \"${{{{ steps.say.outputs.x }}}}!\" }}\n\
         runs:\n  using: composite\n  steps:\n{steps}"
    );
    crate::workflow::parse::action("a/action.yml", &text).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

/// Enters the action of the step at hand.
fn enter(run: &mut JobRun, manifest: &Manifest) -> JobRun {
    let plan = expect_run(run);
    let StepAction::Uses(uses) = &plan.action else { panic!("an action") };
    let inputs = run.action_inputs(&plan, &manifest.inputs, &uses.with).unwrap();
    let Runs::Composite(steps) = &manifest.runs else { panic!("steps") };
    let place = ActionPlace { path: "/guest/a".into(), file: "a/action.yml".into(), ..ActionPlace::default() };
    run.enter(&plan, steps, &inputs, place)
}

fn said(files: &[(&str, &str)]) -> StepResult {
    let mut result = StepResult::new(StepEnd::Exited(0));
    for (file, content) in files {
        let bytes = content.as_bytes().to_vec();
        match *file {
            "env" => result.env = bytes,
            "output" => result.output = bytes,
            "path" => result.path = bytes,
            _ => result.summary = bytes,
        }
    }
    result
}

const JOB: &str = "    env: { A: job, B: job }\n    steps:\n      - { id: act, uses: ./a, with: { who: mona }, env: { B: step } }\n      \
                   - run: echo ${{ steps.act.outputs.said }} ${{ env.A }} ${{ env.B }} ${{ env.NEW }}\n";

#[test]
fn an_actions_steps_have_their_own_contexts_and_the_jobs_environment() {
    let manifest = manifest(
        "    - { id: say, run: \"echo ${{ inputs.who }} ${{ env.B }} ${{ github.action_path }}\", shell: bash }\n    \
         - { run: \"echo ${{ env.NEW }} ${{ steps.act }}\", shell: sh }\n",
    );
    let mut run = job("", JOB);
    let mut nested = enter(&mut run, &manifest);
    let first = expect_run(&mut nested);
    let StepAction::Script { text, working_directory, .. } = &first.action else { panic!("a script") };
    assert_eq!((text.as_str(), working_directory.as_str()), ("echo mona step /guest/a", "/guest/repo"));
    assert_eq!((first.key.as_str(), first.env["GITHUB_ACTION_PATH"].as_str()), ("1-1", "/guest/a"));
    assert_eq!(first.env["GITHUB_OUTPUT"], "/guest/commands/output_1-1");
    nested.finish_step(said(&[
        ("env", "NEW=made\n"),
        ("output", "x=hello\n"),
        ("path", "/own/bin\n"),
        ("summary", "# x\n"),
    ]));
    let second = expect_run(&mut nested);
    let StepAction::Script { text, .. } = &second.action else { panic!("a script") };
    assert_eq!((text.trim_end(), second.path("/bin").as_str()), ("echo made", "/own/bin:/bin"));
    end(&mut nested, 0);
    assert_eq!(nested.next_step(), Next::Done);
    let report = run.leave(nested, &manifest.outputs, None).unwrap();
    assert_eq!((report.outcome, report.errors.len()), (Outcome::Success, 0));
    let after = expect_run(&mut run);
    let StepAction::Script { text, .. } = &after.action else { panic!("a script") };
    assert_eq!(text, "echo hello! job job made", "what the step itself set is over");
    assert_eq!(after.path("/bin"), "/own/bin:/bin");
    end(&mut run, 0);
    assert_eq!(run.finish().summary, "# x\n");
}

#[test]
fn a_failure_within_is_the_actions_and_later_steps_know_only_of_their_own() {
    let manifest = manifest(
        "    - { run: one, shell: sh, continue-on-error: true }\n    - { name: Two, run: two, shell: sh }\n    - { run: three, shell: sh }\n    \
         - { run: four, shell: sh, if: failure() }\n",
    );
    let mut run = job(
        "",
        "    steps:\n      - { id: act, uses: ./a, continue-on-error: true }\n      - run: echo ${{ steps.act.outcome }}\n",
    );
    let mut nested = enter(&mut run, &manifest);
    end(expecting(&mut nested, "one"), 1);
    end(expecting(&mut nested, "two"), 3);
    assert!(matches!(nested.next_step(), Next::Skipped(_)), "three is passed over");
    end(expecting(&mut nested, "four"), 0);
    let report = run.leave(nested, &manifest.outputs, None).unwrap();
    assert_eq!((report.outcome, report.conclusion), (Outcome::Failure, Outcome::Success));
    assert_eq!(report.errors, ["`Two`: the step ended with exit code 3"]);
    expecting(&mut run, "echo failure");
}

#[test]
fn an_action_after_a_failure_starts_anew_and_a_cancelled_one_is_cancelled() {
    let manifest = manifest("    - { run: \"echo ${{ github.action_status }} ${{ job.status }}\", shell: sh }\n");
    let steps = "    steps:\n      - run: x\n      - { uses: ./a, if: always() }\n";
    let mut run = job("", steps);
    end(expecting(&mut run, "x"), 1);
    let mut nested = enter(&mut run, &manifest);
    end(expecting(&mut nested, "echo success failure"), 0);
    assert_eq!(run.leave(nested, &manifest.outputs, None).unwrap().outcome, Outcome::Success);
    assert_eq!(run.finish().outcome, Outcome::Failure);

    let mut run = job("", "    steps:\n      - uses: ./a\n");
    let mut nested = enter(&mut run, &manifest);
    nested.cancel();
    assert!(matches!(nested.next_step(), Next::Skipped(_)));
    assert_eq!(run.leave(nested, &manifest.outputs, None).unwrap().outcome, Outcome::Cancelled);
}

/// The run, whose next step has this script.
fn expecting<'a>(run: &'a mut JobRun, script: &str) -> &'a mut JobRun {
    let plan = expect_run(run);
    let StepAction::Script { text, .. } = &plan.action else { panic!("a script") };
    assert_eq!(text, script);
    run
}

#[test]
fn what_an_action_leaves_for_later_runs_after_the_jobs_steps_with_what_it_kept() {
    let manifest = manifest("    - { run: one, shell: sh, env: { OWN: x } }\n    - { run: two, shell: sh }\n");
    let mut run = job("", "    steps:\n      - uses: ./a\n      - run: last\n");
    let mut nested = enter(&mut run, &manifest);
    let plan = expect_run(&mut nested);
    let env = [("INPUT_X".to_owned(), "given".to_owned())].into();
    let condition = crate::workflow::setting::Condition::default();
    let post = PostStep { of: plan.index, name: "Post one".into(), condition, action: plan.action.clone(), env };
    nested.add_post(post);
    nested.finish_step(StepResult { state: b"kept=this\n".to_vec(), ..StepResult::new(StepEnd::Exited(0)) });
    end(expecting(&mut nested, "two"), 0);
    assert_eq!(nested.next_step(), Next::Done, "not yet");
    assert_eq!(run.leave(nested, &manifest.outputs, None).unwrap().outcome, Outcome::Success);
    end(expecting(&mut run, "last"), 0);
    let later = expect_run(&mut run);
    assert_eq!((later.name.as_str(), later.key.as_str()), ("Post one", "3"));
    assert_eq!((later.env["STATE_kept"].as_str(), later.env["INPUT_X"].as_str()), ("this", "given"));
    end(&mut run, 0);
    assert_eq!(run.finish().outcome, Outcome::Success);
}

#[test]
fn the_main_program_sees_what_came_before_it() {
    let mut run = job("", "    steps:\n      - uses: ./a\n");
    let plan = expect_run(&mut run);
    let before = StepResult {
        state: b"kept=this\n".to_vec(),
        env: b"NEW=set\n".to_vec(),
        path: b"/own\n".to_vec(),
        ..StepResult::new(StepEnd::Exited(0))
    };
    let main = run.go_on(plan.clone(), before).unwrap();
    assert_eq!(
        (main.env["STATE_kept"].as_str(), main.env["NEW"].as_str(), main.path("/bin").as_str()),
        ("this", "set", "/own:/bin")
    );
    let failed = run.go_on(plan, StepResult::new(StepEnd::Exited(2))).unwrap_err();
    assert_eq!(run.finish_step(*failed).unwrap().outcome, Outcome::Failure);
}

#[test]
fn what_steps_of_actions_set_for_themselves_is_there_for_what_comes_later() {
    let outer = manifest("    - { uses: ./b, env: { C: \"${{ inputs.who }}\", GITHUB_SHA: forged } }\n");
    let inner = manifest("    - { uses: ./c, env: { D: \"${{ env.C }}!\" } }\n");
    let mut run = job("", JOB);
    let plan = expect_run(&mut run);
    assert!(run.variables_for_later(&plan).is_empty(), "the job computes them again");
    let mut nested = enter(&mut run, &outer);
    let plan = expect_run(&mut nested);
    let told = |variables: BTreeMap<String, String>| format!("{variables:?}");
    assert_eq!(told(nested.variables_for_later(&plan)), r#"{"C": "mona"}"#);
    let mut deeper = enter(&mut nested, &inner);
    let plan = expect_run(&mut deeper);
    assert_eq!(told(deeper.variables_for_later(&plan)), r#"{"C": "mona", "D": "mona!"}"#);
}

#[test]
fn what_comes_before_a_main_program_overrides_no_variable_of_the_step() {
    let mut run = job("env: { NEW: workflow }", "    steps:\n      - { uses: ./a, env: { B: step } }\n");
    let plan = expect_run(&mut run);
    let plan = run.go_on(plan, said(&[("env", "B=before\nNEW=before\n")])).unwrap();
    assert_eq!((plan.env["B"].as_str(), plan.env["NEW"].as_str()), ("step", "before"));
}

//! What is read and checked though this version does not run it.
#![allow(clippy::unwrap_used)]

use crate::document::Severity;
use crate::workflow::examine;
use crate::workflow::model::{Action, CallSecrets, InputKind};

/// What is found, each with its severity.
fn found(text: &str) -> String {
    let found = examine("ci.yml", text).findings.into_sorted();
    found.iter().map(|(severity, found)| format!("{severity}: {found}")).collect::<Vec<_>>().join("\n")
}

const JOB: &str = "jobs: {a: {runs-on: x, steps: [run: x]}}\n";

#[test]
fn events_that_start_nothing_are_checked_all_the_same() {
    let text = format!(
        "on:
  release: {{types: [publishd]}}
  create: {{types: [x]}}
  schedule: [{{cron: '61 * * * *'}}, {{cron: '0 6 * * *', timezone: Europe/Nowhere}}, {{cron: '0 6 * * *', timezone: Europe/Berlin}}, {{cron: '0 6 * * *'}}, {{}}]
  workflow_call:
    inputs: {{a: {{type: choice}}, b: {{type: number, default: x}}, 1c: {{type: string}}}}
    outputs: {{o: {{value: '${{{{ steps.x }}}}'}}}}
  workflow_dispatch: {{inputs: {{a: {{type: choice, options: [x, y], default: z}}}}}}
{JOB}"
    );
    insta::assert_snapshot!(found(&text), @"
    warning: ci.yml:2:3: on.release: the event `release` starts nothing yet
      hint: events that start workflows: push, pull_request, merge_group, workflow_dispatch, repository_dispatch, schedule
    error: ci.yml:2:21: on.release.types[0]: `release` has no activity `publishd`
      hint: did you mean `published`?
    warning: ci.yml:3:3: on.create: the event `create` starts nothing yet
      hint: events that start workflows: push, pull_request, merge_group, workflow_dispatch, repository_dispatch, schedule
    error: ci.yml:3:11: on.create: nothing narrows the event `create`
    error: ci.yml:4:21: on.schedule[0].cron: `61` is no minute (0 to 59)
      hint: minute, hour, day of the month, month, day of the week: `30 6 * * 1-5`; times are UTC without `timezone`
    error: ci.yml:4:66: on.schedule[1].timezone: there is no time zone `Europe/Nowhere`
      hint: zones are `UTC`, `Europe/Berlin` and the like
    error: ci.yml:4:150: on.schedule[4].cron: missing key `cron`
    error: ci.yml:6:24: on.workflow_call.inputs.a.type: `choice` is not a known value
      hint: known here: `string`, `boolean`, `number`
    error: ci.yml:6:60: on.workflow_call.inputs.b.default: expected a number, found the string `x`
    error: ci.yml:6:64: on.workflow_call.inputs.1c: `1c` is no name of an input
      hint: letters, digits, `-` and `_`; a letter or `_` first; at most 99 characters
    error: ci.yml:7:26: on.workflow_call.outputs.o.value: in the expression `steps.x`: there is no context `steps` here (character 1 of the expression)
      hint: contexts that exist here: github, inputs, vars, jobs
    error: ci.yml:8:76: on.workflow_dispatch.inputs.a.default: `z` is none of the options
      hint: known here: `x`, `y`
    ");
}

#[test]
fn containers_and_permissions_are_checked() {
    let text = "on: push
permissions: {contens: read, id-token: read, models: write}
jobs:
  a:
    runs-on: x
    container: {image: '', credentials: {user: x}, port: [80]}
    services: {db: {ports: 80}, cache: '${{ needs.x.outputs.y }}'}
    concurrency: {group: g, cancel-in-progress: true, queue: max}
    environment: {name: p, deployment: no way}
    steps: [{run: x}, {uses: setup-node}]
";
    insta::assert_snapshot!(found(text), @"
    error: ci.yml:2:15: permissions.contens: there is no permission `contens`
      hint: did you mean `contents`?
    error: ci.yml:2:40: permissions.id-token: `read` is not a known value
      hint: known here: `write`, `none`
    error: ci.yml:2:54: permissions.models: `write` is not a known value
      hint: known here: `read`, `none`
    error: ci.yml:6:24: jobs.a.container.image: must not be empty
    error: ci.yml:6:42: jobs.a.container.credentials.user: unknown key `user`
      hint: did you mean `username`?
    error: ci.yml:6:52: jobs.a.container.port: unknown key `port`
      hint: did you mean `ports`?
    error: ci.yml:7:20: jobs.a.services.db.image: missing key `image`
    error: ci.yml:7:28: jobs.a.services.db.ports: expected a list, found the number `80`
    error: ci.yml:8:55: jobs.a.concurrency.queue: a run that cancels those in progress has nothing to queue behind
      hint: `queue: max` and `cancel-in-progress: true` exclude each other
    error: ci.yml:9:40: jobs.a.environment.deployment: expected `true` or `false`, found the string `no way`
    error: ci.yml:10:30: jobs.a.steps[1].uses: `setup-node` names no action
      hint: write `owner/name@ref`, `owner/name/path@ref`, `./path` or `docker://image`
    ");
}

#[test]
fn calls_are_read_with_what_they_give_and_take() {
    let text = "on: {workflow_call: {inputs: {n: {type: number, required: true}}, secrets: {T: {required: true}, U: }}}
jobs:
  a: {uses: ./.github/workflows/x.yml, with: {n: 1, t: 'x ${{ needs.b.result }}'}, secrets: inherit, needs: b}
  b: {uses: o/r/.github/workflows/x.yml@v1, secrets: {T: '${{ secrets.X }}'}}
";
    let reading = examine("ci.yml", text);
    assert!(reading.findings.errors.is_empty(), "{:?}", reading.findings.errors);
    let workflow = reading.workflow.unwrap();
    let interface = workflow.call.unwrap();
    assert_eq!((interface.inputs[0].kind, interface.inputs[0].required), (InputKind::Number, true));
    assert_eq!(interface.secrets.iter().map(|secret| secret.required).collect::<Vec<_>>(), [true, false]);
    let calls: Vec<_> = workflow.jobs.iter().map(|job| job.call.as_ref().unwrap()).collect();
    assert_eq!((calls[0].with.len(), &calls[0].secrets), (2, &CallSecrets::Inherit));
    assert!(matches!(&calls[1].secrets, CallSecrets::Named(named) if named.len() == 1));

    let wrong = "on: push
jobs:
  a: {uses: ./x.yml, runs-on: x, with: {n: [1]}, secrets: all}
  b: {runs-on: x, steps: [run: x], with: {a: 1}}
";
    insta::assert_snapshot!(found(wrong), @"
    error: ci.yml:3:13: jobs.a.uses: `./x.yml` names no workflow
      hint: write `./.github/workflows/NAME.yml`, or `OWNER/NAME/.github/workflows/NAME.yml@REF` for another repository
    error: ci.yml:3:22: jobs.a.runs-on: a job with `uses` has no `runs-on`
      hint: it belongs to the jobs of the called workflow
    error: ci.yml:4:36: jobs.b.with: `with` belongs to jobs with `uses`
    ");
}

#[test]
fn a_workflow_that_is_only_unsupported_has_a_model() {
    let text = "on: push
jobs:
  a: {runs-on: x, snapshot: debian, steps: [run: x]}
  b: {needs: a, runs-on: x, snapshot: x, steps: [run: x]}
";
    let reading = examine("ci.yml", text);
    assert!(reading.findings.into_sorted().iter().all(|(severity, _)| *severity == Severity::Unsupported));
    let workflow = reading.workflow.unwrap();
    assert_eq!(workflow.jobs.len(), 2);
    assert!(crate::workflow::parse("ci.yml", text).is_err(), "it does not run");
}

#[test]
fn steps_in_the_background_and_what_steers_them_are_read_with_their_mistakes() {
    let wrong = "on: push
jobs:
  a:
    runs-on: x
    steps:
    - {id: a, run: x, background: yes}
    - {wait: a, if: always(), env: {A: b}}
    - wait: [a, none]
    - {cancel: [a]}
    - {id: plain, run: x}
    - wait: plain
    - wait-all: false
    - {parallel: [{id: in, run: x, background: true}, {wait-all: }], name: n}
    - {parallel: [{id: inner, run: x}]}
    - {cancel: inner}
    - {wait: later}
    - {id: later, run: x, wait-all: }
    - {background: true}
";
    insta::assert_snapshot!(found(wrong), @"
    error: ci.yml:6:35: jobs.a.steps[0].background: expected `true` or `false`, found the string `yes`
    error: ci.yml:7:17: jobs.a.steps[1].if: `if` does not go with `wait`
      hint: a step with `wait` always runs
    error: ci.yml:7:31: jobs.a.steps[1].env: `env` does not go with `wait`
    error: ci.yml:8:17: jobs.a.steps[2].wait[1]: no step before this one has the id `none`
      hint: known here: `a`
    error: ci.yml:9:16: jobs.a.steps[3].cancel: expected a string, found a list
    warning: ci.yml:11:13: jobs.a.steps[5].wait: the step `plain` does not run in the background
      hint: it has ended before this step begins
    error: ci.yml:12:17: jobs.a.steps[6].wait-all: `wait-all` is `true` or empty
      hint: leave the step out
    error: ci.yml:13:36: jobs.a.steps[7].parallel[0].background: `background` has no place in `parallel`
      hint: every step of the group has `run` or `uses`, and runs beside the others
    error: ci.yml:13:56: jobs.a.steps[7].parallel[1].wait-all: `wait-all` has no place in `parallel`
      hint: every step of the group has `run` or `uses`, and runs beside the others
    error: ci.yml:13:70: jobs.a.steps[7].name: `name` does not go with `parallel`
    error: ci.yml:15:16: jobs.a.steps[9].cancel: the step `inner` is in `parallel`
      hint: the group itself waits for its steps
    error: ci.yml:16:14: jobs.a.steps[10].wait: no step before this one has the id `later`
      hint: known here: `a`, `plain`
    error: ci.yml:17:19: jobs.a.steps[11].run: `run` does not go with `wait-all`
    error: ci.yml:18:7: jobs.a.steps[12]: a step needs `run` or `uses`
      hint: `run` has the commands of the step
    ");
    let right = "on: push
jobs:
  a:
    runs-on: x
    steps:
    - {id: a, uses: ./a, background: true}
    - parallel: [{run: x}, {run: y, continue-on-error: true}]
    - {id: w, name: both, wait: [a], continue-on-error: true}
    - wait-all:
    - cancel: a
";
    let workflow = crate::workflow::parse("ci.yml", right).unwrap();
    let told = |step: &crate::workflow::model::Step| match &step.action {
        Action::Steer(steer) => format!("{steer:?}"),
        _ => format!("background: {}", step.background),
    };
    let told: Vec<String> = workflow.jobs[0].steps.iter().map(told).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    background: true
    background: true
    background: true
    Join([1, 2])
    Wait([0])
    WaitAll
    Cancel([0])
    ");
}

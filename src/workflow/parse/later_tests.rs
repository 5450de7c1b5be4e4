//! What is read and checked though this version does not run it.
#![allow(clippy::unwrap_used)]

use crate::document::Severity;
use crate::workflow::examine;
use crate::workflow::model::{CallSecrets, InputKind, Queue};

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
  schedule: [{{cron: '61 * * * *'}}, {{cron: '0 6 * * *', timezone: Europe/Berlin}}, {{cron: '0 6 * * *'}}, {{}}]
  workflow_call:
    inputs: {{a: {{type: choice}}, b: {{type: number, default: x}}, 1c: {{type: string}}}}
    outputs: {{o: {{value: '${{{{ steps.x }}}}'}}}}
  workflow_dispatch: {{inputs: {{a: {{type: choice, options: [x, y], default: z}}}}}}
{JOB}"
    );
    insta::assert_snapshot!(found(&text), @"");
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
    steps: [{run: x, background: true}, {wait-all: }, {uses: setup-node}]
";
    insta::assert_snapshot!(found(text), @"");
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
    insta::assert_snapshot!(found(wrong), @"");
}

#[test]
fn a_workflow_that_is_only_unsupported_has_a_model() {
    let text = "on: push
jobs:
  a: {runs-on: x, steps: [run: x], concurrency: {group: g, queue: max}}
  b: {needs: a, runs-on: '${{ needs.a.outputs.x }}', env: {V: '${{ vars.V }}'}, steps: [run: x]}
";
    let reading = examine("ci.yml", text);
    assert!(reading.findings.into_sorted().iter().all(|(severity, _)| *severity == Severity::Unsupported));
    let workflow = reading.workflow.unwrap();
    assert_eq!(workflow.jobs[0].concurrency.as_ref().unwrap().queue, Queue::Max);
    assert!(crate::workflow::parse("ci.yml", text).is_err(), "it does not run");
}

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::workflow::parse;

fn planned(text: &str, input: &PlanInput) -> Result<Vec<PlannedJob>, String> {
    let workflow = parse("ci.yml", text).unwrap_or_else(|errors| panic!("{}", errors[0]));
    plan(&workflow, input).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn summary(text: &str, input: &PlanInput) -> String {
    match planned(text, input) {
        Ok(jobs) => jobs
            .iter()
            .map(|job| format!("{}: {} {:?} needs {:?}", job.key, job.name, job.labels, job.needs))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(errors) => errors,
    }
}

fn input() -> PlanInput {
    PlanInput {
        github: Value::from(
            json!({"event_name": "push", "event": {"matrix": "{\"os\":[\"x\",\"y\"]}", "labels": ["l1", "l2"]}}),
        ),
        ..PlanInput::default()
    }
}

#[test]
fn names_and_labels_come_from_the_matrix() {
    let text = "
on: push
jobs:
  lint: {runs-on: linux, steps: [run: x]}
  test:
    needs: [lint]
    runs-on: [self-hosted, '${{ matrix.os }}']
    strategy:
      matrix:
        os: [debian, alpine]
        rust: [1.9, nightly]
        exclude: [{os: alpine, rust: nightly}]
        include: [{os: debian, extra: {deep: [yes]}}]
    steps: [run: x]
  named:
    name: Test ${{ matrix.n }} of ${{ strategy.job-total }}
    runs-on: linux
    strategy: {matrix: {n: [1, 1, 2]}}
    steps: [run: x]
  fixed:
    name: Fixed
    runs-on: linux
    strategy: {matrix: {n: [1, '']}}
    steps: [run: x]
";
    insta::assert_snapshot!(summary(text, &input()), @r#"
    lint: lint ["linux"] needs []
    test: test (debian, 1.9, yes) ["self-hosted", "debian"] needs ["lint"]
    test: test (debian, nightly, yes) ["self-hosted", "debian"] needs ["lint"]
    test: test (alpine, 1.9) ["self-hosted", "alpine"] needs ["lint"]
    named: Test 1 of 3 ["linux"] needs []
    named: Test 1 of 3 #2 ["linux"] needs []
    named: Test 2 of 3 ["linux"] needs []
    fixed: Fixed (1) ["linux"] needs []
    fixed: Fixed ["linux"] needs []
    "#);
}

#[test]
fn a_matrix_and_labels_can_be_computed() {
    let text = "
on: push
jobs:
  a:
    runs-on: ${{ github.event.labels }}
    strategy: {matrix: '${{ fromJSON(github.event.matrix) }}', max-parallel: '${{ github.event.none || 3 }}', fail-fast: false}
    steps: [run: x]
";
    insta::assert_snapshot!(summary(text, &input()), @r#"
    a: a (x) ["l1", "l2"] needs []
    a: a (y) ["l1", "l2"] needs []
    "#);
    let jobs = planned(text, &input()).unwrap();
    assert_eq!(
        jobs[1].spec.strategy,
        StrategyCell { fail_fast: false, max_parallel: Some(3), job_index: 1, job_total: 2 }
    );
}

#[test]
fn what_cannot_be_computed_is_named_for_every_job() {
    let text = "
on: push
jobs:
  a: {runs-on: '${{ github.event.none }}', steps: [run: x]}
  b: {runs-on: x, strategy: {matrix: '${{ fromJSON(github.event.none) }}'}, steps: [run: x]}
  c: {runs-on: x, strategy: {matrix: {v: '${{ github.event_name }}'}}, steps: [run: x]}
  d: {runs-on: '${{ github.event }}', steps: [run: x]}
";
    insta::assert_snapshot!(summary(text, &input()), @r"
    ci.yml:4:3: jobs.a.runs-on: `${{ github.event.none }}` gives an empty label
    ci.yml:5:3: jobs.b.strategy.matrix: in the expression `fromJSON(github.event.none)`: the text for `fromJSON` is not JSON: EOF while parsing a value at line 1 column 0 (character 1 of the expression)
      hint: an output that was never set is empty, and empty text is not JSON
    ci.yml:6:3: jobs.c.strategy.matrix: `v` of the matrix must be a list, but it is a string
    ci.yml:7:3: jobs.d.runs-on: `${{ github.event }}` must give labels, but gives an object
    ");
    let cells: Vec<String> = (0..200).map(|cell| cell.to_string()).collect();
    let many = (0..6).map(|job| {
        format!("  j{job}: {{runs-on: x, strategy: {{matrix: {{v: [{}]}}}}, steps: [run: x]}}\n", cells.join(","))
    });
    insta::assert_snapshot!(summary(&format!("on: push\njobs:\n{}", many.collect::<String>()), &input()), @"ci.yml:8:3: jobs.j5: the workflow becomes more than 1024 jobs");
}

#[test]
fn inputs_have_their_types_and_defaults() {
    let text = "
on:
  workflow_dispatch:
    inputs:
      level: {type: choice, options: [low, high], default: low}
      dry: {type: boolean}
      count: {type: number, required: true}
jobs:
  a: {runs-on: 'x', name: '${{ toJSON(inputs) }}', steps: [run: x]}
";
    let dispatch = |inputs| PlanInput {
        github: Value::from(json!({"event_name": "workflow_dispatch"})),
        inputs: Value::from(inputs),
        ..PlanInput::default()
    };
    let jobs = planned(text, &dispatch(json!({"count": "3", "dry": "true"}))).unwrap();
    assert_eq!(jobs[0].spec.inputs, Value::from(json!({"level": "low", "dry": true, "count": 3})));
    insta::assert_snapshot!(summary(text, &dispatch(json!({"count": "many"}))), @"ci.yml: on.workflow_dispatch.inputs.count: `many` is no number");
    insta::assert_snapshot!(summary(text, &dispatch(json!({"count": "1", "level": "top"}))), @"ci.yml: on.workflow_dispatch.inputs.level: `top` is none of the options");
    insta::assert_snapshot!(summary(text, &dispatch(json!({"count": "1", "cont": "2"}))), @"
    ci.yml: on.workflow_dispatch.inputs.cont: the workflow has no input `cont`
      hint: did you mean `count`?
    ");
    insta::assert_snapshot!(summary(text, &dispatch(json!({}))), @"ci.yml: on.workflow_dispatch.inputs.count: the input `count` was not given");
}

#[test]
fn a_stored_job_is_the_same() {
    let text = "
on: push
env: {A: '${{ github.sha }}'}
jobs:
  a:
    if: success() && github.ref == 'x'
    runs-on: x
    strategy: {matrix: {v: [1, {deep: [a]}]}}
    outputs: {o: '${{ steps.s.outputs.o }}'}
    timeout-minutes: ${{ fromJSON('5') }}
    steps:
      - {uses: actions/checkout@v4, with: {fetch-depth: 0}}
      - {id: s, run: 'echo ${{ matrix.v }}', shell: bash, if: always(), timeout-minutes: 1.5}
";
    for job in planned(text, &input()).unwrap() {
        let stored = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<PlannedJob>(&stored).unwrap(), job);
    }
}

const DYNAMIC: &str = "
on: push
jobs:
  list: {runs-on: linux, outputs: {dirs: '${{ steps.s.outputs.dirs }}'}, steps: [{id: s, run: x}]}
  each:
    needs: list
    strategy:
      max-parallel: ${{ fromJSON(needs.list.outputs.most) }}
      matrix: {dir: '${{ fromJSON(needs.list.outputs.dirs) }}', os: [x, y]}
    runs-on: ['${{ matrix.os }}']
    steps: [run: x]
  named: {name: Last, needs: list, runs-on: '${{ needs.list.outputs.label }}', steps: [run: x]}
  after: {needs: each, runs-on: linux, steps: [run: x]}
";

fn listed(outputs: &[(&str, &str)]) -> NeedsResults {
    let outputs = outputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let result = crate::workflow::gate::NeedResult { result: crate::workflow::contexts::Outcome::Success, outputs };
    NeedsResults { jobs: [("list".to_owned(), result)].into(), cancelled: false }
}

#[test]
fn what_depends_on_needs_is_expanded_when_they_have_ended() {
    let workflow = crate::workflow::examine("ci.yml", DYNAMIC).workflow.unwrap();
    let jobs = plan(&workflow, &input()).unwrap();
    let told = |jobs: &[PlannedJob]| {
        let line = |job: &PlannedJob| {
            let later = if job.spec.unexpanded { " later" } else { "" };
            format!("{}: {} {:?} needs {:?}{later}", job.key, job.name, job.labels, job.needs)
        };
        jobs.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(told(&jobs), @r#"
    list: list ["linux"] needs []
    each: each [] needs ["list"] later
    named: Last [] needs ["list"] later
    after: after ["linux"] needs ["each"]
    "#);
    let each = serde_json::from_str(&serde_json::to_string(&jobs[1].spec).unwrap()).unwrap();
    let needs = listed(&[("dirs", "[\"a\", \"b\"]"), ("most", "3"), ("label", "big")]);
    let expand =
        |spec: &JobSpec, needs: &NeedsResults| expand(spec, &input().github, needs, ["each (a, y)".to_owned()].into());
    let cells = expand(&each, &needs).unwrap();
    insta::assert_snapshot!(told(&cells), @r#"
    each: each (a, x) ["x"] needs ["list"]
    each: each (a, y) #2 ["y"] needs ["list"]
    each: each (b, x) ["x"] needs ["list"]
    each: each (b, y) ["y"] needs ["list"]
    "#);
    assert_eq!((cells[3].spec.strategy.max_parallel, cells[3].spec.strategy.job_total), (Some(3), 4));
    assert!(cells[0].spec.job.strategy.matrix.is_none() && !cells[0].spec.unexpanded);
    insta::assert_snapshot!(told(&expand(&jobs[2].spec, &needs).unwrap()), @r#"named: Last ["big"] needs ["list"]"#);
    insta::assert_snapshot!(expand(&each, &listed(&[("most", "3")])).unwrap_err(), @"
    ci.yml:5:3: jobs.each.strategy.matrix: in the expression `fromJSON(needs.list.outputs.dirs)`: the text for `fromJSON` is not JSON: EOF while parsing a value at line 1 column 0 (character 1 of the expression)
      hint: an output that was never set is empty, and empty text is not JSON
    ");
    insta::assert_snapshot!(expand(&each, &listed(&[("most", "3"), ("dirs", "[]")])).unwrap_err(), @"ci.yml:5:3: jobs.each.strategy.matrix: the list `dir` of the matrix is empty");
}

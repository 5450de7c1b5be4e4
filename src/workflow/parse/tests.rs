#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::workflow::model::{Action, Filter, Shell};
use crate::workflow::setting::Setting;

fn complaints(text: &str) -> String {
    let errors = parse("ci.yml", text).expect_err("the workflow is refused");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn warnings(text: &str) -> String {
    let workflow = parse("ci.yml", text).unwrap_or_else(|errors| panic!("{}", errors[0]));
    workflow.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A workflow with one job that has these steps.
fn with_steps(steps: &str) -> String {
    format!("on: push\njobs:\n  a:\n    runs-on: linux\n    steps:\n{steps}")
}

const FULL: &str = r"
name: CI
run-name: CI of ${{ github.ref_name }}
on:
  push: {branches: [main, 'release/**'], tags: v*, paths-ignore: ['**.md']}
  pull_request: {types: [opened, synchronize], branches-ignore: old}
  merge_group:
  workflow_dispatch:
    inputs:
      level: {description: How loud, type: choice, options: [low, high], default: low}
      dry: {type: boolean, default: false, required: true}
env: {A: 1, B: '${{ github.sha }}', C: }
defaults: {run: {shell: bash, working-directory: src}}
permissions: {contents: read, checks: write}
concurrency: {group: 'ci-${{ github.ref }}', cancel-in-progress: true}
jobs:
  build:
    name: Build ${{ matrix.os }}
    runs-on: {group: big, labels: [linux, '${{ matrix.os }}']}
    strategy:
      fail-fast: ${{ github.event_name == 'push' }}
      max-parallel: 2
      matrix: {os: [a, b], v: [1, 2.5, true, null], include: [{os: a, x: {y: z}}]}
    if: ${{ github.event_name != 'schedule' }}
    env: {D: '${{ matrix.v }}'}
    timeout-minutes: 5.5
    continue-on-error: ${{ matrix.v == 2.5 }}
    outputs: {version: '${{ steps.version.outputs.value }}'}
    permissions: read-all
    environment: {name: staging, url: 'https://example.com/${{ steps.version.outputs.value }}'}
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: '0', submodules: recursive, path: here, clean: 'false', persist-credentials: false, ref: '${{ github.sha }}'}
      - id: version
        name: Version of ${{ runner.os }}
        if: always() && hashFiles('**/Cargo.lock') != ''
        run: |
          echo ${{ env.D }}
        shell: python
        working-directory: sub
        env: {E: '${{ steps.none.outcome }}'}
        continue-on-error: true
        timeout-minutes: ${{ fromJSON('3') }}
  test:
    needs: build
    runs-on: ${{ github.event_name }}
    if: needs.build.outputs.version != ''
    steps: [{run: make}]
";

#[test]
fn a_workflow_with_everything_is_read_and_stored() {
    let workflow = parse("ci.yml", FULL).unwrap_or_else(|errors| panic!("{}", errors[0]));
    assert!(workflow.warnings.is_empty());
    assert_eq!(workflow.display_name(), "CI");
    assert_eq!(workflow.on.len(), 4);
    assert!(matches!(workflow.on[1].branches, Some(Filter::Ignore(_))));
    assert_eq!(workflow.on[3].inputs[1].default, false.into());
    assert_eq!(workflow.env[2].1.as_literal(), Some(""));
    assert_eq!(workflow.defaults.shell, Some(Shell::Bash));
    let [build, test] = workflow.jobs.as_slice() else { panic!("two jobs") };
    assert_eq!(build.timeout_minutes, Some(Setting::Fixed(5.5)));
    assert!(matches!(build.continue_on_error, Setting::Computed(_)));
    assert_eq!(build.runs_on.labels.len(), 2);
    assert_eq!(test.needs, ["build"]);
    let Action::Checkout(checkout) = &build.steps[0].action else { panic!("a checkout") };
    let written = [&checkout.fetch_depth, &checkout.submodules, &checkout.clean];
    assert_eq!(written.map(|input| input.as_ref().unwrap().source()), ["0", "recursive", "false"]);
    let stored = serde_json::to_string(&workflow).unwrap();
    assert_eq!(serde_json::from_str::<Workflow>(&stored).unwrap(), workflow);
}

#[test]
fn mistakes_are_named_at_their_place_all_at_once() {
    let text = r"
name: CI
onn: push
jobs:
  1st: {runs-on: linux, steps: []}
  a:
    run-on: linux
    needs: [b, missing]
    if: github.event_name = 'push'
    steps:
      - run: x
        uses: actions/checkout@v4
      - name: nothing
      - {run: x, id: s}
      - {run: '${{ steps.s.outputs.x }', id: S}
      - {run: '${{ secrets.TOKEN }}', shell: cmd}
      - {run: x, shel: bash, timeout-minutes: soon}
      - {run: x, with: {a: 1}, env: {A=B: 1}, timeout-minutes: .inf}
      - {run: x, if: '${{ github.ref }} == x'}
      - {run: 'a ${{ startWith(1, 2) }}', continue-on-error: maybe}
      - just text
  b:
    runs-on: linux
    needs: a
    name: ${{ needs.a.result }}
    steps: [{run: x}]
";
    insta::assert_snapshot!(complaints(text), @r#"
    ci.yml:3:1: onn: unknown key `onn`
      hint: did you mean `on`?
    ci.yml:5:3: jobs.1st: `1st` is no job id
      hint: letters, digits, `-` and `_`; a letter or `_` first; at most 99 characters
    ci.yml:5:32: jobs.1st.steps: a job needs at least one step
    ci.yml:6:3: jobs.a: the jobs wait for each other: `a` needs `b` needs `a`
      hint: remove one of these `needs`
    ci.yml:7:5: jobs.a.run-on: unknown key `run-on`
      hint: did you mean `runs-on`?
    ci.yml:8:16: jobs.a.needs[1]: there is no job `missing`
      hint: known here: `1st`, `b`
    ci.yml:9:9: jobs.a.if: in the expression `github.event_name = 'push'`: `=` is not understood (character 19 of the expression)
    ci.yml:12:9: jobs.a.steps[0].uses: a step has either `run` or `uses`, not both
    ci.yml:13:9: jobs.a.steps[1]: a step needs `run` or `uses`
      hint: `run` has the commands of the step
    ci.yml:15:15: jobs.a.steps[3].run: an expression `${{` has no closing `}}`
    ci.yml:15:46: jobs.a.steps[3].id: an earlier step has the id `S`
      hint: ids ignore letter case
    ci.yml:16:46: jobs.a.steps[4].shell: the shell `cmd` is there on Windows only
      hint: shells: `bash`, `sh`, `python`, `pwsh`, or a command with `{0}` for the script's file
    ci.yml:17:18: jobs.a.steps[5].shel: unknown key `shel`
      hint: did you mean `shell`?
    ci.yml:17:47: jobs.a.steps[5].timeout-minutes: expected a number, found the string `soon`
    ci.yml:18:18: jobs.a.steps[6].with: `with` belongs to `uses`
      hint: give values to a script by `env`
    ci.yml:18:38: jobs.a.steps[6].env."A=B": `A=B` is no name of a variable
    ci.yml:18:64: jobs.a.steps[6].timeout-minutes: `inf` is no number of minutes
    ci.yml:19:22: jobs.a.steps[7].if: a condition with text beside `${{ }}` would always be true
      hint: write the whole condition as one expression; `if:` needs no `${{ }}`
    ci.yml:20:15: jobs.a.steps[8].run: in the expression `startWith(1, 2)`: there is no function `startWith` (character 1 of the expression)
      hint: the functions are contains, startsWith, endsWith, format, join, toJSON, fromJSON, case, hashFiles, always, success, failure, cancelled
    ci.yml:20:62: jobs.a.steps[8].continue-on-error: expected `true` or `false`, found the string `maybe`
    ci.yml:21:9: jobs.a.steps[9]: expected a mapping, found the string `just text`
    "#);
}

#[test]
fn what_comes_later_is_called_so() {
    let text = r"
on: [push, release]
jobs:
  a:
    runs-on: linux
    container: debian
    services: {db: {image: postgres}}
    concurrency: {group: x, queue: max}
    steps:
      - uses: actions/setup-node@v4
        with: {node-version: 20}
      - uses: docker://alpine
      - {uses: actions/checkout@v4, with: {lfs: true, sparse-checkout: src}}
      - {run: x, shell: powershell}
      - {run: x, env: {T: '${{ vars.T }}'}}
  b:
    uses: ./.github/workflows/x.yml
    with: {a: 1}
    secrets: inherit
";
    insta::assert_snapshot!(complaints(text), @"
    ci.yml:14:25: jobs.a.steps[3].shell: the shell `powershell` is there on Windows only
      hint: shells: `bash`, `sh`, `python`, `pwsh`, or a command with `{0}` for the script's file
    ");
}

#[test]
fn inputs_of_a_checkout_are_checked() {
    let refused = with_steps(
        "    - {uses: actions/checkout@v4, with: {ref: main, repository: other/one, filter: 1}}
    - {uses: actions/checkout@v4, with: {repository: other}}
",
    );
    insta::assert_snapshot!(complaints(&refused), @"ci.yml:7:54: jobs.a.steps[1].with.repository: `other` is not a project's `group/name`");
    let warned = with_steps(
        "    - {uses: actions/checkout@v4, with: {ref: '${{ github.head_ref }}', token: '${{ secrets.PAT }}'}}
    - {uses: Actions/Checkout@v3, with: {repository: '${{ github.repository }}', ref: '${{ github.event.pull_request.head.sha }}'}}
    - {uses: actions/checkout@v4, with: {tokn: x, submodules: sometimes, fetch-depth: -1}}
",
    );
    insta::assert_snapshot!(warnings(&warned), @r"
    ci.yml:6:47: jobs.a.steps[0].with.ref: instead of the tip of `${{ github.head_ref }}` the pinned commit is checked out
      hint: leave `ref` out
    ci.yml:6:73: jobs.a.steps[0].with.token: `token` is ignored
      hint: the checkout needs no credential: the host fetches the commit for the job
    ci.yml:8:42: jobs.a.steps[2].with.tokn: `tokn` is no input of this action
      hint: did you mean `token`?
    ci.yml:8:63: jobs.a.steps[2].with.submodules: `sometimes` is not `true`, `false` or `recursive`
    ci.yml:8:87: jobs.a.steps[2].with.fetch-depth: `-1` is not a whole number
    ");
}

#[test]
fn events_are_checked() {
    let text = r"
on:
  pull_requst:
  push: {branches: [a], branches-ignore: [b], types: [opened], tags: ['!v1'], paths: ['[']}
  pull_request: {types: [open], tags: [x]}
  workflow_dispatch: {inputs: {a: {type: choice}, b b: , c: {type: bool}}}
jobs: {a: {runs-on: x, steps: [run: x]}}
";
    insta::assert_snapshot!(complaints(text), @r#"
    ci.yml:3:3: on.pull_requst: there is no event `pull_requst`
      hint: did you mean `pull_request`?
    ci.yml:4:25: on.push.branches-ignore: `branches` and `branches-ignore` cannot both narrow an event
      hint: put patterns with a leading `!` into `branches`
    ci.yml:4:47: on.push.types: unknown key `types`
      hint: known here: `branches`, `branches-ignore`, `tags`, `tags-ignore`, `paths`, `paths-ignore`
    ci.yml:4:64: on.push.tags: every pattern of `tags` has a `!`, so that nothing is ever taken
      hint: use `tags-ignore`, or put `'**'` first
    ci.yml:4:87: on.push.paths[0]: `[` has no letters and `]` after it in `[`
    ci.yml:5:26: on.pull_request.types[0]: `pull_request` has no activity `open`
      hint: did you mean `opened`?
    ci.yml:5:33: on.pull_request.tags: unknown key `tags`
      hint: known here: `types`, `branches`, `branches-ignore`, `paths`, `paths-ignore`
    ci.yml:6:32: on.workflow_dispatch.inputs.a: an input of the type `choice` needs `options`
    ci.yml:6:51: on.workflow_dispatch.inputs."b b": `b b` is no name of an input
      hint: letters, digits, `-` and `_`; a letter or `_` first; at most 99 characters
    ci.yml:6:68: on.workflow_dispatch.inputs.c.type: `bool` is not a known value
      hint: did you mean `boolean`?
    "#);
    insta::assert_snapshot!(warnings("on: {schedule: [{cron: '0 0 * * *'}], push: }\nenv: {GITHUB_SHA: x}\njobs: {a: {runs-on: x, steps: [run: x]}}"), @r"
    ci.yml:2:7: env.GITHUB_SHA: `GITHUB_SHA` keeps its standard value
      hint: every step has it from the runner; another name is free
    ");
    insta::assert_snapshot!(complaints("on: []\njobs: {}\n"), @r"
    ci.yml:1:5: on: a workflow needs at least one event
    ci.yml:2:7: jobs: a workflow needs at least one job
    ");
    insta::assert_snapshot!(complaints("just text"), @"ci.yml:1:1: expected a mapping, found the string `just text`");
    insta::assert_snapshot!(complaints(""), @"ci.yml:1:1: expected a mapping, found nothing");
}

#[test]
fn cycles_are_shown() {
    let job = |id: &str, needs: &str| format!("  {id}: {{needs: [{needs}], runs-on: x, steps: [run: x]}}\n");
    let workflow = |jobs: &[String]| format!("on: push\njobs:\n{}", jobs.concat());
    insta::assert_snapshot!(complaints(&workflow(&[job("a", ""), job("b", "a, d"), job("c", "b"), job("d", "a, c")])), @r"
    ci.yml:4:3: jobs.b: the jobs wait for each other: `b` needs `d` needs `c` needs `b`
      hint: remove one of these `needs`
    ");
    insta::assert_snapshot!(complaints(&workflow(&[job("a", "a, a")])), @r"
    ci.yml:3:3: jobs.a: the jobs wait for each other: `a` needs `a`
      hint: remove one of these `needs`
    ");
    let twice = parse("ci.yml", &workflow(&[job("a", ""), job("b", "a, a")])).unwrap();
    assert_eq!(twice.jobs[1].needs, ["a"]);
    // Many ways, no cycle: each job needs all before it.
    let ids: Vec<String> = (0..100).map(|id| format!("j{id}")).collect();
    let dense: Vec<String> = ids.iter().enumerate().map(|(place, id)| job(id, &ids[..place].join(", "))).collect();
    assert!(parse("ci.yml", &workflow(&dense)).is_ok());
}

#[test]
fn limits_are_kept() {
    let steps = with_steps(&"    - run: x\n".repeat(MAX_STEPS + 1));
    insta::assert_snapshot!(complaints(&steps), @"ci.yml:6:7: jobs.a.steps: a job has at most 1000 steps, this one has 1001");
    let jobs: String = (0..=MAX_JOBS).map(|id| format!("  j{id}: {{runs-on: x, steps: [run: x]}}\n")).collect();
    insta::assert_snapshot!(complaints(&format!("on: push\njobs:\n{jobs}")), @"ci.yml:3:3: jobs: a workflow has at most 256 jobs, this one has 257");
    let cells = (0..20).map(|cell| cell.to_string()).collect::<Vec<_>>().join(", ");
    let matrix = format!(
        "on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {{matrix: {{a: [{cells}], b: [{cells}]}}}}\n    steps: [run: x]\n"
    );
    insta::assert_snapshot!(complaints(&matrix), @"ci.yml:5:24: jobs.a.strategy.matrix: the matrix has more than 256 combinations");
}

/// The full workflow with some of it replaced.
fn damaged() -> impl Strategy<Value = String> {
    let junk = prop::sample::select(vec![
        "", ": ", "- ", "{", "]", "'", "${{", "}}", "null", "[1]", "{a: b}", "\n", "\t", "*x", "5", "needs", "🦀",
    ]);
    prop::collection::vec((0..FULL.len(), 0..12usize, junk), 1..4).prop_map(|edits| {
        let mut text = FULL.to_owned();
        for (start, length, junk) in edits {
            let start = (0..=start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let end = (start..=(start + length).min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.replace_range(start..end, junk);
        }
        text
    })
}

proptest! {
    #[test]
    fn damaged_workflows_are_read_or_refused(text in damaged()) {
        match parse("ci.yml", &text) {
            Ok(workflow) => {
                let stored = serde_json::to_string(&workflow).unwrap();
                prop_assert_eq!(serde_json::from_str::<Workflow>(&stored).unwrap(), workflow);
            }
            Err(errors) => prop_assert!(!errors.is_empty()),
        }
    }
}

//! Workflows that GitHub's own parser takes or refuses, and what Dayfly says of them.

use dayfly::workflow::{Reading, examine};
use serde_json::{Value as Json, json};

use super::odd;

/// What becomes of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Both take it. What is not supported yet counts as taken: it is no mistake.
    Taken,
    Refused,
    /// Dayfly refuses what the package takes: GitHub's service does so too, or it would run as nobody means.
    Stricter,
}
use Verdict::{Refused, Stricter, Taken};

const JOB: &str = "jobs: {a: {runs-on: x, steps: [run: x]}}";

/// What stands behind `on: push` in a workflow with one job `a`, beside its `runs-on` and `steps`.
fn of_job(more: &str) -> String {
    format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps: [run: x]\n    {more}\n")
}

fn of_step(step: &str) -> String {
    format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - {step}\n")
}

fn on(on: &str) -> String {
    format!("on: {on}\n{JOB}\n")
}

fn table() -> Vec<(Verdict, String)> {
    let mut table = Vec::new();
    let mut add = |verdict, texts: Vec<String>| table.extend(texts.into_iter().map(|text| (verdict, text)));
    add(Taken, TAKEN_EVENTS.iter().map(|text| on(text)).collect());
    add(Refused, REFUSED_EVENTS.iter().map(|text| on(text)).collect());
    add(Taken, TAKEN_OF_JOBS.iter().map(|text| of_job(text)).collect());
    add(Refused, REFUSED_OF_JOBS.iter().map(|text| of_job(text)).collect());
    add(Taken, TAKEN_STEPS.iter().map(|text| of_step(text)).collect());
    add(Refused, REFUSED_STEPS.iter().map(|text| of_step(text)).collect());
    add(Stricter, STRICTER_STEPS.iter().map(|text| of_step(text)).collect());
    add(Taken, TAKEN_WORKFLOWS.iter().map(|text| (*text).to_owned()).collect());
    add(Refused, REFUSED_WORKFLOWS.iter().map(|text| (*text).to_owned()).collect());
    add(Taken, odd::TAKEN.iter().map(|text| (*text).to_owned()).collect());
    add(Refused, odd::REFUSED.iter().map(|text| (*text).to_owned()).collect());
    table
}

const TAKEN_EVENTS: &[&str] = &[
    "push",
    "[push, pull_request]",
    "{push: , pull_request: {types: [opened]}}",
    "{push: {branches: [main, '!x'], tags: v*, paths-ignore: ['**.md']}}",
    "{pull_request_target: {types: [labeled]}, issues: {types: opened}, release: {types: [published]}}",
    "{schedule: [{cron: '0 6 * * 1-5'}]}",
    "{workflow_dispatch: {inputs: {a: {type: choice, options: [x, y], default: x}, b: {type: boolean, default: true}}}}",
    "{workflow_call: {inputs: {a: {type: string, required: true}}, secrets: {T: {required: true}}, outputs: {o: {value: '${{ jobs.a.outputs.x }}'}}}}",
    "{repository_dispatch: {types: [anything]}}",
    "{workflow_run: {workflows: [CI], types: [completed], branches: [main]}}",
    "{merge_group: {types: [checks_requested]}}",
];

const REFUSED_EVENTS: &[&str] = &[
    "pussh",
    "{push: {branch: [main]}}",
    "{pull_request: {types: [open]}}",
    "{pull_request: {tags: [x]}}",
    "{merge_group: {types: [destroyed]}}",
    "{schedule: {cron: '0 6 * * *'}}",
    "{workflow_call: {inputs: {a: {required: true}}}}",
    "{workflow_call: {outputs: {o: {}}}}",
    "{workflow_dispatch: {inputs: {a: {type: bool}}}}",
    "{create: {types: [x]}}",
];

const TAKEN_OF_JOBS: &[&str] = &[
    "env: {A: '${{ secrets.A }}', B: 1, C: true}",
    "if: ${{ always() && github.ref == 'x' }}",
    "if: success()",
    "strategy: {matrix: {a: [1, 2], include: [{b: 1}]}, fail-fast: false, max-parallel: 2}",
    "strategy: {matrix: '${{ fromJSON(github.event.x) }}'}",
    "strategy: {matrix: {a: '${{ fromJSON(needs.b.outputs.x) }}'}}",
    "timeout-minutes: '${{ fromJSON(matrix.t) }}'",
    "continue-on-error: '${{ matrix.x }}'",
    "container: debian",
    "container: {image: debian, env: {A: b}, ports: ['80'], volumes: ['/a:/b'], options: --cpus 1}",
    "services: {db: {image: postgres, ports: ['5432:5432']}}",
    "environment: {name: prod, url: '${{ steps.x.outputs.url }}'}",
    "concurrency: {group: '${{ github.ref }}', cancel-in-progress: true}",
    "permissions: {contents: read, id-token: write}",
    "permissions: write-all",
    "permissions: {}",
    "outputs: {a: '${{ steps.s.outputs.a }}'}",
    "defaults: {run: {shell: bash, working-directory: '${{ matrix.d }}'}}",
];

const REFUSED_OF_JOBS: &[&str] = &[
    "unknown: 1",
    "if: secrets.A == 'x'",
    "if: steps.x.outcome == 'x'",
    "if: hashFiles('x') == ''",
    "strategy: {matrix: {a: [1]}, unknown: 1}",
    "strategy: {matrix: {a: '${{ secrets.x }}'}}",
    "name: ${{ env.X }}",
    "timeout-minutes: soon",
    "permissions: {content: read}",
    "permissions: {id-token: read}",
    "permissions: read",
    "concurrency: {cancel-in-progress: true}",
    "concurrency: {group: a, queue: min}",
    "environment: {url: x}",
    "env: {A: [1]}",
    "env: {A: '${{ steps.x }}'}",
    "needs: b",
    "container: {image: x, unknown: 1}",
    "outputs: {a: {b: c}}",
];

const TAKEN_STEPS: &[&str] = &[
    "run: x",
    "{run: x, shell: bash, working-directory: d, env: {A: '${{ secrets.A }}'}, id: s, name: 'N ${{ runner.os }}'}",
    "{uses: actions/setup-node@v4, with: {node-version: 20}}",
    "uses: ./local",
    "uses: docker://alpine",
    "{run: x, if: \"failure() && hashFiles('x') != ''\", timeout-minutes: 5, continue-on-error: true}",
    "{run: x, timeout-minutes: '${{ fromJSON(env.T) }}'}",
];

const REFUSED_STEPS: &[&str] = &[
    "name: nothing",
    "{run: x, uses: a/b@v1}",
    "{run: x, unknown: 1}",
    "{run: x, with: {a: b}}",
    "{uses: a/b@v1, shell: bash}",
    "{run: '${{ nonsense.x }}'}",
    "{run: '${{ fnord(1) }}'}",
    "{run: '${{ 1 + 1 }}'}",
    "{run: x, if: secrets.A != ''}",
    "{run: x, if: success(1)}",
    "{run: x, timeout-minutes: [1]}",
    "just text",
];

/// The service refuses an action without owner and ref only when it starts the job; Dayfly says so at once.
const STRICTER_STEPS: &[&str] = &["{uses: setup-node}", "{uses: actions/setup-node}"];

const TAKEN_WORKFLOWS: &[&str] = &[
    "on: push\nname: N\nrun-name: R ${{ github.actor }}\nenv: {A: '${{ vars.A }}'}\njobs: {a: {runs-on: [self-hosted, x], steps: [run: x]}}",
    "on: push\njobs:\n  a: &job {runs-on: x, steps: [run: x]}\n  b: *job\n",
    "on: push\njobs: {a: {uses: ./.github/workflows/x.yml, with: {a: 1}, secrets: inherit}}",
    "on: push\njobs: {a: {uses: o/r/.github/workflows/x.yml@v1, needs: b, secrets: {A: '${{ secrets.B }}'}}, b: {runs-on: x, steps: [run: x]}}",
    "on: push\njobs: {a: {runs-on: {group: g, labels: [l]}, steps: [run: x]}}",
    "on: push\njobs: {a: {runs-on: x, steps: [run: x]}, b: {needs: [a], if: needs.a.result == 'success', runs-on: '${{ needs.a.outputs.l }}', steps: [run: x]}}",
];

const REFUSED_WORKFLOWS: &[&str] = &[
    "jobs: {a: {runs-on: x, steps: [run: x]}}",
    "on: push",
    "on: push\njobs: {}",
    "on: push\njobs: {a: {steps: [run: x]}}",
    "on: push\njobs: {1a: {runs-on: x, steps: [run: x]}}",
    "on: push\njobs: {a: {runs-on: x, needs: a, steps: [run: x]}}",
    "on: push\njobs: {a: {uses: ./.github/workflows/x.yml, steps: [run: x]}}",
    "on: push\njobs: {a: {uses: ./.github/workflows/x.yml, runs-on: x}}",
    "on: push\nenv: {A: '${{ env.B }}'}\njobs: {a: {runs-on: x, steps: [run: x]}}",
    "on: push\nrun-name: ${{ secrets.A }}\njobs: {a: {runs-on: x, steps: [run: x]}}",
    "on: push\nunknown: 1\njobs: {a: {runs-on: x, steps: [run: x]}}",
    "on: push\non: pull_request\njobs: {a: {runs-on: x, steps: [run: x]}}",
    "on: push\njobs: {a: {runs-on: x, steps: [{id: s, run: x}, {id: s, run: x}]}}",
    "on: [push\n",
];

#[test]
fn workflows_are_taken_and_refused_as_githubs_parser_does() {
    let table = table();
    let questions: Vec<Json> = table.iter().map(|(_, text)| json!(text)).collect();
    let theirs = super::ask("workflows_are_taken_and_refused_as_githubs_parser_does", "workflows", &questions);
    let mut surprises = Vec::new();
    for (place, (expected, text)) in table.iter().enumerate() {
        let Reading { findings, .. } = examine("ci.yml", text);
        let ours = findings.errors.is_empty();
        let complaints: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
        if ours != (*expected == Taken) {
            surprises.push(format!("{text}\n  expected {expected:?}, Dayfly says {complaints:?}"));
        }
        let Some(answer) = theirs.as_ref().and_then(|theirs| theirs[place].as_array()) else { continue };
        if answer.is_empty() != matches!(expected, Taken | Stricter) {
            surprises.push(format!("{text}\n  expected {expected:?}, the package says {answer:?}"));
        }
    }
    assert!(surprises.is_empty(), "{} of {} differ:\n{}", surprises.len(), table.len(), surprises.join("\n"));
}

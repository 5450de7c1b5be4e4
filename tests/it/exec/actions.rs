//! Actions in a VM: of the workspace, and of repositories that the host fetches.

use crate::run::{dayfly_run, state};
use crate::support::command::Outcome;
use crate::support::leaks;
use crate::support::repository::Repository;

const WORKFLOW: &str = r#"on: push
env: { FROM: workflow }
jobs:
  a:
    runs-on: x
    steps:
      - uses: actions/checkout@v4
      - name: A program that is called node
        run: |
          bin=/opt/hostedtoolcache/node/20.9.9/x64/bin
          mkdir -p $bin
          printf '#!/bin/sh\nif [ "$1" = --version ]; then echo v20.9.9; else exec sh "$@"; fi\n' > $bin/node
          chmod +x $bin/node
      - { id: outer, uses: ./.github/actions/outer, with: { who: "mona $HOME", typo: x }, env: { FROM: step } }
      - run: echo "said=${{ steps.outer.outputs.said }} from=$FROM made=$MADE $(own-program)"
      - { id: tool, uses: acme/tool/js@v1, with: { Some Name: "two words" } }
      - run: echo "tool=${{ steps.tool.outputs.answer }}"
      - { id: broken, uses: ./.github/actions/broken, continue-on-error: true }
      - run: echo "broken=${{ steps.broken.outcome }}"
"#;

const OUTER: &str = r#"name: Outer
inputs:
  who: { required: true }
  greeting: { default: "hello from ${{ github.repository }}" }
outputs:
  said: { value: "${{ steps.inner.outputs.word }}" }
runs:
  using: composite
  steps:
    - { name: Greet, run: 'echo "$GREETING, $WHO; from=$FROM; $(cat "$GITHUB_ACTION_PATH/word")"', shell: bash, env: { WHO: "${{ inputs.who }}", GREETING: "${{ inputs.greeting }}" } }
    - { id: inner, uses: acme/tool@main, with: { word: "${{ inputs.who }}" } }
    - run: |
        echo MADE=here >> $GITHUB_ENV
        mkdir -p $RUNNER_TEMP/bin && printf '#!/bin/sh\necho own\n' > $RUNNER_TEMP/bin/own-program
        chmod +x $RUNNER_TEMP/bin/own-program
        echo $RUNNER_TEMP/bin >> $GITHUB_PATH
      shell: sh
"#;

const BROKEN: &str = "runs:\n  using: composite\n  steps:\n    - { run: exit 7, shell: sh }\n    - { run: echo never, shell: sh }\n    \
                      - { run: echo tidied, shell: sh, if: always() }\n";

const INNER: &str = "inputs: { word: {} }\noutputs: { word: { value: '${{ steps.x.outputs.word }}' } }\nruns:\n  using: composite\n  steps:\n    \
                     - { id: x, run: 'echo \"word=<${{ inputs.word }}>\" >> $GITHUB_OUTPUT; echo \"ref $GITHUB_ACTION_REF of $GITHUB_ACTION_REPOSITORY\"', shell: bash }\n";

const JS: &str = "inputs: { 'Some Name': {}, other: { default: usual } }\nruns: { using: node20, pre: pre.js, main: main.js, post: post.js }\n";

const MAIN: &str = "env | grep -a -o '^INPUT_SOME_NAME=.*'\necho other $INPUT_OTHER in $PWD\necho answer=42 >> $GITHUB_OUTPUT\n\
                    echo \"main after $STATE_first\"\necho word=kept >> $GITHUB_STATE\n";

/// A directory of repositories with `acme/tool`, whose `v1` has a program and whose `main` is a composite action.
fn tools() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let tool = Repository::new(&[
        ("js/action.yml", JS),
        ("js/main.js", MAIN),
        ("js/pre.js", "echo first=before >> $GITHUB_STATE\n"),
        ("js/post.js", "echo \"post of $INPUT_OTHER with $STATE_word in $GITHUB_ACTION_REPOSITORY\"\n"),
    ]);
    tool.tag("v1");
    tool.commit(&[("action.yaml", INNER)]);
    tool.copy_bare(&directory.path().join("acme/tool.git"));
    directory
}

fn run(state: &tempfile::TempDir, repository: &Repository, tools: &tempfile::TempDir) -> Outcome {
    let mut command = dayfly_run(state, repository, &[]);
    command.arg("--actions").arg(tools.path()).output().unwrap().into()
}

#[test]
fn composite_and_program_actions_run_as_on_github() {
    let Some(state) = state() else { return };
    let tools = tools();
    let repository = Repository::new(&[
        (".dayfly/workflows/ci.yml", WORKFLOW),
        (".github/actions/outer/action.yml", OUTER),
        (".github/actions/outer/word", "beside it"),
        (".github/actions/broken/action.yml", BROKEN),
    ]);
    let done = run(&state, &repository, &tools);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    for line in [
        "hello from acme/site, mona $HOME; from=step; beside it",
        "ref main of acme/tool",
        "said=<mona $HOME> from=workflow made=here own",
        "INPUT_SOME_NAME=two words",
        "tool=42",
        "main after before",
        "post of usual with kept in acme/tool",
        "tidied",
        "broken=failure",
        "warning: the action has no input `typo`; it has `who`, `greeting`",
        "error: `Run exit 7`: the step ended with exit code 7",
    ] {
        assert!(done.stdout.lines().any(|shown| shown.ends_with(line)), "`{line}` is not in:\n{}", done.stdout);
    }
    let says = |text: &str| done.stdout.contains(text);
    assert!(says("Using the action acme/tool/js@v1 at commit ") && says("other usual in /home/"), "{}", done.stdout);
    assert!(!says("] never"), "{}", done.stdout);
    leaks::assert_none(state.path());
}

#[test]
fn what_cannot_be_used_ends_the_job_before_its_first_step() {
    let Some(state) = state() else { return };
    let tools = tools();
    for (uses, why) in [
        ("acme/tool@v9", "there is no tag or branch `v9` in `acme/tool`"),
        ("acme/tool/none@main", "`acme/tool/none@main` has no `action.yml`"),
    ] {
        let workflow = format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: echo first\n      - uses: {uses}\n"
        );
        let repository = Repository::new(&[(".dayfly/workflows/ci.yml", &workflow)]);
        let done = run(&state, &repository, &tools);
        assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
        assert!(done.stdout.contains(why) && !done.stdout.contains("] first"), "{}", done.stdout);
    }
    leaks::assert_none(state.path());
}

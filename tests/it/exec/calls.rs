//! Workflows of other repositories in a local run: fetched, entered, and kept to what they may do.

use crate::run::{dayfly_run, state};
use crate::support::command::Outcome;
use crate::support::leaks;
use crate::support::repository::Repository;

const CALLING: &str = r#"on: push
permissions: {contents: read}
jobs:
  go:
    uses: acme/ci/.github/workflows/build.yml@v1
    with: {who: mona}
    secrets: {TOKEN: "given-${{ github.event_name }}"}
  after:
    needs: go
    runs-on: x
    permissions: {}
    steps:
      - run: echo "after=${{ needs.go.outputs.said }}"
      - run: git ls-remote http://127.0.0.1:9418/acme/site > /dev/null 2>&1 && echo "fetched" || echo "fetch=refused"
      - {uses: actions/checkout@v4, continue-on-error: true, id: checkout}
      - run: echo "checkout=${{ steps.checkout.outcome }}"
"#;

const BUILD: &str = r#"on:
  workflow_call:
    inputs: {who: {type: string, required: true}}
    secrets: {TOKEN: {required: true}}
    outputs: {said: {value: "${{ jobs.deeper.outputs.said }}"}}
concurrency: {group: "build-${{ inputs.who }}"}
jobs:
  deeper:
    uses: ./.github/workflows/inner.yml
    with: {who: "${{ inputs.who }}!"}
    secrets: inherit
"#;

const INNER: &str = r#"on: {workflow_call: {inputs: {who: {type: string}}, secrets: {TOKEN: }, outputs: {said: {value: "${{ jobs.say.outputs.said }}"}}}}
jobs:
  say:
    runs-on: x
    outputs: {said: "${{ steps.say.outputs.said }}"}
    steps:
      - uses: actions/checkout@v4
      - id: say
        env: {TOKEN: "${{ secrets.TOKEN }}"}
        run: |
          echo "file=$(cat word)"
          test "$TOKEN" = given-push && echo "token=known"
          echo "said=hello ${{ inputs.who }}" >> $GITHUB_OUTPUT
"#;

/// A directory of repositories with `acme/ci`, whose `v1` has the workflows, and whose `main` has others.
fn shared() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let shared = Repository::new(&[(".github/workflows/build.yml", BUILD), (".github/workflows/inner.yml", INNER)]);
    shared.tag("v1");
    shared.commit(&[(".github/workflows/inner.yml", "on: push\njobs: {}\n")]);
    shared.copy_bare(&directory.path().join("acme/ci.git"));
    directory
}

fn run(state: &tempfile::TempDir, repository: &Repository, shared: &tempfile::TempDir, more: &[&str]) -> Outcome {
    let mut command = dayfly_run(state, repository, more);
    command.arg("--actions").arg(shared.path()).output().unwrap().into()
}

#[test]
fn workflows_of_another_repository_are_taken_at_one_commit() {
    let Some(state) = state() else { return };
    let shared = shared();
    let repository = Repository::new(&[("word", "own"), (".dayfly/workflows/ci.yml", CALLING)]);
    repository.write(&[("event.json", r#"{"repository": {"private": true}}"#)]);
    let event = repository.path().join("event.json");
    let done = run(&state, &repository, &shared, &["--event", "push", "--payload", event.to_str().unwrap(), "ci"]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    for line in ["file=own", "token=known", "after=hello mona!", "fetch=refused", "checkout=failure"] {
        assert!(done.stdout.lines().any(|shown| shown.ends_with(line)), "`{line}` is not in:\n{}", done.stdout);
    }
    let says = |text: &str| done.stdout.contains(text);
    assert!(says("Using the workflow acme/ci/.github/workflows/inner.yml@v1 at commit "), "{}", done.stdout);
    assert!(says("go / deeper / say") && says("do not let it read the repository"), "{}", done.stdout);
    leaks::assert_none(state.path());
}

#[test]
fn what_cannot_be_called_is_told_before_anything_runs() {
    let Some(state) = state() else { return };
    let shared = shared();
    for (uses, why) in [
        ("acme/ci/.github/workflows/build.yml@v9", "there is no tag or branch `v9` in `acme/ci`"),
        ("acme/ci/.github/workflows/none.yml@v1", "of acme/ci has no such file"),
        ("acme/none/.github/workflows/build.yml@v1", "its repository is not there"),
        ("acme/ci/.github/workflows/inner.yml@main", "acme/ci/.github/workflows/inner.yml@main:2:7: jobs:"),
        ("acme/ci/.github/workflows/build.yml@v1", "jobs.a.with: the input `who` must be given"),
    ] {
        let workflow = format!("on: push\njobs:\n  a: {{uses: {uses}}}\n");
        let repository = Repository::new(&[(".dayfly/workflows/ci.yml", &workflow)]);
        let done = run(&state, &repository, &shared, &["--list"]);
        assert_eq!(done.code, Some(64), "{}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(why), "{}", done.stderr);
    }
    leaks::assert_none(state.path());
}

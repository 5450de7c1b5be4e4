//! A matrix whose cells start from one machine, and what is the same as if each had run all of its steps.

use std::collections::HashSet;

use crate::support::{Ended, Scene, Settings, leaks, scrape};

/// Four cells, of which the middle ones fail; and a matrix whose common step fails.
const WORKFLOW: &str = r#"
name: CI
on: pull_request
jobs:
  cells:
    strategy: {fail-fast: false, matrix: {word: [one, two, three]}}
    runs-on: forked
    env: {LEVEL: job}
    steps:
      - uses: actions/checkout@v4
      - id: setup
        run: |
          echo "shared=ran"
          cat /proc/sys/kernel/random/uuid > token
          echo "token=$(cat token)" >> "$GITHUB_OUTPUT"
          echo "FROM_SHARED=$LEVEL" >> "$GITHUB_ENV"
          (while sleep 0.1; do echo tick; done > ticks) &
          until test -s ticks; do sleep 0.1; done
      - env: {WORD: "${{ matrix.word }}"}
        run: |
          test "$(cat token)" = "${{ steps.setup.outputs.token }}" && echo "token=$(cat token)"
          echo "word=$WORD, $FROM_SHARED"
          echo "name=$(hostname)"
          echo "cache=$(cat /cache/file) $(grep -c ' /cache ' /proc/mounts)"
          echo "random=$(cat /proc/sys/kernel/random/uuid)"
          before=$(wc -l < ticks); until test "$(wc -l < ticks)" -gt "$before"; do sleep 0.1; done
          echo "readme=$(head -n 1 README.md)"
          test "$WORD" != two
      - if: always() && matrix.word == 'two'
        run: echo "cleaned=up"
  broken:
    needs: cells
    if: always()
    strategy: {fail-fast: false, matrix: {n: [1, 2]}}
    runs-on: forked
    steps:
      - run: exit 3
      - if: failure()
        run: echo "on_failure=${{ matrix.n }}"
"#;

fn assert_forked(cells: &[Ended]) -> &Ended {
    let (leaders, followers): (Vec<_>, Vec<_>) =
        cells.iter().partition(|cell| cell.log.contains("start from this machine"));
    let [leader] = leaders.as_slice() else { panic!("{} cells lead: {:#?}", leaders.len(), cells) };
    for follower in followers {
        let linked = format!("in the job `{}`: {}", leader.job.name, leader.job.log_url);
        assert!(follower.log.contains(&linked), "{}", follower.log);
        assert!(follower.job.events.iter().any(|event| event.kind == "forked_from" && event.detail == leader.job.id));
    }
    leader
}

#[tokio::test(flavor = "multi_thread")]
async fn common_steps_run_once_and_each_cell_ends_as_if_it_had_run_them() {
    let cache = tempfile::tempdir().unwrap();
    std::fs::write(cache.path().join("file"), "cached").unwrap();
    let profile =
        format!("matrix_fork = \"auto\"\ncache = {{ path = \"{}\", mount = \"/cache\" }}", cache.path().display());
    let settings = Settings::new().with_profile("forked", &profile);
    let Some(scene) = Scene::start(settings).await else { return };
    let pull = scene.pull_request(WORKFLOW).await;
    let mut cells = Vec::new();
    for word in ["one", "two", "three"] {
        cells.push(scene.ended(&pull.sha, &format!("cells ({word})")).await);
    }
    let leader = assert_forked(&cells);
    assert_eq!(cells.iter().filter(|cell| cell.log.contains("\nshared=ran\n")).count(), 1, "{}", leader.log);
    let own = |key: &str| cells.iter().map(|cell| cell.said(key)).collect::<HashSet<_>>().len();
    assert_eq!((own("token"), own("name"), own("random")), (1, 3, 3));
    for (cell, word) in cells.iter().zip(["one", "two", "three"]) {
        assert_eq!(cell.said("cache"), "cached 1", "it is mounted once");
        assert_eq!((cell.said("word"), cell.said("readme")), (format!("{word}, job").as_str(), "# Hello"));
        let (conclusion, title, steps) = match word {
            "two" => ("failure", "Step 3 `Run test", 4),
            _ => ("success", "4 steps succeeded in ", 4),
        };
        assert_eq!(cell.job.verdict().0, conclusion, "{}", cell.log);
        assert!(cell.title().starts_with(title), "{}", cell.title());
        assert_eq!(
            cell.summary().lines().filter(|line| line.starts_with("| s") || line.starts_with("| f")).count(),
            steps
        );
        assert_eq!(cell.log.contains("cleaned=up"), word == "two");
    }

    let broken = [scene.ended(&pull.sha, "broken (1)").await, scene.ended(&pull.sha, "broken (2)").await];
    assert_forked(&broken);
    for (cell, n) in broken.iter().zip(["1", "2"]) {
        assert_eq!((cell.said("on_failure"), cell.job.verdict()), (n, ("failure", "")));
        assert!(cell.title().starts_with("Step 1 `Run exit 3`"), "{}", cell.title());
    }
    let metrics = scrape(&scene.service.url("/metrics")).await;
    let began =
        ["led", "forked", "alone"].map(|how| metrics[&format!("dayfly_matrix_cells_total{{result=\"{how}\"}}")]);
    assert_eq!(began, [2.0, 3.0, 0.0]);
    leaks::assert_none(scene.state_dir());
    scene.finish().await;
}

/// While one cell runs the common steps, the others take up no VM, and say why; when it is cancelled, they run by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn cells_wait_without_a_vm_and_do_without_a_leader_that_is_cancelled() {
    let settings = Settings::new().with_profile("forked", "matrix_fork = \"auto\"");
    let Some(scene) = Scene::start(settings).await else { return };
    let workflow = format!(
        "name: CI\non: pull_request\njobs:\n  cells:\n    strategy: {{matrix: {{n: [1, 2]}}}}\n    runs-on: forked\n    \
         steps:\n      - run: {}\n      - run: echo \"cell=${{{{ matrix.n }}}}\"\n",
        crate::support::gate("opened")
    );
    let pull = scene.pull_request(&workflow).await;
    let leads = |job: &crate::support::Job| job.events.iter().any(|event| event.kind == "step_started");
    let first = scene.job(&pull.sha, "cells (1)", leads).await;
    let second = scene.job(&pull.sha, "cells (2)", |job| job.state == "queued").await;
    let why = scene.ask(&["why", &second.id]);
    assert!(why.contains(&format!("It waits for `{}`, which runs the first steps", first.id)), "{why}");
    assert_eq!(second.vm, None);
    scene.ask(&["cancel", &first.id]);
    assert_eq!(scene.ended(&pull.sha, "cells (1)").await.job.verdict().0, "cancelled");
    scene.open_gate("opened").await;
    let ended = scene.ended(&pull.sha, "cells (2)").await;
    assert_eq!((ended.said("cell"), ended.job.verdict(), ended.job.attempt), ("2", ("success", ""), 1));
    scene.finish().await;
}

//! Artifacts and caches of jobs, by the actions that the host does.

use std::process::Command;

use crate::support::command::{self, Outcome};
use crate::support::{Scene, Settings};

const WORKFLOW: &str = r#"
name: CI
on: pull_request
jobs:
  build:
    runs-on: linux
    steps:
      - id: cold
        uses: actions/cache@v4
        with:
          path: |
            deps
            ~/tool/*.txt
          key: deps-1
          restore-keys: deps-
      - run: |
          echo "cold=[${{ steps.cold.outputs.cache-hit }}]"
          mkdir -p deps/a 'dist/sub dir' ~/tool
          echo kept > deps/a/file; ln -s file deps/a/link; echo tool > ~/tool/x.txt; echo other > ~/tool/x.bin
          echo one > dist/one.txt; echo '{}' > 'dist/sub dir/ü.json'; echo secret > dist/.hidden; echo map > dist/one.map
          case "$(env)" in *ACTIONS_RESULTS_URL=http://127.0.0.1:3130/*) echo offered=yes;; esac
          printf 'token=%s\n' "$ACTIONS_RUNTIME_TOKEN"
      - id: up
        uses: actions/upload-artifact@v4
        with:
          name: dist ü
          path: |
            dist
            !dist/**/*.map
          retention-days: 1
      - run: echo "id=${{ steps.up.outputs.artifact-id }} digest=${{ steps.up.outputs.artifact-digest }}" | sed 's/[0-9a-f]\{10,\}/#/g'
      - uses: actions/upload-artifact@v4
        with: {path: no/such}
      - id: twice
        uses: actions/upload-artifact@v4
        continue-on-error: true
        with: {name: dist ü, path: deps}
      - run: echo "twice=${{ steps.twice.outcome }}"
      - uses: actions/upload-artifact@v4
        with: {name: dist-2, path: dist/one.txt, compression-level: 0}
      - uses: actions/upload-artifact@v4
        with: {name: dist-2, path: deps/a/file, overwrite: 'true'}
  use:
    needs: build
    runs-on: linux
    steps:
      - id: got
        uses: actions/download-artifact@v4
        with: {name: dist ü, path: here}
      - run: cd here && echo "files=$(find . -type f | sort | tr '\n' ' ')" && echo "content=$(cat one.txt)"
      - run: echo "path=${{ steps.got.outputs.download-path }}"
      - uses: actions/download-artifact@v4
        with: {path: all, pattern: dist*}
      - run: echo "all=$(cd all && find . -type f | sort | tr '\n' ' ')" && echo "second=$(cat all/dist-2/file)"
      - uses: actions/download-artifact@v4
        id: missing
        continue-on-error: true
        with: {name: nothing}
      - run: echo "missing=${{ steps.missing.outcome }}"
      - id: warm
        uses: actions/cache@v4
        with:
          path: |
            deps
            ~/tool/*.txt
          key: deps-1
      - run: |
          echo "warm=${{ steps.warm.outputs.cache-hit }} kept=$(cat deps/a/link) tool=$(cat ~/tool/x.txt) $(ls ~/tool)"
      - id: near
        uses: actions/cache/restore@v4
        with: {path: "deps\n~/tool/*.txt\n", key: deps-2, restore-keys: deps-, lookup-only: true}
      - run: echo "near=${{ steps.near.outputs.cache-hit }} ${{ steps.near.outputs.cache-matched-key }}"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_job_leaves_others_and_people_find() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let pull = scene.pull_request(WORKFLOW).await;
    let build = scene.ended(&pull.sha, "build").await;
    assert_eq!(build.job.verdict(), ("success", ""), "{}", build.log);
    let expected = [("cold", "[]"), ("offered", "yes"), ("token", "***"), ("id", "# digest=#"), ("twice", "failure")];
    for (key, value) in expected {
        assert_eq!(build.said(key), value, "{key}: {}", build.log);
    }
    for line in ["warning: no files were found for no/such", "cache saved: deps-1", "of refs/pull/"] {
        assert!(build.log.contains(line), "{line}: {}", build.log);
    }
    let used = scene.ended(&pull.sha, "use").await;
    assert_eq!(used.job.verdict(), ("success", ""), "{}", used.log);
    for (key, value) in [
        ("files", "./one.txt ./sub dir/ü.json "),
        ("content", "one"),
        ("all", "./dist ü/one.txt ./dist ü/sub dir/ü.json ./dist-2/file "),
        ("second", "kept"),
        ("missing", "failure"),
        ("warm", "true kept=kept tool=tool x.txt"),
        ("near", "false deps-1"),
    ] {
        assert_eq!(used.said(key), value, "{key}: {}", used.log);
    }
    assert!(used.said("path").ends_with("/here"), "{}", used.log);
    people_find(&scene, used.job.id.as_str()).await;
    scene.finish().await;
}

async fn people_find(scene: &Scene, job: &str) {
    let socket = scene.service.control_socket();
    let artifact = |arguments: &[&str]| -> Outcome {
        let mut command: Command = command::dayfly();
        command.arg("artifact").args(arguments).arg("--socket").arg(&socket);
        tokio::task::block_in_place(|| command.output().unwrap().into())
    };
    let listed = artifact(&["list", job]);
    assert!(listed.stdout.contains("dist ü") && listed.stdout.contains("dist-2"), "{listed:?}");
    let place = tempfile::tempdir().unwrap();
    let into = place.path().join("into");
    let unpacked = artifact(&["download", job, "dist ü", "--extract", into.to_str().unwrap()]);
    assert_eq!(unpacked.code, Some(0), "{unpacked:?}");
    assert_eq!(std::fs::read_to_string(into.join("sub dir/ü.json")).unwrap(), "{}\n");
    let file = place.path().join("saved.zip");
    artifact(&["download", job, "dist-2", "--output", file.to_str().unwrap()]);
    assert!(std::fs::read(&file).unwrap().starts_with(b"PK"));
    assert_eq!(artifact(&["rm", job, "dist-2"]).code, Some(0));
    assert!(!artifact(&["list", job]).stdout.contains("dist-2"));
    assert_eq!(artifact(&["rm", job, "dist-2"]).code, Some(1));
}

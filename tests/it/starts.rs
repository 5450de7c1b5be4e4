//! Workflows that people, programs and clocks start. No VM runs: the image is not there, and what is looked at is how runs begin.
#![allow(clippy::unwrap_used)]

use serde_json::{Value as Json, json};

use crate::local_forge::Pushed;
use crate::support::{REPOSITORY, Scene, Settings, WORKFLOW, eventually, make_schedules_due, processed};

const STARTED: &str = r#"
name: CI
on:
  workflow_dispatch:
    inputs:
      target: {type: choice, options: [staging, production], required: true}
      dry: {type: boolean, default: true}
  repository_dispatch: {types: [rebuild]}
  schedule: [{cron: '0 0 1 1 *'}]
jobs:
  go:
    name: go ${{ inputs.target || github.event.schedule || github.event.client_payload.what }}, ${{ inputs.dry && 'dry' || 'wet' }}
    runs-on: linux
    steps: [run: exit 1]
"#;

/// A default branch with the workflow, of which the service was told; gives its commit and the payload of the push.
async fn pushed(scene: &Scene) -> (String, Json) {
    let sha = scene.forge.commit(REPOSITORY, "main", &[(WORKFLOW, STARTED)], "Start").await.unwrap();
    let pushed = Pushed { branch: "main", before: None, after: Some(&sha), changed: &[] };
    let payload = scene.forge.push_payload(REPOSITORY, pushed);
    let answer = scene.forge.deliver("push", &payload).await.unwrap();
    assert_eq!(answer.status, 202);
    (sha, payload)
}

async fn started(scene: &Scene, sha: &str, name: &str) {
    eventually(&format!("the job `{name}`"), async || {
        scene.jobs(sha).await.into_iter().find(|job| job.name == name).map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_programs_start_what_they_name_with_what_fits() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let (sha, push) = pushed(&scene).await;
    let said = scene.ask(&["dispatch", REPOSITORY, "ci", "--input", "target=staging"]);
    assert!(said.contains(WORKFLOW) && said.contains(&sha), "{said}");
    started(&scene, &sha, "go staging, dry").await;
    for (arguments, expected) in [
        (&["dispatch", REPOSITORY, "ci"][..], "the input `target` was not given"),
        (&["dispatch", REPOSITORY, "ci", "--input", "target=x"], "`x` is none of the options"),
        (&["dispatch", REPOSITORY, "ci", "--input", "targt=staging"], "did you mean `target`?"),
        (&["dispatch", REPOSITORY, "other"], "has no workflow `other`"),
        (&["dispatch", REPOSITORY, "ci", "--ref", "gone"], "no branch or tag `gone`"),
    ] {
        let refused = scene.command(arguments);
        assert!(refused.code != Some(0) && refused.stderr.contains(expected), "{arguments:?}: {}", refused.stderr);
    }

    let event = |more: Json| {
        let mut payload =
            json!({"repository": push["repository"], "sender": push["sender"], "installation": push["installation"]});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        payload
    };
    let asked = event(
        json!({"ref": "refs/heads/main", "workflow": WORKFLOW, "inputs": {"target": "production", "dry": "false"}}),
    );
    scene.forge.deliver("workflow_dispatch", &asked).await.unwrap();
    started(&scene, &sha, "go production, wet").await;
    let asked = event(json!({"action": "rebuild", "branch": "main", "client_payload": {"what": "all"}}));
    scene.forge.deliver("repository_dispatch", &asked).await.unwrap();
    started(&scene, &sha, "go all, wet").await;
    let asked = event(json!({"action": "other", "branch": "main", "client_payload": {}}));
    scene.forge.deliver("repository_dispatch", &asked).await.unwrap();
    let ignored = eventually("the delivery that starts nothing", async || {
        let listed = scene.ask_json(&["deliveries", "--state", "ignored"]);
        listed.as_array()?.iter().any(|delivery| delivery["event"] == "repository_dispatch").then_some(())
    });
    ignored.await;
    assert_eq!(scene.jobs(&sha).await.len(), 3);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_was_missed_starts_once() {
    let Some(mut scene) = Scene::start(Settings::without_vms()).await else { return };
    let (sha, _) = pushed(&scene).await;
    eventually("the push to be dealt with", async || {
        let listed = scene.ask_json(&["deliveries", "--state", "ignored"]);
        listed.as_array()?.iter().any(|delivery| delivery["event"] == "push").then_some(())
    })
    .await;
    for _ in 0..2 {
        assert!(scene.service.stop().await.success());
        // The same time both times, as if the service had died before it noted the next one.
        make_schedules_due(scene.state_dir()).await;
        scene.restart().await;
        started(&scene, &sha, "go 0 0 1 1 *, wet").await;
    }
    let listed = scene.ask_json(&["deliveries"]);
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|delivery| delivery["id"].as_str())
        .filter(|id| id.starts_with("schedule-"))
        .collect();
    let [id] = ids.as_slice() else { panic!("{ids:?}") };
    assert_eq!(processed(scene.state_dir(), id).await.key.id, *id);
    assert_eq!(scene.jobs(&sha).await.len(), 1);
    scene.finish().await;
}

//! Merge requests of a GitLab: statuses, approvals, and events that were lost. No VM is needed: whether a job exists is what
//! counts.
#![allow(clippy::unwrap_used)]

use crate::gitlab_api::{MergeRequest, Proof, Webhook};
use crate::support::lab::{Lab, PROJECT};
use crate::support::{DEADLINE, WEBHOOK_SECRET, WORKFLOW, eventually, http, job_of, scrape};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn note(lab: &Lab, request: &MergeRequest, by: &str, text: &str) {
    let payload = lab.api.note_payload(request, by, text);
    assert_eq!(lab.api.deliver("Note Hook", &payload).await.unwrap(), 202);
}

async fn has_note(lab: &Lab, request: &MergeRequest, words: &str) {
    let what = format!("a note with `{words}`");
    let found =
        lab.api.wait_for(&what, DEADLINE, |api| api.notes(request.iid).pop().filter(|note| note.body.contains(words)));
    found.await.unwrap_or_else(|error| panic!("{error}; there are {:#?}", lab.api.notes(request.iid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_statuses_of_a_commit_are_in_one_pipeline() {
    let Some(lab) = Lab::start("sweep = \"off\"", false).await else { return };
    let jobs: String =
        (0..8).map(|n| format!("  job{n}:\n    runs-on: linux\n    steps:\n      - run: echo\n")).collect();
    let workflow = format!("name: CI\non: pull_request\njobs:\n{jobs}");
    let request = lab.merge_request(&[(WORKFLOW, &workflow)], false, "ann").await;
    for n in 0..8 {
        // There is no image, which is told as a failure.
        let status = lab.status(&request.sha, &format!("dayfly/CI/job{n}"), "failed").await;
        assert_eq!((status.git_ref.as_str(), status.states.first().unwrap().as_str()), ("topic", "pending"));
        assert!(status.description.unwrap().contains("absent"));
    }
    assert_eq!((lab.api.pipelines(&request.sha), lab.api.statuses(&request.sha).len()), (1, 8));
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_held_until_a_developer_names_its_commit() {
    let Some(lab) = Lab::start("sweep = \"off\"", false).await else { return };
    lab.api.set_member("dev", 30);
    lab.api.set_member("reporter", 20);
    let workflow = job_of("linux", "echo owned");
    let request = lab.merge_request(&[(WORKFLOW, &workflow)], true, "stranger").await;
    let command = format!("/dayfly run {}", request.sha);
    let held = lab.status(&request.sha, "dayfly", "pending").await;
    assert_eq!(held.git_ref, "refs/merge-requests/1/head");
    assert!(held.description.unwrap().contains(&command));
    has_note(&lab, &request, &command).await;
    // The note has the command, and comes back as an event: of an account that may approve.
    lab.api.set_member(crate::gitlab_api::BOT, 40);
    let said = lab.api.notes(request.iid).pop().unwrap();
    note(&lab, &request, &said.author, &said.body).await;
    note(&lab, &request, "reporter", &command).await;
    has_note(&lab, &request, "`@reporter` asked to run").await;
    note(&lab, &request, "nobody", &command).await;
    has_note(&lab, &request, "`@nobody` asked to run").await;
    assert!(lab.jobs(&request.sha).await.is_empty(), "code of a stranger ran");
    assert_eq!(lab.api.notes(request.iid).len(), 1, "one note, which is changed");

    note(&lab, &request, "dev", &command).await;
    lab.status(&request.sha, "dayfly", "success").await;
    has_note(&lab, &request, "Approved by @dev").await;
    eventually("the job", async || (lab.jobs(&request.sha).await.len() == 1).then_some(())).await;

    // The next push is held again.
    let pushed = lab.api.push_to(PROJECT, request.iid, &[("more", "1")]).await.unwrap();
    let payload = lab.api.merge_request_payload(&pushed, "update", Some(&request.sha));
    lab.api.deliver("Merge Request Hook", &payload).await.unwrap();
    lab.status(&pushed.sha, "dayfly", "pending").await;
    note(&lab, &pushed, "dev", &command).await;
    has_note(&lab, &pushed, "which is not the head").await;
    assert!(lab.jobs(&pushed.sha).await.is_empty());
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_proved_is_refused_and_what_is_not_known_is_taken() {
    let Some(lab) = Lab::start("sweep = \"off\"", false).await else { return };
    let files = [(WORKFLOW, "name: CI\non: [push, pull_request]\njobs: {}\n")];
    let request = lab.unannounced(&files, false, "ann").await;
    let payload = lab.api.merge_request_payload(&request, "open", None);
    let url = lab.service.url("/webhooks/gitlab");
    for proof in [Proof::Token("another".to_owned()), Proof::Key(KEY.to_owned())] {
        lab.api.set_webhook(Webhook { url: url.clone(), proof });
        assert_eq!(lab.api.deliver("Merge Request Hook", &payload).await.unwrap(), 401);
    }
    // There is one GitLab, so its name may be left out.
    lab.api.set_webhook(Webhook { url, proof: Proof::Token(WEBHOOK_SECRET.to_owned()) });
    assert_eq!(lab.api.deliver_as("one", "Merge Request Hook", &payload).await.unwrap(), 202);
    eventually("it to be processed", async || {
        let first = lab.deliveries().await.into_iter().find(|delivery| delivery["id"] == "one")?;
        (first["state"] == "processed").then_some(())
    })
    .await;
    assert_eq!(lab.api.deliver_as("one", "Merge Request Hook", &payload).await.unwrap(), 200, "GitLab repeats it");
    let unknown = serde_json::json!({"object_kind": "wiki_page"});
    for event in ["Wiki Page Hook", "System Hook", "Something New"] {
        assert_eq!(lab.api.deliver(event, &unknown).await.unwrap(), 202, "{event}");
    }
    // A refusal would make GitLab give up on the webhook.
    let broken = serde_json::json!({"object_kind": "push"});
    assert_eq!(lab.api.deliver("Push Hook", &broken).await.unwrap(), 200);
    for event in ["Pipeline Hook", "Job Hook"] {
        assert_eq!(lab.api.deliver(event, &unknown).await.unwrap(), 200, "{event}");
    }
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_events_of_merge_requests_are_found() {
    let Some(lab) = Lab::start("sweep = \"1s\"", false).await else { return };
    // The project is known from its first event.
    let workflow = job_of("linux", "echo").replace("pull_request", "push");
    let sha = lab.api.commit(PROJECT, "main", &[(WORKFLOW, &workflow)]).await.unwrap();
    let payload = lab.api.push_payload(PROJECT, "main", None, &sha, "ann");
    assert_eq!(lab.api.deliver("Push Hook", &payload).await.unwrap(), 202);
    lab.status(&sha, "dayfly/CI/test (push)", "failed").await;
    let request = lab.unannounced(&[(WORKFLOW, &job_of("linux", "echo"))], false, "ann").await;
    lab.status(&request.sha, "dayfly/CI/test", "failed").await;
    // What was late after all starts nothing again.
    let payload = lab.api.merge_request_payload(&request, "open", None);
    assert_eq!(lab.api.deliver_as("late", "Merge Request Hook", &payload).await.unwrap(), 202);
    eventually("the late event to be ignored", async || {
        let late = lab.deliveries().await.into_iter().find(|delivery| delivery["id"] == "late")?;
        (late["state"] == "ignored").then_some(())
    })
    .await;
    assert_eq!(lab.jobs(&request.sha).await.len(), 1);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_counts_once_and_only_while_it_is_fresh() {
    let Some(lab) = Lab::start_with("sweep = \"off\"", false, Proof::Key(KEY.to_owned())).await else { return };
    let request = lab.unannounced(&[(WORKFLOW, &job_of("linux", "echo"))], false, "ann").await;
    let payload = lab.api.merge_request_payload(&request, "open", None);
    let send =
        async |id: &str, seconds_ago: i64| lab.api.send(id, "Merge Request Hook", &payload, seconds_ago).await.unwrap();
    assert_eq!(send("stale", 400).await, 401);
    assert_eq!(send("from-the-future", -400).await, 401);
    assert_eq!(send("one", 0).await, 202);
    lab.status(&request.sha, "dayfly/CI/test", "failed").await;
    assert_eq!(send("one", 0).await, 200, "GitLab repeats it");

    // Whoever has seen a delivery sends it again, under other names: only the signed one counts.
    let signed = lab.api.sign("one", &payload);
    for id in ["one", "another"] {
        let copy = http::client().post(lab.service.url("/webhooks/gitlab/lab")).headers(signed.clone());
        let copy = copy.header("idempotency-key", id).header("x-gitlab-event", "Merge Request Hook");
        let answer = copy.body(payload.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{id}");
    }
    let mut changed = payload.clone();
    changed["object_attributes"]["last_commit"]["id"] = "c".repeat(40).into();
    let forged = http::client().post(lab.service.url("/webhooks/gitlab/lab")).headers(signed);
    assert_eq!(forged.body(changed.to_string()).send().await.unwrap().status(), 401);
    let plain = http::client().post(lab.service.url("/webhooks/gitlab/lab")).header("x-gitlab-token", KEY);
    assert_eq!(plain.body(payload.to_string()).send().await.unwrap().status(), 401, "the key is no token");
    assert_eq!((lab.deliveries().await.len(), lab.jobs(&request.sha).await.len()), (1, 1));
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_of_gitlab_could_not_bring_is_asked_for_again() {
    let Some(mut lab) = Lab::start("sweep = \"1s\"\n[[gitlab.project]]\nname = \"acme/app\"", false).await else {
        return;
    };
    assert!(lab.service.stop().await.success());
    // A tag: nothing but its delivery tells of it.
    let workflow = job_of("linux", "echo").replace("pull_request", "push");
    let sha = lab.api.commit(PROJECT, "topic", &[(WORKFLOW, &workflow)]).await.unwrap();
    let mut payload = lab.api.push_payload(PROJECT, "topic", None, &sha, "ann");
    (payload["object_kind"], payload["ref"]) = ("tag_push".into(), "refs/tags/v1".into());
    lab.api.deliver("Tag Push Hook", &payload).await.unwrap_err();
    // Others fail as well, and start nothing.
    lab.api.lose_deliveries(1);
    lab.api.deliver("Wiki Page Hook", &serde_json::json!({"object_kind": "wiki_page"})).await.unwrap();
    // The first attempts after the start get lost, too.
    lab.api.lose_deliveries(1);
    lab.restart().await;
    lab.status(&sha, "dayfly/CI/test (push)", "failed").await;
    let statuses: Vec<(String, Option<u16>)> =
        lab.api.attempts().into_iter().map(|attempt| (attempt.key, attempt.status)).collect();
    let key = statuses[0].0.clone();
    let of_tag: Vec<Option<u16>> = statuses.iter().filter(|one| one.0 == key).map(|one| one.1).collect();
    assert_eq!(of_tag, [None, None, Some(202)], "{statuses:?}");
    assert_eq!(statuses.len(), 4, "an event that starts nothing is not worth another attempt: {statuses:?}");
    let metrics = scrape(&lab.service.url("/metrics")).await;
    let redelivered = |forge: &str| metrics[&format!("dayfly_sweep_redeliveries_total{{forge=\"{forge}\"}}")];
    assert_eq!((redelivered("gitlab"), redelivered("github")), (2.0, 0.0));
    assert_eq!(lab.jobs(&sha).await.len(), 1);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_push_to_the_default_branch_is_found_once() {
    let Some(lab) = Lab::start("sweep = \"1s\"\n[[gitlab.project]]\nname = \"acme/app\"", false).await else { return };
    // What was pushed before the project was known is not lost; only what follows is.
    eventually("the first look at the project", async || {
        let metrics = scrape(&lab.service.url("/metrics")).await;
        (metrics["dayfly_sweeps_total{forge=\"gitlab\",result=\"complete\"}"] >= 1.0).then_some(())
    })
    .await;
    assert!(lab.deliveries().await.is_empty());
    // Nobody may look at webhooks, so what is there is all there is to see.
    lab.api.hide_webhooks();
    let workflow = job_of("linux", "echo").replace("pull_request", "push");
    let sha = lab.api.commit(PROJECT, "main", &[(WORKFLOW, &workflow)]).await.unwrap();
    lab.status(&sha, "dayfly/CI/test (push)", "failed").await;
    assert_eq!(lab.jobs(&sha).await.len(), 1);
    // The event was only late.
    let payload = lab.api.push_payload(PROJECT, "main", None, &sha, "ann");
    assert_eq!(lab.api.deliver_as("late", "Push Hook", &payload).await.unwrap(), 202);
    let ended = async |id: &str, state: &str| {
        eventually(&format!("`{id}` to be {state}"), async || {
            let one = lab.deliveries().await.into_iter().find(|delivery| delivery["id"] == id)?;
            (one["state"] == state).then_some(())
        })
        .await;
    };
    ended("late", "ignored").await;
    // Another branch at the same commit is news.
    let elsewhere = lab.api.push_payload(PROJECT, "release", None, &sha, "ann");
    assert_eq!(lab.api.deliver_as("elsewhere", "Push Hook", &elsewhere).await.unwrap(), 202);
    ended("elsewhere", "processed").await;
    assert_eq!(lab.jobs(&sha).await.len(), 2);
    // One that came is not found, whatever started from it.
    let next = lab.api.commit(PROJECT, "main", &[(WORKFLOW, &job_of("linux", "echo"))]).await.unwrap();
    let payload = lab.api.push_payload(PROJECT, "main", Some(&sha), &next, "ann");
    assert_eq!(lab.api.deliver_as("in-time", "Push Hook", &payload).await.unwrap(), 202);
    ended("in-time", "ignored").await;
    let last = lab.api.commit(PROJECT, "main", &[(WORKFLOW, &workflow), ("more", "1")]).await.unwrap();
    lab.status(&last, "dayfly/CI/test (push)", "failed").await;
    assert_eq!(lab.jobs(&last).await.len(), 1);
    let found = scrape(&lab.service.url("/metrics")).await["dayfly_sweep_pushes_total{forge=\"gitlab\"}"];
    assert!((2.0..=3.0).contains(&found), "{found} pushes were found");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_workflow_wanted_is_not_brought_as_something_else() {
    let Some(lab) = Lab::start("sweep = \"1s\"\n[[gitlab.project]]\nname = \"acme/app\"", false).await else { return };
    let types = "on:\n  pull_request:\n    types: [synchronize]";
    let workflow = job_of("linux", "echo").replace("on: pull_request", types);
    let request = lab.merge_request(&[(WORKFLOW, &workflow)], false, "ann").await;
    // A later sweep has happened when it found another one.
    let lost = lab.unannounced(&[(WORKFLOW, &workflow), ("other", "1")], false, "ann").await;
    lab.status(&lost.sha, "dayfly/CI/test", "failed").await;
    assert!(lab.jobs(&request.sha).await.is_empty(), "it was opened, and nothing was pushed to it");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_gitlabs_rate_limit_is_left_to_the_jobs() {
    let Some(mut lab) = Lab::start("sweep = \"1s\"\n[[gitlab.project]]\nname = \"acme/app\"", false).await else {
        return;
    };
    lab.service.kill();
    let request = lab.unannounced(&[(WORKFLOW, &job_of("linux", "echo"))], false, "ann").await;
    lab.api.set_calls_left(390);
    lab.restart().await;
    let spared = async || {
        let spared =
            scrape(&lab.service.url("/metrics")).await["dayfly_sweeps_total{forge=\"gitlab\",result=\"spared\"}"];
        (spared >= 2.0).then_some(lab.api.calls())
    };
    let calls = eventually("two sweeps that stop short", spared).await;
    eventually("two more", async || {
        let spared =
            scrape(&lab.service.url("/metrics")).await["dayfly_sweeps_total{forge=\"gitlab\",result=\"spared\"}"];
        (spared >= 4.0).then_some(())
    })
    .await;
    assert!(lab.api.calls() - calls <= 2, "hardly anything is asked: {} calls", lab.api.calls() - calls);
    assert!(lab.jobs(&request.sha).await.is_empty());
    lab.service.kill();
    lab.api.set_calls_left(2000);
    lab.restart().await;
    lab.status(&request.sha, "dayfly/CI/test", "failed").await;
    lab.finish().await;
}

//! What the public listener does with deliveries, good and bad. No VM is needed: nothing here starts a job.
#![allow(clippy::unwrap_used)]

use axum::http::Method;
use dayfly::store::DeliveryCounts;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::local_forge::{Fault, FaultKind, Status};
use crate::support::{
    DEADLINE, REPOSITORY, Scene, Settings, WEBHOOK_SECRET, WORKFLOW, eventually, http, job_of, stored_deliveries,
};

fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Posts a delivery by hand.
struct Post<'a> {
    event: &'a str,
    delivery: &'a str,
    signature: Option<String>,
    body: reqwest::Body,
}

impl Post<'_> {
    async fn to(self, scene: &Scene) -> (u16, String) {
        let mut request = http::client().post(scene.service.url("/webhooks/github")).body(self.body);
        request = request.header("x-github-event", self.event).header("x-github-delivery", self.delivery);
        if let Some(signature) = self.signature {
            request = request.header("x-hub-signature-256", signature);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// Stops the service and gives what it has stored.
async fn stored(mut scene: Scene) -> DeliveryCounts {
    assert!(scene.service.stop().await.success());
    stored_deliveries(scene.state_dir()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_leaves_nothing() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let body = scene.forge.ping_payload(REPOSITORY).to_string();
    let good = signature(WEBHOOK_SECRET, body.as_bytes());
    let bad = [
        None,
        Some(String::new()),
        Some("sha256=".to_owned()),
        Some(good.replace("sha256=", "sha1=")),
        Some(good[..good.len() - 1].to_owned()),
        Some(format!("{good}0")),
        Some("sha256=".to_owned() + &"zz".repeat(32)),
        Some(signature("another secret", body.as_bytes())),
        Some(signature(WEBHOOK_SECRET, b"another body")),
        Some(format!("{good}, {good}")),
    ];
    for (number, signature) in bad.into_iter().enumerate() {
        let shown = format!("{signature:?}");
        let delivery = format!("unsigned-{number}");
        let (status, answer) =
            Post { event: "ping", delivery: &delivery, signature, body: body.clone().into() }.to(&scene).await;
        assert_eq!((status, answer.as_str()), (401, "the signature does not verify\n"), "{shown}");
    }
    eventually("each refusal to be in the log", async || {
        let log = scene.service.log();
        (log.iter().filter(|line| line["fields"]["reason"].is_string()).count() == 10).then_some(())
    })
    .await;
    assert_eq!(stored(scene).await, DeliveryCounts::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_with_and_without_its_length() {
    let Some(scene) = Scene::start(Settings::without_vms().with_server("body_limit = \"64 KiB\"\n")).await else {
        return;
    };
    let limit = 64 * 1024;
    for (size, expected) in [(limit + 1, 413), (2 * limit, 413), (limit, 400)] {
        // At the limit it is read and verified, and then is no payload.
        let body = vec![b' '; size];
        let signed = signature(WEBHOOK_SECRET, &body);
        let chunks = futures::stream::iter(
            body.chunks(1000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
        );
        for (kind, sent) in [("length", body.clone().into()), ("chunks", reqwest::Body::wrap_stream(chunks))] {
            let delivery = format!("{kind}-{size}");
            let post = Post { event: "push", delivery: &delivery, signature: Some(signed.clone()), body: sent };
            assert_eq!(post.to(&scene).await.0, expected, "{delivery}");
        }
    }
    let counts = stored(scene).await;
    assert_eq!(counts, DeliveryCounts { invalid: 2, ..DeliveryCounts::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_body_that_does_not_read_is_kept_and_one_of_no_interest_is_accepted() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let unreadable = [
        "",
        "{",
        r#"{"action": "opened"}"#,
        "\u{feff}{}",
        r#"{"action": 1}"#,
        r#"{"action": "opened", "number": 1, "repository": {"full_name": "../../etc"}}"#,
        &deep,
    ];
    for (number, body) in unreadable.iter().enumerate() {
        let (delivery, signed) = (format!("unreadable-{number}"), signature(WEBHOOK_SECRET, body.as_bytes()));
        let body = (*body).to_owned();
        let post =
            Post { event: "pull_request", delivery: &delivery, signature: Some(signed), body: body.clone().into() };
        assert_eq!(post.to(&scene).await.0, 400, "{}", &body[..body.len().min(60)]);
    }
    for (event, delivery) in [("", "id"), ("ping", ""), ("pi ng", "id"), ("ping", "../id"), (&"x".repeat(300), "id")] {
        let body = scene.forge.ping_payload(REPOSITORY).to_string();
        let signed = Some(signature(WEBHOOK_SECRET, body.as_bytes()));
        let (status, _) = Post { event, delivery, signature: signed, body: body.into() }.to(&scene).await;
        assert_eq!(status, 400, "`{event}` `{delivery}`");
    }
    let mut stars = scene.forge.ping_payload(REPOSITORY);
    stars["action"] = "created".into();
    for (event, payload) in
        [("star", &stars), ("ping", &scene.forge.ping_payload(REPOSITORY)), ("installation", &json!({}))]
    {
        assert_eq!(scene.forge.deliver(event, payload).await.unwrap().status, 202, "{event}");
    }
    let jobs = scene.jobs(&"a".repeat(40)).await;
    assert!(jobs.is_empty());
    let counts = stored(scene).await;
    assert_eq!((counts.invalid, counts.processed, counts.failed), (unreadable.len() as u64, 0, 0), "{counts:?}");
    assert_eq!(counts.ignored + counts.received, 3, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_counts_once_however_often_it_comes() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.open_pull_request(&[(WORKFLOW, &job_of("nowhere", "true"))]).await;
    let payload = scene.forge.pull_request_payload(&pull, "opened");
    let mut together = Vec::new();
    for _ in 0..8 {
        let (forge, payload) = (scene.forge.clone(), payload.clone());
        together
            .push(tokio::spawn(async move { forge.redeliver("pull_request", &payload, "the-same").await.unwrap() }));
    }
    for answer in together {
        let status = answer.await.unwrap().status;
        assert!(matches!(status, 200 | 202), "{status}");
    }
    let job = scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    let (context, is_error) = (job.context(), |status: &Status| status.state == "error");
    scene.forge.wait_for_status(&pull.sha, &context, is_error, DEADLINE).await.unwrap();
    let again = scene.forge.redeliver("pull_request", &payload, "the-same").await.unwrap();
    assert_eq!((again.status, again.body.as_str()), (200, "already processed\n"));
    assert_eq!(scene.jobs(&pull.sha).await.len(), 1);
    assert_eq!(scene.forge.check_runs().len(), 1);
    assert_eq!(stored(scene).await, DeliveryCounts { processed: 1, ..DeliveryCounts::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_never_processed_is_processed_when_it_comes_again() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.open_pull_request(&[(WORKFLOW, &job_of("nowhere", "true"))]).await;
    // Not worth a retry: the forge says that the question is wrong. Somebody mends that, then presses "Redeliver".
    let refused =
        Fault { method: Some(Method::GET), path_contains: "/contents/", kind: FaultKind::Status(422), times: 1 };
    scene.forge.inject(refused);
    let answer = scene.deliver_opened(&pull).await;
    eventually("the delivery to fail", async || {
        scene
            .service
            .log()
            .iter()
            .any(|line| line["fields"]["message"] == "a delivery cannot be processed")
            .then_some(())
    })
    .await;
    assert!(scene.jobs(&pull.sha).await.is_empty());

    let payload = scene.forge.pull_request_payload(&pull, "opened");
    let again = scene.forge.redeliver("pull_request", &payload, &answer.delivery).await.unwrap();
    assert_eq!(again.status, 202, "{}", again.body);
    scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    assert_eq!(stored(scene).await, DeliveryCounts { processed: 1, ..DeliveryCounts::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_not_there() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    for path in ["/", "/v1/jobs", "/logs/", "/logs/x", "/logs/../../etc/passwd", "/webhooks", "/logs/%2e%2e/x"] {
        let (status, _) = http::get(&scene.service.url(path)).await.unwrap();
        assert_eq!(status, 404, "{path}");
    }
    let (status, _) = http::get(&scene.service.url("/webhooks/github")).await.unwrap();
    assert_eq!(status, 405);
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&scene.service.control_socket()), mode(scene.state_dir())), (0o600, 0o700));
    scene.finish().await;
}

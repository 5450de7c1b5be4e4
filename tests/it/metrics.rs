//! Where the metrics are, and what strangers can do to them. No VM is needed.
#![allow(clippy::unwrap_used)]

use crate::support::{Scene, Settings, eventually, http, scrape};

#[tokio::test(flavor = "multi_thread")]
async fn strangers_make_no_series() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let before = scrape(&scene.service.url("/metrics")).await;
    for (number, event) in ["push", "deployment", "x\"} 1", "a,b=c", &"long".repeat(500)].into_iter().enumerate() {
        let request = http::client().post(scene.service.url("/webhooks/github")).header("x-github-event", event);
        let answer = request.header("x-github-delivery", number.to_string()).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 401, "{event}");
    }
    let after = scrape(&scene.service.url("/metrics")).await;
    assert!(before.keys().eq(after.keys()), "there are new series");
    let refused =
        |kind: &str| after[&format!("dayfly_deliveries_total{{event=\"{kind}\",result=\"refused_signature\"}}")];
    assert_eq!((refused("push"), refused("other")), (1.0, 4.0));
    assert_eq!(after["dayfly_delivery_answer_seconds_count"], 5.0);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_can_have_a_listener_of_their_own_or_none() {
    let own = Settings::without_vms().with_section("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let Some(scene) = Scene::start(own).await else { return };
    assert_eq!(http::get(&scene.service.url("/metrics")).await.unwrap().0, 404);
    let address = eventually("the listener of the metrics", async || {
        let log = scene.service.log();
        let line = log.iter().find(|line| line["fields"]["message"] == "serving metrics")?;
        Some(line["fields"]["address"].as_str()?.to_owned())
    })
    .await;
    assert_eq!(scrape(&format!("http://{address}/metrics")).await["dayfly_store_up"], 1.0);
    assert_eq!(http::get(&format!("http://{address}/healthz")).await.unwrap().0, 404);
    scene.finish().await;

    let off = Settings::without_vms().with_section("[metrics]\nenabled = false\n");
    let Some(scene) = Scene::start(off).await else { return };
    assert_eq!(http::get(&scene.service.url("/metrics")).await.unwrap().0, 404);
    scene.finish().await;
}

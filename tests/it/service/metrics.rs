//! What Prometheus reads is what happened.

use crate::support::{REPOSITORY, Scene, Settings, WORKFLOW, eventually, http, scrape};

/// One job that succeeds and one that fails.
const TWO_ENDS: &str = "name: CI
on: pull_request
jobs:
  good:
    runs-on: linux
    steps:
      - run: echo 0123456789
  bad:
    runs-on: linux
    steps:
      - run: exit 3
      - run: echo never
";

/// What must be counted after both have ended.
const EXPECTED: [(&str, f64); 22] = [
    ("dayfly_deliveries_total{event=\"pull_request\",result=\"accepted\"}", 1.0),
    ("dayfly_deliveries_processed_total{result=\"runs\"}", 1.0),
    ("dayfly_deliveries_pending", 0.0),
    ("dayfly_jobs_finished_total{conclusion=\"success\",reason=\"none\"}", 1.0),
    ("dayfly_jobs_finished_total{conclusion=\"failure\",reason=\"none\"}", 1.0),
    ("dayfly_jobs_unfinished{state=\"running\"}", 0.0),
    ("dayfly_job_queue_seconds_count{profile=\"linux\"}", 2.0),
    ("dayfly_webhook_to_first_step_seconds_count", 2.0),
    ("dayfly_job_seconds_count", 2.0),
    ("dayfly_steps_total{result=\"success\"}", 1.0),
    ("dayfly_steps_total{result=\"failure\"}", 1.0),
    ("dayfly_steps_total{result=\"skipped\"}", 1.0),
    ("dayfly_step_seconds_count", 2.0),
    ("dayfly_log_bytes_total{source=\"job\"}", 11.0),
    ("dayfly_vm_restore_seconds_count{stage=\"agent\"}", 2.0),
    ("dayfly_vm_agent_ready_seconds_count", 2.0),
    ("dayfly_vm_lifetime_seconds_count", 2.0),
    ("dayfly_vm_teardown_seconds_count", 2.0),
    ("dayfly_vms{state=\"running\"}", 0.0),
    ("dayfly_vms{state=\"stopping\"}", 0.0),
    ("dayfly_vm_leaks_total", 0.0),
    ("dayfly_store_up", 1.0),
];

/// What depends on how often somebody looks, but must have happened.
const AT_LEAST_ONCE: [&str; 6] = [
    "dayfly_forge_calls_total{call=\"publish\",result=\"ok\"}",
    "dayfly_forge_calls_total{call=\"read_file\",result=\"ok\"}",
    "dayfly_report_sends_total{result=\"sent\"}",
    "dayfly_store_write_seconds_count",
    "dayfly_store_batch_writes_count",
    "process_open_fds",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_count_what_happened_and_name_nobody() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let pull = scene.pull_request_with(&[(WORKFLOW, TWO_ENDS)]).await;
    let good = scene.ended(&pull.sha, "good").await;
    assert_eq!(good.job.verdict(), ("success", ""));
    let bad = scene.ended(&pull.sha, "bad").await;
    assert_eq!(bad.job.verdict(), ("failure", ""));

    // A VM is gone a moment before the store says so.
    eventually("the numbers", async || {
        let metrics = scrape(&scene.service.url("/metrics")).await;
        EXPECTED.iter().all(|(name, value)| metrics.get(*name) == Some(value)).then_some(())
    })
    .await;
    let metrics = scrape(&scene.service.url("/metrics")).await;
    for name in AT_LEAST_ONCE {
        assert!(metrics[name] >= 1.0, "{name}: {}", metrics[name]);
    }
    let first_step = metrics["dayfly_webhook_to_first_step_seconds_sum"];
    assert!(first_step > 0.0 && first_step < 120.0, "{first_step}");

    let (_, text) = http::get(&scene.service.url("/metrics")).await.unwrap();
    for name in [REPOSITORY, pull.sha.as_str(), &good.job.id, good.job.vm.as_deref().unwrap()] {
        assert!(!text.contains(name), "`{name}` is in the metrics");
    }
    scene.finish().await;
}

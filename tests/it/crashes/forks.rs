//! A service that dies, or a step that fails, while the machine of a matrix is frozen: each cell runs all of its steps then.

use crate::support::{Scene, Settings, leaks, stored_vms};

const WORKFLOW: &str = r#"
name: CI
on: pull_request
jobs:
  cells:
    strategy: {matrix: {n: [1, 2]}}
    runs-on: forked
    steps:
      - run: echo "shared=ran" # FAULT
      - run: echo "cell=${{ matrix.n }}"
"#;

/// At the steps that only the cell comes by whose machine is frozen. How they fail is the same for all of them.
const FAULTS: [&str; 4] = ["kill@freeze-held", "kill@freeze-saved", "kill@freeze-kept", "fail@freeze-saved"];

#[tokio::test(flavor = "multi_thread")]
async fn no_step_of_a_freeze_costs_more_than_an_attempt() {
    let settings = Settings::new().with_profile("forked", "matrix_fork = \"auto\"");
    let Some(mut scene) = Scene::start(settings).await else { return };
    for fault in FAULTS {
        assert!(scene.service.stop().await.success());
        assert!(scene.restart_with(Some(fault)).await);
        let pull = scene.pull_request(&WORKFLOW.replace("FAULT", fault)).await;
        if fault.starts_with("kill") {
            scene.service.ended().await;
            scene.restart().await;
        }
        let mut attempts = Vec::new();
        for n in ["1", "2"] {
            let ended = scene.ended(&pull.sha, &format!("cells ({n})")).await;
            assert_eq!((ended.said("cell"), ended.job.verdict()), (n, ("success", "")), "{fault}");
            attempts.push(ended.job.attempt);
        }
        attempts.sort_unstable();
        assert_eq!(attempts, [1, 2], "{fault}");
        leaks::assert_none(scene.state_dir());
    }
    assert!(scene.service.stop().await.success());
    leaks::assert_tidy(scene.state_dir());
    assert_eq!(stored_vms(scene.state_dir()).await, []);
}

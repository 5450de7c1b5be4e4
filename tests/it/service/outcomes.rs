//! How a job can end other than by its steps: what its author is told.

use crate::support::{Scene, Settings, job_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_without_memory_is_an_error_that_says_so() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let pull = scene.pull_request(&job_of("linux", "echo \"began=yes\"\ntail /dev/zero")).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("error", "out_of_memory"), "{:?}\n{}", ended.job.detail, ended.log);
    assert!(ended.title().contains("memory"), "{}", ended.title());
    assert!(ended.status.description.as_deref().unwrap().contains("memory"));
    assert_eq!((ended.status.state.as_str(), ended.said("began")), ("error", "yes"));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_ends_by_itself_is_lost_and_says_how() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let dies =
        |letter: char| job_of("linux", &format!("echo dies\necho {letter} | sudo tee /proc/sysrq-trigger\nsleep 600"));
    let (off, panic) = (scene.pull_request(&dies('o')).await, scene.pull_request(&dies('c')).await);
    for (pull, reason, word) in [(off, "powered_off", "powered"), (panic, "kernel_panic", "panicked")] {
        let ended = scene.ended(&pull.sha, "test").await;
        assert_eq!(ended.job.verdict(), ("error", reason), "{}", ended.log);
        assert!(ended.title().contains("VM was lost"), "{}", ended.title());
        assert!(ended.job.detail.as_deref().unwrap().contains(word), "{:?}", ended.job.detail);
        assert_eq!((ended.status.state.as_str(), ended.job.attempt), ("error", 1));
        assert!(ended.log.contains("dies\n") && ended.log.contains("error: The VM was lost"), "{}", ended.log);
        if word == "panicked" {
            assert!(ended.log.contains("Kernel panic"), "the console's end is missing: {}", ended.log);
        }
    }
    scene.finish().await;
}

/// The step holds on to everything that it can: it ignores the signal, and so does what it left in the background.
const STUBBORN: &str = r#"
trap '' TERM INT HUP
(trap '' TERM; while true; do sleep 1; done) &
echo "stubborn=yes"
while true; do sleep 1; done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_at_its_limit_whatever_it_does_about_signals() {
    let settings = Settings::new().with_profile("short", "timeout = \"6s\"");
    let Some(scene) = Scene::start(settings).await else { return };
    let polite = "trap 'echo \"cleaned=up\"; exit 1' TERM\necho \"began=yes\"\nwhile true; do sleep 0.2; done";
    let (polite, stubborn) =
        (scene.pull_request(&job_of("short", polite)).await, scene.pull_request(&job_of("short", STUBBORN)).await);

    let ended = scene.ended(&stubborn.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("timed_out", "timeout"), "{}", ended.log);
    assert_eq!((ended.said("stubborn"), ended.status.state.as_str()), ("yes", "error"));
    assert_eq!(ended.check.as_ref().unwrap().conclusion.as_deref(), Some("timed_out"));
    assert!(ended.title().contains("6s"), "{}", ended.title());
    assert!(ended.log.contains("longer than its limit"), "{}", ended.log);

    let ended = scene.ended(&polite.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("timed_out", "timeout"), "{}", ended.log);
    assert_eq!((ended.said("began"), ended.said("cleaned")), ("yes", "up"));
    scene.finish().await;
}

/// 24 MB, each line with its number.
const FLOOD: &str =
    "echo \"first=line\"\nseq -f '%020.0f and some more words to make it long' 1 400000\necho \"last=line\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_keeps_its_head_and_its_end_and_says_what_was_cut() {
    let settings = Settings::new().with_profile("terse", "log_limit = \"64 KiB\"");
    let Some(scene) = Scene::start(settings).await else { return };
    let pull = scene.pull_request(&job_of("terse", FLOOD)).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("success", ""), "{:?}", ended.job.detail);
    assert!(ended.log.len() < 80 * 1024, "{} bytes", ended.log.len());
    assert_eq!((ended.said("first"), ended.said("last")), ("line", "line"));
    let cut = ended.log.lines().find(|line| line.contains("bytes were cut here")).unwrap();
    let bytes: u64 = cut.split(' ').find_map(|word| word.parse().ok()).unwrap();
    let whole = 400_000 * "00000000000000000001 and some more words to make it long\n".len() as u64;
    assert!((whole - 80 * 1024..=whole + 1024).contains(&bytes), "{cut}");
    assert!(ended.check.as_ref().unwrap().output["text"].as_str().unwrap().contains("last=line"));
    scene.finish().await;
}

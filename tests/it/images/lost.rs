//! Files of an image that vanish or change under a running service, and an image that cannot be baked: what jobs are told, and what
//! they run on.

use std::fs::{self, File};

use super::tiny::Tiny;
use crate::support::{Ended, Job, Scene, Settings, eventually, job_of};

/// The image has no `bash`.
fn workflow(script: &str) -> String {
    job_of("linux", script).replace("- run:", "- shell: sh\n        run:")
}

async fn job(scene: &Scene, script: &str) -> Ended {
    let pull = scene.pull_request(&workflow(script)).await;
    scene.ended(&pull.sha, "test").await
}

/// A job that says of which image its machine is, once it has succeeded in its first attempt. The same text would be the same
/// commit.
async fn version(scene: &Scene, when: &str) -> Ended {
    let ended = job(scene, &format!("echo \"version=$(cat /version)\" # {when}")).await;
    assert_eq!((ended.job.verdict(), ended.job.attempt), (("success", ""), 1), "{:?}\n{}", ended.job.detail, ended.log);
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_image_loses_is_named_and_made_again() {
    let Some(tiny) = Tiny::new("") else { return };
    let images = tiny.state_dir().join("images");
    let settings = Settings::new().with_profile_lines("image = \"tiny\"").with_limits("attempts = 1\n");
    let Some(mut scene) = Scene::start(settings.with_images(&images, Some(tiny.recipes.path()))).await else { return };
    let memory = || tiny.snapshot().join("memory");

    // Seen before a job starts from it: made again, and the job has only waited.
    fs::remove_file(memory()).unwrap();
    let config = scene.state_dir().with_file_name("dayfly.toml");
    let doctor = crate::support::command::run(&["doctor", "--config", config.to_str().unwrap()]);
    assert!(doctor.stdout.contains("is damaged: `memory` cannot be read"), "{}", doctor.stdout);
    // The whole image is lost: it is built again, too.
    fs::remove_file(images.join("tiny/current/root.erofs")).unwrap();
    assert_eq!(version(&scene, "without its root").await.said("version"), "one");

    // Cut off under a machine that runs.
    let pull = scene.pull_request(&workflow("while true; do date; done")).await;
    scene.job(&pull.sha, "test", |job| job.events.iter().any(|event| event.kind == "step_started")).await;
    File::options().write(true).open(memory()).unwrap().set_len(4096).unwrap();
    assert_lost(&scene.ended(&pull.sha, "test").await.job, "memory`, which it ran from, was changed");
    assert_eq!(version(&scene, "cut off").await.said("version"), "one");

    // Between the look and the start of the monitor.
    assert!(scene.service.stop().await.success());
    assert!(scene.restart_with(Some("hold@home-made")).await);
    let pull = scene.pull_request(&workflow("true")).await;
    let held = scene.state_dir().join(dayfly::lifecycle::HELD_FILE);
    eventually("the VM's directory", async || held.exists().then_some(())).await;
    fs::remove_file(memory()).unwrap();
    fs::remove_file(held).unwrap();
    let lost = scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    assert_lost(&lost, "memory`, which machines start from, is gone or was changed");
    assert_eq!(version(&scene, "lost at the start").await.said("version"), "one");

    // The next image builds, and its machines do not start: the last good one stands in.
    fs::write(tiny.file("bake.sh"), "#!/bin/sh\nexit 1\n").unwrap();
    tiny.write_recipe("[bake]\nscript = 'bake.sh'\n");
    tiny.write_root("two");
    let ended = version(&scene, "not baked").await;
    assert_eq!(ended.said("version"), "one");
    let note = "note: no machine could be made from the newest image `tiny`; this one is of that of ";
    assert!(ended.log.contains(note), "{}", ended.log);
    scene.finish().await;
}

fn assert_lost(job: &Job, words: &str) {
    let detail = job.detail.as_deref().unwrap();
    assert_eq!(job.verdict(), ("error", "image"), "{detail}");
    assert!(detail.contains(words), "{detail}");
}

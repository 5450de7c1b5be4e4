//! What the default branch prepares, and the jobs that start there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dayfly::lifecycle::{STEPS, Step};
use serde_json::Value;

use crate::local_forge::{NewPullRequest, PullRequest, Pushed};
use crate::support::{Ended, REPOSITORY, Scene, Settings, WORKFLOW, eventually, host, in_time, leaks};

/// Installs something, and leaves traces that no job may find.
const PREPARE: &str = "mkdir deps; cp deps.lock deps/installed; echo changed >> README.md; echo stray > stray; \
                       git config core.hooksPath hooks; git update-index --assume-unchanged deps.lock; \
                       nohup sleep 1000 > /dev/null 2>&1 & echo prepared >> ~/trace";

const LOOK: &str = r#"name: CI
on: pull_request
jobs:
  test:
    runs-on: linux
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo "installed=$(cat deps/installed)"
          echo "head=$(git rev-parse HEAD)"
          echo "status=$(git status --porcelain | wc -l)"
          echo "files=$(git ls-files | tr '\n' ' ')"
          echo "readme=$(tail -n 1 README.md)"
          echo "lock=$(cat deps.lock)"
          echo "hooks=$(git config core.hooksPath)"
          echo "sleeping=$(pgrep -c sleep)"
          echo "trace=$(cat ~/trace)"
          echo "cache=$(cat /deps/lock)"
          echo "machine=$(cat /etc/machine-id)"
          echo "random=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' ')"
"#;

fn settings() -> Settings {
    let prepare = format!("prepare = {{ key = [\"deps.lock\"], run = \"\"\"{PREPARE}\"\"\" }}");
    Settings::new().with_profile_lines(&prepare).with_github("forks = \"run\"\n").with_plain_token()
}

/// The volume is the job's own to write, while it is filled.
const FILL: &str = "cache = { name = \"deps\", mount = \"/deps\", \
                    fill = { key = \"deps.lock\", run = \"cp deps.lock /deps/lock\" } }";

fn with_cache(settings: Settings) -> Settings {
    settings.with_profile_lines(FILL)
}

/// Waits until a cache has a generation.
async fn filled(scene: &Scene) {
    in_time("a generation of the cache", async || (!generations(scene).is_empty()).then_some(())).await;
}

fn generations(scene: &Scene) -> Vec<PathBuf> {
    let is_hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = below(&scene.state_dir().join("caches/named")).flat_map(|cache| below(&cache).collect::<Vec<_>>());
    all.filter(|generation| !is_hidden(generation) && generation.join("generation.json").is_file()).collect()
}

/// Commits to the default branch and tells of it.
pub(super) async fn push(scene: &Scene, files: &[(&str, &str)]) -> String {
    let sha = scene.forge.commit(REPOSITORY, "main", files, "Move on").await.unwrap();
    let pushed = Pushed { branch: "main", before: None, after: Some(&sha), changed: &[] };
    let payload = scene.forge.push_payload(REPOSITORY, pushed);
    // Where a service dies of it, the forge has no answer; then it is delivered again.
    drop(scene.forge.deliver("push", &payload).await);
    sha
}

pub(super) fn listed(scene: &Scene) -> Vec<Value> {
    scene.ask_json(&["prepared", "list"])["prepared"].as_array().unwrap().clone()
}

/// The key of what was made from a commit, once it is.
pub(super) async fn ready(scene: &Scene, sha: &str) -> String {
    in_time("what is prepared", async || {
        let all = listed(scene);
        let failed = all.iter().find(|one| one["wish"]["tries"].as_u64() > Some(2) || one["state"] == "failed");
        assert_eq!(failed, None);
        let made = all.iter().find(|one| one["state"] == "ready" && one["sha"] == sha)?;
        Some(made["hash"].as_str().unwrap().to_owned())
    })
    .await
}

pub(super) async fn look(scene: &Scene, files: &[(&str, &str)], from_fork: bool) -> (PullRequest, Ended) {
    let files = [files, &[(WORKFLOW, LOOK)]].concat();
    let branch = format!("change-{}", scene.forge.writes().len());
    let author = if from_fork { "stranger" } else { "octocat" };
    let new = NewPullRequest { files: &files, branch: &branch, from_fork, author, ..NewPullRequest::default() };
    let pull = scene.forge.open_pull_request(REPOSITORY, new).await.unwrap();
    assert_eq!(scene.deliver_opened(&pull).await.status, 202);
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("success", ""), "{}", ended.log);
    (pull, ended)
}

pub(super) fn origin(ended: &Ended) -> &str {
    &ended.job.events.iter().find(|event| event.kind == "vm_origin").unwrap().detail
}

/// The tracked files of the commit are there as they are in it, and nothing of the preparation but what git ignores.
fn assert_is_the_commit(pull: &PullRequest, ended: &Ended, files: &str, lock: &str) {
    assert_eq!(ended.said("head"), pull.sha);
    assert_eq!((ended.said("status"), ended.said("files")), ("0", files), "{}", ended.log);
    assert_eq!((ended.said("readme"), ended.said("lock")), ("# Hello", lock));
    assert_eq!((ended.said("hooks"), ended.said("sleeping")), ("", "0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_start_where_the_default_branch_prepared_them() {
    let Some(mut scene) = Scene::start(with_cache(settings())).await else { return };
    let base = push(&scene, &[("deps.lock", "one\n"), (".gitignore", "deps/\n")]).await;
    let key = ready(&scene, &base).await;
    assert_no_secret(&scene, &key);
    filled(&scene).await;

    let (pull, same) = look(&scene, &[("src/new", "")], false).await;
    let files = ".dayfly/workflows/ci.yml .gitignore README.md deps.lock src/new ";
    assert_is_the_commit(&pull, &same, files, "one");
    assert_eq!((same.said("installed"), same.said("trace"), same.said("cache")), ("one", "prepared", "one"));
    assert!(origin(&same).starts_with(&format!("prepared {}", &key[..12])), "{}", origin(&same));
    assert!(scene.ask(&["why", &same.job.id]).contains(&key[..12]));

    let (pull, changed) = look(&scene, &[("deps.lock", "two\n")], false).await;
    assert_is_the_commit(&pull, &changed, &files.replace("src/new ", ""), "two");
    assert_eq!((changed.said("installed"), changed.said("trace"), changed.said("cache")), ("", "", "one"));
    assert!(origin(&changed).starts_with("image base "), "{}", origin(&changed));

    // A fork may use what is there, and can neither make nor change anything, whatever its commit says.
    let own = "key = \"deps.lock\"\nrun = \"echo owned > ~/trace\"\nprofiles = [\"linux\"]\n";
    let (_, of_fork) = look(&scene, &[(".dayfly/prepare.toml", own)], true).await;
    assert_eq!((of_fork.said("installed"), of_fork.said("trace")), ("one", "prepared"));
    for key in ["machine", "random"] {
        assert_ne!(of_fork.said(key), same.said(key), "{key}");
    }
    assert_eq!(listed(&scene).len(), 1);

    assert!(scene.service.stop().await.success());
    scene.restart().await;
    let (_, later) = look(&scene, &[("later", "")], false).await;
    assert_eq!(later.said("trace"), "prepared");
    let shown = scene.ask(&["prepared", "list"]);
    assert!(shown.contains("ready") && shown.contains("3 (75 %)"), "{shown}");
    assert!(scene.ask(&["prepared", "show", &key, "--log"]).contains("Prepare"));
    assert!(scene.service.stop().await.success());
    flip_a_bit(&scene, &key);
    scene.restart().await;
    assert_eq!(ready(&scene, &base).await, key, "what was damaged is made again");
    scene.ask(&["prepared", "rm", &key]);
    assert_eq!(look(&scene, &[("last", "")], false).await.1.said("trace"), "");
    scene.finish().await;
}

fn place(scene: &Scene, key: &str) -> PathBuf {
    scene.state_dir().join("prepared").join(key)
}

/// What the host adds to git's fetches never was in the guest.
fn assert_no_secret(scene: &Scene, key: &str) {
    let secret = scene.forge.plain_token();
    for file in ["memory", "scratch", "state"] {
        let path = place(scene, key).join(file);
        let found = Command::new("grep").args(["-q", "-a", "-F", &secret]).arg(path).status().unwrap();
        assert_eq!(found.code(), Some(1), "`{file}` has the credential in it");
    }
}

fn flip_a_bit(scene: &Scene, key: &str) {
    let path = place(scene, key).join("state");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn unfinished(state_dir: &Path) -> usize {
    let entries = fs::read_dir(state_dir.join("prepared")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_something_is_prepared() {
    let Some(mut scene) = Scene::start(settings()).await else { return };
    // To freeze the VM is part of it.
    let is_of_it = |step: Step| !step.is_of_a_job() && !step.is_of_a_cache() && !step.is_of_an_unfolding();
    let steps: Vec<_> = STEPS.iter().filter(|info| is_of_it(info.step)).collect();
    for info in &steps {
        assert!(scene.service.stop().await.success());
        assert!(scene.restart_with(Some(&format!("kill@{}", info.name))).await);
        let sha = push(&scene, &[("deps.lock", info.name), (".gitignore", "deps/\n")]).await;
        eventually("the service's death", async || scene.service.has_ended().then_some(())).await;
        scene.restart().await;
        ready(&scene, &sha).await;
        assert_eq!(unfinished(scene.state_dir()), 0, "{}", info.name);
        assert!(scene.service.stop().await.success());
        leaks::assert_none(scene.state_dir());
        scene.restart().await;
    }
    assert_eq!(listed(&scene).len(), steps.len());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_cache_is_published() {
    let Some(mut scene) = Scene::start(with_cache(Settings::new()).with_plain_token()).await else { return };
    let steps: Vec<_> = STEPS.iter().filter(|info| info.step.is_of_a_cache()).collect();
    for (made, info) in steps.iter().enumerate() {
        assert!(scene.service.stop().await.success());
        assert!(scene.restart_with(Some(&format!("kill@{}", info.name))).await);
        push(&scene, &[("deps.lock", info.name)]).await;
        eventually("the service's death", async || scene.service.has_ended().then_some(())).await;
        let found = generations(&scene).len() - made;
        assert_eq!(found, usize::from(info.step == Step::CachePublished), "{}", info.name);
        scene.restart().await;
        in_time("the generation", async || (generations(&scene).len() == made + 1).then_some(())).await;
        eventually("its end to be stored", async || listed(&scene).is_empty().then_some(())).await;
        assert_eq!(generations(&scene).len(), made + 1, "{}: it was made twice", info.name);
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_prepared_follows_its_image() {
    if !host::can_run_vms() {
        return;
    }
    let own = host::short_directory();
    let images = own.path().join("images");
    host::copy_images(&images);
    let Some(scene) = Scene::start(settings().with_images(&images, None)).await else { return };
    let base = push(&scene, &[("deps.lock", "one\n"), (".gitignore", "deps/\n")]).await;
    let first = ready(&scene, &base).await;

    built_anew(&images.join("base"));
    eventually("another one to be wanted", async || {
        listed(&scene).iter().any(|one| one["hash"] != first.as_str()).then_some(())
    })
    .await;
    let second = in_time("it to be made", async || {
        let all = listed(&scene);
        let made = all.iter().find(|one| one["state"] == "ready" && one["hash"] != first.as_str())?;
        Some(made["hash"].as_str().unwrap().to_owned())
    })
    .await;
    let (_, ended) = look(&scene, &[("src/new", "")], false).await;
    assert!(origin(&ended).starts_with(&format!("prepared {}", &second[..12])), "{}", origin(&ended));
    scene.finish().await;
}

/// What an operator leaves who builds an image for the packages of today: the same recipe, another digest.
fn built_anew(image: &Path) {
    let current = image.join("current");
    let before = fs::read_link(&current).unwrap();
    let digest = format!("{}{}", &before.to_str().unwrap()[1..], "0");
    let after = image.join(&digest);
    assert!(Command::new("cp").arg("-al").arg(image.join(&before)).arg(&after).status().unwrap().success());
    fs::remove_dir_all(after.join("bakes")).unwrap();
    let description = after.join("image.json");
    let mut told: Value = serde_json::from_slice(&fs::read(&description).unwrap()).unwrap();
    told["digest"] = digest.as_str().into();
    // It is one file with that of the image before.
    fs::remove_file(&description).unwrap();
    fs::write(&description, told.to_string()).unwrap();
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink(digest, &current).unwrap();
}

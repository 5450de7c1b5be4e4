//! `dayfly image`, on a copy of the images: what is removed here is missed by nobody else.
#![allow(clippy::unwrap_used)]

mod changes;
mod faults;
mod lost;
mod set_up;
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dayfly::engine::{Backend, Engine, EngineSettings, Readiness};
use dayfly::host::process::Lifetime;
use dayfly::ids::VmId;
use dayfly::image::Logged;
use dayfly::protocol::message::Owner;
use dayfly::vm::spec::Shape;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::command::{self, Outcome, dayfly};
use crate::support::{eventually, host, leaks};

/// A state directory with its own images, of which one bake of the smallest shape is there.
fn own_images() -> Option<tempfile::TempDir> {
    if !host::can_run_vms() {
        return None;
    }
    let shared = host::short_directory();
    std::os::unix::fs::symlink(host::shared_images(), shared.path().join("images")).unwrap();
    let baked: Outcome = command::exec(shared.path()).args(["--", "true"]).output().unwrap().into();
    assert_eq!(baked.code, Some(0), "{}", baked.stderr);
    let own = host::short_directory();
    let images = own.path().join("images");
    host::copy_images(&images);
    // Tests that `DAYFLY_TEST_IMAGES` asked for once may have left others there.
    for other in fs::read_dir(&images).unwrap().map(|entry| entry.unwrap()) {
        if other.file_name() != "base" && other.path().join("current").exists() {
            fs::remove_dir_all(other.path()).unwrap();
        }
    }
    Some(own)
}

fn image_command(state: &Path, arguments: &[&str]) -> Command {
    let mut command = dayfly();
    command.arg("image").args(arguments).arg("--state-dir").arg(state).args(["--backend", "qemu-tcg"]);
    command
}

fn image(state: &tempfile::TempDir, arguments: &[&str]) -> Outcome {
    image_command(state.path(), arguments).output().unwrap().into()
}

/// The images that new VMs use: among the shared ones there may be some of earlier versions of the program.
fn listed(state: &tempfile::TempDir) -> Vec<Value> {
    let listed = image(state, &["list", "--json"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let images: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    images.into_iter().filter(|image| image["state"] == "current").collect()
}

/// What was frozen and kept needs it: then it is refused, until there is one of the same key again.
#[tokio::test(flavor = "multi_thread")]
async fn a_bake_that_is_gone_is_made_again() {
    let Some(state) = own_images() else { return };
    let before = listed(&state);
    let [image_of] = before.as_slice() else { panic!("{before:#?}") };
    assert_eq!(image_of["image"]["name"], "base");
    assert!(image_of["bytes"].as_u64().unwrap() > 10 << 20);
    let kept = frozen(state.path()).await;
    // Whoever made it may still be letting go of it.
    eventually("the removal of the snapshot", async || {
        let collected = image(&state, &["gc", "--older-than", "0s"]);
        assert_eq!(collected.code, Some(0), "{}", collected.stderr);
        collected.stdout.contains("removed the snapshot ").then_some(())
    })
    .await;
    assert_eq!(listed(&state)[0]["bakes"].as_array().unwrap().len(), 0);
    let refused = engine(state.path()).thaw(&kept).await.unwrap_err().to_string();
    assert!(refused.contains("its bake is not there any more\n  hint: remove it; another is made"), "{refused}");

    let arguments = ["--memory", "256MiB", "--disk", "1GiB"];
    let baked = image(&state, &[&["bake", "base"], &arguments[..]].concat());
    assert_eq!(baked.code, Some(0), "{}", baked.stderr);
    assert!(baked.stdout.contains("is baked for tcg"), "{}", baked.stdout);
    let bake = listed(&state)[0]["bakes"][0].clone();
    assert_eq!((&bake["shape"]["memory_mib"], &bake["accelerator"]), (&256.into(), &"tcg".into()));
    // An empty disk of 64 GiB is part of it.
    assert!((10 << 20..1 << 30).contains(&bake["bytes"].as_u64().unwrap()), "{bake}");
    let again = image(&state, &[&["bake", "base"], &arguments[..]].concat());
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""), "what is there is not made again");
    assert_eq!(listed(&state)[0]["bakes"][0], bake);

    let engine = engine(state.path());
    let thawed = engine.thaw(&kept).await.unwrap();
    let mut clone = engine.restore(engine.home(VmId::random()).unwrap(), &thawed, None).await.unwrap();
    assert_eq!(clone.guest().read_file("/kept", 100).await.unwrap().bytes, b"kept");
    clone.destroy().await.unwrap();
    leaks::assert_none(state.path());
}

/// A directory with a VM of the smallest shape, frozen to be kept.
async fn frozen(state: &Path) -> PathBuf {
    let engine = engine(state);
    let shape = Shape { vcpus: 1, memory_mib: 256, disk_mib: 1024, card: false };
    let prepared = engine.prepare("base", shape, &Logged).await.unwrap();
    let home = engine.home(VmId::random()).unwrap();
    let machine = engine.restore_freezable(home, &prepared, None).await.unwrap();
    machine.guest().write_file("/kept", b"kept", 0o644, Owner::ROOT).await.unwrap();
    let kept = state.join("kept");
    fs::create_dir(&kept).unwrap();
    engine.freeze_to_keep(machine, &prepared, &kept).await.unwrap();
    kept
}

#[test]
fn an_image_is_listed_and_removed() {
    let Some(state) = own_images() else { return };
    let table = image(&state, &["list"]);
    assert!(table.stdout.starts_with("NAME") && table.stdout.contains("snapshot"), "{}", table.stdout);
    let removed = image(&state, &["rm", "base"]);
    assert_eq!((removed.code, removed.stdout.as_str()), (Some(0), "base is removed\n"));
    assert!(listed(&state).is_empty());

    for (name, words) in [("base", "there is no image `base`"), ("../base", "`../base`"), ("", "``")] {
        let refused = image(&state, &["rm", name]);
        assert_eq!(refused.code, Some(69), "`{name}`: {}", refused.stdout);
        assert!(refused.stderr.contains(words), "`{name}`: {}", refused.stderr);
    }
    let unknown = image(&state, &["build", "nothing-of-that-name"]);
    assert_eq!(unknown.code, Some(69));
    assert!(unknown.stderr.contains("hint:"), "{}", unknown.stderr);
}

/// An engine of this process on the images of `state`.
fn engine(state: &Path) -> Engine {
    let settings = EngineSettings {
        state_dir: state.to_owned(),
        images_dir: state.join("images"),
        recipes: Vec::new(),
        qemu: "qemu-system-x86_64".to_owned(),
        firecracker: Default::default(),
        backend: Backend::QemuTcg,
        lifetime: Lifetime::EndsWithUs,
        confinement: Default::default(),
    };
    Engine::open(settings).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stays_gets_the_image_and_nobody_leaves_work_behind() {
    let Some(state) = own_images() else { return };
    let engine = engine(state.path());
    let shape =
        Shape { vcpus: 1, memory_mib: 257 + u64::from(std::process::id() % 200), disk_mib: 1 << 10, card: false };
    let wait = || {
        let engine = engine.clone();
        tokio::spawn(async move { engine.prepare("base", shape, &Logged).await })
    };
    let bakes = async || Some(leaks::monitors(state.path())).filter(|monitors| !monitors.is_empty());
    let first = wait();
    let baking = eventually("the VM of the bake", bakes).await;
    let mut second = Box::pin(engine.prepare("base", shape, &Logged));
    assert!(futures::poll!(&mut second).is_pending());
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    // A bake that was thrown away would have ended its monitor here.
    engine.reap().await;
    assert_eq!(leaks::monitors(state.path()), baking, "the bake began anew");
    let prepared = second.await.unwrap();
    assert_eq!((prepared.template.shape, engine.readiness("base", shape)), (shape, Readiness::Ready));

    let other = Shape { disk_mib: 2 << 10, ..shape };
    let alone = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.prepare("base", other, &Logged).await })
    };
    eventually("the VM of the bake", bakes).await;
    alone.abort();
    drop(alone.await);
    engine.tidy_up().await.unwrap();
    assert_eq!(engine.readiness("base", other), Readiness::Unknown);
    leaks::assert_none(state.path());
    assert!(unfinished(&state.path().join("images")).is_empty());
}

/// Sends the signal to `dayfly image` once `has_begun`; nothing of what it began is left when it ends.
async fn broken_off(state: &Path, arguments: &[&str], signal: Signal, has_begun: impl Fn() -> bool) {
    let child = image_command(state, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the work to begin", async || has_begun().then_some(())).await;
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    let ended: Outcome = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(128 + signal as i32), "{}", ended.stderr);
    assert!(!ended.stderr.contains("could not be removed"), "{}", ended.stderr);
    let left = unfinished(&state.join("images"));
    assert!(left.is_empty(), "{left:?}");
    leaks::assert_none(state);
}

/// Directories of images and bakes that are not whole.
fn unfinished(images: &Path) -> Vec<PathBuf> {
    let below = |directory: &Path| -> Vec<PathBuf> {
        fs::read_dir(directory).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    };
    let named = below(images);
    let digests: Vec<PathBuf> = named.iter().flat_map(|name| below(name)).collect();
    let bakes = digests.iter().flat_map(|digest| below(&digest.join("bakes")));
    let is_unfinished = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(".building-");
    digests.iter().cloned().chain(bakes).filter(is_unfinished).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_off_leaves_nothing() {
    let Some(state) = own_images() else { return };
    let other = host::short_directory();
    // While packages are being unpacked, by a program that is killed with the build.
    let is_unpacking = || {
        let building = unfinished(&other.path().join("images"));
        building.iter().any(|directory| directory.join("root/var/lib/dpkg").is_dir())
    };
    broken_off(other.path(), &["build", "base"], Signal::SIGINT, is_unpacking).await;

    let odd = format!("{}MiB", 257 + std::process::id() % 200);
    let bakes = || !leaks::monitors(state.path()).is_empty();
    broken_off(state.path(), &["bake", "base", "--memory", &odd, "--disk", "1GiB"], Signal::SIGTERM, bakes).await;
    let done: Outcome = command::exec(state.path()).args(["--", "echo", "it runs"]).output().unwrap().into();
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "it runs\n"));
}

/// An image of our own on top of `base` has the packages of `base`: their layer is the same, although another machine, place and time
/// may have made it.
#[test]
fn an_image_that_extends_another_has_the_same_package_layer_byte_for_byte_and_works() {
    let Some(shared) = own_images() else { return };
    let recipes = upper();
    let built_again = || {
        let state = host::short_directory();
        let mut build = image_command(state.path(), &["build", "upper"]);
        let built: Outcome = build.arg("--recipes").arg(recipes.path()).output().unwrap().into();
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        state
    };
    let state = built_again();
    let again = listed(&state).remove(0)["image"].clone();
    let mut first = listed(&shared).remove(0)["image"].clone();
    if first["packages"] != again["packages"] {
        // The archive has news since the shared images were built.
        first = listed(&built_again()).remove(0)["image"].clone();
    }
    assert_eq!(first["packages"], again["packages"]);
    assert_eq!(first["files"]["root.erofs"], again["files"]["root.erofs"]);

    let smoke = include_str!("../../../runner-images/base/smoke.sh");
    let script = format!("{smoke}\ncat /set-up; echo $UPPER; test -d /proc/$(cat /sleeper) && echo it runs");
    let mut command = command::exec(state.path());
    command.arg("--recipes").arg(recipes.path()).args(["--image", "upper", "--", "sh", "-c", &script]);
    let done: Outcome = command.output().unwrap().into();
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "python works\nset up\nyes\nit runs\n"), "{}", done.stderr);
    leaks::assert_none(state.path());
}

/// A directory with the recipe of that name.
fn upper() -> tempfile::TempDir {
    let recipes = host::short_directory();
    let place = recipes.path().join("upper");
    fs::create_dir(&place).unwrap();
    let text =
        "extends = 'base'\n[setup]\nscript = 'setup.sh'\n[bake]\nscript = 'bake.sh'\n[environment]\nUPPER = 'yes'\n";
    fs::write(place.join("image.toml"), text).unwrap();
    fs::write(place.join("setup.sh"), "#!/bin/sh\necho set up > /set-up").unwrap();
    let bake = "#!/bin/sh\nsetsid sleep 1000000 </dev/null >/dev/null 2>&1 &\necho $! > /sleeper";
    fs::write(place.join("bake.sh"), bake).unwrap();
    recipes
}

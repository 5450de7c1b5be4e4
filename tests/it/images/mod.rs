//! `dayfly image`, on a copy of the images: what is removed here is missed by nobody else.
#![allow(clippy::unwrap_used)]

mod changes;
mod faults;
mod tiny;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::command::{self, Outcome, dayfly};
use crate::support::{host, leaks};

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
    host::copy_images(&own.path().join("images"));
    Some(own)
}

fn image(state: &tempfile::TempDir, arguments: &[&str]) -> Outcome {
    let mut command = dayfly();
    command.arg("image").args(arguments).arg("--state-dir").arg(state.path()).args(["--backend", "qemu-tcg"]);
    command.output().unwrap().into()
}

fn listed(state: &tempfile::TempDir) -> Vec<Value> {
    let listed = image(state, &["list", "--json"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    serde_json::from_str(&listed.stdout).unwrap()
}

#[test]
fn a_bake_that_is_gone_is_made_again() {
    let Some(state) = own_images() else { return };
    let before = listed(&state);
    let [image_of] = before.as_slice() else { panic!("{before:#?}") };
    assert_eq!(image_of["image"]["name"], "base");
    assert!(image_of["bytes"].as_u64().unwrap() > 10 << 20);
    let digest = image_of["image"]["digest"].as_str().unwrap();
    let bakes: PathBuf = state.path().join("images/base").join(digest).join("bakes");
    fs::remove_dir_all(&bakes).unwrap();
    assert_eq!(listed(&state)[0]["bakes"].as_array().unwrap().len(), 0);

    let arguments = ["--memory", "256MiB", "--disk", "1GiB"];
    let baked = image(&state, &[&["bake", "base"], &arguments[..]].concat());
    assert_eq!(baked.code, Some(0), "{}", baked.stderr);
    assert!(baked.stdout.contains("is baked for tcg"), "{}", baked.stdout);
    let bake = listed(&state)[0]["bakes"][0].clone();
    assert_eq!((&bake["shape"]["memory_mib"], &bake["accelerator"]), (&256.into(), &"tcg".into()));
    let again = image(&state, &[&["bake", "base"], &arguments[..]].concat());
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""), "what is there is not made again");
    assert_eq!(listed(&state)[0]["bakes"][0], bake);

    let done: Outcome = command::exec(state.path()).args(["--", "echo", "it runs"]).output().unwrap().into();
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "it runs\n"));
    leaks::assert_none(state.path());
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

/// From the same packages, even in another place and at another time.
#[test]
fn the_package_layer_is_the_same_byte_for_byte() {
    let Some(shared) = own_images() else { return };
    let built_again = || {
        let state = host::short_directory();
        let built = image(&state, &["build", "base"]);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        listed(&state).remove(0)["image"].clone()
    };
    let again = built_again();
    let mut first = listed(&shared).remove(0)["image"].clone();
    if first["packages"] != again["packages"] {
        // The archive has news since the shared images were built.
        first = built_again();
    }
    assert_eq!(first["packages"], again["packages"]);
    assert_eq!(first["files"]["root.erofs"], again["files"]["root.erofs"]);
    assert_eq!(first["digest"], again["digest"]);
}

#[test]
fn an_image_that_extends_another_is_built_baked_and_works() {
    if !host::can_run_vms() {
        return;
    }
    let state = host::short_directory();
    let mut command = command::exec(state.path());
    let smoke = include_str!("../../../runner-images/python/smoke.sh");
    command.args(["--image", "python", "--timeout", "5m", "--", "sh", "-c", smoke]);
    let done: Outcome = command.output().unwrap().into();
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("python Python 3."), "{}", done.stdout);
    leaks::assert_none(state.path());
}

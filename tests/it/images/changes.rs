//! What happens to images and snapshots that change, fail or are damaged, while machines run from them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::tiny::{Tiny, go_on};
use crate::support::command::Outcome;
use crate::support::{host, leaks};

/// The clock is that of the host in every machine, even if the snapshot is of a time to come: after the host's clock was set back.
/// The state directory is in memory: files there have no blocks of a disk.
#[test]
fn an_image_from_an_archive_works_in_memory_and_after_the_clock_was_set_back() {
    let bake = "[setup]\nscript = 'setup.sh'\n[bake]\nscript = 'bake.sh'\n";
    let Some(mut tiny) = Tiny::new(bake) else { return };
    if !Path::new("/dev/shm").is_dir() {
        host::skipped("there is no /dev/shm");
        return;
    }
    tiny.state = tempfile::Builder::new().prefix("dayfly-").tempdir_in("/dev/shm").unwrap();
    fs::write(tiny.file("setup.sh"), "#!/bin/sh\necho set up > /state").unwrap();
    let script = "#!/bin/sh\nset -e\ncat /state\nsleep 1000000 </dev/null >/dev/null 2>&1 &\necho $! > /sleeper\ndate -s 2099-01-01\n";
    fs::write(tiny.file("bake.sh"), script).unwrap();
    let before = jiff::Timestamp::now().as_second();
    let done = tiny.exec("cat /version /state /sleeper; test -d /proc/$(cat /sleeper) && echo it runs; date +%s");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let lines: Vec<&str> = done.stdout.lines().collect();
    let [version, _, runs, now] = lines.as_slice() else { panic!("{}", done.stdout) };
    assert_eq!((*version, *runs), ("oneset up", "it runs"));
    let now: i64 = now.parse().unwrap();
    assert!((before..before + 600).contains(&now), "the guest's clock says {now}");
    let shown = tiny.run(&["image", "show", "tiny"]);
    assert!(shown.stdout.contains("root.tar.gz, 0 packages, kernel 6."), "{}", shown.stdout);
    leaks::assert_none(tiny.state_dir());
}

#[test]
fn what_runs_keeps_its_image_and_what_starts_gets_the_new_one() {
    let Some(tiny) = Tiny::new("") else { return };
    let baked = tiny.bake();
    assert_eq!(baked.code, Some(0), "{}", baked.stderr);
    let same = tiny.run(&["image", "build", "tiny"]);
    assert!(same.stdout.contains("is up to date"), "{}{}", same.stdout, same.stderr);

    let mut old = tiny.start("cat /version");
    let mut first = String::new();
    BufReader::new(old.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "ready\n");
    tiny.write_root("two");
    let new = tiny.exec("cat /version");
    assert_eq!((new.code, new.stdout.as_str()), (Some(0), "two"), "{}", new.stderr);
    let collected = tiny.run(&["image", "gc", "--older-than", "0s", "--dry-run"]);
    assert!(!collected.stdout.contains("would remove the image"), "a machine runs from it: {}", collected.stdout);
    let removed = tiny.run(&["image", "rm", "tiny"]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    let outcome = go_on(old);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "one"), "{}", outcome.stderr);
    leaks::assert_none(tiny.state_dir());
}

#[test]
fn what_cannot_be_built_leaves_the_last_good_one_in_use() {
    let Some(tiny) = Tiny::new("") else { return };
    assert_eq!(tiny.exec("cat /version").stdout, "one");
    fs::write(tiny.file("root.tar.gz"), "this is no archive").unwrap();
    let done = tiny.exec("cat /version");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "one"), "{}", done.stderr);
    assert!(done.stderr.contains("using the image of "), "{}", done.stderr);
    let listed = tiny.run(&["image", "list"]);
    assert!(listed.stdout.contains("tiny could not be built (1 try, last "), "{}", listed.stdout);
    let built = tiny.run(&["image", "build", "tiny"]);
    assert_eq!(built.code, Some(69), "{}", built.stdout);
    assert!(built.stderr.contains("root.tar.gz"), "{}", built.stderr);
    let collected = tiny.run(&["image", "gc", "--older-than", "0s"]);
    assert!(!collected.stdout.contains("removed the image"), "{}", collected.stdout);

    tiny.write_root("three");
    assert_eq!(tiny.exec("cat /version").stdout, "three");
    let listed = tiny.listed();
    assert_eq!(listed.len(), 2, "{listed:#?}");
    assert!(listed.iter().all(|image| image["failures"].as_array().unwrap().is_empty()), "{listed:#?}");
    let collected = tiny.run(&["image", "gc", "--older-than", "0s"]);
    assert!(collected.stdout.contains("removed the image tiny"), "{}", collected.stdout);
    assert_eq!(tiny.listed().len(), 1);
}

#[test]
fn what_is_damaged_is_refused_and_made_again() {
    let Some(tiny) = Tiny::new("") else { return };
    assert_eq!(tiny.exec("cat /version").stdout, "one");
    let first = fs::read(tiny.snapshot().join("snapshot.json")).unwrap();
    flip_a_bit(&tiny.snapshot().join("memory"));
    let done = tiny.exec("cat /version");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "one"), "{}", done.stderr);
    assert!(done.stderr.contains("the content of `memory` does not match its checksum"), "{}", done.stderr);
    assert_ne!(fs::read(tiny.snapshot().join("snapshot.json")).unwrap(), first, "it is another one");

    let state = tiny.snapshot().join("state");
    File::options().write(true).open(&state).unwrap().set_len(100).unwrap();
    flip_a_bit(&tiny.state_dir().join("images/tiny/current/kernel"));
    let done = tiny.exec("cat /version");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "one"), "{}", done.stderr);
    for damage in ["`state` has 100 bytes instead of", "the image `tiny` is damaged", "the content of `kernel`"] {
        assert!(done.stderr.contains(damage), "{damage}: {}", done.stderr);
    }

    // The image alone, which machines go on to read after they were restored from a snapshot that is whole.
    flip_a_bit(&tiny.state_dir().join("images/tiny/current/root.erofs"));
    let done = tiny.exec("cat /version");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "one"), "{}", done.stderr);
    assert!(done.stderr.contains("the content of `root.erofs` does not match its checksum"), "{}", done.stderr);
    leaks::assert_none(tiny.state_dir());
}

/// Whatever stands under another one's name, whether of another shape, processor or monitor, is refused.
#[test]
fn a_snapshot_is_of_its_key_only() {
    let Some(tiny) = Tiny::new("") else { return };
    assert_eq!(tiny.bake().code, Some(0));
    let bake = || -> Outcome {
        tiny.dayfly(&["image", "bake", "tiny", "--memory", "320MiB", "--disk", "1GiB"]).output().unwrap().into()
    };
    let own = tiny.snapshot();
    let done = bake();
    assert!(done.code == Some(0) && done.stderr.contains("baking `tiny`"), "{}", done.stderr);
    let snapshots = tiny.snapshots();
    let [of_other] = snapshots.iter().filter(|place| **place != own).collect::<Vec<_>>()[..] else {
        panic!("{snapshots:?}")
    };
    fs::remove_dir_all(of_other).unwrap();
    fs::rename(&own, of_other).unwrap();
    let done = bake();
    let key = own.file_name().unwrap().to_string_lossy();
    assert!(done.stderr.contains(&format!("which is damaged: it was made as `{key}`")), "{}", done.stderr);
    assert!(done.code == Some(0) && done.stderr.contains("baking `tiny`"), "{}", done.stderr);
    leaks::assert_none(tiny.state_dir());
}

/// In the middle of what the file has, not of a hole.
fn flip_a_bit(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let extents = dayfly::host::disk::data_extents(&file).unwrap();
    let (start, end) = extents[extents.len() / 2];
    let mut byte = [0];
    file.read_exact_at(&mut byte, (start + end) / 2).unwrap();
    byte[0] ^= 1;
    file.write_all_at(&byte, (start + end) / 2).unwrap();
}

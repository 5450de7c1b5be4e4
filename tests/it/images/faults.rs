//! Builds and bakes that end at the worst moment.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use dayfly::lifecycle::{IMAGE_STEPS, VARIABLE};

use super::tiny::{SHAPE, Tiny};
use crate::support::command::Outcome;
use crate::support::{host, leaks};

/// From the smallest on: too small for the archive, for the root file system, for the kernel, for the memory. The last one is enough.
const DISKS: [&str; 6] = ["1m", "8m", "20m", "32m", "72m", "400m"];

#[test]
fn killed_at_every_step_nothing_is_half_made() {
    let Some(tiny) = Tiny::new("") else { return };
    let arguments = [&["image", "bake", "tiny"], &SHAPE[..]].concat();
    for info in IMAGE_STEPS {
        // What is made already is not made again, and its steps are not reached.
        std::fs::remove_dir_all(tiny.state_dir().join("images/tiny/current/bakes")).ok();
        let killed = tiny.dayfly(&arguments).env(VARIABLE, format!("kill@{}", info.name)).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{}: {}", info.name, String::from_utf8_lossy(&killed.stderr));
    }
    let done = tiny.exec("cat /version");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "one"), "{}", done.stderr);
    assert_eq!(tiny.unfinished(), [""; 0]);
    let listed = tiny.listed();
    assert_eq!((listed.len(), listed[0]["bakes"].as_array().unwrap().len()), (1, 1), "{listed:#?}");
    leaks::assert_none(tiny.state_dir());
}

#[test]
fn a_full_disk_is_named_wherever_it_fills() {
    let Some(tiny) = Tiny::new("") else { return };
    if !host::can_mount() {
        return;
    }
    let bake = tiny.dayfly(&[&["image", "bake", "tiny"], &SHAPE[..]].concat());
    let mut has_worked = false;
    for size in DISKS {
        let mut command = host::on_small_disk(tiny.state_dir(), size, Path::new("sh"));
        // What is left is looked at where the disk is seen.
        let script = "\"$@\"; code=$?; find \"$0\" -name '.building-*'; exit $code";
        command.args(["-c", script]).arg(tiny.state_dir()).arg(bake.get_program()).args(bake.get_args());
        let outcome: Outcome = command.output().unwrap().into();
        assert!(!outcome.stdout.contains(".building-"), "{size}: {}", outcome.stdout);
        if outcome.code == Some(0) {
            has_worked = true;
            continue;
        }
        assert!(!has_worked, "{size}: a smaller disk was enough: {}", outcome.stderr);
        let is_named =
            ["No space left on device", "the host's disk is full"].iter().any(|words| outcome.stderr.contains(words));
        assert!(outcome.code == Some(69) && is_named, "{size}: {:?} {}", outcome.code, outcome.stderr);
    }
    assert!(has_worked);
    assert_eq!(leaks::monitors(tiny.state_dir()), []);
}

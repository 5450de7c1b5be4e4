//! What a service or command left on the host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};

/// Directories of VMs below a state directory.
pub(crate) fn vm_directories(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir.join("vms")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Where the files of user ids are that are given to monitors.
const UIDS: &str = "/run/dayfly/uids";

/// User ids that are noted for VMs of a state directory.
pub(crate) fn user_ids(state_dir: &Path) -> Vec<u32> {
    let resolved = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_owned());
    let files = fs::read_dir(UIDS).into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_its = |file: &std::path::PathBuf| {
        fs::read_to_string(file).is_ok_and(|holder| Path::new(&holder).starts_with(&resolved))
    };
    files.filter(is_its).map(|file| file.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect()
}

/// Monitors that use a state directory: they run as a user that is noted for a VM of it, or were started in a VM's
/// directory below it, whether or not that is still there.
pub(crate) fn monitors(state_dir: &Path) -> Vec<nix::unistd::Pid> {
    // What a service on a file system of its own has is seen here under the same path.
    let place = state_dir.join("vms");
    let users = user_ids(state_dir);
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while it is looked at. One that has ended and is not waited for has no directory any more.
        let directory = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let is_confined = fs::metadata(entry.path()).is_ok_and(|owner| users.contains(&owner.uid()))
            && fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty());
        if pid != own && (is_confined || directory.starts_with(&place)) {
            found.push(nix::unistd::Pid::from_raw(pid as i32));
        }
    }
    found
}

/// Fails if anything of a VM is left.
pub(crate) fn assert_none(state_dir: &Path) {
    assert_eq!(vm_directories(state_dir), [""; 0], "directories of VMs are left");
    assert_eq!(monitors(state_dir), [], "monitors are left");
    assert_eq!(user_ids(state_dir), [0; 0], "user ids are still noted");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let homes = state_dir.join("vms").display().to_string();
    assert!(!mounts.contains(&homes), "there are mounts in directories of VMs:\n{mounts}");
    let frozen = fs::read_dir(state_dir.join("forks")).into_iter().flatten().count();
    assert_eq!(frozen, 0, "frozen VMs are left");
}

/// What a state directory has in it when no service runs.
const KEPT: [&str; 13] = [
    "accelerator.json",
    "actions",
    "caches",
    "dayfly.db",
    "depot",
    "forks",
    "gitlab-system-id",
    "images",
    "inbox",
    "lease",
    "logs",
    "prepared",
    "vms",
];

/// Fails if there is a file in the state directory that nobody will need again.
pub(crate) fn assert_tidy(state_dir: &Path) {
    let names = fs::read_dir(state_dir).into_iter().flatten().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| !KEPT.iter().any(|kept| name == kept)).collect();
    assert!(left.is_empty(), "temporary files are left in the state directory: {left:?}");
}

/// Ends what a failed test left, so that it does not fail others.
pub(crate) fn end_all(state_dir: &Path) {
    for pid in monitors(state_dir) {
        // One that has ended meanwhile is what is wanted.
        kill(pid, Signal::SIGKILL).ok();
    }
}

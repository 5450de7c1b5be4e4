//! What a service or command left on the host.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};

/// Directories of VMs below a state directory.
pub(crate) fn vm_directories(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir.join("vms")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Monitors that use a state directory: they were started in a VM's directory below it, whether or not that is still there.
pub(crate) fn monitors(state_dir: &Path) -> Vec<nix::unistd::Pid> {
    // What a service on a file system of its own has is seen here under the same path.
    let place = state_dir.join("vms");
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while it is looked at. One that has ended and is not waited for has no directory any more.
        let directory = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if pid != own && directory.starts_with(&place) {
            found.push(nix::unistd::Pid::from_raw(pid as i32));
        }
    }
    found
}

/// Fails if anything of a VM is left.
pub(crate) fn assert_none(state_dir: &Path) {
    assert_eq!(vm_directories(state_dir), [""; 0], "directories of VMs are left");
    assert_eq!(monitors(state_dir), [], "monitors are left");
    let frozen = fs::read_dir(state_dir.join("forks")).into_iter().flatten().count();
    assert_eq!(frozen, 0, "frozen VMs are left");
}

/// What a state directory has in it when no service runs.
const KEPT: [&str; 10] =
    ["accelerator.json", "caches", "dayfly.db", "forks", "images", "inbox", "lease", "logs", "prepared", "vms"];

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

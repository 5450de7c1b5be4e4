//! What a service or command left on the host.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};

/// Directories of VMs below a state directory.
pub(crate) fn vm_directories(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir.join("vms")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Monitors that use a state directory: their scratch disks are below it.
pub(crate) fn monitors(state_dir: &Path) -> Vec<nix::unistd::Pid> {
    let place = format!("{}/vms/", state_dir.display());
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while it is looked at.
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != own && String::from_utf8_lossy(&arguments).contains(&place) {
            found.push(nix::unistd::Pid::from_raw(pid as i32));
        }
    }
    found
}

/// Fails if anything of a VM is left.
pub(crate) fn assert_none(state_dir: &Path) {
    assert_eq!(vm_directories(state_dir), [""; 0], "directories of VMs are left");
    assert_eq!(monitors(state_dir), [], "monitors are left");
}

/// Ends what a failed test left, so that it does not fail others.
pub(crate) fn end_all(state_dir: &Path) {
    for pid in monitors(state_dir) {
        // One that has ended meanwhile is what is wanted.
        kill(pid, Signal::SIGKILL).ok();
    }
}

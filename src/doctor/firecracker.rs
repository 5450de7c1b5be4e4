//! Firecracker and its jailer: looked at, and not used by this version.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::Finding;
use crate::host::command;
use crate::host::process::find_program;

/// How long a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);
/// Where in a program the name of its dynamic loader stands, if it has one.
const HEADERS: u64 = 4096;

#[derive(Debug, Clone)]
struct Facts {
    path: PathBuf,
    version: Option<String>,
    /// Programs for glibc need its loader, and are built without a filter of system calls.
    is_static: bool,
}

pub(super) async fn examine() -> Vec<Finding> {
    let (monitor, jailer) = (observe("firecracker").await, observe("jailer").await);
    vec![
        judge("firecracker.program", "Firecracker", monitor.as_ref()),
        judge("firecracker.jailer", "the jailer", jailer.as_ref()),
    ]
}

async fn observe(program: &str) -> Option<Facts> {
    let path = find_program(program)?;
    let output = command::run(&path.display().to_string(), &["--version"], VERSION_LIMIT, |_| {}).await.ok();
    let version = output.and_then(|text| Some(String::from_utf8_lossy(&text).lines().next()?.to_owned()));
    let is_static = !names_a_loader(&path);
    Some(Facts { path, version, is_static })
}

fn names_a_loader(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(HEADERS).read_to_end(&mut start));
    read.is_ok() && start.windows(8).any(|window| window == b"ld-linux")
}

fn judge(id: &str, name: &str, facts: Option<&Facts>) -> Finding {
    let Some(Facts { path, version, is_static }) = facts else {
        return Finding::skipped(id, format!("{name} is not installed; this version does not use it"));
    };
    let version = version.as_deref().unwrap_or("of unknown version");
    let finding = Finding::skipped(id, format!("{name} is there ({version}); this version does not use it"));
    let finding = if *is_static {
        finding
    } else {
        finding.detail("it is built for glibc, and so without its filter of system calls; the official builds have one")
    };
    finding.data("path", path.display().to_string()).data("version", version).data("static", *is_static)
}

#[cfg(test)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    #[test]
    fn what_is_not_used_is_told_and_never_counts() {
        let facts =
            Facts { path: "/usr/bin/firecracker".into(), version: Some("Firecracker v1.13.0".into()), is_static: true };
        let gnu = Facts { is_static: false, version: None, ..facts.clone() };
        insta::assert_snapshot!(sketch(&[
            judge("firecracker.program", "Firecracker", Some(&facts)),
            judge("firecracker.program", "Firecracker", Some(&gnu)),
            judge("firecracker.jailer", "the jailer", None),
        ]), @"
        skipped firecracker.program: Firecracker is there (Firecracker v1.13.0); this version does not use it
        skipped firecracker.program: Firecracker is there (of unknown version); this version does not use it
            it is built for glibc, and so without its filter of system calls; the official builds have one
        skipped firecracker.jailer: the jailer is not installed; this version does not use it
        ");
    }
}

//! Programs that make their own jail, and need root for it: started where there is no network, nobody to share memory with and
//! no host's name, because those they do not leave behind by themselves.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;

use nix::sched::{CloneFlags, unshare};
use tokio::process::Child;

use super::process::{self, Spawn};

/// A network without any interface that is up, and no shared memory, semaphores or name of anybody else.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNET.union(CloneFlags::CLONE_NEWIPC).union(CloneFlags::CLONE_NEWUTS);

/// Starts a process in a session and in namespaces of its own, with an empty environment. Anybody but root cannot leave the
/// host's namespaces, nor make a jail; then the program says so itself.
pub fn spawn(spawn: Spawn<'_>) -> io::Result<Child> {
    let mut command = process::command(&spawn)?;
    if nix::unistd::geteuid().is_root() {
        // SAFETY: between fork and exec the closure makes one system call that is async-signal-safe, and allocates nothing.
        unsafe { command.pre_exec(|| unshare(NAMESPACES).map_err(io::Error::from)) };
    }
    process::start(tokio::process::Command::from(command), spawn.lifetime)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::output::Output;
    use crate::host::process::Lifetime;

    #[tokio::test]
    async fn there_is_no_network_and_no_neighbour() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: namespaces take root");
            return;
        }
        let output = Output::new().unwrap();
        let script = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts; tail -n +3 /proc/net/dev";
        let mut child = spawn(Spawn {
            program: "sh",
            arguments: &["-c".to_owned(), script.to_owned()],
            directory: Path::new("/"),
            inherited: &[],
            output: output.writer().unwrap(),
            lifetime: Lifetime::EndsWithUs,
        })
        .unwrap();
        assert!(child.wait().await.unwrap().success());
        let said = output.text().unwrap();
        for (line, kind) in said.lines().zip(["net", "ipc", "uts"]) {
            let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert!(line.starts_with(kind) && *line != *ours.to_string_lossy(), "{said}");
        }
        let interfaces: Vec<&str> =
            said.lines().skip(3).filter_map(|line| line.trim().split_once(':')).map(|(name, _)| name).collect();
        assert!(interfaces.iter().all(|name| *name == "lo"), "{said}");
    }
}

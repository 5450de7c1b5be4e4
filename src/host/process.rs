//! Processes that outlive the call that started them: virtual machine monitors.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

/// What happens to a process when this one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It goes on: a service that restarts finds it again.
    Independent,
    /// It is killed: nothing may be left of a command that was killed.
    EndsWithUs,
}

/// Something to start: an argument vector, and descriptors that it inherits under the numbers they have here.
#[derive(Debug)]
pub struct Spawn<'a> {
    pub program: &'a str,
    pub arguments: &'a [String],
    pub directory: &'a Path,
    pub inherited: &'a [OwnedFd],
    /// Receives standard output and error.
    pub output: fs::File,
    pub lifetime: Lifetime,
}

/// Starts a process in a session of its own with an empty environment.
pub fn spawn(spawn: Spawn<'_>) -> io::Result<Child> {
    tokio::process::Command::from(command(&spawn)?).spawn()
}

/// The same for callers without an async runtime.
pub fn spawn_blocking(spawn: &Spawn<'_>) -> io::Result<std::process::Child> {
    command(spawn)?.spawn()
}

fn command(spawn: &Spawn<'_>) -> io::Result<Command> {
    let mut command = Command::new(spawn.program);
    command
        .args(spawn.arguments)
        .current_dir(spawn.directory)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(spawn.output.try_clone()?)
        .stderr(spawn.output.try_clone()?);
    let inherited: Vec<i32> = spawn.inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let lifetime = spawn.lifetime;
    let prepare = move || {
        nix::unistd::setsid()?;
        if lifetime == Lifetime::EndsWithUs {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        }
        for descriptor in &inherited {
            // SAFETY: the number belongs to an `OwnedFd` that outlives the fork; only its flags are changed, in the child.
            let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(*descriptor) };
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes only system calls that are async-signal-safe and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    Ok(command)
}

/// Kills every process whose command line has `marker` in it, and waits until none is left.
///
/// # Errors
/// When some are still there after `deadline`; the error has their ids.
pub async fn kill_marked(marker: &str, deadline: Duration) -> io::Result<usize> {
    let found = marked(marker)?;
    for pid in &found {
        match kill(*pid, Signal::SIGKILL) {
            // One that has ended meanwhile is what is wanted.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let limit = tokio::time::Instant::now() + deadline;
    loop {
        let left = marked(marker)?;
        if left.is_empty() {
            return Ok(found.len());
        }
        if tokio::time::Instant::now() > limit {
            return Err(io::Error::other(format!("processes {left:?} of `{marker}` do not end")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Processes, other than this one, with an argument that contains `marker`. Zombies have no arguments and do not count.
pub fn marked(marker: &str) -> io::Result<Vec<Pid>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == own {
            continue;
        }
        // A process may end while it is looked at.
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else { continue };
        if arguments.windows(marker.len()).any(|window| window == marker.as_bytes()) {
            found.push(Pid::from_raw(pid as i32));
        }
    }
    Ok(found)
}

/// The file that `program` names, looked up like a shell does.
pub fn find_program(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Resident memory of this user's view of a process, in KiB: (proportional share, private).
pub fn memory_kib(pid: u32) -> io::Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
    };
    Ok((field("Pss:"), field("Private_Dirty:") + field("Private_Clean:")))
}

//! Processes: how they start, which of them belong to a VM, and how they end.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
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
    start(tokio::process::Command::from(command(&spawn)?), spawn.lifetime)
}

/// The same for callers without an async runtime.
pub fn spawn_blocking(spawn: &Spawn<'_>) -> io::Result<std::process::Child> {
    let mut command = command(spawn)?;
    match spawn.lifetime {
        Lifetime::Independent => command.spawn(),
        Lifetime::EndsWithUs => {
            end_with_us(&mut command);
            on_spawner(move || command.spawn())?
        }
    }
}

/// Starts what was prepared, with that lifetime. Must be called in an async runtime, which then waits for its end.
pub(super) fn start(mut command: tokio::process::Command, lifetime: Lifetime) -> io::Result<Child> {
    match lifetime {
        Lifetime::Independent => command.spawn(),
        Lifetime::EndsWithUs => {
            end_with_us(command.as_std_mut());
            let runtime = tokio::runtime::Handle::current();
            on_spawner(move || {
                let _context = runtime.enter();
                command.spawn()
            })?
        }
    }
}

/// Asks the kernel to kill the process when the thread that starts it ends.
fn end_with_us(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // A parent that ended before the line above gives no signal any more.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec the closure makes only system calls that are async-signal-safe and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Runs `task` on a thread that lives as long as this process. The kernel signals the death of a parent when the *thread*
/// that forked ends, and an async runtime ends its threads when it likes.
fn on_spawner<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    type Task = Box<dyn FnOnce() + Send>;
    static SPAWNER: Mutex<Option<mpsc::Sender<Task>>> = Mutex::new(None);
    let (reply, answer) = mpsc::sync_channel(1);
    let task: Task = Box::new(move || {
        // A caller that is gone has dropped the other end, and the process with it.
        drop(reply.send(task()));
    });
    {
        let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = match &*spawner {
            Some(tasks) => tasks.clone(),
            None => {
                let (tasks, queue) = mpsc::channel::<Task>();
                let serve = move || queue.into_iter().for_each(|task| task());
                std::thread::Builder::new().name("spawner".into()).spawn(serve)?;
                spawner.insert(tasks).clone()
            }
        };
        tasks.send(task).map_err(|_| io::Error::other("the thread that starts processes has ended"))?;
    }
    answer.recv().map_err(|_| io::Error::other("the thread that starts processes has ended"))
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
    let prepare = move || {
        nix::unistd::setsid()?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_process_that_ends_with_us_survives_the_thread_that_asked_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let output = fs::File::create(directory.path().join("output")).unwrap();
        let (input, mut to_child) = io::pipe().unwrap();
        let script = format!("read line <&{}; exit 7", input.as_raw_fd());
        let asking = std::thread::spawn(move || {
            let arguments = ["-c".to_owned(), script];
            let inherited = [OwnedFd::from(input)];
            let lifetime = Lifetime::EndsWithUs;
            let directory = Path::new("/");
            spawn_blocking(&Spawn {
                program: "bash",
                arguments: &arguments,
                directory,
                inherited: &inherited,
                output,
                lifetime,
            })
        });
        let mut child = asking.join().unwrap().unwrap();
        to_child.write_all(b"\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}

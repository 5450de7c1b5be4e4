//! Processes: how they start, which of them belong to a VM, and how they end.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
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

/// The variable that may hold a credential for git. No program that this one starts sees it.
pub const GIT_TOKEN_VARIABLE: &str = "DAYFLY_GIT_TOKEN";

/// Starts what was prepared, with that lifetime. Must be called in an async runtime, which then waits for its end.
pub(super) fn start(mut command: tokio::process::Command, lifetime: Lifetime) -> io::Result<Child> {
    command.env_remove(GIT_TOKEN_VARIABLE);
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
pub(super) fn on_spawner<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
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

/// What starts `spawn`.
pub(super) fn command(spawn: &Spawn<'_>) -> io::Result<Command> {
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
        keep_to_ourselves();
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

/// Has the program inherit no descriptor but those that are given to it after this, and the three that everybody has: one that
/// was not marked as ours somewhere must not reach a machine that is not ours. Kernels before 5.11 leave it at the marks.
fn keep_to_ourselves() {
    // SAFETY: the call takes numbers, and changes flags of this process's descriptors only.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// By what the processes of one VM are told from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kin {
    /// What follows `-name` in their arguments, as this process's user. They can change that.
    pub marker: String,
    /// A user that nobody else is, if they have one. They cannot change that.
    pub uid: Option<u32>,
}

impl Kin {
    /// Those that there are, other than this one. Zombies have nothing any more and do not count.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        let mut found = pids()?;
        found.retain(|pid| self.has(*pid));
        Ok(found)
    }

    fn has(&self, pid: Pid) -> bool {
        is_marked(pid, &self.marker) || self.uid.is_some_and(|uid| is_of_user(pid, uid))
    }

    /// Kills all of them, and waits until none is left; gives how many there were.
    ///
    /// # Errors
    /// When some are still there after `deadline`; the error has their ids.
    pub async fn kill(&self, deadline: Duration) -> io::Result<usize> {
        let found = self.processes()?;
        for pid in &found {
            self.kill_one(*pid)?;
        }
        let limit = tokio::time::Instant::now() + deadline;
        loop {
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(found.len());
            }
            if tokio::time::Instant::now() > limit {
                return Err(io::Error::other(format!("processes {left:?} of `{}` do not end", self.marker)));
            }
            // One may have been started by another before that was killed.
            for pid in left {
                self.kill_one(pid)?;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Looks again with the process held, so that a stranger who got its id meanwhile is spared.
    fn kill_one(&self, pid: Pid) -> io::Result<()> {
        kill_if(pid, || self.has(pid))
    }
}

/// Whether a user has processes.
pub(super) fn is_in_use(uid: u32) -> io::Result<bool> {
    Ok(is_of_user(Pid::this(), uid) || pids()?.into_iter().any(|pid| is_of_user(pid, uid)))
}

/// Every process other than this one, with its user.
pub fn with_users() -> io::Result<Vec<(Pid, u32)>> {
    let found = pids()?.into_iter();
    Ok(found.filter_map(|pid| Some((pid, fs::metadata(place_of(pid)).ok()?.uid()))).collect())
}

/// The directory of a process is always its effective user's, whatever the process says about itself.
fn is_of_user(pid: Pid, uid: u32) -> bool {
    let place = place_of(pid);
    fs::metadata(&place).is_ok_and(|owner| owner.uid() == uid)
        && fs::read_to_string(place.join("stat")).is_ok_and(|stat| !has_ended(&stat))
}

/// Whether the line of a process's `stat` is that of one that has ended and is not waited for. Its name, which it chooses, is in
/// parentheses before the state.
fn has_ended(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['Z', 'X']))
}

fn kill_if(pid: Pid, is_meant: impl Fn() -> bool) -> io::Result<()> {
    let killed = match pidfd_open(pid) {
        Ok(process) if is_meant() => pidfd_kill(&process),
        Ok(_) => Ok(()),
        // A kernel before 5.3.
        Err(Errno::ENOSYS) => kill(pid, Signal::SIGKILL),
        Err(errno) => Err(errno),
    };
    match killed {
        // One that has ended meanwhile is what is wanted.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let descriptor = Errno::result(result)? as i32;
    // SAFETY: the kernel has just given this descriptor to us, and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn pidfd_kill(process: &OwnedFd) -> nix::Result<()> {
    let no_details = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null pointer is how the call is told that there are no details.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, no_details, 0) };
    Errno::result(result).map(drop)
}

/// The markers of processes of this user that were started in a directory right below `parent`, whether or not that directory
/// is still there, and the processes. `parent` has no symbolic links in it.
pub fn marked_below(parent: &Path) -> io::Result<Vec<(String, Pid)>> {
    let mut found = Vec::new();
    for pid in pids()? {
        // Of a directory that was removed the kernel gives the path that it had, and ` (deleted)`.
        let is_below = |directory: PathBuf| directory.parent() == Some(parent);
        if fs::read_link(place_of(pid).join("cwd")).is_ok_and(is_below)
            && let Some(marker) = marker_of(pid)
        {
            found.push((marker, pid));
        }
    }
    Ok(found)
}

/// Every process other than this one.
fn pids() -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw) {
            found.push(pid);
        }
    }
    found.retain(|pid| *pid != Pid::this());
    Ok(found)
}

fn place_of(pid: Pid) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn is_marked(pid: Pid, marker: &str) -> bool {
    marker_of(pid).is_some_and(|found| found == marker)
}

/// Anybody may put any text on a command line; only who runs as this user can be one of ours.
fn marker_of(pid: Pid) -> Option<String> {
    let place = place_of(pid);
    // A process may end while it is looked at.
    let owner = fs::metadata(&place).ok()?;
    let arguments = fs::read(place.join("cmdline")).ok()?;
    if owner.uid() == nix::unistd::geteuid().as_raw() { name_in(&arguments) } else { None }
}

/// What follows `-name`, as QEMU takes it, or `--id`, as Firecracker's jailer does, in a command line as the kernel gives it.
fn name_in(command_line: &[u8]) -> Option<String> {
    let mut arguments =
        command_line.split(|byte| *byte == 0).skip_while(|argument| !matches!(*argument, b"-name" | b"--id"));
    arguments.nth(1).and_then(|name| String::from_utf8(name.to_vec()).ok())
}

/// The file that `program` names, looked up like a shell does.
pub fn find_program(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file())
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

    #[test]
    fn only_the_name_of_a_machine_marks_a_process() {
        let marker = "dayfly-vm-1";
        let is_named = |command_line: &[u8]| name_in(command_line).is_some_and(|name| name == marker);
        assert!(is_named(b"qemu\0-name\0dayfly-vm-1\0-nodefaults\0"));
        for other in [
            "qemu\0-name\0dayfly-vm-12\0",
            "qemu\0-name\0",
            "qemu\0-append\0dayfly-vm-1\0",
            "grep\0dayfly-vm-1\0",
            "grep -name dayfly-vm-1\0",
            "",
        ] {
            assert!(!is_named(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn a_zombie_is_told_whatever_it_is_called() {
        assert!(has_ended("7 (qemu) Z 1 7") && has_ended("7 (a) S (b) X 1"));
        assert!(!has_ended("7 (qemu) S 1 7") && !has_ended("7 (a) Z 1) R 1") && !has_ended(""));
    }

    #[tokio::test]
    async fn what_is_marked_is_killed_and_nothing_else() {
        let marker = format!("dayfly-test-{}", std::process::id());
        let waiting = |arguments: &[&str]| {
            let mut command = tokio::process::Command::new("sh");
            command.args(["-c", "read line"]).args(arguments).stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
        };
        let mut ours = waiting(&["-name", &marker]);
        let mut stranger = waiting(&[&marker]);
        // Waiting closes the input, and with it would end what is to be killed.
        let _input = ours.stdin.take();
        let ended = async { ours.wait().await.unwrap() };
        let kin = Kin { marker: marker.clone(), uid: None };
        let (killed, status) = tokio::join!(kin.kill(Duration::from_secs(20)), ended);
        assert_eq!(killed.unwrap(), 1);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
        assert_eq!(stranger.try_wait().unwrap(), None);
    }
}

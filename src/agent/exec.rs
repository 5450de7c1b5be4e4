//! Running one program: its output as records, its input from the host, its end with a status.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::channel::Stream;
use super::files;
use super::processes::Processes;
use super::sys;
use crate::protocol::message::{Exec, Exit, ExitStatus, MAX_RECORD, Output, Pipe, decode};

/// After the program's end, output is waited for this long, in milliseconds, while none comes: something that it left in the background holds
/// the pipe.
const IDLE_AFTER_EXIT: u16 = 500;

/// And this long when it never stops coming.
const DRAIN_AFTER_EXIT: Duration = Duration::from_secs(5);

/// How often a pump looks whether its program has ended, in milliseconds.
const LOOK: u16 = 100;

/// Bytes that a program's output holds before the program has to wait.
const PIPE_BYTES: i32 = 256 * 1024;

/// The programs that run, by the stream on which they were asked for.
#[derive(Default)]
pub(super) struct Running(Mutex<HashMap<u32, Pid>>);

impl Running {
    /// Sends a signal to the process group of the program on that stream.
    pub(super) fn signal(&self, stream: u32, signal: i32) -> Result<(), String> {
        let signal = Signal::try_from(signal).map_err(|_| format!("`{signal}` is no signal"))?;
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = running.get(&stream).ok_or("the program has ended")?;
        killpg(*pid, signal).map_err(|errno| errno.to_string())
    }

    fn set(&self, stream: u32, pid: Option<Pid>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pid {
            Some(pid) => running.insert(stream, pid),
            None => running.remove(&stream),
        };
    }
}

/// Where a program's output goes: whole records, from several threads.
struct Sink {
    stream: Stream,
    turn: Mutex<()>,
    /// When the program ended.
    exited: OnceLock<Instant>,
}

impl Sink {
    /// Sends a record. It may wait for the host in the middle of it, and nobody else's may come in between.
    fn send(&self, record: &[u8]) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.write_all(record)
    }

    /// Sends what waits in an output, as one record. Gives whether the output has ended.
    fn move_from(&self, source: &impl AsFd, pipe: Pipe) -> io::Result<bool> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.move_from(source, |length| pipe.record_header(length))
    }
}

/// Runs the program whose description is the first `length` bytes of `stream`, to its end.
pub(super) fn run(stream: Stream, length: u32, processes: &Processes, running: &Running) -> io::Result<()> {
    let (exec, rest) = receive(&stream, length)?;
    let oom_kills_before = oom_kills();
    let sink = Arc::new(Sink { stream, turn: Mutex::default(), exited: OnceLock::new() });
    let status = match processes.spawn(&mut command(&exec)) {
        Ok(child) => {
            let pid = Pid::from_raw(child.id() as i32);
            running.set(sink.stream.id(), Some(pid));
            let status = attend(child, pid, &exec, rest, &sink, processes).unwrap_or_else(|error| {
                // Its output cannot be passed on, so it must not run. Fails if it has ended.
                drop(killpg(pid, Signal::SIGKILL));
                processes.wait(pid);
                ExitStatus::NotStarted(no_thread(&error).to_string())
            });
            running.set(sink.stream.id(), None);
            status
        }
        Err(error) => ExitStatus::NotStarted(not_started(&exec, &error)),
    };
    let oom_kills = oom_kills().saturating_sub(oom_kills_before);
    sink.send(&Output::Exited(Exit { status, oom_kills, is_disk_full: files::is_disk_full() }).to_record())?;
    sink.stream.end()
}

/// Answers a request to run a program where not even this agent's own thread for it can be had.
pub(super) fn refuse(stream: &Stream, why: &io::Error) -> io::Result<()> {
    let status = ExitStatus::NotStarted(no_thread(why).to_string());
    let exit = Exit { status, oom_kills: 0, is_disk_full: files::is_disk_full() };
    stream.write_all(&Output::Exited(exit).to_record())?;
    stream.end()
}

/// What a full table of processes looks like to those who filled it.
pub(super) fn no_thread(error: &io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(error.kind(), "the machine can run no more processes");
    }
    io::Error::new(error.kind(), error.to_string())
}

/// The description, and what came behind it already.
fn receive(stream: &Stream, length: u32) -> io::Result<(Exec, Vec<u8>)> {
    let length = length as usize;
    if length > MAX_RECORD {
        return Err(io::Error::other("the description of the program is too long"));
    }
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let more = stream.read()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        bytes.extend_from_slice(&more);
    }
    let rest = bytes.split_off(length);
    Ok((decode(&bytes).map_err(io::Error::other)?, rest))
}

fn command(exec: &Exec) -> Command {
    let (program, arguments) = exec.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(exec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&exec.directory)
        .stdin(if exec.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .gid(exec.owner.gid)
        .uid(exec.owner.uid);
    sys::start_with_all_signals(&mut command);
    command
}

/// Tells a missing directory from a missing program: the system call does not.
fn not_started(exec: &Exec, error: &io::Error) -> String {
    let program = exec.argv.first().map_or("", String::as_str);
    if fs::metadata(&exec.directory).is_ok_and(|found| found.is_dir()) {
        format!("cannot start `{program}`: {}", no_thread(error))
    } else {
        format!("cannot start `{program}`: its working directory `{}` is not there", exec.directory)
    }
}

fn attend(
    mut child: Child, pid: Pid, exec: &Exec, first_input: Vec<u8>, sink: &Arc<Sink>, processes: &Processes,
) -> io::Result<ExitStatus> {
    let (done, pumps_done) = channel();
    pump(child.stdout.take(), Arc::clone(sink), Pipe::Stdout, pid, done.clone())?;
    pump(child.stderr.take(), Arc::clone(sink), Pipe::Stderr, pid, done)?;
    if let Some(input) = child.stdin.take().filter(|_| exec.stdin) {
        let sink = Arc::clone(sink);
        // Ends with the input, the stream or the program.
        thread::Builder::new().name("input".into()).spawn(move || feed(input, first_input, &sink.stream))?;
    }
    let status = processes.wait(pid);
    // Nobody else sets it.
    drop(sink.exited.set(Instant::now()));
    // Each pump says once that it has passed on all there is; then there is no sender left.
    while pumps_done.recv().is_ok() {}
    Ok(status)
}

/// Passes one output of the program on in records. When the host gives the stream up, the program is killed.
fn pump<R: Read + AsFd + Send + 'static>(
    source: Option<R>, sink: Arc<Sink>, pipe: Pipe, pid: Pid, done: Sender<()>,
) -> io::Result<()> {
    let Some(mut source) = source else { return Ok(()) };
    // More room only spares turns between the program and this thread; without it everything works.
    drop(fcntl(&source, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)));
    thread::Builder::new().name("output".into()).spawn(move || {
        // A program that prints a lot would else be interrupted by its first bytes, and so again and again, for a few each.
        sys::wait_for_turn();
        let ended = loop {
            if is_drained(&source, &sink) {
                break false;
            }
            match sink.move_from(&source, pipe) {
                Ok(true) => break true,
                Ok(false) => {}
                Err(_) => {
                    // Nobody listens any more. Fails if the program has ended.
                    drop(killpg(pid, Signal::SIGKILL));
                    break false;
                }
            }
        };
        drop(done);
        // What the program left in the background goes on writing, into the void: a closed pipe would kill it.
        let mut void = [0; 4096];
        while !ended && !matches!(source.read(&mut void), Ok(0)) {}
    })?;
    Ok(())
}

/// Waits until there is something to read. Gives whether there is nothing more to wait for, although the pipe is open.
fn is_drained(source: &impl AsFd, sink: &Sink) -> bool {
    loop {
        let exited = sink.exited.get();
        if exited.is_some_and(|at| at.elapsed() > DRAIN_AFTER_EXIT) {
            return true;
        }
        let wait = if exited.is_some() { IDLE_AFTER_EXIT } else { LOOK };
        let mut descriptors = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, PollTimeout::from(wait)) {
            Ok(0) if exited.is_some() => return true,
            Ok(0) | Err(Errno::EINTR) => {}
            // An error shows at the read.
            Ok(_) | Err(_) => return false,
        }
    }
}

fn feed(mut input: impl Write, first: Vec<u8>, stream: &Stream) {
    let mut chunk = Some(first);
    while let Some(bytes) = chunk {
        if input.write_all(&bytes).is_err() {
            // The program does not read; what else comes is consumed so that the host's writes do not hang.
            while let Ok(Some(_)) = stream.read() {}
            return;
        }
        chunk = stream.read().unwrap_or(None);
    }
}

/// How often the kernel killed for lack of memory since boot.
fn oom_kills() -> u64 {
    let statistics = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    statistics.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
}

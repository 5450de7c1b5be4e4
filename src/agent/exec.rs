//! Running one program: its output as records, its input from the host, its end with a status.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::channel::Stream;
use super::processes::Processes;
use crate::protocol::frame::MAX_PAYLOAD;
use crate::protocol::message::{Exec, Exit, ExitStatus, Output, RECORD_HEADER_LEN};

/// How long output is still read after the program's end when something it left in the background holds the pipe.
const DRAIN_AFTER_EXIT: Duration = Duration::from_millis(500);

/// Output bytes of one record: with its header they fill a frame.
const CHUNK: usize = MAX_PAYLOAD - RECORD_HEADER_LEN;

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

/// Runs `exec` to its end on `stream`.
pub(super) fn run(exec: &Exec, stream: Stream, processes: &Processes, running: &Running) -> io::Result<()> {
    let oom_kills_before = oom_kills();
    let stream = Arc::new(stream);
    let status = match processes.spawn(&mut command(exec)) {
        Ok(child) => {
            let pid = Pid::from_raw(child.id() as i32);
            running.set(stream.id(), Some(pid));
            let status = attend(child, pid, exec, &stream, processes);
            running.set(stream.id(), None);
            status
        }
        Err(error) => ExitStatus::NotStarted(not_started(exec, &error)),
    };
    let exit = Exit { status, oom_kills: oom_kills().saturating_sub(oom_kills_before) };
    stream.write_all(&Output::Exited(exit).to_record())?;
    stream.end()
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
    command
}

/// Tells a missing directory from a missing program: the system call does not.
fn not_started(exec: &Exec, error: &io::Error) -> String {
    let program = exec.argv.first().map_or("", String::as_str);
    if fs::metadata(&exec.directory).is_ok_and(|found| found.is_dir()) {
        format!("cannot start `{program}`: {error}")
    } else {
        format!("cannot start `{program}`: its working directory `{}` is not there", exec.directory)
    }
}

fn attend(mut child: Child, pid: Pid, exec: &Exec, stream: &Arc<Stream>, processes: &Processes) -> ExitStatus {
    let (done, pumps_done) = channel();
    pump(child.stdout.take(), Arc::clone(stream), Output::Stdout, pid, done.clone());
    pump(child.stderr.take(), Arc::clone(stream), Output::Stderr, pid, done);
    if let Some(input) = child.stdin.take().filter(|_| exec.stdin) {
        let stream = Arc::clone(stream);
        // Ends with the input, the stream or the program.
        thread::spawn(move || feed(input, &stream));
    }
    let status = processes.wait(pid);
    wait_for_output(&pumps_done);
    status
}

/// Copies one output of the program into records. When the host gives the stream up, the program is killed.
fn pump<R: Read + Send + 'static>(
    source: Option<R>, stream: Arc<Stream>, record: fn(Vec<u8>) -> Output, pid: Pid, done: Sender<()>,
) {
    let Some(mut source) = source else { return };
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        let mut host_listens = true;
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) if host_listens => {
                    if stream.write_all(&record(buffer[..length].to_vec()).to_record()).is_err() {
                        host_listens = false;
                        // It may have ended already. What it left in the background may go on writing into the void.
                        drop(killpg(pid, Signal::SIGKILL));
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // The receiver is gone once it has stopped waiting.
        drop(done.send(()));
    });
}

fn wait_for_output(pumps_done: &Receiver<()>) {
    let deadline = Instant::now() + DRAIN_AFTER_EXIT;
    loop {
        match pumps_done.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return,
        }
    }
}

fn feed(mut input: impl Write, stream: &Stream) {
    while let Ok(Some(bytes)) = stream.read() {
        if input.write_all(&bytes).is_err() {
            // The program does not read; what else comes is consumed so that the host's writes do not hang.
            while let Ok(Some(_)) = stream.read() {}
            return;
        }
    }
}

/// How often the kernel killed for lack of memory since boot.
fn oom_kills() -> u64 {
    let statistics = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    statistics.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
}

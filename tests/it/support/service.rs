//! `dayfly serve` as a child process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{eventually, host, http};

/// A service that answers.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    log: Log,
    state_dir: PathBuf,
    address: String,
}

/// The lines of the service's log so far.
type Log = Arc<Mutex<Vec<String>>>;

impl Service {
    /// Starts the service and waits until it can be reached; with a size, its state is on a file system of its own.
    pub(crate) async fn start(config: &Path, disk: Option<&str>) -> Self {
        Self::start_with(config, disk, None)
            .await
            .unwrap_or_else(|status| panic!("the service ended at once: {status}"))
    }

    /// The same, with a fault that may end it before it can be reached.
    pub(crate) async fn start_with(config: &Path, disk: Option<&str>, fault: Option<&str>) -> Result<Self, ExitStatus> {
        let (program, state_dir) = (Path::new(env!("CARGO_BIN_EXE_dayfly")), config.parent().unwrap().join("state"));
        let mut command = match disk {
            Some(size) => {
                fs::create_dir_all(&state_dir).unwrap();
                host::on_small_disk(&state_dir, size, program)
            }
            None => Command::new(program),
        };
        let mut child = command
            .args(["serve", "--config"])
            .arg(config)
            .env(dayfly::lifecycle::VARIABLE, fault.unwrap_or_default())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = collect(child.stderr.take().unwrap());
        let mut service = Self { child, log, state_dir, address: String::new() };
        service.address = eventually("the service to tell its address", async || {
            if let Some(status) = service.child.try_wait().unwrap() {
                return Some(Err(status));
            }
            let serving = service.log().into_iter().find(|line| line["fields"]["message"] == "serving")?;
            Some(Ok(serving["fields"]["address"].as_str().unwrap().to_owned()))
        })
        .await?;
        let health = eventually("the service to answer", async || match service.child.try_wait().unwrap() {
            Some(status) => Some(Err(status)),
            None => http::get(&service.url("/healthz")).await.map(Ok),
        });
        assert_eq!(health.await?, (200, "ok\n".to_owned()));
        Ok(service)
    }

    /// Whether it runs no more.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Whether a line of the log has these words in its message.
    pub(crate) fn has_logged(&self, words: &str) -> bool {
        self.log().iter().any(|line| line["fields"]["message"].as_str().is_some_and(|message| message.contains(words)))
    }

    /// Waits until the images of so many profiles are ready.
    pub(crate) async fn prepared(&self, profiles: usize) {
        super::in_time("the images", async || {
            let log = self.log();
            let failed = log.iter().find(|line| line["level"] == "ERROR");
            assert!(failed.is_none(), "{failed:?}");
            (log.iter().filter(|line| line["fields"]["message"] == "ready").count() == profiles).then_some(())
        })
        .await;
    }

    /// An address on the public listener.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The control socket, seen as the service sees it.
    pub(crate) fn control_socket(&self) -> PathBuf {
        let path = format!("/proc/{}/root{}/control.sock", self.child.id(), self.state_dir.display());
        PathBuf::from(path)
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The log so far, without what is no JSON.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The most memory that it has needed so far.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Children of it that have ended and were not waited for.
    pub(crate) fn zombies(&self) -> usize {
        let parent = format!("PPid:\t{}", self.child.id());
        let is_ours = |status: &String| status.lines().any(|line| line == parent) && status.contains("State:\tZ");
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|process| fs::read_to_string(process.path().join("status")).ok()).filter(is_ours).count()
    }

    /// Ends it without giving it a chance to notice.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the service to end", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Fails if it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- the service's log\n{}\n---", self.log.lock().unwrap().join("\n"));
        }
    }
}

fn collect(stderr: ChildStderr) -> Log {
    let log = Log::default();
    let collected = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            collected.lock().unwrap().push(line);
        }
    });
    log
}

//! QEMU's `microvm` machine as the monitor of a VM.

pub mod argv;
mod backend;
pub mod message;
pub mod monitor;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::ExitStatus;

use tokio::net::UnixStream;
use tokio::process::Child;

use self::argv::Sockets;
pub use self::backend::CAPABILITIES;
use self::monitor::Monitor;
use super::VmError;
use super::backend::{Launch, Ports};
use super::home::Home;
use crate::host::command::install_hint;
use crate::host::output::Output;
use crate::host::process::{Spawn, find_program, spawn};
use crate::lifecycle::Step;

/// Bytes of the monitor's output that an error quotes.
const OUTPUT_QUOTED: usize = 2048;

/// A monitor that runs.
#[derive(Debug)]
pub struct Qemu {
    pub monitor: Monitor,
    child: Child,
    output: Output,
}

/// Fails unless `program` is there, whatever its name: before minutes of work that would need it.
pub fn require(program: &str) -> Result<(), VmError> {
    match find_program(program) {
        Some(_) => Ok(()),
        None => Err(VmError::NoMonitor { program: program.to_owned(), hint: missing_hint(program) }),
    }
}

/// What to do about a monitor program that is not there.
pub fn missing_hint(program: &str) -> String {
    let install = install_hint("qemu-system-x86_64");
    // Whoever gave a path may have meant another one.
    if program.contains('/') { format!("correct the path, or {install}") } else { install }
}

impl Qemu {
    /// Starts a monitor in `home` and speaks with it. The guest runs already if it boots.
    pub async fn launch(home: &Home, program: &str, launch: Launch<'_>) -> Result<(Self, Ports), VmError> {
        require(program)?;
        let sockets = [home.listen("monitor.sock")?, home.listen("control.sock")?, home.listen("bulk.sock")?];
        let [monitor, control, bulk] = &sockets;
        let arguments = argv::arguments(&argv::Machine {
            name: &home.marker(),
            accelerator: launch.accelerator,
            shape: launch.shape,
            start: launch.start,
            boot: launch.boot,
            disks: launch.disks,
            memory: launch.memory,
            sockets: Sockets {
                monitor: monitor.listener.as_raw_fd(),
                control: control.listener.as_raw_fd(),
                bulk: bulk.listener.as_raw_fd(),
            },
        });
        // Connected before the monitor runs: it finds its peers waiting.
        let connect =
            async |path: &Path| UnixStream::connect(path).await.map_err(VmError::host("connecting to the monitor"));
        let ports = Ports { control: connect(&control.path).await?, bulk: connect(&bulk.path).await? };
        let to_monitor = connect(&monitor.path).await?;
        let output = Output::new().map_err(VmError::host("room for the monitor's words"))?;
        let inherited = sockets.map(|socket| socket.listener);
        let child = spawn(Spawn {
            program,
            arguments: &arguments,
            directory: home.path(),
            inherited: &inherited,
            output: output.writer().map_err(VmError::host("room for the monitor's words"))?,
            lifetime: launch.lifetime,
        })
        .map_err(VmError::host(format!("starting `{program}`")))?;
        // Only the monitor listens now: if it ends, the connections end.
        drop(inherited);
        let mut child = child;
        home.passes(Step::MonitorStarted).await?;
        if let Some(pid) = child.id() {
            home.confine(pid, launch.shape.memory_mib << 20, launch.shape.vcpus)?;
        }
        match Monitor::greet(to_monitor).await {
            Ok(monitor) => Ok((Self { monitor, child, output }, ports)),
            Err(error) => Err(explain(&mut child, &output, error).await),
        }
    }

    /// Loads a saved state; the guest stands still afterwards.
    pub async fn load_state(&mut self, path: &Path) -> Result<(), VmError> {
        let file = File::open(path).map_err(VmError::host(format!("snapshot `{}`", path.display())))?;
        match self.monitor.load_state(file.as_fd()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(&mut self.child, &self.output, error).await),
        }
    }

    /// Saves the state of a guest that stands still.
    pub async fn save_state(&mut self, path: &Path) -> Result<(), VmError> {
        let file = File::create(path).map_err(VmError::host(format!("snapshot `{}`", path.display())))?;
        self.monitor.save_state(file.as_fd()).await?;
        file.sync_all().map_err(VmError::host(format!("snapshot `{}`", path.display())))
    }

    /// Kills the monitor and waits for its end.
    pub async fn kill(&mut self) -> std::io::Result<ExitStatus> {
        // Fails if it has ended, which is what is wanted; the wait below reports anything else.
        drop(self.child.start_kill());
        self.child.wait().await
    }
}

/// A monitor that ended says more on its error output than its closed socket does.
async fn explain(child: &mut Child, output: &Output, error: VmError) -> VmError {
    let exited = tokio::time::timeout(std::time::Duration::from_secs(1), child.wait()).await;
    let Ok(Ok(status)) = exited else { return error };
    let text = output.text().unwrap_or_default();
    let tail = text[text.ceil_char_boundary(text.len().saturating_sub(OUTPUT_QUOTED))..].trim().to_owned();
    let mentions_full_disk = tail.contains("No space left on device");
    let detail = if tail.is_empty() { format!("it ended ({status}) without a word") } else { tail };
    if mentions_full_disk {
        return VmError::host(detail)(std::io::Error::from(std::io::ErrorKind::StorageFull));
    }
    VmError::Monitor { detail }
}

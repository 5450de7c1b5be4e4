//! QEMU's `microvm` machine as the monitor of a VM.

pub mod argv;
mod backend;
pub mod message;
pub mod monitor;
mod view;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitStatus;

use tokio::net::UnixStream;
use tokio::process::Child;

use self::argv::Sockets;
pub use self::backend::CAPABILITIES;
use self::monitor::Monitor;
use self::view::View;
use super::VmError;
use super::backend::{Launch, Ports};
use super::confinement::Cell;
use super::home::{Home, Socket};
use crate::host::cgroup::{Cgroup, MAX_TASKS};
use crate::host::command::install_hint;
use crate::host::jail::{self, Jail, Offer, Opener, Shown};
use crate::host::output::Output;
use crate::host::process::{self, Lifetime, Spawn, find_program};
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
    /// Starts a monitor in `home`, confined as far as this host can do that, and speaks with it. The guest runs already if it
    /// boots.
    pub async fn launch(home: &Home, program: &str, launch: Launch<'_>) -> Result<(Self, Ports), VmError> {
        require(program)?;
        let group = home.make_group(launch.shape, launch.disks)?;
        let cell = home.make_cell(program).await?;
        home.passes(Step::ConfinementMade).await?;
        let view = View::open(&launch, cell.is_some())?;
        let sockets = [home.listen("monitor.sock")?, home.listen("control.sock")?, home.listen("bulk.sock")?];
        let tap = if launch.shape.card { Some(home.lay_wire()?) } else { None };
        let arguments = arguments(home, &launch, &view, &sockets, tap.as_ref());
        // Connected before the monitor runs: it finds its peers waiting.
        let connect =
            async |path: &Path| UnixStream::connect(path).await.map_err(VmError::host("connecting to the monitor"));
        let [monitor, control, bulk] = &sockets;
        let ports = Ports { control: connect(&control.path).await?, bulk: connect(&bulk.path).await? };
        let to_monitor = connect(&monitor.path).await?;
        let output = Output::new().map_err(VmError::host("room for the monitor's words"))?;
        // Only the monitor listens once this is dropped: if it ends, the connections end.
        let started = {
            let View { shown, offers, descriptors, largest, .. } = view;
            let inherited: Vec<OwnedFd> =
                sockets.map(|socket| socket.listener).into_iter().chain(descriptors).chain(tap).collect();
            let spawn = Spawn {
                program,
                arguments: &arguments,
                directory: home.path(),
                inherited: &inherited,
                output: output.writer().map_err(VmError::host("room for the monitor's words"))?,
                lifetime: launch.lifetime,
            };
            match &cell {
                Some(cell) => start_jailed(spawn, cell, group.as_ref(), &shown, largest)
                    .map(|(child, opener)| (child, Some((opener, offers)))),
                None => start_free(spawn, group.as_ref()).map(|child| (child, None)),
            }
        };
        let context = format!("starting `{program}`");
        let (mut child, opening) = started.map_err(VmError::host(context))?;
        home.passes(Step::MonitorStarted).await?;
        match greet(to_monitor, opening).await {
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

fn arguments(
    home: &Home, launch: &Launch<'_>, view: &View, sockets: &[Socket; 3], tap: Option<&OwnedFd>,
) -> Vec<String> {
    let [monitor, control, bulk] = sockets.each_ref().map(|socket| socket.listener.as_raw_fd());
    argv::arguments(&argv::Machine {
        name: &home.marker(),
        accelerator: launch.accelerator,
        shape: launch.shape,
        start: launch.start,
        boot: &view.boot,
        disks: &view.disks,
        memory: &view.memory,
        sockets: Sockets { monitor, control, bulk },
        files: &view.numbers(),
        tap: tap.map(AsRawFd::as_raw_fd),
    })
}

fn start_jailed(
    spawn: Spawn<'_>, cell: &Cell, group: Option<&Cgroup>, shown: &[Shown], largest: u64,
) -> io::Result<(Child, Opener)> {
    let program = cell.parts.program.to_str().ok_or_else(|| io::Error::other("its path is no text"))?;
    let shown = [&cell.parts.shown, shown].concat();
    let entrance = group.map(Cgroup::entrance).transpose()?;
    let jail = Jail {
        uid: cell.uid,
        root: &cell.root,
        shown: &shown,
        group: entrance.as_ref().map(AsFd::as_fd),
        file_size: largest,
        tasks: MAX_TASKS,
        ends_with_us: spawn.lifetime == Lifetime::EndsWithUs,
    };
    jail::spawn(&Spawn { program, ..spawn }, &jail)
}

/// As far as the host can confine it.
fn start_free(spawn: Spawn<'_>, group: Option<&Cgroup>) -> io::Result<Child> {
    let child = process::spawn(spawn)?;
    if let (Some(group), Some(pid)) = (group, child.id()) {
        group.add(pid)?;
    }
    Ok(child)
}

/// Gives the monitor what it opens at its start, until it speaks. Afterwards it opens nothing more.
async fn greet(stream: UnixStream, opening: Option<(Opener, Vec<Offer>)>) -> Result<Monitor, VmError> {
    let Some((opener, offers)) = opening else { return Monitor::greet(stream).await };
    let greeting = Monitor::greet(stream);
    let serving = async {
        match opener.serve(&offers).await {
            // It has ended, which its socket says as well.
            Ok(()) => std::future::pending().await,
            Err(error) => VmError::host("the files that the monitor opens")(error),
        }
    };
    tokio::select! {
        greeted = greeting => greeted,
        error = serving => Err(error),
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

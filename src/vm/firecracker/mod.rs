//! Firecracker, started through its jailer, as the monitor of a VM.
//!
//! ```text
//!  jail made, files linked ─► jailer ─► Firecracker in its jail ─► API ─┬─► machine made, booted
//!                                                                       └─► snapshot loaded ─► resumed
//! ```
//! - [`files`]: what files are called in a jail; `jail`: the directory; [`argv`]: what the jailer is told.
//! - [`api`]: requests as values; `client`: the socket that takes them; [`vsock`]: the way to the agent.
//! - `start`: from nothing to an API that answers; `process` and `pipe`: its end, and what it says.
//!
//! A snapshot names the files of its disks, and every VM has a root of its own: the same names stand for other files there. So
//! disks are exchanged by linking others into the jail before the snapshot is loaded. Firecracker gives disks no serial
//! number that the host could choose; the kernel's command line says which disk is which, by their order.

pub mod api;
pub mod argv;
mod client;
pub mod files;
mod jail;
mod pipe;
mod process;
mod start;
pub mod vsock;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod swagger;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use self::client::{Api, CALL_LIMIT, SAVE_LIMIT};
use self::jail::Jail;
use self::pipe::{Alarms, Pipe};
use self::process::Process;
use self::start::{Begun, begin};
use self::vsock::Vsock;
use super::VmError;
use super::backend::{AgentLink, Capabilities, DiskNames, Freezing, GuestEnd, KernelForm, Launch, Monitor};
use super::home::Home;
use crate::host::output::Output;
use crate::host::process::find_program;
use crate::host::{disk, holes};

/// All memory is written at a snapshot, whatever the guest runs on; ports are those of a vsock; disks have no names.
pub const CAPABILITIES: Capabilities = Capabilities {
    freezing: Freezing::AnyMemory,
    link: AgentLink::Vsock,
    disks: DiskNames::Order,
    kernel: KernelForm::Elf,
};

/// How long a monitor that is about to end may take, after a request to it failed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes of what it said that an error quotes.
const QUOTED: usize = 2048;

/// Where Firecracker and its jailer are: names, looked up in `PATH`, or paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    pub firecracker: String,
    pub jailer: String,
}

impl Default for Programs {
    fn default() -> Self {
        Self { firecracker: "firecracker".to_owned(), jailer: "jailer".to_owned() }
    }
}

impl Programs {
    /// Firecracker at `path`, and the jailer that lies beside it.
    pub fn beside(path: &Path) -> Self {
        let jailer = match path.parent() {
            Some(directory) if path.components().nth(1).is_some() => directory.join("jailer").display().to_string(),
            _ => Self::default().jailer,
        };
        Self { firecracker: path.display().to_string(), jailer }
    }

    /// Fails unless both are there.
    pub fn require(&self) -> Result<(), VmError> {
        match [&self.firecracker, &self.jailer].into_iter().find(|program| find_program(program).is_none()) {
            None => Ok(()),
            Some(missing) => Err(VmError::NoMonitor { program: missing.clone(), hint: INSTALL_HINT.to_owned() }),
        }
    }

    /// The file of Firecracker itself, as the jailer names jails after it.
    fn executable(&self) -> Result<PathBuf, VmError> {
        let found = find_program(&self.firecracker).unwrap_or_else(|| PathBuf::from(&self.firecracker));
        found.canonicalize().map_err(VmError::host(format!("`{}`", self.firecracker)))
    }
}

/// What to do about a program that is not there.
pub const INSTALL_HINT: &str = "no distribution has it: take `firecracker` and `jailer` of one release from \
                                github.com/firecracker-microvm/firecracker, and name them in `[vm.firecracker]`";

/// A Firecracker that runs.
#[derive(Debug)]
pub struct Firecracker {
    api: Api,
    home: PathBuf,
    voice: Voice,
    jail: Jail,
    process: Process,
}

/// Everything that it says.
#[derive(Debug)]
struct Voice {
    /// Standard output: the guest's serial console, and what the jailer complains about.
    output: Output,
    log: Pipe,
    metrics: Pipe,
}

impl Firecracker {
    /// Starts one in `home`. The guest runs already if it boots.
    pub async fn launch(home: &Home, programs: &Programs, launch: Launch<'_>) -> Result<(Self, Vsock), VmError> {
        programs.require()?;
        let begun = begin(home, programs, &launch).await?;
        // From here on it has to be ended: until the jailer has done its work, nobody could tell whose process it is.
        match begun.join(home).await {
            Err(error) => {
                begun.process.kill().await;
                Err(error)
            }
            Ok((api, root)) => {
                let Begun { jail, voice, process, .. } = begun;
                let mut started = Self { api, home: home.path().to_owned(), voice, jail, process };
                match started.boot(&launch).await {
                    Ok(()) => Ok((started, Vsock::in_jail(root))),
                    Err(error) => {
                        started.end().await.map_err(VmError::host("the VM's jail"))?;
                        Err(error)
                    }
                }
            }
        }
    }

    /// Makes the machine and boots it, unless it waits for a state.
    async fn boot(&mut self, launch: &Launch<'_>) -> Result<(), VmError> {
        if launch.start.is_restore() {
            return Ok(());
        }
        for call in api::boot(launch.shape, &launch.boot.command_line, &files::in_order(launch.disks)) {
            self.call(&call, CALL_LIMIT).await?;
        }
        Ok(())
    }

    /// A request; what it says about one that failed is in the error.
    async fn call(&mut self, call: &api::Call, limit: Duration) -> Result<(), VmError> {
        match self.api.call(call, limit).await {
            // A refusal says it all, but a load that is refused also ends Firecracker, which may say more.
            Err(error @ VmError::Monitor { .. }) => {
                let ended = tokio::time::timeout(LAST_WORDS, self.process.status());
                // Its own reason comes first; if it is still there, it has none to add.
                let has_ended = matches!(call.path.as_str(), "/snapshot/load" | "/actions") && ended.await.is_ok();
                Err(if has_ended { self.voice.add_to(error) } else { error })
            }
            other => other,
        }
    }

    async fn try_load(&mut self, state: &Path) -> Result<(), VmError> {
        self.jail.show(state, files::STATE).map_err(VmError::host(format!("snapshot `{}`", state.display())))?;
        self.call(&api::load(), CALL_LIMIT).await
    }

    /// To files in the home first, which are on the jail's file system.
    async fn try_save(&mut self, state: &Path, memory: &Path) -> Result<(), VmError> {
        let saved = [(files::SAVED_STATE, state), (files::SAVED_MEMORY, memory)];
        let own = |name: &str| self.home.join(name);
        for (name, to) in saved {
            let file = own(name);
            std::fs::File::create_new(&file)
                .and_then(|_| self.jail.hand_over(&file, name))
                .map_err(VmError::host(format!("snapshot `{}`", to.display())))?;
        }
        self.call(&api::save(), SAVE_LIMIT).await?;
        let moves = saved.map(|(name, to)| (self.home.join(name), to.to_owned()));
        let kept = tokio::task::spawn_blocking(move || {
            let [(_, _), (memory, _)] = &moves;
            // All of the memory is written, also what the guest has never used.
            holes::dig(memory)?;
            moves.iter().try_for_each(|(from, to)| disk::move_image(from, to))
        });
        let kept = kept.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        kept.map_err(VmError::host(format!("snapshot `{}`", state.display())))
    }

    async fn end(&mut self) -> io::Result<()> {
        self.process.kill().await;
        let alarms = Alarms::of(&self.voice.metrics.take());
        if !alarms.is_silent() {
            tracing::warn!(?alarms, home = %self.home.display(), "Firecracker reports what should not happen");
        }
        self.jail.take_back()
    }
}

impl Monitor for Firecracker {
    fn load_state<'a>(&'a mut self, state: &'a Path) -> BoxFuture<'a, Result<(), VmError>> {
        self.try_load(state).boxed()
    }

    fn save<'a>(&'a mut self, state: &'a Path, memory: &'a Path) -> BoxFuture<'a, Result<(), VmError>> {
        self.try_save(state, memory).boxed()
    }

    fn resume(&mut self) -> BoxFuture<'_, Result<(), VmError>> {
        async { self.call(&api::resume(), CALL_LIMIT).await }.boxed()
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), VmError>> {
        async { self.call(&api::pause(), CALL_LIMIT).await }.boxed()
    }

    fn console(&mut self) -> BoxFuture<'_, Result<String, VmError>> {
        async { self.voice.output.text().map_err(VmError::host("the guest's console")) }.boxed()
    }

    fn ended(&self) -> watch::Receiver<Option<GuestEnd>> {
        self.process.ended()
    }

    fn kill(&mut self) -> BoxFuture<'_, io::Result<()>> {
        self.end().boxed()
    }
}

impl Voice {
    /// What it said last, in the place of an error that knows less.
    fn explain(&self, error: VmError) -> VmError {
        let said = format!("{}{}", self.output.text().unwrap_or_default(), self.log.take());
        let tail = said[said.ceil_char_boundary(said.len().saturating_sub(QUOTED))..].trim();
        if tail.is_empty() { error } else { VmError::Monitor { detail: tail.to_owned() } }
    }

    /// What it said last, behind an error of its own.
    fn add_to(&self, error: VmError) -> VmError {
        let VmError::Monitor { detail: known } = error else { return error };
        match self.explain(VmError::Monitor { detail: String::new() }) {
            VmError::Monitor { detail } if !detail.is_empty() => {
                VmError::Monitor { detail: format!("{known}\n{detail}") }
            }
            _ => VmError::Monitor { detail: known },
        }
    }
}

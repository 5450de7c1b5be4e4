//! The program that is shown: baking its image, starting it, stopping it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use dayfly::config::Backend;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::scene::Scene;

/// Building an image fetches packages, from wherever and however fast.
const BAKE_LIMIT: Duration = Duration::from_secs(45 * 60);
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Lines of the service's log that an error quotes.
const QUOTED_LINES: usize = 15;

/// A child and all its children, which end with it.
#[derive(Debug)]
struct Group(Child);

impl Group {
    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        // A group of its own: a Ctrl-C at the terminal reaches the demo alone, which decides what ends when.
        command.process_group(0).stdin(Stdio::null()).kill_on_drop(true);
        Ok(Self(command.spawn().with_context(|| format!("starting {:?}", command.as_std().get_program()))?))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0.id() {
            // It may have ended meanwhile, which is what is wanted.
            killpg(Pid::from_raw(pid as i32), signal).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}

/// Makes the image and its snapshot if they are not there, with the progress on this terminal.
pub(crate) async fn bake(program: &Path, scene: &Scene) -> anyhow::Result<()> {
    let profile = scene.profile();
    let mib = |bytes: u64| format!("{}MiB", bytes >> 20);
    let backend = match scene.config.vm.backend {
        Backend::Auto => "auto",
        Backend::QemuKvm => "qemu-kvm",
        Backend::QemuTcg => "qemu-tcg",
        Backend::Firecracker => "firecracker",
    };
    let mut command = Command::new(program);
    command
        .args(["image", "bake", &profile.image, "--backend", backend, "--vcpus", &profile.vcpus.to_string()])
        .args(["--memory", &mib(profile.memory), "--disk", &mib(profile.disk)])
        .arg("--state-dir")
        .arg(&scene.config.server.state_dir)
        .stdout(Stdio::null());
    let mut child = Group::spawn(&mut command)?;
    let ended = timeout(BAKE_LIMIT, child.0.wait()).await;
    let status =
        ended.map_err(|_| anyhow!("the image was not ready within {} minutes", BAKE_LIMIT.as_secs() / 60))??;
    if !status.success() {
        bail!("the image could not be made ({status}); the complaint is above");
    }
    Ok(())
}

/// A running `dayfly serve`.
#[derive(Debug)]
pub(crate) struct Service {
    child: Group,
    log: PathBuf,
}

impl Service {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(program: &Path, scene: &Scene) -> anyhow::Result<Self> {
        let log = fs::File::create(&scene.service_log)?;
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(&scene.config_file).stdout(log.try_clone()?).stderr(log);
        let mut service = Self { child: Group::spawn(&mut command)?, log: scene.service_log.clone() };
        let ready = timeout(READY_LIMIT, service.is_ready(scene)).await;
        let ready = ready.unwrap_or_else(|_| Err(anyhow!("the service was not ready within {READY_LIMIT:?}")));
        match ready {
            Ok(()) => Ok(service),
            Err(error) => Err(service.explain(error)),
        }
    }

    async fn is_ready(&mut self, scene: &Scene) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        let health = scene.address("healthz");
        loop {
            if let Some(status) = self.child.0.try_wait()? {
                bail!("the service ended at its start ({status})");
            }
            let answer = client.get(&health).timeout(READY_LIMIT).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) && scene.config.server.control_socket().exists()
            {
                return Ok(());
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.0.try_wait()? {
            bail!("the service ended by itself ({status})");
        }
        self.child.signal(Signal::SIGTERM);
        let Ok(status) = timeout(STOP_LIMIT, self.child.0.wait()).await else {
            self.child.signal(Signal::SIGKILL);
            bail!("the service did not stop within {STOP_LIMIT:?}");
        };
        let status = status?;
        if !status.success() {
            bail!("the service stopped with an error ({status})");
        }
        Ok(())
    }

    /// Adds what the service said last to an error.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n");
        anyhow!("{error:#}\nthe end of `{}`:\n{end}", self.log.display())
    }
}

//! The composition root: the one place where the concrete parts are chosen, started and ended.
//!
//! The parts are tasks that share a [`Core`]. One that ends before it was told to takes the service down, so that a
//! supervisor restarts it: a service without its scheduler that still accepts events would be worse than none.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{self, Config, Credential, Secrets};
use crate::core::{Core, Wake};
use crate::engine::{Backend, Engine, EngineSettings};
use crate::forge::Forge;
use crate::forge::github::{Auth, GitHub, GitHubSettings};
use crate::host::cgroup::Support;
use crate::host::lease::Lease;
use crate::host::process::Lifetime;
use crate::http;
use crate::image::Logged;
use crate::intake;
use crate::job::driver::shape_of;
use crate::job::timeline::Timeline;
use crate::log::LogStore;
use crate::net::git_proxy::GitClient;
use crate::reporter::{self, Sent};
use crate::scheduler;
use crate::store::{Retention, Store};
use crate::sweep::{self, SweepStats};

/// How often what is old or abandoned is removed.
const MAINTENANCE: Duration = Duration::from_secs(60);

/// How long the parts may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A service that is ready to run.
#[derive(Debug)]
pub struct App {
    core: Arc<Core>,
    public: TcpListener,
    control: UnixListener,
    /// Two services on one directory would destroy each other's VMs.
    _state: Lease,
}

impl App {
    /// Opens everything and brings the store in line with the host. Nothing is served yet.
    pub async fn open(config: Config, secrets: Secrets) -> anyhow::Result<Self> {
        let state_dir = config.server.state_dir.clone();
        std::fs::create_dir_all(&state_dir)
            .and_then(|()| std::fs::set_permissions(&state_dir, Permissions::from_mode(0o700)))
            .with_context(|| format!("the state directory `{}`", state_dir.display()))?;
        let Some(state) = Lease::try_take(&state_dir).context("locking the state directory")? else {
            bail!("another dayfly serves from `{}`\n  hint: stop it, or use another state_dir", state_dir.display());
        };
        let engine = Engine::open(engine_settings(&config))?;
        if let Support::Missing(why) = engine.homes().cgroups() {
            tracing::warn!(why, "VMs run without cgroups of their own: their monitors' memory and CPU are not bounded");
        }
        let store = Store::open(&state_dir.join("dayfly.db")).await?;
        let core = Arc::new(Core {
            logs: LogStore::new(&state_dir.join("logs"))?,
            forge: forge_of(&config, &secrets)?,
            git: GitClient::new().context("the client for git fetches")?,
            timeline: Timeline::start(store.clone()),
            webhook_secret: secrets.webhook_secret,
            engine,
            store,
            config,
            wake: Wake::default(),
            sweep: SweepStats::default(),
            sent: Sent::default(),
            stop: CancellationToken::new(),
        });
        scheduler::recover(&core).await?;
        let listen = core.config.server.listen;
        let public = TcpListener::bind(listen)
            .await
            .with_context(|| format!("`server.listen`: `{listen}` cannot be listened on"))?;
        let control = bind_control(&core.config.server.control_socket())?;
        Ok(Self { core, public, control, _state: state })
    }

    /// Where the public listener is.
    pub fn address(&self) -> io::Result<std::net::SocketAddr> {
        self.public.local_addr()
    }

    /// Serves until `stop` is cancelled, then ends in an orderly way. An error is a part that died.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let core = self.core;
        let control_socket = core.config.server.control_socket();
        let mut parts = JoinSet::new();
        parts.spawn(named("public listener", serve_public(self.public, Arc::clone(&core))));
        parts.spawn(named("control socket", serve_control(self.control, Arc::clone(&core))));
        parts.spawn(named("intake", as_part(intake::run(Arc::clone(&core)))));
        parts.spawn(named("scheduler", as_part(scheduler::run(Arc::clone(&core)))));
        parts.spawn(named("reporter", as_part(reporter::run(Arc::clone(&core)))));
        parts.spawn(named("sweep", as_part(sweep::run(Arc::clone(&core)))));
        parts.spawn(named("maintenance", as_part(maintain(Arc::clone(&core)))));
        parts.spawn(named("image preparation", as_part(prepare_images(Arc::clone(&core)))));
        let mut died = None;
        tokio::select! {
            () = stop.cancelled() => tracing::info!("stopping"),
            ended = parts.join_next() => died = Some(describe(ended)),
        }
        core.stop.cancel();
        let all = async { while parts.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
            tracing::warn!("some parts did not end within {} s", STOP_LIMIT.as_secs());
        }
        core.store.close().await;
        // While the directory is still ours: whoever asks from now on learns that nobody serves.
        if let Err(error) = std::fs::remove_file(&control_socket) {
            tracing::warn!(%error, "the control socket could not be removed");
        }
        match died {
            Some(what) => bail!("{what}"),
            None => Ok(()),
        }
    }
}

fn engine_settings(config: &Config) -> EngineSettings {
    EngineSettings {
        state_dir: config.server.state_dir.clone(),
        images_dir: config.vm.images_dir.clone(),
        recipes: config.vm.recipes_dir.clone(),
        qemu: config.vm.qemu.display().to_string(),
        backend: match config.vm.backend {
            config::Backend::Auto => Backend::Auto,
            config::Backend::QemuKvm => Backend::QemuKvm,
            config::Backend::QemuTcg => Backend::QemuTcg,
        },
        lifetime: Lifetime::Independent,
    }
}

fn forge_of(config: &Config, secrets: &Secrets) -> anyhow::Result<Arc<dyn Forge>> {
    let auth = match &secrets.credential {
        Credential::Token(token) => Auth::Token(token.clone()),
        Credential::App { id, private_key } => Auth::App { id: *id, private_key: private_key.clone() },
    };
    let settings = GitHubSettings { api_url: config.github.api_url.clone(), url: config.github.url.clone(), auth };
    Ok(Arc::new(GitHub::new(settings)?))
}

/// Binds the control socket, replacing what a dead service left.
fn bind_control(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("the control socket `{}`", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("the control socket `{}`", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).context("protecting the control socket")?;
    Ok(listener)
}

async fn named(
    name: &'static str, part: impl Future<Output = anyhow::Result<()>>,
) -> (&'static str, anyhow::Result<()>) {
    (name, part.await)
}

async fn as_part(work: impl Future<Output = ()>) -> anyhow::Result<()> {
    work.await;
    Ok(())
}

fn describe(ended: Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok((name, Ok(())))) => format!("the {name} ended by itself"),
        Some(Ok((name, Err(error)))) => format!("the {name} failed: {error:#}"),
        Some(Err(error)) => format!("a part of the service died: {error}"),
        None => "the service has no parts".to_owned(),
    }
}

async fn serve_public(listener: TcpListener, core: Arc<Core>) -> anyhow::Result<()> {
    let stop = core.stop.clone();
    let routes = http::public(&core);
    // Followers of logs stay connected for as long as they like, and are cut when the service stops.
    tokio::select! {
        served = axum::serve(listener, routes) => Ok(served?),
        () = stop.cancelled() => Ok(()),
    }
}

async fn serve_control(listener: UnixListener, core: Arc<Core>) -> anyhow::Result<()> {
    let stop = core.stop.clone();
    tokio::select! {
        served = axum::serve(listener, http::control::routes(core)) => Ok(served?),
        () = stop.cancelled() => Ok(()),
    }
}

/// Builds and bakes what the profiles name, so that the first job does not wait for it. Then only waits.
async fn prepare_images(core: Arc<Core>) {
    for profile in &core.config.profiles {
        let prepared = tokio::select! {
            prepared = core.engine.prepare(&profile.image, shape_of(profile), &Logged) => prepared,
            () = core.stop.cancelled() => return,
        };
        match prepared {
            Ok(prepared) => {
                if let Some(why) = &prepared.why_not_kvm {
                    tracing::warn!(profile = profile.name, why, "VMs are emulated in software, which is slow");
                }
                tracing::info!(profile = profile.name, accelerator = %prepared.template.accelerator, "ready");
            }
            // A job that needs it will say so to its author.
            Err(error) => tracing::error!(profile = profile.name, %error, "the profile's image cannot be prepared"),
        }
    }
    core.stop.cancelled().await;
}

async fn maintain(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(MAINTENANCE) => {}
            () = core.stop.cancelled() => return,
        }
        for vm in core.engine.reap().await {
            tracing::warn!(%vm, "an abandoned VM was destroyed");
        }
        let limits = &core.config.limits;
        let retention = Retention { deliveries: limits.delivery_retention, runs: limits.log_retention };
        if let Err(error) = core.store.prune(clock::now_ms(), retention).await {
            tracing::error!(%error, "old entries cannot be removed from the store");
        }
        if let Some(before) = SystemTime::now().checked_sub(limits.log_retention)
            && let Err(error) = core.logs.prune(before).await
        {
            tracing::error!(%error, "old logs cannot be removed");
        }
    }
}

//! The composition root: the one place where the concrete parts are chosen, started and ended.
//!
//! The parts are tasks that share a [`Core`]. One that ends before it was told to takes the service down, so that a
//! supervisor restarts it: a service without its scheduler that still accepts events would be worse than none.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use axum::Router;
use secrecy::SecretString;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::actions::{ActionStore, Source};
use crate::clock;
use crate::config::{self, Config, Credential, GitHubSecrets, GitLabSecrets, Secrets};
use crate::core::{Core, Wake};
use crate::depot::Depot;
use crate::engine::{Engine, EngineSettings};
use crate::forge::github::{self, Auth, GitHub, GitHubSettings};
use crate::forge::gitlab::{GitLab, GitLabSettings, certificates};
use crate::forge::{Forge, Forges, Measured};
use crate::gitlab::{self, GitLabs};
use crate::host::lease::Lease;
use crate::host::notify;
use crate::host::process::Lifetime;
use crate::http;
use crate::image::Logged;
use crate::intake;
use crate::job::driver::shape_of;
use crate::job::sharing::Sharing;
use crate::job::timeline::Timeline;
use crate::lifecycle::{Fault, Lifecycle};
use crate::log::LogStore;
use crate::metrics::Metrics;
use crate::net::egress::network::{HostNetwork, Network};
use crate::net::git_proxy::GitClient;
use crate::net::registry::Registries;
use crate::pool::{self, Pools};
use crate::reporter::{self, Sent};
use crate::runners::{self, Board};
use crate::scheduler::{self, Openings};
use crate::schedules;
use crate::shutdown::Shutdown;
use crate::store::{Retention, Store};
use crate::sweep;
use crate::upkeep::{self, Desk, Kept};
use crate::vm::confinement;
use crate::webhook::WebhookSecret;

/// How often what is old or abandoned is removed.
const MAINTENANCE: Duration = Duration::from_secs(60);

/// How long destroying VMs and putting their jobs back may take once the time for draining is over.
const END_JOBS_LIMIT: Duration = Duration::from_secs(45);

/// How long the parts may take to end after that.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A service that is ready to run.
#[derive(Debug)]
pub struct App {
    core: Arc<Core>,
    public: TcpListener,
    /// For the metrics alone, if they have one.
    metrics: Option<TcpListener>,
    control: UnixListener,
    /// Two services on one directory would destroy each other's VMs.
    _state: Lease,
}

impl App {
    /// Opens everything and brings the store in line with the host. Nothing is served yet.
    /// `fault` is for tests.
    pub async fn open(
        config: Config, mut secrets: Secrets, shutdown: Shutdown, fault: Option<Fault>,
    ) -> anyhow::Result<Self> {
        let state_dir = config.server.state_dir.clone();
        std::fs::create_dir_all(&state_dir)
            .and_then(|()| std::fs::set_permissions(&state_dir, Permissions::from_mode(0o700)))
            .with_context(|| format!("the state directory `{}`", state_dir.display()))?;
        let Some(state) = Lease::try_take(&state_dir).context("locking the state directory")? else {
            bail!("another dayfly serves from `{}`\n  hint: stop it, or use another state_dir", state_dir.display());
        };
        let metrics = Metrics::new(config.profiles.iter().map(|profile| profile.name.as_str()));
        let lifecycle = fault.map_or_else(Lifecycle::default, |fault| disturbed(fault, &state_dir));
        let engine =
            Engine::open(engine_settings(&config))?.told_to(lifecycle.clone()).measured(metrics.images.clone());
        require_confinement(&engine, config.vm.require_confinement)?;
        require_cards(&engine, &config)?;
        let store = Store::open_measured(&state_dir.join("dayfly.db"), metrics.store.clone()).await?;
        let wake = Arc::<Wake>::default();
        let kept = Kept::open(&state_dir).context("the prepared snapshots")?;
        let network = Arc::<HostNetwork>::default();
        let board = board_of(&config)?;
        let core = Arc::new(Core {
            logs: LogStore::new(&state_dir.join("logs"))?,
            forges: forges_of(&config, &secrets, |forge| Arc::new(Measured::new(forge, metrics.forge.clone())))?,
            git: git_client_of(&config)?,
            gitlab: GitLabs::new(&config.gitlab)?,
            registries: Registries::new(&config.registries, &secrets.registries)
                .context("the client for package registries")?,
            depot: Depot::new(state_dir.join("depot"), config.depot),
            actions: Arc::new(action_store(&config, &engine)),
            network: Arc::clone(&network) as Arc<dyn Network>,
            timeline: Timeline::start(store.clone()),
            webhook_secret: secrets.github.map(|github| github.webhook_secret),
            gitlab_webhooks: gitlab_webhooks(&config, &mut secrets.gitlab),
            gitlab_secrets: secrets.gitlab,
            job_secrets: secrets.jobs,
            engine,
            store,
            pools: Pools::new(&config),
            config,
            metrics,
            desk: Desk::new(Arc::clone(&wake)),
            kept,
            wake,
            openings: Openings::default(),
            runners: board,
            sharing: Sharing::default(),
            sent: Sent::default(),
            lifecycle,
            shutdown,
            stop: CancellationToken::new(),
        });
        scheduler::recover(&core).await?;
        let public = bind("server.listen", core.config.server.listen).await?;
        let metrics = match core.config.metrics.listen.filter(|_| core.config.metrics.enabled) {
            Some(listen) => Some(bind("metrics.listen", listen).await?),
            None => None,
        };
        for listener in std::iter::once(&public).chain(&metrics) {
            network.note_served(listener.local_addr()?.port());
        }
        let control = bind_control(&core.config.server.control_socket())?;
        Ok(Self { core, public, metrics, control, _state: state })
    }

    /// Where the public listener is.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where the metrics have a listener of their own, if they do.
    pub fn metrics_address(&self) -> io::Result<Option<SocketAddr>> {
        self.metrics.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves until it is asked to end, then does so in an orderly way. An error is a part that died.
    pub async fn run(self) -> anyhow::Result<()> {
        let core = self.core;
        let control_socket = core.config.server.control_socket();
        let mut parts = JoinSet::new();
        parts.spawn(named("public listener", serve(self.public, http::public(&core), core.stop.clone())));
        if let Some(listener) = self.metrics {
            let routes = http::metrics::routes(Arc::clone(&core));
            parts.spawn(named("listener of the metrics", serve(listener, routes, core.stop.clone())));
        }
        parts.spawn(named("control socket", serve_control(self.control, Arc::clone(&core))));
        parts.spawn(named("intake", as_part(intake::run(Arc::clone(&core)))));
        parts.spawn(named("scheduler", as_part(scheduler::run(Arc::clone(&core)))));
        parts.spawn(named("reporter", as_part(reporter::run(Arc::clone(&core)))));
        parts.spawn(named("sweep", as_part(sweep::run(Arc::clone(&core)))));
        parts.spawn(named("schedules", as_part(schedules::run(Arc::clone(&core)))));
        parts.spawn(named("runners", as_part(runners::run(Arc::clone(&core)))));
        parts.spawn(named("upkeep", as_part(upkeep::run(Arc::clone(&core)))));
        parts.spawn(named("GitLab runners", as_part(gitlab::run(Arc::clone(&core)))));
        parts.spawn(named("maintenance", as_part(maintain(Arc::clone(&core)))));
        parts.spawn(named("pools", as_part(pool::run(Arc::clone(&core)))));
        parts.spawn(named("image preparation", as_part(prepare_images(Arc::clone(&core)))));
        notify::ready();
        let mut died = None;
        tokio::select! {
            // First: a part that ends because it was asked to has not died.
            biased;
            () = core.shutdown.drain.cancelled() => {}
            ended = parts.join_next() => {
                died = Some(describe(ended));
                core.shutdown.hurry.cancel();
            }
        }
        end_jobs(&core).await;
        core.stop.cancel();
        let all = async { while parts.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
            tracing::warn!("some parts did not end within {} s", STOP_LIMIT.as_secs());
            parts.shutdown().await;
        }
        // A bake that was interrupted has a VM, too.
        core.engine.reap().await;
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

/// Where fetched actions are kept.
fn action_store(config: &Config, engine: &Engine) -> ActionStore {
    let url = config.actions.url.clone().unwrap_or_else(|| config.github_url());
    ActionStore::new(engine.actions(), Source::Forge(url), config.actions.max_size)
}

/// Says once what this host lacks to confine monitors, or refuses to go on.
fn require_confinement(engine: &Engine, is_required: bool) -> anyhow::Result<()> {
    let missing = engine.homes().confinement().missing();
    if missing.is_empty() {
        return Ok(());
    }
    if is_required {
        let missing: String = missing.iter().map(|one| format!("\n  {one}")).collect();
        bail!(
            "`[vm] require_confinement` is set, and this host cannot confine VMs wholly:{missing}\n  \
             hint: `dayfly doctor` tries each part and says what to do"
        );
    }
    tracing::warn!(
        missing = missing.join("; "),
        "VMs are not wholly confined on this host; `dayfly doctor` says what to do"
    );
    Ok(())
}

/// Refuses to go on with profiles whose machines need what this host cannot give them.
fn require_cards(engine: &Engine, config: &Config) -> anyhow::Result<()> {
    let mut profiles = config.profiles.iter();
    match profiles.find(|profile| shape_of(profile).card) {
        Some(profile) => engine.require_cards().with_context(|| format!("profile `{}`", profile.name)),
        None => Ok(()),
    }
}

/// Says so as loudly as it can: nobody wants this by accident.
fn disturbed(fault: Fault, state_dir: &Path) -> Lifecycle {
    tracing::warn!("DAYFLY_FAULT IS SET: this service will do `{fault}`, which is for tests only");
    Lifecycle::disturbed_by(fault, state_dir)
}

/// Lets jobs end, within their limit, then ends those that are left.
async fn end_jobs(core: &Core) {
    let limit = core.config.limits.drain + END_JOBS_LIMIT;
    notify::stopping(limit + STOP_LIMIT, "draining");
    core.shutdown.drain.cancel();
    if tokio::time::timeout(limit, core.shutdown.drained.cancelled()).await.is_err() {
        tracing::warn!("the jobs that ran did not end in time; the next start ends them");
    }
    tracing::info!("stopping");
}

/// Where the engine of a configuration keeps things and what it runs.
pub(crate) fn engine_settings(config: &Config) -> EngineSettings {
    EngineSettings {
        state_dir: config.server.state_dir.clone(),
        images_dir: config.vm.images_dir.clone(),
        recipes: config.vm.recipes_dir.clone(),
        qemu: config.vm.qemu.display().to_string(),
        firecracker: (&config.vm.firecracker).into(),
        backend: config.vm.backend.into(),
        lifetime: Lifetime::Independent,
        confinement: confinement::Settings { uids: config.vm.uids, io: config.vm.io },
    }
}

/// What each GitLab's webhooks are verified by, of those that send any.
fn gitlab_webhooks(config: &Config, secrets: &mut [GitLabSecrets]) -> Vec<(String, Arc<WebhookSecret>)> {
    let named = config.gitlab.iter().map(|gitlab| gitlab.name.clone()).zip(secrets);
    named.filter_map(|(name, secrets)| Some((name, Arc::new(secrets.webhook.take()?)))).collect()
}

/// The client for git fetches, from each GitLab with the certificates that it is to be trusted by.
pub(crate) fn git_client_of(config: &Config) -> anyhow::Result<GitClient> {
    let mut trusted = Vec::new();
    for bundle in config.gitlab.iter().filter_map(|gitlab| gitlab.ca_bundle.as_ref()) {
        trusted.extend(certificates(bundle)?);
    }
    GitClient::trusting(trusted).context("the client for git fetches")
}

/// The forges of the configuration, each seen through `wrapped`; asks them nothing yet.
fn forges_of(
    config: &Config, secrets: &Secrets, wrapped: impl Fn(Arc<dyn Forge>) -> Arc<dyn Forge>,
) -> anyhow::Result<Forges> {
    let mut forges = Vec::new();
    if let Some((github, secrets)) = config.github.as_ref().zip(secrets.github.as_ref()) {
        forges.push((github::NAME.to_owned(), wrapped(github_of(github, secrets)?)));
    }
    for (gitlab, secrets) in config.gitlab.iter().zip(&secrets.gitlab) {
        if let Some(token) = &secrets.token {
            forges.push((gitlab.name.clone(), wrapped(gitlab_of(gitlab, token)?)));
        }
    }
    Ok(Forges::new(forges))
}

/// GitHub as the configuration has it; asks it nothing yet.
pub(crate) fn github_of(github: &config::GitHub, secrets: &GitHubSecrets) -> anyhow::Result<Arc<dyn Forge>> {
    let auth = match &secrets.credential {
        Credential::Token(token) => Auth::Token(token.clone()),
        Credential::App { id, private_key } => Auth::App { id: *id, private_key: private_key.clone() },
    };
    let settings = GitHubSettings { api_url: github.api_url.clone(), url: github.url.clone(), auth };
    Ok(Arc::new(GitHub::new(settings)?))
}

/// A GitLab as the configuration has it; asks it nothing yet.
pub(crate) fn gitlab_of(gitlab: &config::GitLab, token: &SecretString) -> anyhow::Result<Arc<dyn Forge>> {
    let config::GitLab { name, url, ca_bundle, .. } = gitlab;
    let (name, url, ca_bundle, token) = (name.clone(), url.clone(), ca_bundle.clone(), token.clone());
    let opened = GitLab::new(GitLabSettings { name: name.clone(), url, ca_bundle, token });
    Ok(Arc::new(opened.with_context(|| format!("the GitLab `{name}`"))?))
}

/// Runners that are registered with GitHub have the name of this host in theirs. Blocks.
fn board_of(config: &Config) -> anyhow::Result<Board> {
    if !config.has_actions_runners() {
        return Ok(Board::default());
    }
    let id = gitlab::system_id(&config.server.state_dir).context("the name of this host at forges")?;
    Ok(Board::of(id.trim_start_matches("r_")))
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

async fn bind(key: &str, listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.with_context(|| format!("`{key}`: `{listen}` cannot be listened on"))
}

async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) -> anyhow::Result<()> {
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
    if let Err(error) = core.engine.remove_unfinished().await {
        tracing::warn!(%error, "what an interrupted build left could not be removed");
    }
    prepare_profiles(&core).await;
    core.stop.cancelled().await;
}

async fn prepare_profiles(core: &Core) {
    let mut is_complete = true;
    for profile in &core.config.profiles {
        let prepared = tokio::select! {
            prepared = core.engine.prepare(&profile.image, shape_of(profile), &Logged) => prepared,
            () = core.shutdown.drain.cancelled() => return,
        };
        match prepared {
            Ok(prepared) => {
                if let Some(why) = &prepared.why_not_kvm {
                    tracing::warn!(profile = profile.name, why, "VMs are emulated in software, which is slow");
                }
                tracing::info!(profile = profile.name, accelerator = %prepared.template.accelerator, "ready");
            }
            // A job that needs it will say so to its author.
            Err(error) => {
                tracing::error!(profile = profile.name, %error, "the profile's image cannot be prepared");
                is_complete = false;
            }
        }
    }
    if !is_complete {
        tracing::warn!("`dayfly doctor --config {}` tells what this host lacks", core.config.file);
    }
}

/// Destroys VMs that nobody owns. There should be none: whoever makes one destroys it.
async fn look_for_leaks(core: &Core) {
    let reaped = core.engine.reap().await;
    for vm in &reaped {
        tracing::warn!(%vm, "an abandoned VM was destroyed");
    }
    let left = core.engine.homes().abandoned().map_or(0, |left| left.len());
    core.metrics.vms.reaped(reaped.len(), left);
}

async fn maintain(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(MAINTENANCE) => {}
            () = core.stop.cancelled() => return,
        }
        look_for_leaks(&core).await;
        upkeep::retention::tidy(&core).await;
        if let Err(error) = intake::end_long_held(&core).await {
            tracing::error!(%error, "what nobody approved cannot be ended");
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
        let depot = core.depot.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || depot.tidy(SystemTime::now())).await {
            tracing::error!(%error, "what expired cannot be removed from the depot");
        }
        if let Err(error) = core.engine.caches().collect(core.config.caches).await {
            tracing::error!(%error, "old generations of caches cannot be removed");
        }
    }
}

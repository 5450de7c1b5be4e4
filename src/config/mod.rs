//! The operator's configuration: one TOML file with defaults for everything that can have one.
//!
//! Loading reports every mistake at once, each with file, key, place and remedy; a service never starts from a file that it
//! only half understood. Secrets are named in the file (`{ file = … }` or `{ env = … }`) and never stand in it; they are
//! read by [`Secrets::resolve`], a step of its own, so that a file can be checked where its secrets are not.
//!
//! Invariants of a loaded [`Config`]: no two profiles answer to the same labels; paths are absolute; every number is within
//! its range; every profile that a repository names exists.

mod actions;
mod caches;
mod certificates;
mod depot;
mod egress;
mod forges;
mod gitlab;
mod given;
mod load;
mod pools;
pub mod prepare;
mod registries;
pub mod reports;
mod repositories;
mod runner;
mod secrets;
mod sections;
mod select;
mod units;
mod values;
mod vm;

use crate::forge::RepoName;
use crate::host::cgroup::IoLimits;
use crate::host::uids::UidRange;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

pub use crate::caches::Retention;
use crate::net::egress::policy::{Narrowing, Policy};
use crate::report::Wanted;
pub use crate::vm::volume::CacheMode;
pub use actions::{Actions, DEFAULT_KEPT};
pub use caches::DEFAULT_RETENTION;
pub use certificates::read_certificates;
pub use depot::DepotLimits;
pub use forges::Addresses;
pub use gitlab::{GitLab, GitLabRunner};
pub use given::{Given, JobSecrets};
pub use load::{CheckReport, check};
pub use prepare::{Prepare, PreparedLimits};
pub use registries::{Registry, RegistryCredential, RegistryKind, Scoped};
pub use repositories::{Forks, RepositoryPattern, RepositorySettings};
pub use runner::{ActionsRunner, Executor, RunnerScope};
pub use secrets::{GitHubSecrets, GitLabSecrets, SYSTEMD_CREDENTIALS, SecretPlace, SecretRef, Secrets};
pub use select::{Nearest, NoProfile};
pub use units::{format_duration, format_size, parse_duration, parse_size, rough_size};

/// Everything that the operator decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file as the user named it; later complaints about the configuration name it again.
    pub file: String,
    pub server: Server,
    /// `None`: only GitLab is served.
    pub github: Option<GitHub>,
    /// In the order of the file; names are unique.
    pub gitlab: Vec<GitLab>,
    /// In the order of the file; names are unique.
    pub profiles: Vec<Profile>,
    /// In the order of the file; names are unique.
    pub registries: Vec<Registry>,
    pub limits: Limits,
    pub vm: Vm,
    pub log: Log,
    pub metrics: Metrics,
    pub prepared: PreparedLimits,
    pub caches: Retention,
    /// `[artifacts]` and `[actions_cache]`.
    pub depot: DepotLimits,
    /// What jobs of every repository are given.
    pub given: Given,
    pub actions: Actions,
}

/// `[server]`: what listens, and where state lives.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Address of the public listener.
    pub listen: SocketAddr,
    /// What links on the forge begin with; its path ends with a slash, so that [`Url::join`] works.
    pub public_url: Url,
    pub state_dir: PathBuf,
    /// Largest webhook body, in bytes.
    pub body_limit: u64,
}

impl Server {
    /// The socket of the commands that list or change anything.
    pub fn control_socket(&self) -> PathBuf {
        self.state_dir.join("control.sock")
    }
}

/// `[github]`: one GitHub, and as whom Dayfly speaks to it.
#[derive(Debug, Clone, PartialEq)]
pub struct GitHub {
    pub api_url: Url,
    pub url: Url,
    pub webhook_secret: SecretRef,
    pub credential: Credential<SecretRef>,
    /// Where workflows live in a repository, without slashes at its ends.
    pub workflows_dir: String,
    /// What becomes of the pull requests of forks.
    pub forks: Forks,
    /// How often the forge is asked for what its webhooks did not bring; `None`: never.
    pub sweep: Option<Duration>,
    /// Whose events count; empty: those of every repository that signs correctly.
    pub repositories: Vec<Repository>,
}

/// How Dayfly authenticates; `S` is a secret's place before it is resolved and the secret afterwards.
#[derive(Debug, Clone, PartialEq)]
pub enum Credential<S> {
    Token(S),
    /// A GitHub App: check runs need it.
    App {
        id: u64,
        private_key: S,
    },
}

/// One `[[github.repository]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Repository {
    pub pattern: RepositoryPattern,
    /// Overrides [`GitHub::workflows_dir`].
    pub workflows_dir: Option<String>,
    /// The only profiles that its jobs may have; `None`: all.
    pub profiles: Option<Vec<String>>,
    /// Other repositories that its jobs may fetch, with the credential that reads this one.
    pub submodules: Vec<RepoName>,
    /// Overrides [`GitHub::forks`].
    pub forks: Option<Forks>,
    /// What of the profile's egress its jobs may not have.
    pub egress: Option<Narrowing>,
    /// What its jobs are given beside [`Config::given`].
    pub given: Given,
    /// The same for jobs with this `environment`.
    pub environments: Vec<(String, Given)>,
}

/// `[profile.NAME]`: a kind of machine, and the labels by which jobs ask for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Letters of `[a-z0-9-]`, 1 to 40 of them.
    pub name: String,
    /// As written; compared without regard to case.
    pub labels: Vec<String>,
    pub image: String,
    pub vcpus: u32,
    /// Bytes, a multiple of 1 MiB.
    pub memory: u64,
    /// Size of the private scratch disk in bytes, a multiple of 1 MiB.
    pub disk: u64,
    /// After this time a job is ended, whatever its workflow says.
    pub timeout: Duration,
    /// Bytes of a job's log that are kept.
    pub log_limit: u64,
    pub cache: Option<Cache>,
    /// VMs that wait for their jobs; `None`: each is restored when its job comes.
    pub pool: Option<Pool>,
    /// What jobs of this profile find installed, in every repository that has the files of its key.
    pub prepare: Option<Prepare>,
    pub matrix_fork: MatrixFork,
    /// What its jobs may reach.
    pub egress: Policy,
    /// Files of its jobs that tell of tests, findings and coverage.
    pub reports: Vec<Wanted>,
    /// Whose jobs they are.
    pub executor: Executor,
}

/// How many VMs of a profile wait for their jobs, and how long at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Even without any demand.
    pub min: u32,
    /// At least 1, and not less than `min`.
    pub max: u32,
    /// An older one is replaced.
    pub max_age: Duration,
}

/// Whether the cells of a matrix have their common first steps run once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MatrixFork {
    /// Each cell runs all of its steps itself.
    #[default]
    Off,
    /// Where the steps allow it, one cell runs them, and the others start from its machine.
    Auto,
}

/// A volume that every VM of a profile sees, and none can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    pub source: CacheSource,
    /// An absolute path in the guest, not one that the system needs.
    pub mount: String,
    pub mode: CacheMode,
}

/// Where a cache's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheSource {
    /// A directory or a disk image on the host.
    Path(PathBuf),
    /// Jobs of the default branch.
    Named(NamedCache),
}

/// A cache in generations, each made by a trusted job of the default branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCache {
    /// Letters of `[a-z0-9-]`, 1 to 40 of them.
    pub name: String,
    /// The repository that fills it for every other; `None`: each repository has its own.
    pub repository: Option<RepoName>,
    /// How a generation is made; another one is when a file of the key changes.
    pub fill: Prepare,
    /// Bytes that a generation may hold, a multiple of 1 MiB.
    pub limit: u64,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// VMs at a time; 0: as many as the host bears.
    pub max_vms: u32,
    /// Bytes that the guests of all VMs together may have, a multiple of 1 MiB; `None`: what the host bears.
    pub memory: Option<u64>,
    /// vCPUs of all VMs together; 0: as many as the host bears.
    pub vcpus: u32,
    /// With fewer bytes free where `state_dir` is, no VM starts; `None`: a small part of that file system.
    pub disk_reserve: Option<u64>,
    pub max_jobs_per_run: u32,
    /// Unfinished jobs. While there are as many, events start no more, visibly; one event's jobs may exceed it.
    pub queue: u32,
    /// How often a job is started when its VM, not its steps, failed.
    pub attempts: u32,
    pub delivery_retention: Duration,
    pub log_retention: Duration,
    /// How long a job that is stopped may clean up.
    pub grace: Duration,
    /// How long jobs that run may go on when the service is stopped.
    pub drain: Duration,
}

/// `[vm]`: what runs the machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    pub backend: Backend,
    /// A program's name, looked up in `PATH`, or its path.
    pub qemu: PathBuf,
    pub firecracker: Firecracker,
    pub images_dir: PathBuf,
    /// More directories with image recipes; those that are built in need none.
    pub recipes_dir: Vec<PathBuf>,
    /// Users that monitors run as, each for one VM at a time.
    pub uids: UidRange,
    /// What each VM may ask of the disk.
    pub io: IoLimits,
    /// Whether to serve only where monitors are wholly confined.
    pub require_confinement: bool,
}

/// `[vm.firecracker]`: programs' names, looked up in `PATH`, or their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firecracker {
    pub binary: PathBuf,
    pub jailer: PathBuf,
}

/// Which virtual machine monitor, with which accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The best one that proves itself on this host.
    Auto,
    QemuKvm,
    QemuTcg,
    /// Firecracker in its jail, with KVM.
    Firecracker,
}

/// `[log]`: the service's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Directives of `tracing_subscriber::EnvFilter`, checked.
    pub filter: String,
    pub format: LogFormat,
}

/// `[metrics]`: what Prometheus reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    pub enabled: bool,
    /// A listener for the metrics alone; without it they are on the public one.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// The profile of that name.
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }
}

/// The directory against which relative paths of `file` are resolved.
fn directory_of(file: &Path) -> &Path {
    file.parent().unwrap_or_else(|| Path::new(""))
}

#[cfg(test)]
mod tests;

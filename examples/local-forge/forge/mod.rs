//! A small GitHub on loopback, for tests and for trying Dayfly without an account.
//!
//! It is stateful and strict rather than complete: it serves what Dayfly uses, over a real bare git repository, and refuses
//! what GitHub would refuse (bad credentials, odd states, texts over the limit), so that a client which works here has a
//! reason to work there. The REST API is under `/api/v3`, as on an Enterprise Server; git is under `/OWNER/NAME`.
//!
//! It keeps everything in memory and one temporary directory, and stops with the tokio runtime.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a library to two crates, neither of which uses all of it"
)]

mod apps;
mod checks;
mod contents;
mod credentials;
mod deliveries;
mod faults;
mod git;
mod git_http;
mod limits;
mod payloads;
mod people;
mod pulls;
mod renames;
mod runners;
mod server;
mod state;
mod statuses;
mod transcript;
mod webhook;
mod workflow_jobs;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::deliveries::Attempt;
pub use self::faults::{Fault, FaultKind};
use self::git::Bare;
pub use self::payloads::Pushed;
pub use self::pulls::{NewPullRequest, PullRequest};
pub use self::runners::Runner;
pub use self::state::{CheckRun, Grant, Status, Write, WriteKind};
use self::state::{Repository, Shared, State};
pub use self::transcript::Exchange;
pub use self::webhook::{DeliveryAnswer, Webhook};
pub use self::workflow_jobs::{NewWorkflowJob, WorkflowJob};

/// The App's private key. Everybody knows it: it opens nothing but this forge.
pub const APP_PRIVATE_KEY: &str = include_str!("app-private-key.pem");

/// Who this forge knows, and where it listens.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    pub app_id: u64,
    pub installation: u64,
    /// Permissions and events that the App was not given.
    pub lacks: &'static [&'static str],
    /// Whether [`Forge::exchanges`] are kept.
    pub is_recorded: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            app_id: 4711,
            installation: 815,
            lacks: &[],
            is_recorded: false,
        }
    }
}

/// A running forge. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Forge {
    shared: Arc<Shared>,
}

impl Forge {
    /// Starts listening.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::start_with(options, |_| Router::new()).await
    }

    /// Starts listening, with more routes than a forge has.
    pub async fn start_with(options: Options, more: impl FnOnce(&Forge) -> Router) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let forge = Self {
            shared: Arc::new(Shared {
                address: listener.local_addr()?,
                directory: tempfile::Builder::new().prefix("local-forge-").tempdir()?,
                plain_token: credentials::random_token("ghp_"),
                state: Mutex::new(State::default()),
                changed: watch::Sender::new(()),
                options,
            }),
        };
        let router = server::router(Arc::clone(&forge.shared)).merge(more(&forge));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(forge)
    }

    /// Where git and people go: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    /// Where the REST API is.
    pub fn api_url(&self) -> String {
        self.shared.api_url()
    }

    /// The App that is installed in every repository here; its key is [`APP_PRIVATE_KEY`].
    pub fn app_id(&self) -> u64 {
        self.shared.options.app_id
    }

    /// The App's one installation.
    pub fn installation(&self) -> u64 {
        self.shared.options.installation
    }

    /// A person's token: may do everything but check runs.
    pub fn plain_token(&self) -> String {
        self.shared.plain_token.clone()
    }

    /// What was asked of the REST API, and what it answered, oldest first; only what it answered itself, and no faults.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.state().exchanges.clone()
    }

    /// Creates `owner/name` with an empty repository.
    pub async fn create_repository(&self, name: &str) -> io::Result<()> {
        let bare = Bare::create(self.shared.bare_path(name)).await?;
        let mut state = self.shared.state();
        let id = state.next_id();
        let (name, roles) = (name.to_owned(), BTreeMap::new());
        state.repositories.push(Repository { id, name, bare, pulls: Vec::new(), roles });
        Ok(())
    }

    /// Commits `files` on top of `branch`, which is made if it does not exist, and returns the commit's id. The same calls
    /// give the same ids: author and times are fixed.
    pub async fn commit(
        &self, repository: &str, branch: &str, files: &[(&str, &str)], message: &str,
    ) -> io::Result<String> {
        let bare = self.shared.bare(repository)?;
        let reference = format!("refs/heads/{branch}");
        let parent = bare.resolve(&reference).await?;
        bare.commit(&reference, parent.as_deref(), files, message).await
    }

    /// The commit that a branch points to, if it exists.
    pub async fn branch(&self, repository: &str, branch: &str) -> io::Result<Option<String>> {
        self.shared.bare(repository)?.resolve(&format!("refs/heads/{branch}")).await
    }

    /// Lets the next calls that match go wrong.
    pub fn inject(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// Lets everything go well again.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Makes all minted tokens invalid, as when an App's permissions change.
    pub fn revoke_tokens(&self) {
        self.shared.state().tokens.clear();
    }

    /// What minted tokens may do, in the order of minting, revoked ones excluded.
    pub fn grants(&self) -> Vec<Grant> {
        self.shared.state().tokens.values().cloned().collect()
    }

    /// Everything that was accepted, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.state().writes.clone()
    }

    /// All check runs, oldest first.
    pub fn check_runs(&self) -> Vec<CheckRun> {
        self.shared.state().check_runs.clone()
    }

    /// The statuses of a commit, oldest first.
    pub fn statuses(&self, sha: &str) -> Vec<Status> {
        self.shared.state().statuses.iter().filter(|status| status.sha == sha).cloned().collect()
    }

    /// Waits until the newest status of `context` at `sha` is as expected; after `deadline` tells what was there instead.
    pub async fn wait_for_status(
        &self, sha: &str, context: &str, expected: impl Fn(&Status) -> bool, deadline: Duration,
    ) -> Result<Status, String> {
        let newest = |state: &State| {
            state.statuses.iter().rev().find(|status| status.sha == sha && status.context == context).cloned()
        };
        let found = self.wait_for(|state| newest(state).filter(&expected), deadline).await;
        found.ok_or_else(|| {
            format!("within {deadline:?} `{context}` at {sha} became {:#?}", newest(&self.shared.state()))
        })
    }

    /// Waits until a check run is as expected; after `deadline` tells which there were instead.
    pub async fn wait_for_check_run(
        &self, expected: impl Fn(&CheckRun) -> bool, deadline: Duration,
    ) -> Result<CheckRun, String> {
        let found = self.wait_for(|state| state.check_runs.iter().rev().find(|run| expected(run)).cloned(), deadline);
        found.await.ok_or_else(|| format!("within {deadline:?} there were {:#?}", self.check_runs()))
    }

    async fn wait_for<T>(&self, find: impl Fn(&State) -> Option<T>, deadline: Duration) -> Option<T> {
        let mut changed = self.shared.changed.subscribe();
        tokio::time::timeout(deadline, async {
            loop {
                let found = find(&self.shared.state());
                if let Some(found) = found {
                    return found;
                }
                changed.changed().await.expect("the sender lives in `self`");
            }
        })
        .await
        .ok()
    }
}

//! A small GitLab on loopback, for tests and for trying Dayfly without an account.
//!
//! It is stateful and strict rather than complete. It hands out jobs, takes traces, states and artifacts as GitLab does, and
//! refuses what GitLab would refuse. What a correct runner never does is kept as a violation: tests look that there is none.
//! It goes wrong on demand in every way that the protocol provides for.
//!
//! It keeps everything in memory and stops with the tokio runtime.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::duplicate_mod,
    clippy::result_large_err,
    reason = "a library to several crates, none of which uses all of it"
)]

mod artifacts;
mod faults;
mod jobs;
mod runner;
mod state;
mod trace;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, patch, post, put};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::artifacts::Artifact;
pub use self::faults::{Fault, FaultKind};
pub use self::state::{Job, JobState};
use self::state::{Shared, State};

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 256 << 20;

/// How this GitLab behaves.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    /// Whether a job waits for its runner's acknowledgement, where the runner offers that.
    pub two_phase: bool,
    /// After how long without a word a job that waits for its runner comes back.
    pub ack_timeout: Duration,
    /// Seconds between two patches of a trace.
    pub update_interval: u64,
    /// How often a final state is answered by 202 before it is taken.
    pub accepts_first: u32,
    /// How long a request for a job may be held back that knows the newest state.
    pub long_poll: Duration,
    /// Bytes of one artifact.
    pub max_artifact: usize,
    /// Whether uploads are sent to another address of the same origin (307).
    pub redirects_uploads: bool,
    /// Whether downloads are sent to a store of files (302).
    pub redirects_downloads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            two_phase: false,
            ack_timeout: Duration::from_secs(120),
            update_interval: 1,
            accepts_first: 0,
            long_poll: Duration::from_millis(500),
            max_artifact: 64 << 20,
            redirects_uploads: false,
            redirects_downloads: false,
        }
    }
}

/// A running GitLab. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct GitLab {
    shared: Arc<Shared>,
}

impl GitLab {
    /// Starts listening.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::start_with(options, |_| Router::new()).await
    }

    /// Starts listening, with more routes than runners need.
    pub async fn start_with(options: Options, more: impl FnOnce(&GitLab) -> Router) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let state = Mutex::new(State::default());
        let gitlab = Self { shared: Arc::new(Shared { address, state, changed: watch::Sender::new(0), options }) };
        let router = router(Arc::clone(&gitlab.shared)).merge(more(&gitlab));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(gitlab)
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// Makes a runner; gives its token.
    pub fn add_runner(&self) -> String {
        self.shared.change(|state| {
            let token = state::random_token("glrt-");
            state.runners.push(token.clone());
            token
        })
    }

    /// Forgets a runner.
    pub fn remove_runner(&self, token: &str) {
        self.shared.change(|state| state.runners.retain(|one| one != token));
    }

    /// Plans a job; gives its number. `description` is what the runner gets, with id and token added and with what every
    /// job has where it says nothing else; see [`Job::description`].
    pub fn add_job(&self, description: Value) -> u64 {
        let url = self.url();
        self.shared.change(|state| state.add_job(&url, description))
    }

    /// A job as it is now.
    pub fn job(&self, id: u64) -> Job {
        self.shared.state().job(id).expect("only jobs that were added are asked for").clone()
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> Vec<Job> {
        self.shared.state().jobs.clone()
    }

    /// Waits until a job is as expected; after `deadline` tells what it was instead.
    pub async fn wait_for_job(
        &self, id: u64, is_expected: impl Fn(&Job) -> bool, deadline: Duration,
    ) -> Result<Job, String> {
        let mut changes = self.shared.changed.subscribe();
        let found = async {
            loop {
                let job = self.job(id);
                if is_expected(&job) {
                    return job;
                }
                changes.changed().await.expect("this GitLab has the sender");
            }
        };
        let found = tokio::time::timeout(deadline, found).await;
        found.map_err(|_| format!("within {deadline:?} job {id} became {:#?}", self.job(id)))
    }

    /// A person presses "Cancel": the script stops and `after_script` runs, or, if it is not `gracefully`, nothing does.
    pub fn cancel(&self, id: u64, gracefully: bool) {
        self.shared.change(|state| state.cancel(id, gracefully));
    }

    /// Gives a job that waits for its runner's acknowledgement to another runner.
    pub fn take_away(&self, id: u64) {
        self.shared.change(|state| state.take_away(id));
    }

    /// Forgets all of a trace but its first bytes.
    pub fn lose_trace(&self, id: u64, keeps: usize) {
        self.shared.change(|state| state.job_mut(id).expect("the job was added").trace.truncate(keeps));
    }

    /// What a correct runner would not have done.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// How many requests had a method and a path that contains this, those that went wrong included.
    pub fn requests(&self, method: &str, path_contains: &str) -> usize {
        let state = self.shared.state();
        state.requests.iter().filter(|(verb, path)| verb == method && path.contains(path_contains)).count()
    }

    /// How many requests there were.
    pub fn all_requests(&self) -> usize {
        self.shared.state().requests.len()
    }

    /// Lets the next calls that match go wrong.
    pub fn inject(&self, fault: Fault) {
        self.shared.change(|state| state.faults.push(fault));
    }

    /// Lets so many of a thousand requests of runners go wrong, in ways that follow from `seed`.
    pub fn go_wrong_at_random(&self, seed: u64, permille: u64) {
        self.shared.change(|state| state.chance = Some(faults::Chance::new(seed, permille)));
    }

    /// Lets everything go well again.
    pub fn clear_faults(&self) {
        self.shared.change(|state| {
            state.faults.clear();
            state.chance = None;
        });
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let api = Router::new()
        .route("/runners/verify", post(runner::verify))
        .route("/jobs/request", post(runner::request_job))
        .route("/jobs/{id}", put(jobs::update))
        .route("/jobs/{id}/trace", patch(trace::append))
        .route("/jobs/{id}/artifacts", post(artifacts::upload).get(artifacts::download))
        .layer(from_fn_with_state(Arc::clone(&shared), faults::apply));
    Router::new()
        .nest("/api/v4", api)
        .route("/_storage/{id}", get(artifacts::stored))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

//! One runner: asks its GitLab for jobs while there is room for them, and stores what it gets before anything else.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use super::acceptance::{Accepted, Taker, Unusable, read, run_of};
use super::bureau::{Bureau, Place};
use super::client::{Asked, Client, ClientError, RunnerInfo};
use super::polling::{Heard, Polling};
use super::wire::Token;
use crate::clock;
use crate::ids::JobId;
use crate::metrics::labels::{GitLabCall, GitLabJob};
use crate::scheduler::Claim;
use crate::store::{JobState, NewForeign, NewRun, StoreError};

/// How long an answer may take that is waited for when the service drains.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// How often GitLab may give the same job to this host, after it gave it to others.
const MOST_RETURNS: u32 = 10;
/// Between two tries to store a job, which GitLab has given away by then.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Tries to store a job.
const STORE_TRIES: u32 = 30;

/// A runner as it is configured.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The GitLab's name here.
    pub instance: String,
    pub name: String,
    pub token: SecretString,
    pub profile: String,
    /// Jobs at a time; `None`: as many as there is room for.
    pub limit: Option<u32>,
}

/// What is to be done for a job.
#[derive(Debug)]
pub(super) enum Work {
    /// With its place among the sessions, so that it counts from the moment that it was taken.
    Accompany(JobId, Option<Place>),
    Refuse {
        client: Arc<Client>,
        id: u64,
        token: SecretString,
        why: String,
    },
}

/// What this runner can do. What is not here, GitLab does not ask of it, or handles itself.
pub(crate) fn runner_info() -> RunnerInfo {
    RunnerInfo {
        name: "dayfly",
        version: env!("CARGO_PKG_VERSION"),
        platform: "linux",
        architecture: if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        executor: "dayfly",
        shell: "bash",
        features: json!({
            "variables": true, "raw_variables": true, "masking": true, "artifacts": true, "artifacts_exclude": true,
            "upload_multiple_artifacts": true, "upload_raw_artifacts": true, "cache": true, "fallback_cache_keys": true,
            "refspecs": true, "multi_build_steps": true, "return_exit_code": true, "cancelable": true, "cancel_gracefully": true,
            "trace_reset": true, "trace_checksum": true, "trace_size": true, "two_phase_job_commit": true,
            "image": true, "services": true, "session": false, "terminal": false, "shared": false, "proxy": false,
            "vault_secrets": false, "service_variables": true, "service_multiple_aliases": true,
            "native_steps_integration": false, "job_inputs": false,
        }),
    }
}

/// Asks for jobs until the service drains. A question that is out then has a moment more: its answer may be a job.
pub(super) async fn run(
    bureau: Arc<Bureau>, client: Arc<Client>, runner: Runner, is_alone: bool, work: UnboundedSender<Work>,
) {
    let asking = Asking {
        bureau: &bureau,
        client,
        runner,
        info: runner_info(),
        is_alone,
        work,
        wanted: Duration::ZERO,
        last_update: String::new(),
        is_refused: false,
    };
    let asking = asking.run();
    tokio::pin!(asking);
    tokio::select! {
        () = &mut asking => {}
        () = bureau.drain.cancelled() => drop(tokio::time::timeout(LAST_ANSWER, asking).await),
    }
}

struct Asking<'a> {
    bureau: &'a Arc<Bureau>,
    client: Arc<Client>,
    runner: Runner,
    info: RunnerInfo,
    /// No other runner of this service asks for jobs.
    is_alone: bool,
    work: UnboundedSender<Work>,
    /// How long GitLab wanted to be left alone, when it answered last.
    wanted: Duration,
    last_update: String,
    is_refused: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.note_refusal(false);
    }
}

impl Asking<'_> {
    async fn run(mut self) {
        let drain = self.bureau.drain.clone();
        let mut polling = Polling::default();
        loop {
            let heard = self.verify().await;
            if heard == Heard::Nothing {
                break;
            }
            let wait = polling.wait_after(heard, clock::jitter()).max(self.wanted);
            if drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
        tracing::info!(runner = self.runner.name, gitlab = self.runner.instance, "the runner asks for jobs");
        while let Some(claim) = drain.run_until_cancelled(self.room()).await {
            let heard = self.ask(claim).await;
            let wait = polling.wait_after(heard, clock::jitter()).max(self.wanted);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.bureau.wake.gitlab.notified(), if polling.may_be_woken(heard) => {}
                () = drain.cancelled() => return,
            }
        }
    }

    /// Whether GitLab knows the runner.
    async fn verify(&mut self) -> Heard {
        let verified = self.client.verify(&self.runner.token, &self.bureau.system_id, &self.info).await;
        self.bureau.metrics.called(GitLabCall::Verify, &verified, |_| 200);
        self.judge(&verified);
        match verified {
            Ok(None) => Heard::Nothing,
            Ok(Some(expires_at)) => {
                let (runner, gitlab) = (&self.runner.name, &self.runner.instance);
                tracing::warn!(
                    runner,
                    gitlab,
                    expires_at,
                    "the runner's token is good for a time only, and is not renewed\n  hint: create the runner anew before that, or have \
                     GitLab's administrators set no expiration for runner tokens"
                );
                Heard::Nothing
            }
            Err(ClientError::Forbidden { .. }) => Heard::Refused,
            Err(_) => Heard::Unavailable,
        }
    }

    /// Says once that GitLab refuses the runner, and once that it does no longer.
    fn judge<T>(&mut self, answered: &Result<T, ClientError>) {
        self.wanted = answered.as_ref().err().and_then(ClientError::retry_after).unwrap_or_default();
        let (runner, gitlab) = (&self.runner.name, &self.runner.instance);
        match answered {
            Err(error @ ClientError::Forbidden { .. }) if !self.is_refused => {
                tracing::error!(
                    runner, gitlab, %error,
                    "GitLab does not take the runner's token\n  hint: was the runner deleted? Its token begins with `glrt-` and is shown \
                     when the runner is created"
                );
                self.note_refusal(true);
            }
            Ok(_) if self.is_refused => {
                tracing::info!(runner, gitlab, "GitLab takes the runner's token again");
                self.note_refusal(false);
            }
            Err(error) if error.is_transient() => tracing::debug!(runner, gitlab, %error, "GitLab was not reached"),
            Err(error) if !self.is_refused => tracing::warn!(runner, gitlab, %error, "GitLab's answer is of no use"),
            _ => {}
        }
    }

    fn note_refusal(&mut self, is_refused: bool) {
        if self.is_refused != is_refused {
            self.is_refused = is_refused;
            self.bureau.metrics.refused_runners(if is_refused { 1 } else { -1 });
        }
    }

    /// Waits until a job could start and the runner may have one more.
    async fn room(&self) -> Claim {
        let limit = self.runner.limit.map_or(usize::MAX, |limit| limit as usize);
        let name = format!("{}/{}", self.runner.instance, self.runner.name);
        let mut sessions = self.bureau.gitlabs.sessions().changes();
        loop {
            sessions.mark_unchanged();
            let changed = self.bureau.openings.changed();
            if self.bureau.gitlabs.sessions().of_runner(&name) < limit
                && let Some(claim) = self.bureau.openings.claim(&self.runner.profile)
            {
                return claim;
            }
            tokio::select! {
                () = changed => {}
                _ = sessions.changed() => {}
                // What changed between the look and the wait is seen then.
                () = tokio::time::sleep(super::polling::INTERVAL) => {}
            }
        }
    }

    /// One question. Whatever it brings is in the store when this returns.
    async fn ask(&mut self, claim: Claim) -> Heard {
        let Self { bureau, client, runner, info, .. } = &*self;
        // GitLab may hold the answer back from who knows the newest state, and with it the room that others could use.
        let may_wait = self.is_alone || !bureau.openings.are_taken();
        let mut last_update = if may_wait { self.last_update.clone() } else { String::new() };
        let asked = client.request_job(&runner.token, &bureau.system_id, info, &mut last_update).await;
        bureau.metrics.called(GitLabCall::RequestJob, &asked, |asked| match asked {
            Asked::Job(_) => 201,
            Asked::Nothing => 204,
            Asked::Conflict => 409,
        });
        self.last_update = last_update;
        self.judge(&asked);
        match asked {
            Ok(Asked::Job(description)) => self.take(&description, claim).await,
            Ok(Asked::Nothing) => Heard::Nothing,
            Ok(Asked::Conflict) => Heard::Conflict,
            Err(ClientError::Forbidden { .. }) => Heard::Refused,
            Err(_) => Heard::Unavailable,
        }
    }

    /// A job was given to us. GitLab takes it as such, so that it has to be told what becomes of it. What is none, or was given
    /// before, is no reason to ask again at once.
    async fn take(&self, description: &[u8], claim: Claim) -> Heard {
        let Runner { instance, name, profile, .. } = &self.runner;
        let taker = Taker { instance, runner: name, profile, public_url: &self.bureau.public_url };
        let accepted = read(description).and_then(|job| run_of(taker, &job, clock::now_ms()));
        let work = match accepted {
            Ok(accepted) => match self.store(&accepted).await {
                Ok(Some(job)) => {
                    claim.fill();
                    self.bureau.metrics.job(GitLabJob::Accepted);
                    tracing::info!(%job, gitlab_job = accepted.foreign.external_id, runner = name, "GitLab gave a job");
                    let place = self.bureau.gitlabs.sessions().enter(&job, &format!("{instance}/{name}"));
                    Work::Accompany(job, place)
                }
                Ok(None) => {
                    tracing::warn!(gitlab_job = accepted.foreign.external_id, "GitLab gave a job twice");
                    return Heard::Nothing;
                }
                Err(error) => {
                    tracing::error!(gitlab_job = accepted.foreign.external_id, %error, "a job could not be stored");
                    let job = read(description).ok().map(|job| (job.id, job.token));
                    self.refusal(job, "This runner could not store the job".to_owned())
                }
            },
            Err(Unusable { job, why }) => self.refusal(job, why),
        };
        let heard = match &work {
            Work::Accompany(..) => Heard::Job,
            // Something that is no GitLab answers in its place.
            Work::Refuse { id: 0, .. } => Heard::Unavailable,
            Work::Refuse { .. } => Heard::Nothing,
        };
        // Nobody takes it only at the very end of the service.
        self.work.send(work).ok();
        self.bureau.wake.scheduler.notify_one();
        heard
    }

    fn refusal(&self, job: Option<(u64, Token)>, why: String) -> Work {
        let (id, token) = job.unwrap_or_default();
        Work::Refuse { client: Arc::clone(&self.client), id, token: token.expose().to_owned().into(), why }
    }

    /// `None` if the job is here already, and has not ended.
    async fn store(&self, accepted: &Accepted) -> Result<Option<JobId>, StoreError> {
        let Accepted { run, foreign } = accepted;
        for number in 1..=MOST_RETURNS {
            let mut foreign = foreign.clone();
            if number > 1 {
                // It went to another runner, or was let go here, and comes back.
                foreign.external_id = format!("{}.{number}", foreign.external_id);
            }
            if let Some(job) = self.store_once(run, &foreign).await? {
                return Ok(Some(job));
            }
            if self.is_here(&foreign).await? {
                break;
            }
        }
        Ok(None)
    }

    /// Tries for a while: a full disk, say, is a reason to wait rather than to fail the job.
    async fn store_once(&self, run: &NewRun, foreign: &NewForeign) -> Result<Option<JobId>, StoreError> {
        let mut tried = 1;
        loop {
            match self.bureau.store.accept_foreign(run.clone(), foreign.clone(), clock::now_ms()).await {
                Err(error) if tried < STORE_TRIES => {
                    tracing::warn!(%error, tried, "a job could not be stored yet");
                    tokio::time::sleep(STORE_RETRY).await;
                    tried += 1;
                }
                ended => return ended,
            }
        }
    }

    /// Whether a job that was given before is the one that is given now, and is still to be run.
    async fn is_here(&self, given: &NewForeign) -> Result<bool, StoreError> {
        let store = &self.bureau.store;
        let unsettled = store.unsettled_foreign(Some(&given.source)).await?;
        let Some(known) = unsettled.into_iter().find(|known| known.external_id == given.external_id) else {
            return Ok(false);
        };
        let is_same = known.request["job"]["token"] == given.request["job"]["token"];
        let job = store.job(&known.job).await?;
        Ok(is_same && job.is_some_and(|job| job.state != JobState::Finished && !job.cancel_requested))
    }
}

//! What the store keeps, as the rest of Dayfly sees it. Times are milliseconds since the epoch.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::called::CalledWorkflow;
use super::origin::{FIRST_RUN_ATTEMPT, GroupPlace, Origin};
use super::transitions::{DeliveryState, JobState, VmState};
use crate::forge::{CommitSha, Conclusion, Earlier, ExternalIds, RepoAccess, RepoName, Report};
use crate::ids::{JobId, LogToken, ReportId, RunId, VmId};

/// Which delivery: the forge's word for itself (`github`) and its id of the delivery.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryKey {
    pub forge: String,
    pub id: String,
}

impl std::fmt::Display for DeliveryKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.forge, self.id)
    }
}

/// A verified webhook, as it arrived.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    pub key: DeliveryKey,
    pub event: String,
    pub received_at: i64,
    /// The raw body; its size is limited where it is received.
    pub payload: Vec<u8>,
}

/// What accepting a delivery found. The delivery is durable in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Seen for the first time: process it.
    New,
    /// Known, but never processed to an end: process it.
    Again,
    /// Already dealt with: nothing to do.
    Duplicate,
}

/// A stored delivery without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub key: DeliveryKey,
    pub event: String,
    pub received_at: i64,
    /// Its place in the order of events, in milliseconds since the epoch: when it was received, or, of one that was asked for
    /// again, when the forge tried to deliver it before that.
    pub arrived_at: i64,
    pub state: DeliveryState,
    /// Why it failed, was ignored or is invalid; of one that waits for another try, why the last one failed.
    pub detail: String,
    /// Tries that failed.
    pub tries: u32,
    /// Those of `tries` in which the forge did answer, but refused or did not find what was asked for.
    pub denials: u32,
    /// Nothing is tried before.
    pub next_try_at: i64,
}

/// How many deliveries are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    pub received: u64,
    pub processed: u64,
    pub ignored: u64,
    pub failed: u64,
    pub invalid: u64,
}

/// One workflow file that an event starts.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub id: RunId,
    /// The forge's word for itself.
    pub forge: String,
    pub access: RepoAccess,
    pub event: String,
    pub sha: CommitSha,
    /// Path in the repository. With the delivery it identifies the run: a second run of the same pair is not created.
    pub workflow_path: String,
    pub workflow_name: String,
    /// What jobs are evaluated with; opaque here.
    pub context: Value,
    pub origin: Origin,
    /// What the forge shows for the run itself: a workflow that cannot be read, a run that is held.
    pub report: Option<Report>,
    /// The workflows that its jobs are, however indirectly.
    pub called: Vec<CalledWorkflow>,
    pub jobs: Vec<NewJob>,
}

/// One job of a [`NewRun`]. It starts in [`JobState::Waiting`].
#[derive(Debug, Clone)]
pub struct NewJob {
    pub id: JobId,
    /// The job's key in the workflow; cells of a matrix share it.
    pub key: String,
    pub name: String,
    /// How to run it; opaque here.
    pub spec: Value,
    pub needs: Vec<String>,
    /// The profile that takes it, if one does.
    pub profile: Option<String>,
    pub log_token: LogToken,
    pub report: Report,
    pub telling: Telling,
    /// Set for a job that cannot run at all: it is stored as finished.
    pub outcome: Option<Outcome>,
}

/// When the forge is told of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Telling {
    #[default]
    AtOnce,
    /// Only if it ends as it is: others may take its place.
    IfItEndsSo,
    /// Never by its report: it is a job of the forge's own, which is told in another way.
    Never,
}

/// A stored run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    /// The forge's word for itself.
    pub forge: String,
    pub delivery: DeliveryKey,
    pub access: RepoAccess,
    pub event: String,
    pub sha: CommitSha,
    pub workflow_path: String,
    pub workflow_name: String,
    pub context: Value,
    pub origin: Origin,
    /// Counts the runs of this workflow file in this repository, from 1. A re-run keeps it.
    pub number: u64,
    pub created_at: i64,
}

impl Run {
    /// The first run of those that repeat each other: what a person sees as one run.
    pub fn root(&self) -> &RunId {
        self.origin.rerun.as_ref().map_or(&self.id, |rerun| &rerun.root)
    }

    /// Counts from 1.
    pub fn attempt(&self) -> u32 {
        self.origin.rerun.as_ref().map_or(FIRST_RUN_ATTEMPT, |rerun| rerun.attempt)
    }
}

/// A stored job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub run: RunId,
    pub key: String,
    pub name: String,
    pub spec: Value,
    pub needs: Vec<String>,
    pub profile: Option<String>,
    pub state: JobState,
    /// Counts from 1.
    pub attempt: u32,
    /// The VM of the current attempt, once it is leased.
    pub vm: Option<VmId>,
    /// Present exactly when the state is [`JobState::Finished`].
    pub outcome: Option<Outcome>,
    /// `null` until the job finishes.
    pub outputs: Value,
    pub log_token: LogToken,
    pub report: ReportId,
    pub created_at: i64,
    pub queued_at: Option<i64>,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub cancel_requested: bool,
    /// Who or what asked for its end, as its outcome will say it.
    pub cancel_why: Option<String>,
}

/// A job as the scheduler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduledJob {
    pub id: JobId,
    pub run: RunId,
    pub repo: RepoName,
    pub key: String,
    pub needs: Vec<String>,
    pub profile: Option<String>,
    pub state: JobState,
    pub attempt: u32,
    pub vm: Option<VmId>,
    pub created_at: i64,
    pub queued_at: Option<i64>,
    pub cancel_requested: bool,
    pub cancel_why: Option<String>,
    /// Of a call whose jobs are there: what their keys begin with.
    pub inner_prefix: Option<String>,
    /// The concurrency group that it is in by itself, and since when.
    pub own_group: Option<(String, i64)>,
    /// The concurrency group of its run, and the run's place in it.
    pub group: Option<GroupPlace>,
    /// Present exactly when the state is [`JobState::Finished`].
    pub conclusion: Option<Conclusion>,
}

/// A job as a list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedJob {
    pub id: JobId,
    pub run: RunId,
    pub repo: RepoName,
    pub sha: CommitSha,
    pub event: String,
    pub workflow_name: String,
    pub run_number: u64,
    pub name: String,
    pub profile: Option<String>,
    pub state: JobState,
    pub attempt: u32,
    pub vm: Option<VmId>,
    pub outcome: Option<Outcome>,
    pub log_token: LogToken,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
}

/// Which jobs a list shows; absent fields do not restrict.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub repo: Option<RepoName>,
    pub sha: Option<CommitSha>,
    pub state: Option<JobState>,
    /// Only jobs that have not finished.
    pub is_unfinished: bool,
    pub conclusion: Option<Conclusion>,
    pub profile: Option<String>,
    /// The workflow's name.
    pub workflow: Option<String>,
}

/// Which deliveries a list shows; absent fields do not restrict.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    pub state: Option<DeliveryState>,
    pub event: Option<String>,
    /// What the forge's id of the delivery begins with.
    pub id_prefix: Option<String>,
}

/// What a delivery started.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    pub runs: u64,
    /// The jobs of all of them.
    pub jobs: u64,
    /// Of a run itself: it is or was held, or its workflow does not read. One of them, if there are several.
    pub report: Option<Report>,
}

/// What became of the wish to have a delivery processed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reopened {
    /// It is due now.
    Due,
    /// It stays as it is: its runs exist, or it is not what the forge documents.
    Not(DeliveryState),
}

/// How an attempt of a job ended. Stored once, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub conclusion: Conclusion,
    /// Why, where it was not the job's own steps that decided.
    pub reason: Option<Reason>,
    /// For people.
    pub detail: String,
}

/// Why a job ended as it did, where its steps alone do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It ran longer than its limit.
    Timeout,
    /// Its VM had no memory left.
    OutOfMemory,
    /// Its VM ended, and neither the guest nor the host said why.
    VmLost,
    /// The guest switched its machine off, or restarted it.
    PoweredOff,
    /// The guest's kernel gave up.
    KernelPanic,
    /// The guest did not answer in time.
    Unresponsive,
    /// The guest broke the protocol between host and guest. Only a guest that was tampered with does.
    GuestMisbehaved,
    /// A step failed, and the machine's disk was full.
    GuestDiskFull,
    /// Somebody, or a newer run, asked for its end.
    Cancelled,
    /// No profile has the labels that it asks for.
    NoProfile,
    /// Its workflow cannot be evaluated.
    Workflow,
    /// Its image is missing or does not start.
    Image,
    /// The host's disk was full.
    DiskFull,
    /// A fault of Dayfly.
    Internal,
    /// The service restarted while it ran, and it had no attempt left.
    ServiceRestarted,
    /// GitHub's runner did not become one, or did not end as one does.
    Runner,
    /// A job that it needs did not succeed, or its condition is not met.
    Skipped,
}

/// Whether [`Store::finish_job`](super::Store::finish_job) stored the outcome or found it stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// Stored now.
    Now,
    /// The same outcome was stored before.
    Before,
}

/// What became of a job that lost its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeued {
    /// It is queued again, with this attempt number.
    Queued { attempt: u32 },
    /// It has used all its attempts and is unchanged: finish it.
    Exhausted,
}

/// A report and how far it got on its way to the forge.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReport {
    /// What the forge shall show; its `log` is empty.
    pub desired: Report,
    /// The forge's word for itself.
    pub forge: String,
    pub run: RunId,
    pub job: Option<JobId>,
    /// Rises with every change of `desired`.
    pub version: u64,
    /// The last version that the forge acknowledged; 0 for none.
    pub sent_version: u64,
    pub external: ExternalIds,
    /// Whether a call was started whose answer is not known.
    pub uncertain: bool,
    /// Failed calls since the last success.
    pub tries: u32,
    pub next_try_at: i64,
    /// Why this version will not be sent.
    pub abandoned: Option<String>,
}

impl StoredReport {
    /// What the forge's client must assume about earlier calls.
    pub fn earlier(&self) -> Earlier {
        if self.uncertain { Earlier::Uncertain } else { Earlier::None }
    }
}

/// A stored VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    pub id: VmId,
    pub job: JobId,
    pub attempt: u32,
    pub state: VmState,
    pub created_at: i64,
    pub gone_at: Option<i64>,
}

/// One line of a job's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvent {
    pub attempt: u32,
    /// Microseconds since the epoch.
    pub at_us: i64,
    pub kind: String,
    pub detail: String,
}

/// How long ended things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub deliveries: std::time::Duration,
    /// Runs with all that belongs to them.
    pub runs: std::time::Duration,
}

/// How much was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub deliveries: u64,
    pub runs: u64,
}

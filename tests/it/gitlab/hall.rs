//! A GitLab, the part of the service that is its runner, and machines that are none: they write what they are told to, and a
//! verdict.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dayfly::core::Wake;
use dayfly::forge::Conclusion;
use dayfly::gitlab::client::Client;
use dayfly::gitlab::{ABORTED, Bureau, CANCELING, GitLabs, Runner};
use dayfly::ids::{JobId, VmId};
use dayfly::log::{LogStore, Stream};
use dayfly::metrics::Metrics;
use dayfly::scheduler::Openings;
use dayfly::store::{JobState, Outcome, Reason, Requeued, Store, StoreError};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::local_gitlab::{GitLab, Job, Options};
use crate::support::DEADLINE;

pub(super) const INSTANCE: &str = "gitlab";
pub(super) const PROFILE: &str = "linux";

/// Bytes of a log that are kept.
const LOG_LIMIT: u64 = 64 << 20;

/// What a machine does for a job: the content of its variable `PLAN`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Plan {
    /// What is written, piece by piece.
    pub(super) pieces: Vec<String>,
    /// How often all pieces are written.
    pub(super) repeat: usize,
    /// Milliseconds after each of them.
    pub(super) pause: u64,
    pub(super) exit_code: i64,
    /// It goes on until somebody wants its end.
    pub(super) is_endless: bool,
    /// The machine is lost in place of an end.
    pub(super) is_lost: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { pieces: Vec::new(), repeat: 1, pause: 0, exit_code: 0, is_endless: false, is_lost: false }
    }
}

impl Plan {
    pub(super) fn says(text: &str) -> Self {
        Self { pieces: vec![text.to_owned()], ..Self::default() }
    }

    /// The job's description.
    pub(super) fn job(&self) -> Value {
        json!({"more_variables": [{"key": "PLAN", "value": serde_json::to_string(self).unwrap()}]})
    }
}

/// What the machines did.
#[derive(Debug, Default)]
struct Done {
    /// What was written for each of GitLab's jobs.
    written: HashMap<u64, Vec<u8>>,
    /// Jobs that did not become ours.
    declined: usize,
    most_at_once: usize,
    at_once: usize,
}

/// Everything. [`Hall::restart`] does what an end of the service and its next start do.
pub(super) struct Hall {
    pub(super) gitlab: GitLab,
    pub(super) store: Store,
    pub(super) metrics: Metrics,
    logs: LogStore,
    runners: Vec<Runner>,
    machines: usize,
    done: Arc<Mutex<Done>>,
    epoch: Option<Epoch>,
    _directory: tempfile::TempDir,
}

/// One run of the service.
struct Epoch {
    bureau: Arc<Bureau>,
    tasks: Vec<JoinHandle<()>>,
}

impl Hall {
    pub(super) async fn open(options: Options) -> Self {
        let gitlab = GitLab::start(options).await.unwrap();
        let runner = runner_with(&gitlab.add_runner(), "one", None);
        Self::open_for(gitlab, vec![runner], 4).await
    }

    pub(super) async fn open_for(gitlab: GitLab, runners: Vec<Runner>, machines: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut hall = Self {
            gitlab,
            store: Store::open(&directory.path().join("dayfly.db")).await.unwrap(),
            metrics: Metrics::new([PROFILE]),
            logs: LogStore::new(&directory.path().join("logs")).unwrap(),
            runners,
            machines,
            done: Arc::default(),
            epoch: None,
            _directory: directory,
        };
        hall.start();
        hall
    }

    fn start(&mut self) {
        let client = Client::new(&self.gitlab.url().parse().unwrap(), None).unwrap();
        let bureau = Arc::new(Bureau {
            store: self.store.clone(),
            logs: self.logs.clone(),
            openings: Openings::default(),
            gitlabs: GitLabs::of([(INSTANCE.to_owned(), client)]),
            wake: Arc::<Wake>::default(),
            metrics: self.metrics.gitlab.clone(),
            public_url: "https://ci.example.org/".parse().unwrap(),
            system_id: "r_0123456789ab".to_owned(),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
        });
        let serving = tokio::spawn(dayfly::gitlab::serve(Arc::clone(&bureau), self.runners.clone()));
        let keeper = Keeper { bureau: Arc::clone(&bureau), done: Arc::clone(&self.done), machines: self.machines };
        let keeping = tokio::spawn(keeper.keep());
        self.epoch = Some(Epoch { bureau, tasks: vec![serving, keeping] });
    }

    /// Ends everything where it stands, and starts it again.
    pub(super) async fn restart(&mut self) {
        let Epoch { tasks, .. } = self.epoch.take().unwrap();
        // The machines first: the end of the sessions would tell them that their jobs are nobody's any more.
        for task in tasks.into_iter().rev() {
            task.abort();
            task.await.ok();
        }
        self.done.lock().unwrap().at_once = 0;
        for job in self.store.unfinished_jobs().await.unwrap() {
            if !matches!(job.state, JobState::Leased | JobState::Running) {
                continue;
            }
            // In one process a log goes on to be written for a moment; after the end of a process it does not.
            if let Some(log) = self.logs.reader(&job.id, job.attempt).await.unwrap() {
                log.follow(0).for_each(async |_| ()).await;
            }
            let requeued = match self.store.requeue_job(&job.id, job.attempt, 100).await {
                // Its end was on its way to the store when everything was ended.
                Err(StoreError::Illegal { .. }) => continue,
                requeued => requeued.unwrap(),
            };
            if requeued == Requeued::Exhausted {
                let detail = "No attempt left after 1: the service restarted while it ran".to_owned();
                let reason = Some(Reason::ServiceRestarted);
                let outcome = Outcome { conclusion: Conclusion::Error, reason, detail };
                self.store.finish_job(&job.id, job.attempt, outcome, Value::Null, 0, |_| ()).await.unwrap();
            }
        }
        self.start();
    }

    /// A job once GitLab has its end.
    pub(super) async fn ended(&self, id: u64) -> Job {
        self.gitlab.wait_for_job(id, |job| job.state.is_final(), DEADLINE).await.unwrap()
    }

    /// What the machine wrote for a job.
    pub(super) fn written(&self, id: u64) -> Vec<u8> {
        self.done.lock().unwrap().written.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn declined(&self) -> usize {
        self.done.lock().unwrap().declined
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.done.lock().unwrap().most_at_once
    }

    /// Waits until nothing of any job is open any more, and fails if this was no correct runner.
    pub(super) async fn finish(mut self) {
        crate::support::eventually("all jobs to be settled", async || {
            self.store.unsettled_foreign(None).await.unwrap().is_empty().then_some(())
        })
        .await;
        let Epoch { bureau, tasks } = self.epoch.take().unwrap();
        bureau.drain.cancel();
        bureau.stop.cancel();
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(10), task).await.expect("the parts end").unwrap();
        }
        assert_eq!(self.gitlab.violations(), Vec::<String>::new());
        self.store.close().await;
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        for task in self.epoch.iter().flat_map(|epoch| &epoch.tasks) {
            task.abort();
        }
    }
}

pub(super) fn runner_with(token: &str, name: &str, limit: Option<u32>) -> Runner {
    let (instance, profile) = (INSTANCE.to_owned(), PROFILE.to_owned());
    Runner { instance, name: name.to_owned(), token: token.to_owned().into(), profile, limit }
}

/// The scheduler and the machines.
struct Keeper {
    bureau: Arc<Bureau>,
    done: Arc<Mutex<Done>>,
    machines: usize,
}

impl Keeper {
    async fn keep(self) {
        let mut running = tokio::task::JoinSet::new();
        let mut started = std::collections::HashSet::new();
        while !self.bureau.stop.is_cancelled() {
            while running.try_join_next().is_some() {}
            let jobs = self.bureau.store.unfinished_jobs().await.unwrap();
            for job in jobs.iter().filter(|job| job.state == JobState::Queued) {
                if job.cancel_requested {
                    let why = job.cancel_why.clone().unwrap_or_default();
                    finish(&self.bureau, &job.id, job.attempt, Conclusion::Cancelled, &why).await;
                } else if running.len() < self.machines && started.insert((job.id.clone(), job.attempt)) {
                    let machine = Machine { bureau: Arc::clone(&self.bureau), done: Arc::clone(&self.done) };
                    running.spawn(machine.run(job.id.clone(), job.attempt));
                }
            }
            let open = if self.bureau.drain.is_cancelled() { 0 } else { self.machines.saturating_sub(jobs.len()) };
            self.bureau.openings.renew(HashMap::from([(PROFILE.to_owned(), open as u32)]));
            tokio::time::timeout(Duration::from_millis(30), self.bureau.wake.scheduler.notified()).await.ok();
        }
    }
}

async fn finish(bureau: &Bureau, job: &JobId, attempt: u32, conclusion: Conclusion, detail: &str) {
    let outcome = Outcome { conclusion, reason: None, detail: detail.to_owned() };
    bureau.store.finish_job(job, attempt, outcome, Value::Null, 0, |_| ()).await.unwrap();
    bureau.gitlabs.nudge(job);
}

/// One machine for one job.
struct Machine {
    bureau: Arc<Bureau>,
    done: Arc<Mutex<Done>>,
}

impl Machine {
    async fn run(self, job: JobId, attempt: u32) {
        let Self { bureau, done } = &self;
        bureau.store.lease_job(&job, attempt, &VmId::random(), 0).await.unwrap();
        bureau.store.start_job(&job, attempt, 0).await.unwrap();
        {
            let mut done = done.lock().unwrap();
            done.at_once += 1;
            done.most_at_once = done.most_at_once.max(done.at_once);
        }
        if bureau.gitlabs.begin(&job).await {
            self.work(&job, attempt).await;
        } else {
            done.lock().unwrap().declined += 1;
            self.leave();
            finish(bureau, &job, attempt, Conclusion::Cancelled, ABORTED).await;
        }
        bureau.wake.scheduler.notify_one();
    }

    /// Before the end is told: the next job may begin at that moment.
    fn leave(&self) {
        self.done.lock().unwrap().at_once -= 1;
    }

    async fn work(&self, job: &JobId, attempt: u32) {
        let bureau = &self.bureau;
        let request = bureau.store.foreign_job(job).await.unwrap().unwrap().request;
        let id = request["job"]["id"].as_u64().unwrap();
        let variables = request["job"]["variables"].as_array().unwrap();
        let plan = variables.iter().find(|variable| variable["key"] == "PLAN");
        let plan: Plan =
            plan.map_or_else(Plan::default, |plan| serde_json::from_str(plan["value"].as_str().unwrap()).unwrap());
        let mut log = bureau.logs.create(job, attempt, LOG_LIMIT).await.unwrap();
        let mut why = None;
        let mut round = 0;
        while why.is_none() && (plan.is_endless || round < plan.repeat) {
            for piece in &plan.pieces {
                self.done.lock().unwrap().written.entry(id).or_default().extend_from_slice(piece.as_bytes());
                log.append(0, Stream::Stdout, 0, piece.as_bytes()).await.unwrap();
                if plan.pause > 0 {
                    tokio::time::sleep(Duration::from_millis(plan.pause)).await;
                    why = bureau.store.job(job).await.unwrap().unwrap().cancel_why;
                }
            }
            round += 1;
        }
        if why.as_deref() == Some(CANCELING) {
            let after = b"after_script\n";
            self.done.lock().unwrap().written.entry(id).or_default().extend_from_slice(after);
            log.append(0, Stream::Stdout, 0, after).await.unwrap();
        }
        log.finish(0).await.unwrap();
        let (conclusion, verdict) = match (&why, plan.exit_code) {
            (Some(_), _) => (Conclusion::Cancelled, json!({"state": "canceled"})),
            (None, 0) => (Conclusion::Success, json!({"state": "success", "exit_code": 0})),
            (None, code) => {
                let verdict = json!({"state": "failed", "failure_reason": "script_failure", "exit_code": code});
                (Conclusion::Failure, verdict)
            }
        };
        self.leave();
        if plan.is_lost {
            return finish(bureau, job, attempt, Conclusion::Error, "The VM was lost: its monitor ended").await;
        }
        bureau.store.note_foreign_verdict(job, verdict).await.unwrap();
        finish(bureau, job, attempt, conclusion, why.as_deref().unwrap_or("ended")).await;
    }
}

//! From stored deliveries to runs.
//!
//! A delivery is processed after it was answered, as often as it takes: everything until the transaction that creates its
//! runs only reads. A crash or a forge that does not answer costs time, never a job, and never makes one twice.

mod approval;
pub(crate) mod calls;
pub(crate) mod context;
pub mod dispatch;
mod held;
pub mod internal;
mod jobs;
mod naming;
mod rerun;
mod retry;
mod runs;
pub(crate) mod unfold;

pub(crate) use self::rerun::unfinished_repetition;
pub(crate) use self::runs::{MAX_FILES, complaint};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{self, JoinError, JoinSet};

use self::internal::Wish;
use self::retry::Retry;
use self::runs::Planner;
use crate::clock;
use crate::config::Forks;
use crate::core::Core;
use crate::forge::{CommitSha, ForgeError, Permission, RepoName};
use crate::ids::RunId;
use crate::lifecycle::Step;
use crate::metrics::labels::Processed;
use crate::policy::{Standing, Verdict, default_branch_news, head_news, judge, needs_sender};
use crate::runners;
use crate::store::{Delivery, DeliveryKey, DeliveryState, PullHead, ReplacedHead, StoreError};
use crate::webhook::{self, Event, EventName};
use crate::workflow::schedule::Schedule;

/// Deliveries processed at a time: one that the forge keeps waiting must not keep the others.
const PARALLEL: usize = 8;

/// A look without a wake-up, in case one was lost.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// The shortest time between two looks without a wake-up: what is due now is under way, or there was no place for it.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// How long a place stays taken after the store could not note what became of its delivery, which is therefore still due.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Why a delivery could not be processed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "commit {sha} of {repo} cannot be read at the forge\n  hint: the credential needs to read `contents`, and an App \
         must be installed in the repository; deliver the event again afterwards"
    )]
    CommitUnreadable { repo: RepoName, sha: CommitSha },
    /// Of another repository; for people.
    #[error("{0}")]
    Elsewhere(String),
    #[error("the stored payload does not read any more: {0}")]
    Payload(String),
}

/// The deliveries that are being processed, each once: it stays due until its end is stored.
#[derive(Debug, Default)]
struct UnderWay {
    tasks: JoinSet<()>,
    keys: HashMap<task::Id, DeliveryKey>,
}

impl UnderWay {
    fn takes(&self, key: &DeliveryKey) -> bool {
        self.keys.len() < PARALLEL && !self.keys.values().any(|taken| taken == key)
    }

    fn start(&mut self, key: DeliveryKey, work: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(work).id();
        self.keys.insert(id, key);
    }

    /// Waits for the next end. Gives the delivery whose processing broke off, if it did; for ever if nothing is under way.
    async fn ended(&mut self) -> Option<(DeliveryKey, JoinError)> {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => {
                self.keys.remove(&id);
                None
            }
            Some(Err(error)) => self.keys.remove(&error.id()).map(|key| (key, error)),
            None => std::future::pending().await,
        }
    }
}

/// Processes deliveries until the service stops. What is under way then is dropped, and due again at the next start.
pub async fn run(core: Arc<Core>) {
    let mut under_way = UnderWay::default();
    loop {
        start_due(&core, &mut under_way).await;
        let next_look = next_look(&core).await;
        tokio::select! {
            broken = under_way.ended() => {
                if let Some((key, error)) = broken {
                    tracing::error!(delivery = %key, %error, "processing a delivery broke off");
                    finish(&core, &key, DeliveryState::Failed, "processing it broke off: a fault of Dayfly").await;
                }
            }
            () = core.wake.deliveries.notified() => {}
            () = core.store.arrivals().notified() => {}
            () = tokio::time::sleep(next_look) => {}
            () = core.stop.cancelled() => return,
        }
    }
}

/// Ends what waited for an approval as long as anything is kept: forgotten without that, it would be pending at the forge for
/// ever.
pub async fn end_long_held(core: &Core) -> Result<(), StoreError> {
    let (now, age) = (clock::now_ms(), core.config.limits.log_retention);
    if core.store.end_long_held(now, age, move |report| held::expire(report, age, now)).await? > 0 {
        core.wake.reports.notify_one();
    }
    Ok(())
}

async fn start_due(core: &Arc<Core>, under_way: &mut UnderWay) {
    // Those under way are due too, so that there are others among twice as many.
    let due = core.store.due_deliveries(clock::now_ms(), 2 * PARALLEL as u32).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the deliveries cannot be read");
        Vec::new()
    });
    for delivery in due {
        if under_way.takes(&delivery.key) {
            let core = Arc::clone(core);
            under_way.start(delivery.key.clone(), async move { attend(&core, &delivery).await });
        }
    }
}

async fn next_look(core: &Core) -> Duration {
    let due = core.store.next_delivery_due().await.ok().flatten();
    let wait = due.map_or(IDLE_LOOK, |due| Duration::from_millis(u64::try_from(due - clock::now_ms()).unwrap_or(0)));
    wait.clamp(SHORTEST_LOOK, IDLE_LOOK)
}

/// Processes one delivery, or stores when to try again.
async fn attend(core: &Core, delivery: &Delivery) {
    core.lifecycle.reached(Step::DeliveryTaken).await;
    let Err(error) = process(core, delivery).await else { return };
    let Some(Retry { wait, denied }) = retry::after(&error, delivery, clock::jitter()) else {
        tracing::error!(delivery = %delivery.key, %error, "a delivery cannot be processed");
        core.metrics.deliveries.processed(Processed::Failed, age(delivery));
        return finish(core, &delivery.key, DeliveryState::Failed, &error.to_string()).await;
    };
    core.metrics.deliveries.processed(Processed::Postponed, age(delivery));
    tracing::warn!(delivery = %delivery.key, %error, wait_s = wait.as_secs(), "processing a delivery will be tried again");
    let next_try_at = clock::now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    if let Err(error) = core.store.postpone_delivery(&delivery.key, denied, &error.to_string(), next_try_at).await {
        tracing::error!(delivery = %delivery.key, %error, "a delivery's next try could not be stored");
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

async fn process(core: &Core, delivery: &Delivery) -> Result<(), IntakeError> {
    let payload = core.store.delivery_payload(&delivery.key).await?;
    if delivery.key.forge == internal::FORGE {
        return match Wish::parse(&payload)? {
            Wish::Approval { pull_request, sha } => approval::of_operator(core, delivery, &pull_request, &sha).await,
            Wish::Rerun { run, job, person } => {
                rerun::of_wish(core, delivery, &run, job.as_ref(), person.as_deref()).await
            }
            Wish::Start { asked, sha, payload } => {
                dispatch::start(core, delivery, &asked, sha.as_ref(), &payload).await
            }
        };
    }
    let name = EventName::parse(&delivery.event).map_err(IntakeError::Payload)?;
    let event = webhook::parse(&delivery.key.forge, &name, &payload)
        .map_err(|error| IntakeError::Payload(error.to_string()))?;
    let Some(repository) = event.repository() else {
        return ended(core, delivery, &format!("events of the kind `{name}` start nothing")).await;
    };
    let Some(settings) = core.config.repository(&repository.forge, &repository.access.repo) else {
        return ended(core, delivery, "the repository is not configured").await;
    };
    if let Event::WorkflowJob(job) = &event {
        let what = runners::heard(core, job, &settings).await?;
        core.metrics.deliveries.processed(Processed::Ignored, age(delivery));
        finish(core, &delivery.key, DeliveryState::Processed, &what).await;
        return Ok(());
    }
    let standing = standing(core, delivery, &event, settings.forks).await?;
    note_default_branch(core, delivery, &event).await?;
    let arrived_at = delivery.arrived_at;
    let runs = match judge(&event, &standing) {
        Verdict::Ignore(why) => return ended(core, delivery, &why).await,
        Verdict::Approve(asked) => return approval::of_comment(core, delivery, &asked).await,
        Verdict::Rerun(asked) => return rerun::of_person(core, delivery, &asked).await,
        Verdict::Hold(request) => vec![held::held(&request, settings.workflows_dir, arrived_at)],
        Verdict::Deny(request) => vec![held::denied(&request, settings.workflows_dir, arrived_at)],
        Verdict::Start(request) => {
            let payload = webhook::as_event(&event, json(&payload)?);
            let planner =
                Planner { core, request: &request, settings: &settings, payload: &payload, arrived_at, asked: None };
            let planned = planner.plan().await?;
            note_schedules(core, delivery, &event, &payload, planned.schedules).await?;
            planned.runs
        }
        Verdict::Dispatch(asked) => return dispatch::start(core, delivery, &asked, None, &json(&payload)?).await,
    };
    if runs.is_empty() {
        settle_head(core, delivery, &event).await?;
        return ended(core, delivery, "no workflow of the commit asks for this event").await;
    }
    core.lifecycle.reached(Step::RunsPlanned).await;
    let created = core.store.create_runs_of_news(&delivery.key, head_news(&event), runs, clock::now_ms()).await?;
    finish_created(core, delivery, &created).await
}

/// Nothing wants a pull request's head, and its event came: the sweep need not bring it.
async fn settle_head(core: &Core, delivery: &Delivery, event: &Event) -> Result<(), IntakeError> {
    let (Event::PullRequest(pull), Some(_)) = (event, head_news(event)) else { return Ok(()) };
    let repo = pull.repository.access.repo.clone();
    let head = PullHead { repo, number: pull.number, sha: pull.head_sha.clone() };
    Ok(core.store.settle_heads(&delivery.key.forge, vec![head], clock::now_ms()).await?)
}

/// What is known besides the event. What a push to a fork's pull request makes void is void from here on.
async fn standing(core: &Core, delivery: &Delivery, event: &Event, forks: Forks) -> Result<Standing, IntakeError> {
    let mut standing = Standing { forks, is_approved: false, sender_may_write: false };
    let Event::PullRequest(pull) = event else { return Ok(standing) };
    if !pull.is_fork || forks != Forks::Approve {
        return Ok(standing);
    }
    let access = &pull.repository.access;
    if let Some(before) = pull.before.clone().filter(|before| *before != pull.head_sha) {
        let (repo, number) = (access.repo.clone(), pull.number);
        let arrived_at = delivery.arrived_at;
        let replaced = ReplacedHead { forge: delivery.key.forge.clone(), repo, number, sha: before, arrived_at };
        core.store.replace_head(replaced).await?;
        core.wake.scheduler.notify_one();
    }
    standing.is_approved = approval::counts(core, &delivery.key.forge, access, pull.number, &pull.head_sha).await?;
    if standing.is_approved && needs_sender(pull) {
        let forge = core.forges.of(&delivery.key.forge)?;
        standing.sender_may_write = forge.permission(access, &pull.sender).await? >= Permission::Write;
    }
    Ok(standing)
}

/// A push to the default branch may change what is prepared for jobs: that is wanted before the delivery is dealt with. No other
/// event is trusted with it.
async fn note_default_branch(core: &Core, delivery: &Delivery, event: &Event) -> Result<(), IntakeError> {
    if let Some((access, sha)) = default_branch_news(event) {
        core.store.want_look(&delivery.key.forge, access, sha, delivery.arrived_at, clock::now_ms()).await?;
        core.wake.upkeep.notify_one();
    }
    Ok(())
}

/// What a push to the default branch says about when workflows start by themselves.
async fn note_schedules(
    core: &Core, delivery: &Delivery, event: &Event, payload: &serde_json::Value, found: Vec<(String, Schedule)>,
) -> Result<(), IntakeError> {
    if let (Event::Push(push), Some((access, _))) = (event, default_branch_news(event)) {
        let schedules = dispatch::schedules(push, payload, found);
        core.store.set_schedules(&delivery.key.forge, &access.repo, schedules, delivery.arrived_at).await?;
        core.wake.schedules.notify_one();
    }
    Ok(())
}

fn json(payload: &[u8]) -> Result<serde_json::Value, IntakeError> {
    serde_json::from_slice(payload).map_err(|error| IntakeError::Payload(error.to_string()))
}

/// Runs were created, with the delivery's end.
async fn finish_created(core: &Core, delivery: &Delivery, created: &[RunId]) -> Result<(), IntakeError> {
    core.lifecycle.reached(Step::RunsCreated).await;
    core.metrics.deliveries.processed(Processed::Runs, age(delivery));
    for run in created {
        // The delivery is processed, whether or not its time line can be told.
        let jobs = core.store.jobs_of_run(run).await.unwrap_or_else(|error| {
            tracing::error!(%run, %error, "the jobs of a new run cannot be read");
            Vec::new()
        });
        for job in jobs {
            let at_us = delivery.received_at * 1000;
            core.timeline.record_at(&job.id, job.attempt, at_us, "delivery_accepted", &delivery.key.id);
        }
    }
    // Only now, so that time lines begin with it.
    core.wake.scheduler.notify_one();
    core.wake.reports.notify_one();
    Ok(())
}

/// Nothing follows from the delivery, for this reason.
async fn ended(core: &Core, delivery: &Delivery, why: &str) -> Result<(), IntakeError> {
    core.metrics.deliveries.processed(Processed::Ignored, age(delivery));
    finish(core, &delivery.key, DeliveryState::Ignored, why).await;
    Ok(())
}

fn age(delivery: &Delivery) -> Duration {
    clock::since_ms(delivery.received_at, clock::now_ms())
}

async fn finish(core: &Core, key: &DeliveryKey, state: DeliveryState, why: &str) {
    if let Err(error) = core.store.finish_delivery(key, state, why, clock::now_ms()).await {
        tracing::error!(delivery = %key, %error, "a delivery's end could not be stored");
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(id: &str) -> DeliveryKey {
        DeliveryKey { forge: "github".to_owned(), id: id.to_owned() }
    }

    #[tokio::test]
    async fn no_delivery_is_under_way_twice_and_one_that_hangs_takes_one_place() {
        let mut under_way = UnderWay::default();
        under_way.start(key("hangs"), std::future::pending());
        for n in 0..3 * PARALLEL {
            assert!(!under_way.takes(&key("hangs")));
            let next = key(&n.to_string());
            assert!(under_way.takes(&next));
            under_way.start(next, async {});
            assert!(under_way.ended().await.is_none());
        }
        for n in 1..PARALLEL {
            under_way.start(key(&n.to_string()), std::future::pending());
        }
        assert!(!under_way.takes(&key("one too many")));
    }

    #[tokio::test]
    async fn a_delivery_that_breaks_off_is_named() {
        let mut under_way = UnderWay::default();
        under_way.start(key("a"), async { panic!("on purpose") });
        assert_eq!(under_way.ended().await.unwrap().0, key("a"));
        assert!(under_way.takes(&key("a")));
    }
}

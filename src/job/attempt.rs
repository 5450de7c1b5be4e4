//! The steps of one attempt in a machine that is there already, within the time that the host gives them: what the service
//! and a local run share.
//!
//! Whatever the guest does, this ends: after the limit or a cancellation the steps have the grace period to end, and those
//! that always run have it once more, or `cancel-timeout-minutes`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::action::{Actions, Frame};
use super::checkout::{Origin, Workspace};
use super::container::Containers;
use super::services::Services;
use super::steps::{FirstCheckout, Places, Steps, Voice, Witness};
use super::verdict::{self, CANCELLED, Ending, StepLine};
use crate::config::format_duration;
use crate::image::catalog::ImageInfo;
use crate::net::decisions::{Decisions, Verdict};
use crate::net::egress::Egress;
use crate::net::egress::log::EgressLog;
use crate::net::git_proxy::GitProxy;
use crate::net::registry::RegistryProxy;
use crate::net::results::ResultsService;
use crate::store::Reason;
use crate::vm::VmError;
use crate::vm::loss::Loss;
use crate::vm::machine::Machine;
use crate::workflow::contexts::GithubContext;
use crate::workflow::run::JobRun;

/// How long after a failed call it is waited for what ended the VM, if anything did.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// Refused or failed requests to one service that the log names.
const MAX_TOLD: usize = 10;

/// A machine and what its job gets.
pub(crate) struct Attempt<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) image: &'a ImageInfo,
    pub(crate) places: &'a Places,
    pub(crate) github: &'a GithubContext,
    pub(crate) origin: Origin<'a>,
    pub(crate) workspace: Workspace,
    pub(crate) git: GitProxy,
    pub(crate) egress: Egress,
    pub(crate) registries: RegistryProxy,
    pub(crate) results: ResultsService,
    pub(crate) actions: &'a Actions,
    /// The most that the host allows; a job may ask for less.
    pub(crate) limit: Duration,
    /// How much of that is over: steps that ran before this machine was there.
    pub(crate) spent: Duration,
    pub(crate) grace: Duration,
    pub(crate) cancel: &'a CancellationToken,
}

impl Attempt<'_> {
    /// Runs the job's steps; gives how it ended, and how each step did.
    pub(crate) async fn run<W: Witness>(self, mut run: JobRun, witness: &mut W) -> (Ending, Vec<StepLine>) {
        // In a place of its own, as below: what a job waits for at one time is too much for a thread's stack.
        let (early, lines) = Box::pin(self.run_first(usize::MAX, &mut run, witness)).await;
        (early.unwrap_or_else(|| Ending::Steps(run.finish())), lines)
    }

    /// Runs the job up to this step, counted from 0; gives its ending if that came before.
    pub(crate) async fn run_first<W: Witness>(
        self, step: usize, run: &mut JobRun, witness: &mut W,
    ) -> (Option<Ending>, Vec<StepLine>) {
        let Self { machine, image, places, github, origin, workspace, limit, spent, grace, cancel, actions, .. } = self;
        let limit = run.timeout().map_or(limit, |own| own.min(limit));
        // Its author may ask for longer than two grace periods, but for no more than the host would give the job anyway.
        let ending = run.cancel_timeout().map_or(grace * 2, |own| own.clamp(grace, limit.max(grace)));
        let services = Services {
            git: Some(self.git.clone()),
            egress: self.egress,
            registries: self.registries,
            results: self.results,
        };
        if let Some(token) = services.results.token()
            && let Err(error) = run.hearing().lock().masks.add(token.expose_secret())
        {
            tracing::warn!(?error, "a job has so many masks that its token has none");
        }
        let serving = machine.take_connections().map(|connections| services.serve(connections));
        // One token for both ways to end early, so that the steps see one thing.
        let stop = cancel.child_token();
        let (guest, wire) = (machine.guest().clone(), machine.wire().cloned());
        let lost = machine.lost();
        let mut steps = Steps {
            origin,
            workspace: FirstCheckout::new(workspace),
            results: services.results.clone(),
            proxies: services.variables(),
            guest: &guest,
            image,
            places,
            witness: Voice::new(&mut *witness),
            stop: stop.clone(),
            cancel: stop.clone(),
            grace,
            oom_kills: 0,
            is_disk_full: false,
            actions,
            delivered: Arc::default(),
            nodes: BTreeMap::new(),
            containers: Containers::default(),
            frame: Frame::default(),
        };
        let mut refused = None;
        let work = Box::pin(async {
            services.egress.connect(wire.as_ref()).await.map_err(VmError::host("the VM's way to others"))?;
            services.offer(&guest).await?;
            if let Err(why) = services.equip(&guest, workspace == Workspace::Prepared).await? {
                steps.witness.say(0, &format!("warning: {why}")).await;
            }
            steps.prepare(github).await?;
            let mut is_set_up = steps.set_up_actions(run).await?;
            if is_set_up.is_ok() {
                is_set_up = Box::pin(steps.start_containers(run)).await?;
            }
            match is_set_up {
                Ok(()) => {
                    Box::pin(steps.run(step, run)).await?;
                    if run.has_failed() { steps.tell_services(run).await } else { Ok(()) }
                }
                Err(why) => {
                    steps.witness.say(0, &format!("error: {why}")).await;
                    refused = Some(why);
                    Ok(())
                }
            }
        });
        let bounded = bounded(work, lost, limit.saturating_sub(spent), ending, &stop).await;
        let lines = steps.witness.take_lines().await;
        drop(steps);
        if let Some(serving) = serving {
            serving.abort();
            services.egress.settled().await;
            let decisions =
                [self.git.take_decisions(), services.registries.take_decisions(), services.results.take_decisions()];
            tell_refusals(decisions, &services.egress.log(), witness).await;
        }
        let ending = match bounded {
            Bounded::Done | Bounded::Overran if cancel.is_cancelled() => Some(Ending::Cancelled(CANCELLED.to_owned())),
            Bounded::Done => refused.map(|detail| Ending::NotStarted { reason: Reason::Workflow, detail }),
            Bounded::TimedOut | Bounded::Overran => Some(Ending::TimedOut(limit)),
            Bounded::Lost(loss) => Some(Ending::VmLost(explain_loss(loss, machine, witness).await)),
        };
        if let Some(Ending::TimedOut(limit)) = &ending {
            let text = format!("error: the job took longer than its limit of {}", format_duration(*limit));
            witness.say(0, &text).await;
        }
        (ending, lines)
    }
}

/// Says in the log what of the guest's requests was refused or failed: a program may have hidden it.
pub(super) async fn tell_refusals<W: Witness>(decisions: [Decisions; 3], egress: &EgressLog, witness: &mut W) {
    for Decisions { list, left_out, .. } in decisions {
        let mut told = list.iter().filter(|decision| decision.verdict != Verdict::Allowed);
        for decision in told.by_ref().take(MAX_TOLD) {
            witness.say(0, &format!("note: {decision}")).await;
        }
        let service = list.first().map_or("git", |decision| decision.service);
        match told.count() as u64 + left_out {
            0 => {}
            more => witness.say(0, &format!("note: {service}: {more} more requests are not listed")).await,
        }
    }
    for line in egress.complaints() {
        witness.say(0, &format!("note: {line}")).await;
    }
}

/// Says in the log how the VM was lost, with the last of its console.
pub(super) async fn explain_loss<W: Witness>(loss: Loss, machine: &mut Machine, witness: &mut W) -> Loss {
    let console = machine.console().await.unwrap_or_default();
    let loss = loss.explained_by(&console);
    witness.say(0, &format!("error: {}", verdict::loss_text(&loss))).await;
    if !console.is_empty() {
        // Each line marked: the guest wrote them, and may write what looks like words of Dayfly's own.
        let lines: Vec<String> = console.lines().map(|line| format!("  | {line}")).collect();
        witness.say(0, &format!("The last of the machine's console:\n{}", lines.join("\n"))).await;
    }
    loss
}

enum Bounded {
    Done,
    /// Ended within the grace period after its time was over.
    TimedOut,
    /// Did not even end within the grace period after it was told to.
    Overran,
    Lost(Loss),
}

/// Runs the steps within the time that the host gives them, whatever the guest thinks of it.
async fn bounded(
    work: impl Future<Output = Result<(), VmError>>, lost: impl Future<Output = Loss>, limit: Duration,
    ending: Duration, stop: &CancellationToken,
) -> Bounded {
    tokio::pin!(work, lost);
    let deadline = Instant::now() + limit;
    let ended = tokio::select! {
        result = &mut work => Some((result, Bounded::Done)),
        loss = &mut lost => return Bounded::Lost(loss),
        () = tokio::time::sleep_until(deadline) => None,
        () = stop.cancelled() => None,
    };
    let (result, when_done) = match ended {
        Some(ended) => ended,
        None => {
            let was_cancelled = stop.is_cancelled();
            stop.cancel();
            // The step at hand gets the grace period to end, and those that always run what is left; then the VM goes.
            tokio::select! {
                result = &mut work => (result, if was_cancelled { Bounded::Done } else { Bounded::TimedOut }),
                loss = &mut lost => return Bounded::Lost(loss),
                () = tokio::time::sleep(ending) => return Bounded::Overran,
            }
        }
    };
    match result {
        Ok(()) => when_done,
        // What ended the VM often shows first as a call that failed.
        Err(error) => Bounded::Lost(timeout(LAST_WORDS, lost).await.unwrap_or_else(|_| error.into())),
    }
}

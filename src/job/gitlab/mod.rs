//! A job of GitLab's in its VM, as GitLab's own runner would run it; the machine is what isolates it.
//!
//! ```text
//!  sources ─► caches ─► artifacts of earlier jobs ─► scripts ─► after_script ─► caches ─► artifacts
//! ```
//! What is decided is in `gitlab::job`, without a machine. Here: programs are run (`program`), the log is written (`trace`), containers started (`containers`), files are
//! moved (`files`, `artifacts`, `caches`, `sources`), in the order of `stages`, the first of which are `ready`. Invariants:
//!
//! - The credential in GitLab's address of the repository stays on the host. What enters the machine of credentials is what
//!   GitLab gives to the job itself, in variables.
//! - Whatever the guest does, this ends: at the job's limit, or when it is given up, at once.
//! - How the job ended is stored before this returns, unless the machine was lost; whoever accepted it tells GitLab.

mod argv;
mod artifacts;
mod caches;
mod containers;
mod files;
mod program;
mod ready;
mod sources;
mod stages;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::containers::Started;
use self::stages::End;
use self::trace::Trace;
use super::attempt::tell_refusals;
use super::foreign::ForeignScene;
use super::journal::Journal;
use super::native::guest::{Hands, Trouble};
use super::obtain::NoVm;
use super::services::{Services, egress_of, keep_egress};
use super::steps::{Witness as _, base_environment};
use super::verdict::{CANCELLED, Ending, loss_text};
use crate::config::{GitLab, format_duration, read_certificates};
use crate::core::Core;
use crate::forge::Conclusion;
use crate::gitlab::ABORTED;
use crate::gitlab::client::Client;
use crate::gitlab::job::plan::{Facts, Plan, Unrunnable};
use crate::gitlab::job::sections;
use crate::gitlab::job::variables::Variables;
use crate::gitlab::job::verdict::{FailureReason, Verdict};
use crate::gitlab::wire::JobResponse;
use crate::host::wire::Wire;
use crate::net::egress::Egress;
use crate::net::results::ResultsService;
use crate::protocol::message::Owner;
use crate::store::Reason;
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::vm::loss::Loss;
use crate::vm::machine::Machine;

/// How long after a failed call it is waited for what ended the VM, if anything did.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What was stored when the job was accepted.
#[derive(Deserialize)]
struct Request {
    /// The name of its `[[gitlab]]`.
    instance: String,
    job: JobResponse,
}

/// One job in its machine.
struct Runner<'a, 'j> {
    scene: &'a ForeignScene<'a>,
    instance: &'a GitLab,
    plan: &'a Plan,
    /// The plan's, and what stages add to them.
    variables: Variables,
    guest: &'a Guest,
    /// As whom programs run.
    owner: Owner,
    /// What they get whatever the job says.
    base: BTreeMap<String, String>,
    /// By which programs find what the host offers.
    offered: Vec<(String, String)>,
    containers: Started,
    /// What moves the project's files.
    hands: Hands<'a>,
    trace: &'a mut Trace<'j>,
    /// Ends what runs, and everything but what comes after the job's own scripts.
    stop: &'a CancellationToken,
    /// Processes that the guest killed for lack of memory, by its own count.
    oom_kills: u64,
}

impl<'a, 'j> Runner<'a, 'j> {
    fn new(
        scene: &'a ForeignScene<'a>, instance: &'a GitLab, plan: &'a Plan, services: &Services, guest: &'a Guest,
        trace: &'a mut Trace<'j>, stop: &'a CancellationToken,
    ) -> Self {
        let (owner, home) = (scene.image.user.owner(), scene.image.user.home());
        let offered = services.variables();
        let base = base_environment(scene.image, &home, &offered);
        // Without the job's own variables: its `PATH` is for its programs.
        let env = base.clone().into_iter().collect();
        let hands = Hands::new(guest, owner, env, plan.directory.clone(), home);
        let variables = plan.variables.clone();
        let containers = Started::default();
        Self {
            scene,
            instance,
            plan,
            variables,
            guest,
            owner,
            base,
            offered,
            containers,
            hands,
            trace,
            stop,
            oom_kills: 0,
        }
    }

    /// Offers the machine what the host has for it, and runs the job.
    async fn work(self, services: &Services, wire: Option<&Arc<Wire>>) -> Result<End, VmError> {
        services.egress.connect(wire).await.map_err(VmError::host("the VM's way to others"))?;
        services.offer(self.guest).await?;
        let lacks = services.equip(self.guest, false).await?.err();
        self.run(lacks).await
    }
}

impl Runner<'_, '_> {
    fn core(&self) -> &Core {
        self.scene.core
    }

    fn client(&self) -> Result<Arc<Client>, Trouble> {
        let client = self.core().gitlab.client(&self.instance.name);
        client.ok_or_else(|| Trouble::said("this GitLab is no longer configured"))
    }
}

/// Runs the job. Gives how it ended, which GitLab is told by whoever accepted it.
pub(super) async fn run(
    scene: &ForeignScene<'_>, machine: &mut Machine, journal: &mut Journal,
) -> Result<Ending, NoVm> {
    let internal = |detail: String| Ok(Ending::NotStarted { reason: Reason::Internal, detail });
    let Ok(Request { instance, job }) = serde_json::from_value(scene.foreign.request.clone()) else {
        return internal("what GitLab asked for does not read any more".to_owned());
    };
    let Some(instance) = scene.core.config.gitlab.iter().find(|known| known.name == instance) else {
        return internal(format!("the GitLab `{instance}` was removed from the configuration"));
    };
    let certificates = match instance.ca_bundle.as_deref().map(read_certificates).transpose() {
        Ok(certificates) => certificates,
        Err(error) => return internal(format!("the certificates of the GitLab `{}`: {error}", instance.name)),
    };
    let facts = Facts { instance: &instance.url, certificates: certificates.as_deref(), limit: scene.profile.timeout };
    let plan = match Plan::new(job, facts) {
        Ok(plan) => plan,
        Err(unrunnable) => return Ok(refuse(scene, journal, unrunnable).await),
    };
    let git = match sources::proxy_of(scene.core, &plan, &instance.url) {
        Ok(git) => git,
        Err(detail) => return internal(detail),
    };
    let (forge, repo) = (&scene.lease.run.forge, &scene.lease.run.access.repo);
    let services = Services {
        git: Some(git),
        egress: egress_of(scene.core, scene.profile, forge, repo),
        registries: scene.core.registries.proxy(
            scene.core.config.named(forge, repo),
            &scene.profile.name,
            plan.is_of_fork(),
        ),
        results: ResultsService::none(),
    };
    let egress: Egress = services.egress.clone();
    let mut trace = Trace::new(journal, &plan).await;
    let ended = within_time(scene, instance, &plan, services, machine, &mut trace).await;
    let ending = conclude(scene, &plan, ended, &mut trace, machine).await;
    keep_egress(scene.core, &scene.lease.job, &egress).await;
    Ok(ending)
}

/// How the time in the machine ended.
enum Ended {
    Done(End),
    TimedOut,
    /// GitLab has given the job up.
    Aborted,
    Lost(Loss),
}

async fn within_time(
    scene: &ForeignScene<'_>, instance: &GitLab, plan: &Plan, services: Services, machine: &mut Machine,
    trace: &mut Trace<'_>,
) -> Ended {
    let serving = machine.take_connections().map(|connections| services.serve(connections));
    let (guest, wire) = (machine.guest().clone(), machine.wire().cloned());
    let stop = CancellationToken::new();
    let ended = {
        let runner = Runner::new(scene, instance, plan, &services, &guest, &mut *trace, &stop);
        let (work, lost) = (runner.work(&services, wire.as_ref()), machine.lost());
        tokio::pin!(work, lost);
        tokio::select! {
            result = &mut work => match result {
                Ok(end) => Ended::Done(end),
                // What ended the VM often shows first as a call that failed.
                Err(error) => Ended::Lost(timeout(LAST_WORDS, lost).await.unwrap_or_else(|_| error.into())),
            },
            loss = &mut lost => Ended::Lost(loss),
            () = tokio::time::sleep(plan.limit) => Ended::TimedOut,
            () = given_up(scene, &stop) => Ended::Aborted,
        }
    };
    if let Some(serving) = serving {
        serving.abort();
        services.egress.settled().await;
        let git = services.git.map(|git| git.take_decisions()).unwrap_or_default();
        let decisions = [git, services.registries.take_decisions(), services.results.take_decisions()];
        tell_refusals(decisions, &services.egress.log(), trace).await;
    }
    ended
}

/// Passes a cancellation on to what runs. Returns once GitLab has given the job up, perhaps after it wanted a milder end.
async fn given_up(scene: &ForeignScene<'_>, stop: &CancellationToken) {
    let passed_on = async {
        scene.cancel.cancelled().await;
        if cancel_why(scene).await != ABORTED {
            stop.cancel();
            std::future::pending().await
        }
    };
    tokio::select! {
        () = scene.core.gitlab.given_up(&scene.lease.job.id) => {}
        () = passed_on => {}
    }
}

/// Who or what asked for the job's end.
async fn cancel_why(scene: &ForeignScene<'_>) -> String {
    let job = scene.core.store.job(&scene.lease.job.id).await.ok().flatten();
    job.and_then(|job| job.cancel_why).unwrap_or_else(|| CANCELLED.to_owned())
}

/// Says how the job ended, in its log and in the store.
async fn conclude(
    scene: &ForeignScene<'_>, plan: &Plan, ended: Ended, trace: &mut Trace<'_>, machine: &mut Machine,
) -> Ending {
    let (verdict, detail, ending) = match ended {
        Ended::Lost(loss) => {
            let loss = loss.explained_by(&machine.console().await.unwrap_or_default());
            let words = sections::error(&format!("Job failed (system failure): {}", loss_text(&loss)));
            trace.finish(&words).await;
            return Ending::VmLost(loss);
        }
        Ended::TimedOut => {
            let detail = format!("execution took longer than {}", format_duration(plan.limit));
            let verdict = Verdict::Failed { reason: FailureReason::JobExecutionTimeout, exit_code: None };
            (verdict, detail, Ending::TimedOut(plan.limit))
        }
        Ended::Aborted => (Verdict::Canceled, "canceled".to_owned(), Ending::Cancelled(ABORTED.to_owned())),
        Ended::Done(End { verdict: Verdict::Canceled, detail, .. }) => {
            (Verdict::Canceled, detail, Ending::Cancelled(cancel_why(scene).await))
        }
        Ended::Done(end) => {
            let ending = ending_of(&end);
            (end.verdict, end.detail, ending)
        }
    };
    let words = match verdict {
        Verdict::Success => sections::notice("Job succeeded") + "\n",
        Verdict::Failed { reason: FailureReason::RunnerSystemFailure, .. } => {
            sections::error(&format!("Job failed (system failure): {detail}"))
        }
        Verdict::Failed { .. } | Verdict::Canceled => sections::error(&format!("Job failed: {detail}")),
    };
    trace.finish(&words).await;
    note(scene, verdict).await;
    ending
}

fn ending_of(end: &End) -> Ending {
    let (conclusion, reason) = match end.verdict {
        Verdict::Success => (Conclusion::Success, None),
        Verdict::Failed { reason: FailureReason::JobExecutionTimeout, .. } => {
            (Conclusion::TimedOut, Some(Reason::Timeout))
        }
        Verdict::Failed { reason: FailureReason::ScriptFailure, .. } if end.is_out_of_memory => {
            (Conclusion::Error, Some(Reason::OutOfMemory))
        }
        Verdict::Failed { reason: FailureReason::ScriptFailure, .. } => (Conclusion::Failure, None),
        Verdict::Failed { reason: FailureReason::RunnerUnsupported | FailureReason::ImagePullFailure, .. } => {
            (Conclusion::Error, Some(Reason::Workflow))
        }
        Verdict::Failed { .. } => (Conclusion::Error, Some(Reason::Internal)),
        Verdict::Canceled => (Conclusion::Cancelled, Some(Reason::Cancelled)),
    };
    Ending::Foreign { conclusion, reason, detail: first_line(&end.detail) }
}

/// Without the hints behind it.
fn first_line(detail: &str) -> String {
    detail.lines().next().unwrap_or_default().to_owned()
}

/// Ends a job that is not run at all.
async fn refuse(scene: &ForeignScene<'_>, journal: &mut Journal, unrunnable: Unrunnable) -> Ending {
    let Unrunnable { reason, detail } = unrunnable;
    let verdict = Verdict::Failed { reason, exit_code: None };
    let words = sections::error(&format!("Job failed: {detail}"));
    journal.write(0, crate::log::Stream::Stdout, words.as_bytes()).await;
    note(scene, verdict).await;
    Ending::Foreign { conclusion: Conclusion::Error, reason: Some(Reason::Workflow), detail: first_line(&detail) }
}

/// Stores what GitLab is to be told.
async fn note(scene: &ForeignScene<'_>, verdict: Verdict) {
    let job = &scene.lease.job.id;
    if let Err(error) = scene.core.store.note_foreign_verdict(job, verdict.to_value()).await {
        // Whoever tells GitLab makes one of the job's outcome, which says less.
        tracing::error!(%job, %error, "how a job ended could not be stored");
    }
}

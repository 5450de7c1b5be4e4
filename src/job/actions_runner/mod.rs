//! GitHub's runner in a VM, for one job of GitHub's: registered when the machine is there, given its configuration over the
//! channel, watched, and ended when its job is, when no job comes, or when its time is over.
//!
//! - The configuration makes whoever has it that runner, once. It goes to the runner's standard input and from there to its
//!   command line inside the VM; it is in no file, no log and no other machine.
//! - The runner does what GitHub says, as the image's account, with the profile's way out and no other service of the host.
//! - A runner that waits for nothing is first removed at GitHub, which refuses that while it has a job, and only then ended.

mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::libc::{SIGKILL, SIGTERM};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep_until, timeout};

use self::words::Said;
use super::attempt::{LAST_WORDS, explain_loss, tell_refusals};
use super::attend::KILL_LIMIT;
use super::driver::cancelled;
use super::foreign::ForeignScene;
use super::journal::Journal;
use super::services::{Services, egress_of, keep_egress};
use super::steps::DEFAULT_PATH;
use super::verdict::Ending;
use super::witness::Witness as _;
use crate::clock;
use crate::config::{ActionsRunner, format_duration};
use crate::core::heavy;
use crate::forge::{Conclusion, ForgeError, MintedRunner, NewRunner};
use crate::host::wire::Wire;
use crate::log::Stream;
use crate::net::results::ResultsService;
use crate::protocol::message::{Exec, Exit, ExitStatus, Output};
use crate::runners::plan::Stage;
use crate::runners::{NAME_PREFIX, NOT_NEEDED, Registered, Request};
use crate::store::Reason;
use crate::vm::VmError;
use crate::vm::guest::{Guest, Running};
use crate::vm::machine::Machine;
use crate::workflow::commands::{Hearing, Listener, Source};

/// Bytes of a runner's configuration. GitHub's has about 5 KB.
const MAX_CONFIG: usize = 100 * 1024;

/// The step of the log that the runner's output is.
const STEP: u16 = 1;

/// How soon it is tried again to remove a runner that nobody needs.
const REMOVE_AGAIN: Duration = Duration::from_secs(30);

/// Starts the runner with its configuration, which is the one line of the input.
const START: &str = r#"IFS= read -r config && exec "$0" --jitconfig "$config" < /dev/null"#;

/// Serves one job of GitHub's, or none.
pub(super) async fn run(scene: &ForeignScene<'_>, machine: &mut Machine, journal: &mut Journal) -> Ending {
    let core = scene.core;
    let request = serde_json::from_value::<Request>(scene.foreign.request.clone());
    let (Ok(request), Some(settings)) = (request, scene.profile.executor.actions_runner()) else {
        let detail = format!("the profile `{}` has no runner of GitHub's any more", scene.profile.name);
        return Ending::NotStarted { reason: Reason::NoProfile, detail };
    };
    let access = &scene.lease.run.access;
    let services = Services {
        git: None,
        egress: egress_of(core, scene.profile, &access.repo),
        registries: core.registries.proxy(&access.repo, &scene.profile.name, false),
        results: ResultsService::none(),
    };
    let serving = machine.take_connections().map(|connections| services.serve(connections));
    let (guest, wire, lost) = (machine.guest().clone(), machine.wire().cloned(), machine.lost());
    let mut attempt = Attempt { scene, settings, request: &request, guest: &guest, journal, said: Said::default() };
    tokio::pin!(lost);
    let served = tokio::select! {
        served = attempt.serve(&services, wire.as_ref()) => served,
        loss = &mut lost => Err(Lost::Seen(loss)),
    };
    attempt.leave_notes().await;
    if let Some(serving) = serving {
        serving.abort();
        services.egress.settled().await;
        let decisions = [Default::default(), services.registries.take_decisions(), Default::default()];
        tell_refusals(decisions, &services.egress.log(), journal).await;
    }
    keep_egress(core, &scene.lease.job, &services.egress).await;
    match served {
        Ok(ending) => ending,
        Err(lost_or_failed) => {
            // What ended the VM often shows first as a call that failed.
            let loss = match lost_or_failed {
                Lost::Seen(loss) => loss,
                Lost::Call(error) => timeout(LAST_WORDS, lost).await.unwrap_or_else(|_| error.into()),
            };
            Ending::VmLost(explain_loss(loss, machine, journal).await)
        }
    }
}

/// How a VM was found to be lost.
enum Lost {
    Seen(crate::vm::loss::Loss),
    Call(VmError),
}

impl From<VmError> for Lost {
    fn from(error: VmError) -> Self {
        Self::Call(error)
    }
}

struct Attempt<'a> {
    scene: &'a ForeignScene<'a>,
    settings: &'a ActionsRunner,
    request: &'a Request,
    guest: &'a Guest,
    journal: &'a mut Journal,
    said: Said,
}

impl Attempt<'_> {
    async fn serve(&mut self, services: &Services, wire: Option<&Arc<Wire>>) -> Result<Ending, Lost> {
        let began = Instant::now();
        services.egress.connect(wire).await.map_err(VmError::host("the VM's way to others"))?;
        services.offer(self.guest).await?;
        if let Err(why) = services.equip(self.guest, false).await? {
            self.journal.say(0, &format!("warning: {why}")).await;
        }
        let program = format!("{}/run.sh", self.settings.path);
        if self.guest.read_file(&program, 1).await?.bytes.is_empty() {
            return Ok(self.without_runner(&program).await);
        }
        let job = &self.scene.lease.job.id;
        if self.scene.cancel.is_cancelled() || !self.scene.core.runners.may_register(job) {
            return Ok(Ending::Cancelled(NOT_NEEDED.to_owned()));
        }
        let minted = match self.register().await {
            Ok(minted) => minted,
            Err(detail) => {
                self.journal.say(0, &format!("error: {detail}")).await;
                return Ok(foreign(Conclusion::Error, Some(Reason::Runner), detail));
            }
        };
        let mut hearing = Hearing::default();
        for secret in secrets_of(&minted) {
            if hearing.masks.add(&secret).is_err() {
                tracing::warn!(%job, "a runner's configuration is too long to be masked whole");
            }
        }
        let running = self.guest.exec(self.exec(program, services.variables())).await?;
        let line = format!("{}\n", minted.config.expose_secret());
        let input = running.input();
        input.write(line.as_bytes()).await?;
        input.end();
        let listener = Listener::new("/", false, false);
        let deadline = began + self.settings.registration_timeout;
        let mut watch = Watch { running, listener, hearing, deadline, id: minted.id };
        Ok(watch.attend(self).await?)
    }

    async fn without_runner(&mut self, program: &str) -> Ending {
        let image = &self.scene.profile.image;
        let detail = format!(
            "the image `{image}` has no `{program}`\n  hint: put GitHub's runner there, or set `path` of the profile's \
             `runner`; docs/actions-runner.md has a recipe"
        );
        self.journal.say(0, &format!("error: {detail}")).await;
        foreign(Conclusion::Error, Some(Reason::Image), detail)
    }

    /// Has GitHub know the runner, and this service how GitHub knows it.
    async fn register(&mut self) -> Result<MintedRunner, String> {
        let core = self.scene.core;
        let api = core.forge.runner_api().ok_or("the forge has no runners")?;
        let mut new = NewRunner {
            name: format!("{NAME_PREFIX}{}", self.scene.lease.vm),
            group: self.settings.group,
            labels: self.scene.profile.runner_labels(),
            work_folder: self.settings.work_folder.clone(),
        };
        let minted = match api.mint_runner(&self.request.at, &new).await {
            // The name may be taken by a call of which the answer was lost.
            Err(ForgeError::Permanent { .. } | ForgeError::Transient { .. }) => {
                new.name.push_str("-2");
                api.mint_runner(&self.request.at, &new).await
            }
            minted => minted,
        };
        let minted = minted.map_err(|error| {
            if let ForgeError::RateLimited { wait, .. } = error {
                core.runners.hold(self.request.group(), wait, &error.to_string(), clock::now_ms());
            }
            told(&error)
        })?;
        if minted.config.expose_secret().len() > MAX_CONFIG || minted.config.expose_secret().contains(['\n', '\0']) {
            return Err("the configuration of the runner is not what GitHub documents".to_owned());
        }
        let registered = Registered { name: new.name, id: minted.id };
        let progress = serde_json::to_value(&registered).unwrap_or_default();
        let job = &self.scene.lease.job;
        core.store.note_foreign_progress(&job.id, progress).await.map_err(|error| error.to_string())?;
        core.timeline.record(&job.id, job.attempt, "runner_registered", &registered.name);
        self.journal.say(0, &format!("Registered as `{}` with {}", registered.name, self.request.at.place)).await;
        Ok(minted)
    }

    fn exec(&self, program: String, proxies: Vec<(String, String)>) -> Exec {
        let user = &self.scene.image.user;
        let mut env: BTreeMap<String, String> = proxies.into_iter().collect();
        env.insert("HOME".to_owned(), user.home());
        env.insert("USER".to_owned(), user.name.clone());
        env.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
        env.extend(self.scene.image.environment.iter().cloned());
        let argv = ["sh", "-c", START].map(str::to_owned).into_iter().chain([program]).collect();
        Exec { argv, env: env.into_iter().collect(), directory: user.home(), owner: user.owner(), stdin: true }
    }

    /// Leaves for those who count what this machine has come to, however it ended.
    async fn leave_notes(&mut self) {
        let core = self.scene.core;
        if self.said.stage == Stage::Busy && self.conclusion_told().await.is_none() {
            core.runners.doubt(self.request.group());
        }
        core.wake.runners.notify_one();
    }

    /// How GitHub says that the runner's job ended, or that it has one; `None` if it has not said anything of it yet.
    async fn conclusion_told(&self) -> Option<Option<String>> {
        let core = self.scene.core;
        let stored = core.store.foreign_job(&self.scene.lease.job.id).await.ok()??;
        let registered: Registered = serde_json::from_value(stored.progress).ok()?;
        Some(core.store.workflow_job_of(&registered.name).await.ok()??.conclusion)
    }
}

/// A runner that runs.
struct Watch {
    running: Running,
    listener: Listener,
    hearing: Hearing,
    /// When the stage is over that it is at.
    deadline: Instant,
    /// GitHub's number of it.
    id: u64,
}

impl Watch {
    /// Watches it to its end.
    async fn attend(&mut self, attempt: &mut Attempt<'_>) -> Result<Ending, VmError> {
        loop {
            tokio::select! {
                output = self.running.next() => {
                    if let Some(exit) = self.take(output?, attempt).await {
                        return Ok(end_of(attempt, &exit.status).await);
                    }
                }
                () = attempt.scene.cancel.cancelled() => {
                    self.stop(attempt).await?;
                    return Ok(cancelled(attempt.scene.core, attempt.scene.lease).await);
                }
                () = sleep_until(self.deadline) => {
                    if let Some(ending) = self.overdue(attempt).await? {
                        return Ok(ending);
                    }
                }
            }
        }
    }

    /// The stage has lasted as long as it may; gives the end, if it is that.
    async fn overdue(&mut self, attempt: &mut Attempt<'_>) -> Result<Option<Ending>, VmError> {
        let ending = match attempt.said.stage {
            Stage::Queued | Stage::Starting => {
                let limit = format_duration(attempt.settings.registration_timeout);
                let detail = format!(
                    "GitHub's runner did not wait for a job within {limit}\n  hint: its output is in the log; \
                     `egress` of the profile must allow GitHub's addresses"
                );
                attempt.journal.say(0, &format!("error: {detail}")).await;
                foreign(Conclusion::Error, Some(Reason::Runner), detail)
            }
            Stage::Idle => match self.dismissed(attempt).await {
                Some(ending) => ending,
                None => return Ok(None),
            },
            Stage::Busy => {
                let limit = attempt.scene.profile.timeout;
                let text = format!("error: the job took longer than its limit of {}", format_duration(limit));
                attempt.journal.say(0, &text).await;
                Ending::TimedOut(limit)
            }
        };
        self.stop(attempt).await?;
        Ok(Some(ending))
    }

    /// Removes a runner that has waited long enough, unless a job may still come.
    async fn dismissed(&mut self, attempt: &mut Attempt<'_>) -> Option<Ending> {
        let (core, idle) = (attempt.scene.core, attempt.settings.idle_timeout);
        self.deadline = Instant::now() + idle;
        if !core.runners.is_spare(&attempt.scene.lease.job.id) {
            let text = "note: jobs wait for a runner with these labels, and GitHub gives this one none; does its group admit \
                        the repository?";
            attempt.journal.say(0, text).await;
            return None;
        }
        let api = core.forge.runner_api()?;
        match api.remove_runner(&attempt.request.at, self.id).await {
            Ok(()) | Err(ForgeError::NotFound { .. }) => {
                let detail = format!("No job came within {}", format_duration(idle));
                attempt.journal.say(0, &detail).await;
                Some(foreign(Conclusion::Skipped, Some(Reason::Skipped), detail))
            }
            Err(error) => {
                // At a job, say: its output will tell.
                tracing::debug!(runner = self.id, %error, "a runner that waits cannot be removed");
                self.deadline = Instant::now() + REMOVE_AGAIN.min(idle);
                None
            }
        }
    }

    /// Asks the runner to end, waits for the grace period, then kills it.
    async fn stop(&mut self, attempt: &mut Attempt<'_>) -> Result<(), VmError> {
        for (signal, limit) in [(SIGTERM, attempt.scene.core.config.limits.grace), (SIGKILL, KILL_LIMIT)] {
            self.running.signal(signal).await?;
            let drained = async {
                loop {
                    let output = self.running.next().await?;
                    if self.take(output, attempt).await.is_some() {
                        return Ok(());
                    }
                }
            };
            if let Ok(ended) = timeout(limit, drained).await {
                return ended;
            }
        }
        Ok(())
    }

    /// Hears output, whose text goes to the log; gives the exit.
    async fn take(&mut self, output: Output, attempt: &mut Attempt<'_>) -> Option<Exit> {
        match output {
            Output::Stdout(bytes) => self.listener.push(Source::Stdout, &bytes),
            Output::Stderr(bytes) => self.listener.push(Source::Stderr, &bytes),
            Output::Exited(exit) => {
                self.hear(true, attempt).await;
                return Some(exit);
            }
        }
        self.hear(false, attempt).await;
        None
    }

    async fn hear(&mut self, is_over: bool, attempt: &mut Attempt<'_>) {
        for (source, stream) in [(Source::Stdout, Stream::Stdout), (Source::Stderr, Stream::Stderr)] {
            while let Some(heard) = heavy(|| self.listener.next(source, is_over, &mut self.hearing)) {
                for line in String::from_utf8_lossy(&heard.text).lines() {
                    if attempt.said.hear(line) {
                        self.advance(attempt);
                    }
                }
                if !heard.text.is_empty() {
                    attempt.journal.write(STEP, stream, &heard.text).await;
                }
            }
        }
    }

    fn advance(&mut self, attempt: &mut Attempt<'_>) {
        let (core, job) = (attempt.scene.core, &attempt.scene.lease.job);
        self.deadline = Instant::now()
            + match attempt.said.stage {
                Stage::Busy => attempt.scene.profile.timeout,
                Stage::Queued | Stage::Starting | Stage::Idle => attempt.settings.idle_timeout,
            };
        core.runners.advance(&job.id, attempt.said.stage);
        if let Some(name) = attempt.said.job.clone() {
            attempt.journal.step_started(0, &name);
        }
        core.wake.runners.notify_one();
    }
}

async fn end_of(attempt: &Attempt<'_>, status: &ExitStatus) -> Ending {
    let told = attempt.conclusion_told().await.flatten();
    let words::Verdict { conclusion, reason, detail } = attempt.said.verdict(told.as_deref(), status);
    foreign(conclusion, reason, detail)
}

fn foreign(conclusion: Conclusion, reason: Option<Reason>, detail: String) -> Ending {
    Ending::Foreign { conclusion, reason, detail }
}

/// The configuration, and the credentials within it, as no log may show them.
fn secrets_of(minted: &MintedRunner) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let config = minted.config.expose_secret();
    let parts = STANDARD.decode(config).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let parts: BTreeMap<String, String> = parts.unwrap_or_default();
    parts.into_values().chain([config.to_owned()]).collect()
}

/// Why a runner could not be registered, for the job's page: what the forge said goes there, as it concerns the operator.
fn told(error: &ForgeError) -> String {
    let text = error.to_string();
    match error {
        ForgeError::Transient { .. } | ForgeError::RateLimited { .. } => text,
        ForgeError::NotFound { .. } | ForgeError::Refused { .. } | ForgeError::Permanent { .. } => {
            // What the client suggests is about reports.
            let what = text.split("\n  hint:").next().unwrap_or_default();
            format!(
                "{what}\n  hint: runners of a repository need the permission `administration`, those of an organization \
                 `organization_self_hosted_runners`, both to write; those of an enterprise need a token; `group` must exist"
            )
        }
    }
}

//! GitHub's runner in a VM, for one job of GitHub's: registered when the machine is there, given its configuration over the
//! channel, watched, and ended when its job is, when no job comes, or when its time is over.
//!
//! - The configuration makes whoever has it that runner, once. It goes to the runner's standard input and from there to its
//!   command line inside the VM; it is in no file, no log and no other machine.
//! - The runner does what GitHub says, as the image's account, with the profile's way out, and nothing of the host that a fork's job may not have.
//! - A runner that waits for nothing is first removed at GitHub, which refuses that while it has a job, and only then ended.

mod watch;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use self::watch::Watch;
use self::words::Said;
use super::attempt::{LAST_WORDS, explain_loss, tell_refusals};
use super::foreign::ForeignScene;
use super::journal::Journal;
use super::services::{Services, egress_of, keep_egress};
use super::steps::DEFAULT_PATH;
use super::verdict::Ending;
use super::witness::Witness as _;
use crate::clock;
use crate::config::ActionsRunner;
use crate::forge::github;
use crate::forge::{Conclusion, ForgeError, MintedRunner, NewRunner};
use crate::host::wire::Wire;
use crate::net::results::ResultsService;
use crate::protocol::message::Exec;
use crate::runners::plan::Stage;
use crate::runners::{NOT_NEEDED, Registered, Request};
use crate::store::Reason;
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::vm::machine::Machine;
use crate::workflow::commands::{Hearing, Listener};

/// Bytes of a runner's configuration. GitHub's has about 5 KB.
const MAX_CONFIG: usize = 100 * 1024;

/// Bytes of a text in a runner's credentials from which on it is taken for a secret.
const MIN_SECRET: usize = 16;

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
        egress: egress_of(core, scene.profile, github::NAME, &access.repo),
        // Which job it gets, GitHub decides, and a fork's may be among them.
        registries: core.registries.proxy(core.config.named(github::NAME, &access.repo), &scene.profile.name, true),
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
        let mut watch = Watch { running, listener, hearing, deadline, id: minted.id, has_wondered: false };
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
        let api = core.forges.github().and_then(|forge| forge.runner_api()).ok_or("the forge has no runners")?;
        let mut new = NewRunner {
            name: format!("{}{}", core.runners.prefix(), self.scene.lease.vm),
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
        if self.said.stage == Stage::Busy
            && self.conclusion_told().await.is_none()
            && let Some(registered) = self.registered().await
        {
            core.runners.doubt(registered.name, self.request.group(), clock::now_ms());
        }
        core.wake.runners.notify_one();
    }

    async fn registered(&self) -> Option<Registered> {
        let stored = self.scene.core.store.foreign_job(&self.scene.lease.job.id).await.ok()??;
        serde_json::from_value(stored.progress).ok()
    }

    /// How GitHub says that the runner's job ended, or that it has one; `None` if it has not said anything of it yet.
    async fn conclusion_told(&self) -> Option<Option<String>> {
        let registered = self.registered().await?;
        Some(self.scene.core.store.workflow_job_of(&registered.name).await.ok()??.conclusion)
    }
}

fn foreign(conclusion: Conclusion, reason: Option<Reason>, detail: String) -> Ending {
    Ending::Foreign { conclusion, reason, detail }
}

/// The configuration, and the credentials within it, as no log may show them: it is encoded JSON whose values are encoded JSON.
fn secrets_of(minted: &MintedRunner) -> Vec<String> {
    let config = minted.config.expose_secret();
    let parts = decoded(config).and_then(|parts| parts.as_object().cloned()).unwrap_or_default();
    let mut secrets = vec![config.to_owned()];
    for (name, part) in &parts {
        let Some(encoded) = part.as_str() else { continue };
        secrets.push(encoded.to_owned());
        if name.starts_with(".credentials") {
            add_texts(&decoded(encoded).unwrap_or_default(), &mut secrets);
        }
    }
    secrets
}

fn decoded(encoded: &str) -> Option<Value> {
    serde_json::from_slice(&STANDARD.decode(encoded).ok()?).ok()
}

/// The texts in a value that are long enough to be secrets; addresses are none.
fn add_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() >= MIN_SECRET && !text.starts_with("http") => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| add_texts(item, texts)),
        Value::Object(members) => members.values().for_each(|member| add_texts(member, texts)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
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

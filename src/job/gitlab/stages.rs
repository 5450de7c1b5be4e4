//! The stages of a job, one after the other, and what the end of one means for those after it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Runner;
use super::program::{Ended, Program, Rules, run as run_program};
use crate::config::format_duration;
use crate::gitlab::job::plan::BUILDS;
use crate::gitlab::job::script::{self, Place};
use crate::gitlab::job::sections::Stage;
use crate::gitlab::job::verdict::{FailureReason, Verdict};
use crate::gitlab::wire::Step;
use crate::job::native::guest::Trouble;
use crate::job::toolkit::trust_variables;
use crate::vm::VmError;

/// The names of GitLab's own stages among a job's steps.
const AFTER_SCRIPT: &str = "after_script";
const RELEASE: &str = "release";

/// Bytes of variables that stages leave for later ones.
const MAX_LATER: u32 = 1 << 20;

/// Runs a file with the better of the shells that are there.
const SHELL: &str = r#"if command -v bash >/dev/null 2>&1; then exec bash "$1"; fi; exec sh "$1""#;

/// How the job ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) verdict: Verdict,
    /// For people.
    pub(super) detail: String,
    pub(super) is_out_of_memory: bool,
}

impl End {
    fn success() -> Self {
        Self { verdict: Verdict::Success, detail: "succeeded".to_owned(), is_out_of_memory: false }
    }

    pub(super) fn failed(detail: impl Into<String>) -> Self {
        let verdict = Verdict::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(1) };
        Self { verdict, detail: detail.into(), is_out_of_memory: false }
    }

    /// What the job cannot help.
    pub(super) fn of_runner(reason: FailureReason, detail: impl Into<String>) -> Self {
        let verdict = Verdict::Failed { reason, exit_code: None };
        Self { verdict, detail: detail.into(), is_out_of_memory: false }
    }

    pub(super) fn canceled() -> Self {
        Self { verdict: Verdict::Canceled, detail: "canceled".to_owned(), is_out_of_memory: false }
    }
}

impl Runner<'_, '_> {
    /// Runs the job. `lacks` is what its tools do without, in words.
    pub(super) async fn run(mut self, lacks: Option<String>) -> Result<End, VmError> {
        if let Some(end) = ended(self.prepare(lacks).await)? {
            self.trace.end().await;
            return Ok(end);
        }
        let mut end = match ended(self.get_ready().await)? {
            Some(end) => end,
            None => self.scripts().await?,
        };
        // A job that was cancelled before it began has nothing to keep.
        if end.verdict != Verdict::Canceled || self.has_begun() {
            let kept = self.keep(end.verdict.is_success()).await?;
            if let (true, Some(failed)) = (end.verdict.is_success(), kept) {
                end = failed;
            }
        }
        self.trace.end().await;
        if self.oom_kills > 0 && !end.verdict.is_success() {
            self.trace
                .warn("the machine ran out of memory and killed a process; a profile with more memory may help")
                .await;
            end.is_out_of_memory = true;
        }
        Ok(end)
    }

    /// Whether the job's own scripts had their turn.
    fn has_begun(&self) -> bool {
        self.variables.value("CI_JOB_STATUS") != "running"
    }

    /// Says where the job runs, starts its containers, and puts in place what its programs expect. Gives the end if it comes here.
    async fn prepare(&mut self, lacks: Option<String>) -> Result<Option<End>, VmError> {
        self.trace.begin(Stage::PrepareExecutor).await;
        let (profile, image) = (&self.scene.profile.name, &self.scene.image.name);
        let version = env!("CARGO_PKG_VERSION");
        self.trace
            .say(&format!("Running with dayfly {version} in a machine of the profile `{profile}`, image `{image}`"))
            .await;
        for remark in self.plan.remarks.iter().chain(&lacks) {
            self.trace.warn(remark).await;
        }
        if lacks.is_some() {
            self.offered.retain(|one| !trust_variables().contains(one));
        }
        let owner = self.owner;
        self.guest.make_directory(BUILDS, owner).await?;
        if let Some(end) = self.start_containers().await? {
            return Ok(Some(end));
        }
        self.trace.begin(Stage::PrepareScript).await;
        self.trace.say(&format!("Running on {}...", self.scene.lease.vm)).await;
        for directory in [&self.plan.temporary, &self.plan.directory] {
            self.guest.make_directory(directory, owner).await?;
        }
        // The user of a container may be anybody.
        let mode = if self.containers.job.is_some() { 0o666 } else { 0o600 };
        self.guest.write_file(&self.plan.later(), b"", mode, owner).await?;
        for (path, content) in self.variables.files() {
            self.guest.write_file(&path, content.as_bytes(), mode, owner).await?;
        }
        Ok(None)
    }

    /// The job's own scripts, `after_script` included.
    async fn scripts(&mut self) -> Result<End, VmError> {
        let settings = &self.plan.settings;
        let (limit, after_limit, ignores_after) =
            (settings.script_limit, settings.after_script_limit, settings.ignores_after_script);
        let until = limit.map(|limit| Instant::now() + limit);
        let mut end = End::success();
        if let Some(why) = self.open_up().await? {
            self.trace.warn(&why).await;
        }
        for step in self.plan.job.steps.iter().filter(|step| step.name != AFTER_SCRIPT) {
            self.trace.begin(Stage::Step(step.name.clone())).await;
            let commands = self.commands(step);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let ended = self.script(&step.name, &commands, left, true).await?;
            if ended == Ended::TimedOut {
                let took = limit.map(format_duration).unwrap_or_default();
                self.trace.warn(&format!("the script took longer than RUNNER_SCRIPT_TIMEOUT, which is {took}")).await;
            }
            if let Some(failed) = self.judge(ended) {
                end = failed;
                break;
            }
        }
        self.variables.set("CI_JOB_STATUS", end.verdict.status());
        let after = self.plan.job.steps.iter().find(|step| step.name == AFTER_SCRIPT && !step.script.is_empty());
        if let Some(after) = after {
            self.trace.begin(Stage::AfterScript).await;
            self.trace.say("Running after script...").await;
            let ended = self.script(AFTER_SCRIPT, &after.script, Some(after_limit), false).await?;
            let failed = self.judge(ended);
            match failed {
                Some(failed) if ignores_after => {
                    let text = format!("after_script failed, but the job continues unaffected: {}", failed.detail);
                    self.trace.warn(&text).await;
                }
                Some(failed) if end.verdict.is_success() => end = failed,
                _ => {}
            }
        }
        self.tell_services().await?;
        if let Some(why) = self.take_back().await? {
            self.trace.warn(&why).await;
        }
        self.learn_later().await?;
        Ok(end)
    }

    /// A step's commands; GitLab writes variables into those of a release.
    fn commands(&self, step: &Step) -> Vec<String> {
        match step.name.as_str() {
            RELEASE => step.script.iter().map(|command| self.variables.expand(command)).collect(),
            _ => step.script.clone(),
        }
    }

    /// Learns the variables that stages left: names of artifacts and paths may have them.
    async fn learn_later(&mut self) -> Result<(), VmError> {
        let content = match self.guest.read_file(&self.plan.later(), MAX_LATER).await {
            Ok(content) => content.bytes,
            Err(VmError::Refused { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        for line in String::from_utf8_lossy(&content).lines() {
            if let Some((name, value)) = line.trim().split_once('=').filter(|(name, _)| !name.is_empty()) {
                self.variables.set(name, value);
            }
        }
        Ok(())
    }

    /// What is kept of the job. Gives why it fails although its scripts did not.
    async fn keep(&mut self, succeeded: bool) -> Result<Option<End>, VmError> {
        let mut failed = None;
        let caches = self.due_caches(succeeded);
        if !caches.is_empty() {
            self.trace.begin(Stage::ArchiveCache { succeeded }).await;
        }
        for cache in &caches {
            let kept = self.archive(cache).await;
            self.fail_by(kept, &mut failed).await?;
        }
        let artifacts = self.due_artifacts(succeeded);
        if !artifacts.is_empty() {
            self.trace.begin(Stage::UploadArtifacts { succeeded }).await;
        }
        for artifact in &artifacts {
            let kept = self.upload(artifact).await;
            self.fail_by(kept, &mut failed).await?;
        }
        Ok(failed)
    }

    async fn fail_by(&mut self, kept: Result<(), Trouble>, failed: &mut Option<End>) -> Result<(), VmError> {
        match kept {
            Ok(()) => {}
            Err(Trouble::Said(why)) => {
                self.trace.error(&why).await;
                failed.get_or_insert(End::failed(why));
            }
            Err(Trouble::Vm(VmError::Refused { detail, .. })) => {
                self.trace.error(&detail).await;
                failed.get_or_insert(End::failed(detail));
            }
            Err(Trouble::Vm(error)) => return Err(error),
        }
        Ok(())
    }

    /// Runs commands of the job's own in one shell, in its container if it has one. One that `heeds` the job's cancellation is
    /// ended by it.
    async fn script(
        &mut self, name: &str, commands: &[String], limit: Option<Duration>, heeds: bool,
    ) -> Result<Ended, VmError> {
        let text = self.text_of(commands, &self.plan.directory);
        match self.inside(&text) {
            Some(program) => self.program(program, limit, heeds).await,
            None => self.script_of_machine(name, &text, limit, heeds).await,
        }
    }

    pub(super) fn text_of(&self, commands: &[String], directory: &str) -> String {
        let later = self.plan.later();
        script::program(commands, Place { directory, variables: &later, is_traced: self.plan.settings.is_traced })
    }

    pub(super) async fn script_of_machine(
        &mut self, name: &str, text: &str, limit: Option<Duration>, heeds: bool,
    ) -> Result<Ended, VmError> {
        let path = format!("{}/{}", self.plan.temporary, Stage::Step(name.to_owned()).name());
        match self.guest.write_file(&path, text.as_bytes(), 0o700, self.owner).await {
            Err(VmError::Refused { detail, .. }) => return Ok(Ended::Failed(detail)),
            written => written?,
        }
        let argv = ["sh", "-c", SHELL, "sh", &path].map(str::to_owned).to_vec();
        self.program(Program::of_machine(argv, self.environment()), limit, heeds).await
    }

    pub(super) async fn program(
        &mut self, program: Program, limit: Option<Duration>, heeds: bool,
    ) -> Result<Ended, VmError> {
        let rules = Rules {
            guest: self.guest,
            owner: self.owner,
            stop: heeds.then_some(self.stop),
            limit,
            grace: self.core().config.limits.grace,
        };
        let (ended, oom_kills) = run_program(program, rules, self.trace).await?;
        self.oom_kills = self.oom_kills.saturating_add(oom_kills);
        Ok(ended)
    }

    /// What programs get.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.base.clone();
        environment.extend(self.variables.environment());
        environment
    }

    /// What the end of a program means for the job; nothing if it goes on.
    pub(super) fn judge(&self, ended: Ended) -> Option<End> {
        let failed = |reason, exit_code, detail| {
            let verdict = Verdict::Failed { reason, exit_code };
            Some(End { verdict, detail, is_out_of_memory: false })
        };
        match ended {
            Ended::Exited(0) => None,
            Ended::Exited(code) => failed(FailureReason::ScriptFailure, Some(code), format!("exit code {code}")),
            Ended::Stopped => Some(End::canceled()),
            Ended::TimedOut => {
                failed(FailureReason::JobExecutionTimeout, None, "the script took longer than it may".to_owned())
            }
            Ended::Failed(detail) => failed(FailureReason::ScriptFailure, Some(1), detail),
        }
    }
}

/// What the machine refuses is no loss of it: a full disk, say.
fn ended(end: Result<Option<End>, VmError>) -> Result<Option<End>, VmError> {
    match end {
        Err(VmError::Refused { detail, .. }) => Ok(Some(End::of_runner(FailureReason::RunnerSystemFailure, detail))),
        end => end,
    }
}

//! The stages of a job, one after the other, and what the end of one means for those after it.

use std::collections::BTreeMap;

use super::program::{Ended, Program, Rules, run as run_program};
use super::{Runner, sources};
use crate::config::format_duration;
use crate::gitlab::job::script::{self, Place};
use crate::gitlab::job::sections::Stage;
use crate::gitlab::job::settings::Strategy;
use crate::gitlab::job::verdict::{FailureReason, Verdict};
use crate::gitlab::wire::Step;
use crate::job::native::guest::Trouble;
use crate::vm::VmError;

/// The names of GitLab's own stages among a job's steps.
const AFTER_SCRIPT: &str = "after_script";
const RELEASE: &str = "release";

/// Hooks of a job.
const BEFORE_SOURCES: &str = "pre_get_sources_script";
const AFTER_SOURCES: &str = "post_get_sources_script";

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

    fn failed(detail: impl Into<String>) -> Self {
        let verdict = Verdict::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(1) };
        Self { verdict, detail: detail.into(), is_out_of_memory: false }
    }

    fn canceled() -> Self {
        Self { verdict: Verdict::Canceled, detail: "canceled".to_owned(), is_out_of_memory: false }
    }
}

impl Runner<'_, '_> {
    /// Runs the job. `lacks` is what its tools do without, in words.
    pub(super) async fn run(mut self, lacks: Option<String>) -> Result<End, VmError> {
        self.prepare(lacks).await?;
        let mut end = match self.get_ready().await? {
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

    /// Says where the job runs, and puts in place what its programs expect.
    async fn prepare(&mut self, lacks: Option<String>) -> Result<(), VmError> {
        self.trace.begin(Stage::PrepareExecutor).await;
        let (profile, image) = (&self.scene.profile.name, &self.scene.image.name);
        let version = env!("CARGO_PKG_VERSION");
        self.trace
            .say(&format!("Running with dayfly {version} in a machine of the profile `{profile}`, image `{image}`"))
            .await;
        for remark in self.plan.remarks.iter().chain(&lacks) {
            self.trace.warn(remark).await;
        }
        self.trace.begin(Stage::PrepareScript).await;
        self.trace.say(&format!("Running on {}...", self.scene.lease.vm)).await;
        let owner = self.owner;
        for directory in [&self.plan.temporary, &self.plan.directory] {
            self.guest.make_directory(directory, owner).await?;
        }
        self.guest.write_file(&self.plan.later(), b"", 0o600, owner).await?;
        for (path, content) in self.variables.files() {
            self.guest.write_file(&path, content.as_bytes(), 0o600, owner).await?;
        }
        Ok(())
    }

    /// Everything before the job's own scripts; gives the end if it comes here.
    async fn get_ready(&mut self) -> Result<Option<End>, VmError> {
        self.trace.begin(Stage::GetSources).await;
        if let Some(end) = self.get_sources().await? {
            return Ok(Some(end));
        }
        let caches = self.caches();
        if !caches.is_empty() {
            self.trace.begin(Stage::RestoreCache).await;
        }
        for cache in &caches {
            let tries = self.plan.settings.cache_tries;
            if let Some(end) = self.restore_within(cache, tries).await? {
                return Ok(Some(end));
            }
        }
        let dependencies = self.dependencies();
        if !dependencies.is_empty() {
            self.trace.begin(Stage::DownloadArtifacts).await;
        }
        for dependency in &dependencies {
            let mut left = self.plan.settings.artifact_tries;
            loop {
                left -= 1;
                let stop = self.stop.clone();
                let downloaded = tokio::select! {
                    downloaded = self.download(dependency) => downloaded,
                    () = stop.cancelled() => return Ok(Some(End::canceled())),
                };
                match downloaded {
                    Ok(()) => break,
                    Err(Trouble::Vm(error)) => return Err(error),
                    Err(Trouble::Said(why)) if left == 0 => {
                        self.trace.error(&why).await;
                        return Ok(Some(End::failed(why)));
                    }
                    Err(Trouble::Said(why)) => self.trace.warn(&format!("{why}; it is tried again")).await,
                }
            }
        }
        Ok(None)
    }

    async fn restore_within(&mut self, cache: &crate::gitlab::wire::Cache, tries: u32) -> Result<Option<End>, VmError> {
        for attempt in 1..=tries {
            let stop = self.stop.clone();
            let restored = tokio::select! {
                restored = self.restore(cache) => restored,
                () = stop.cancelled() => return Ok(Some(End::canceled())),
            };
            match restored {
                Ok(()) => return Ok(None),
                Err(Trouble::Vm(error)) => return Err(error),
                Err(Trouble::Said(why)) if attempt == tries => {
                    self.trace.error(&why).await;
                    return Ok(Some(End::failed(why)));
                }
                Err(Trouble::Said(why)) => self.trace.warn(&format!("{why}; it is tried again")).await,
            }
        }
        Ok(None)
    }

    async fn get_sources(&mut self) -> Result<Option<End>, VmError> {
        let told = match sources::told(self.plan, &self.instance.url) {
            Ok(told) => told,
            Err(detail) => {
                let verdict = Verdict::Failed { reason: FailureReason::RunnerSystemFailure, exit_code: None };
                return Ok(Some(End { verdict, detail, is_out_of_memory: false }));
            }
        };
        let is_fetched = self.plan.settings.strategy == Strategy::Fetch;
        let mut end = None;
        for attempt in 1..=self.plan.settings.source_tries {
            if attempt > 1 {
                self.trace.warn("the sources could not be fetched; it is tried again").await;
            }
            end = self.get_sources_once(&told, is_fetched).await?;
            if end.as_ref().is_none_or(|end| end.verdict == Verdict::Canceled) {
                break;
            }
        }
        Ok(end)
    }

    async fn get_sources_once(
        &mut self, told: &BTreeMap<String, String>, is_fetched: bool,
    ) -> Result<Option<End>, VmError> {
        if is_fetched && let Some(end) = self.hook(BEFORE_SOURCES, "/").await? {
            return Ok(Some(end));
        }
        let script = format!("{}/get_sources", self.plan.temporary);
        self.guest.write_file(&script, sources::SCRIPT.as_bytes(), 0o700, self.owner).await?;
        let mut environment = self.environment();
        environment.extend(told.clone());
        let argv = ["sh", "-e", &script].map(str::to_owned).to_vec();
        let program = Program { argv, environment, directory: "/".to_owned() };
        let ended = self.program(program, None, true).await?;
        if let Some(end) = self.judge(ended) {
            return Ok(Some(end));
        }
        let directory = self.plan.directory.clone();
        if is_fetched { self.hook(AFTER_SOURCES, &directory).await } else { Ok(None) }
    }

    async fn hook(&mut self, name: &str, directory: &str) -> Result<Option<End>, VmError> {
        let commands = self.plan.hook(name);
        if commands.is_empty() {
            return Ok(None);
        }
        let ended = self.script(name, commands, directory, None, true).await?;
        Ok(self.judge(ended))
    }

    /// The job's own scripts, `after_script` included.
    async fn scripts(&mut self) -> Result<End, VmError> {
        let settings = &self.plan.settings;
        let (limit, after_limit, ignores_after) =
            (settings.script_limit, settings.after_script_limit, settings.ignores_after_script);
        let mut end = End::success();
        for step in self.plan.job.steps.iter().filter(|step| step.name != AFTER_SCRIPT) {
            self.trace.begin(Stage::Step(step.name.clone())).await;
            let commands = self.commands(step);
            let directory = self.plan.directory.clone();
            let ended = self.script(&step.name, &commands, &directory, limit, true).await?;
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
            let directory = self.plan.directory.clone();
            let ended = self.script(AFTER_SCRIPT, &after.script, &directory, Some(after_limit), false).await?;
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

    /// Runs commands in one shell. One that `heeds` the job's cancellation is ended by it.
    async fn script(
        &mut self, name: &str, commands: &[String], directory: &str, limit: Option<std::time::Duration>, heeds: bool,
    ) -> Result<Ended, VmError> {
        let later = self.plan.later();
        let place = Place { directory, variables: &later, is_traced: self.plan.settings.is_traced };
        let text = script::program(commands, place);
        let path = format!("{}/{}", self.plan.temporary, Stage::Step(name.to_owned()).name());
        match self.guest.write_file(&path, text.as_bytes(), 0o700, self.owner).await {
            Err(VmError::Refused { detail, .. }) => return Ok(Ended::Failed(detail)),
            written => written?,
        }
        let argv = ["sh", "-c", SHELL, "sh", &path].map(str::to_owned).to_vec();
        let program = Program { argv, environment: self.environment(), directory: "/".to_owned() };
        self.program(program, limit, heeds).await
    }

    async fn program(
        &mut self, program: Program, limit: Option<std::time::Duration>, heeds: bool,
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
    fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.base.clone();
        environment.extend(self.variables.environment());
        environment
    }

    /// What the end of a program means for the job; nothing if it goes on.
    fn judge(&self, ended: Ended) -> Option<End> {
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

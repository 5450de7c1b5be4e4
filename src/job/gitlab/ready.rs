//! What a job has before its own scripts run: sources, caches, artifacts of earlier jobs.

use std::collections::BTreeMap;

use super::program::Program;
use super::stages::End;
use super::{Runner, sources};
use crate::gitlab::job::sections::Stage;
use crate::gitlab::job::settings::Strategy;
use crate::gitlab::job::verdict::{FailureReason, Verdict};
use crate::gitlab::wire::Cache;
use crate::job::native::guest::Trouble;
use crate::vm::VmError;

/// Hooks of a job.
const BEFORE_SOURCES: &str = "pre_get_sources_script";
const AFTER_SOURCES: &str = "post_get_sources_script";

impl Runner<'_, '_> {
    /// Everything before the job's own scripts; gives the end if it comes here.
    pub(super) async fn get_ready(&mut self) -> Result<Option<End>, VmError> {
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

    async fn restore_within(&mut self, cache: &Cache, tries: u32) -> Result<Option<End>, VmError> {
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
            Err(detail) => return Ok(Some(End::of_runner(FailureReason::RunnerSystemFailure, detail))),
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
        let ended = self.program(Program::of_machine(argv, environment), None, true).await?;
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
        let text = self.text_of(commands, directory);
        let ended = self.script_of_machine(name, &text, None, true).await?;
        Ok(self.judge(ended))
    }
}

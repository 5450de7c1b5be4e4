//! Makes one thing that is kept up: a job of two steps, checkout and script, in a VM that nobody but this asked for.
//!
//! It runs as a job of the repository would: the same user, environment, checkout and limits, with a log of its own. No
//! credential is ever in the VM: the host adds those to git's fetches.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::desk::{Activity, Place};
use super::{End, Trouble};
use crate::clock;
use crate::config::{CacheSource, NamedCache, Prepare, Profile};
use crate::core::{Core, heavy};
use crate::engine::Prepared;
use crate::host;
use crate::ids::{JobId, VmId};
use crate::job::attempt::Attempt;
use crate::job::checkout::{self, Workspace};
use crate::job::driver::numeric_id;
use crate::job::services::{actions_of, egress_of, git_proxy_of};
use crate::job::steps::{Places, Witness};
use crate::job::verdict::{self, Ending};
use crate::lifecycle::Step;
use crate::log::{LogWriter, Stream};
use crate::net::results::ResultsService;
use crate::scheduler::capacity::{self, size_of};
use crate::scheduler::plan::{Limits, Size, never_fits};
use crate::store::{Upkeep, UpkeepKind};
use crate::vm::machine::Machine;
use crate::workflow::contexts::GithubContext;
use crate::workflow::gate::NeedsResults;
use crate::workflow::plan::{PlanInput, plan};
use crate::workflow::run::{JobPlace, JobRun};
use crate::workflow::values::Values;

/// Tries that ended with the service itself, or were never ended, before it is not begun any more.
const MAX_BEGUN: u32 = 4;

/// How often the absence of a VM is looked for that could not be destroyed.
const ABSENCE_LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// The log of one try. What cannot be written is said once, and ends nothing.
pub(super) struct Chronicle {
    writer: Option<LogWriter>,
}

impl Witness for Chronicle {
    async fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = writer.append(step, stream, clock::now_ms(), bytes).await {
            tracing::error!(%error, "the log of a preparation cannot be written");
            self.writer = None;
        }
    }
}

/// Makes what is wanted, unless it is there. The VM is absent afterwards.
pub(super) async fn produce(core: &Arc<Core>, wish: &Upkeep, cancel: &CancellationToken) -> Result<End, Trouble> {
    if wish.key.kind == UpkeepKind::Prepare && core.kept.usable(core, &wish.hash).await.is_some() {
        return Ok(End::Done("it was there already".to_owned()));
    }
    if wish.tries >= MAX_BEGUN {
        return Err(Trouble::Failed(format!("it was begun {} times, and none of them came to an end", wish.tries)));
    }
    let profile = core.config.profile(&wish.key.profile);
    let (Some(profile), Some(recipe)) = (profile, &wish.recipe) else {
        return Err(Trouble::Failed("the configuration does not say how to make it any more".to_owned()));
    };
    let size = size_of(&core.config, Some(&profile.name));
    require_possible(size, capacity::limits(&core.config, host::facts()))?;
    let place = tokio::select! {
        place = core.desk.ask(&wish.key.repo, size) => place,
        () = cancel.cancelled() => return Err(Trouble::Interrupted),
    };
    let (log, vm) = (JobId::random(), VmId::random());
    if !core.store.begin_upkeep(wish, &log, clock::now_ms()).await? {
        return Err(Trouble::Interrupted);
    }
    core.lifecycle.reached(Step::PreparationBegun).await;
    let writer = core.logs.create(&log, 1, profile.log_limit).await;
    let writer = writer.map_err(|error| Trouble::Failed(error.to_string()))?;
    let log_of_try = Chronicle { writer: Some(writer) };
    let mut making = Making { core, wish, profile, recipe, place: &place, vm: vm.clone(), log: log_of_try };
    let interrupted = async {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = place.revoked.cancelled() => {}
        }
    };
    let made = match wish.key.kind {
        UpkeepKind::Fill => {
            place.occupy(&vm, &profile.name, Activity::Filling);
            unless(interrupted, making.fill_cache(&log, cancel)).await
        }
        UpkeepKind::Prepare | UpkeepKind::Look => {
            place.occupy(&vm, &profile.name, Activity::Preparing);
            making.make_snapshot(cancel, interrupted).await
        }
    };
    making.end(&made).await;
    vacate(core, &vm, place).await;
    made
}

/// What no end of any job makes room for would be waited for in vain, and by the repository's other wishes with it.
fn require_possible(size: Size, limits: Limits) -> Result<(), Trouble> {
    never_fits(size, limits).map_or(Ok(()), |why| Err(Trouble::TooLarge(why)))
}

/// Does the work, and drops it where it is once it is `interrupted`.
pub(super) async fn unless<T>(
    interrupted: impl Future<Output = ()>, work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    tokio::select! {
        biased;
        done = work => done,
        () = interrupted => Err(Trouble::Interrupted),
    }
}

/// Gives the room back once nothing of the VM is left.
async fn vacate(core: &Core, vm: &VmId, place: Place) {
    loop {
        match core.engine.homes().is_absent(vm) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::error!(%vm, %error, "it is not known whether a VM is gone"),
        }
        // What a dropped future left has no owner.
        core.engine.reap().await;
        if core.engine.homes().is_absent(vm).unwrap_or(false) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(ABSENCE_LOOK) => {}
            () = core.stop.cancelled() => break,
        }
    }
    drop(place);
}

/// One try.
pub(super) struct Making<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) wish: &'a Upkeep,
    pub(super) profile: &'a Profile,
    recipe: &'a Prepare,
    pub(super) place: &'a Place,
    pub(super) vm: VmId,
    pub(super) log: Chronicle,
}

impl Making<'_> {
    /// Checkout and script.
    pub(super) async fn work(
        &mut self, machine: &mut Machine, image: &Prepared, cancel: &CancellationToken,
    ) -> Result<(), Trouble> {
        let (core, wish, profile) = (self.core, self.wish, self.profile);
        for note in image.notes() {
            self.log.say(0, &note).await;
        }
        let places = Places::new(&image.info.user.home(), wish.key.repo.name());
        let github = self.github(&places);
        let run = self.job(&places, &github)?;
        let egress = egress_of(core, profile, &wish.key.forge, &wish.key.repo);
        let attempt = Attempt {
            machine: &mut *machine,
            image: &image.info,
            places: &places,
            github: &github,
            origin: checkout::Origin {
                repo: &wish.key.repo,
                forge_url: core.config.addresses_of(&wish.key.forge).url.as_str(),
            },
            workspace: Workspace::Empty,
            git: git_proxy_of(core, &wish.key.forge, &wish.access, true, &egress),
            egress,
            registries: core.registries.proxy(
                core.config.named(&wish.key.forge, &wish.key.repo),
                &profile.name,
                self.is_seen_by_forks(),
            ),
            // What is prepared outlives the attempt: it may hold nothing that is the attempt's.
            results: ResultsService::none(),
            actions: &actions_of(core, &wish.key.forge, &wish.access, false),
            limit: profile.timeout,
            spent: Duration::ZERO,
            grace: core.config.limits.grace,
            cancel,
        };
        let (ending, lines) = attempt.run(run, &mut self.log).await;
        let outcome = verdict::outcome(&ending, &lines);
        match ending {
            Ending::Steps(_) if outcome.conclusion == crate::forge::Conclusion::Success => {}
            Ending::Cancelled(_) => return Err(Trouble::Interrupted),
            _ => return Err(Trouble::Failed(outcome.detail)),
        }
        Ok(())
    }

    /// Whether jobs of forks see what is made here: they mount caches, and do not start from machines that registries were read for
    /// which are kept from them.
    fn is_seen_by_forks(&self) -> bool {
        let Self { core, wish, profile, .. } = self;
        let is_shared = matches!(
            profile.cache.as_ref().map(|cache| &cache.source),
            Some(CacheSource::Named(NamedCache { repository: Some(_), .. }))
        );
        wish.key.kind == UpkeepKind::Fill
            && (is_shared || core.config.keeps_registries_from_forks(&wish.key.forge, &wish.key.repo, profile))
    }

    /// The commit as steps see it. There is no event: what is prepared is for all of them.
    fn github(&self, places: &Places) -> GithubContext {
        let Upkeep { key, sha, .. } = self.wish;
        let addresses = self.core.config.addresses_of(&key.forge);
        GithubContext {
            event_name: "push".to_owned(),
            sha: sha.to_string(),
            workflow_sha: sha.to_string(),
            repository: key.repo.to_string(),
            repository_owner: key.repo.owner().to_owned(),
            server_url: addresses.server_url().to_owned(),
            api_url: addresses.api_url().to_owned(),
            workflow: "prepare".to_owned(),
            job: "prepare".to_owned(),
            workspace: places.workspace.clone(),
            event_path: places.event_path.clone(),
            run_id: numeric_id(&self.wish.hash).to_string(),
            run_number: "1".to_owned(),
            run_attempt: "1".to_owned(),
            ..GithubContext::default()
        }
    }

    /// A workflow is what a person would write who wants this done: so that is what it is.
    fn job(&self, places: &Places, github: &GithubContext) -> Result<JobRun, Trouble> {
        let steps = serde_json::json!([
            { "uses": "actions/checkout@v4" },
            { "name": "Prepare", "run": self.recipe.run },
        ]);
        let job = serde_json::json!({ "runs-on": "prepare", "steps": steps });
        let text = serde_json::json!({ "on": "push", "jobs": { "prepare": job } }).to_string();
        let failed = |complaints: Vec<crate::document::Diagnostic>| {
            Trouble::Failed(complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        };
        let input = PlanInput { github: github.to_value(), ..PlanInput::default() };
        let planned = heavy(|| crate::workflow::parse("prepare", &text).and_then(|workflow| plan(&workflow, &input)));
        let Some(planned) = planned.map_err(failed)?.pop() else {
            return Err(Trouble::Failed("it makes no job".to_owned()));
        };
        let place = JobPlace {
            github: github.clone(),
            runner: places.runner_context(self.vm.as_str()),
            needs: NeedsResults::default(),
            values: Values::default(),
            command_directory: places.commands.clone(),
        };
        JobRun::new(planned.spec, place).map_err(|complaint| Trouble::Failed(complaint.to_string()))
    }

    /// Ends the log, and leaves nothing half made.
    async fn end(mut self, made: &Result<End, Trouble>) {
        if let Err(trouble) = made {
            self.log.say(0, &format!("error: {trouble}")).await;
            if let Err(error) = self.core.kept.shelf.abandon(&self.wish.hash) {
                tracing::warn!(hash = self.wish.hash, %error, "what was half prepared cannot be removed");
            }
        }
        if let Some(writer) = self.log.writer.take()
            && let Err(error) = writer.finish(clock::now_ms()).await
        {
            tracing::warn!(%error, "the log of a preparation cannot be finished");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_room_that_can_never_be() {
        let limits = Limits { max_vms: 4, memory_mib: 4096, vcpus: 4 };
        let size = |memory_mib, vcpus| Size { memory_mib, vcpus };
        require_possible(size(4096, 4), limits).unwrap();
        let why = |size, limits| require_possible(size, limits).unwrap_err().to_string();
        assert_eq!(why(size(8192, 1), limits), "it takes 8192 MiB of memory; all VMs together have 4096 MiB");
        assert_eq!(why(size(1, 8), limits), "it takes 8 vCPUs; all VMs together have 4");
        assert_eq!(why(size(1, 1), Limits { max_vms: 0, ..limits }), "no VM may run here: the limit is 0");
    }
}

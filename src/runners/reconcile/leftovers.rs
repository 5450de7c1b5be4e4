//! Runners of this service that are registered and whose machines are gone, and which version of the runner is the newest.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::super::{Machine, RunnersError};
use super::millis;
use super::pass::{Pass, repositories};
use crate::core::Core;
use crate::forge::{ForgeError, ListedRunner, RepoAccess, RepoName, RunnerAccess, RunnerApi, RunnerPlace};
use crate::metrics::labels::Reconciled;
use crate::sweep::plan::portion;

/// How often what is registered is looked through, at most: almost every runner is removed when its machine ends.
const INTERVAL: Duration = Duration::from_hours(1);

/// The same, in sweeps.
const SWEEPS: u32 = 6;

/// How often GitHub is asked for the newest version of its runner.
const NEWEST: Duration = Duration::from_hours(12);

/// Places that are asked for it: one that may not be read must not hide the others.
const NEWEST_PLACES: usize = 3;

/// What stays from look to look.
pub(super) struct Leftovers {
    interval: Duration,
    due: i64,
    newest_due: i64,
    last: Option<RepoName>,
    /// Runners without a machine here, by number: where, and when each was first seen offline.
    offline: HashMap<u64, (RunnerPlace, i64)>,
}

impl Leftovers {
    pub(super) fn new(sweep: Option<Duration>) -> Self {
        let interval = sweep.map_or(INTERVAL, |sweep| INTERVAL.min(sweep * SWEEPS));
        Self { interval, due: 0, newest_due: 0, last: None, offline: HashMap::new() }
    }

    /// Does what is due.
    pub(super) async fn look(
        &mut self, core: &Core, api: &dyn RunnerApi, there: &[Machine], now: i64,
    ) -> Result<(), RunnersError> {
        if now < self.due.min(self.newest_due) {
            return Ok(());
        }
        let portion = portion(repositories(core).await?, self.last.as_ref());
        let places = places(core, &portion);
        if now >= self.due {
            self.remove(core, api, there, &places, now).await?;
            self.last = portion.last().map(|access| access.repo.clone());
            self.due = now + millis(self.interval);
        }
        if now >= self.newest_due {
            self.newest_due = now + millis(NEWEST);
            ask_for_newest(core, api, &places).await?;
        }
        Ok(())
    }

    /// Removes runners of ours whose machines are gone, and which nobody remembers.
    async fn remove(
        &mut self, core: &Core, api: &dyn RunnerApi, there: &[Machine], places: &[RunnerAccess], now: i64,
    ) -> Result<(), RunnersError> {
        let ours: HashSet<&str> = there.iter().filter_map(|machine| Some(machine.job.vm.as_ref()?.as_str())).collect();
        let patience = millis(longest_registration(core));
        let (mut pass, mut seen, mut looked) = (Pass::new(core), HashSet::new(), HashSet::new());
        for at in places {
            if !pass.may_ask(&at.access) {
                continue;
            }
            let listed = match api.runners(at).await {
                // A person has no runners of an organization.
                Err(ForgeError::NotFound { .. }) => continue,
                listed => pass.take(listed)?,
            };
            let Some(listed) = listed else { continue };
            looked.insert(&at.place);
            for runner in listed.iter().filter(|runner| is_left(core.runners.prefix(), runner, &ours)) {
                seen.insert(runner.id);
                let (_, since) = self.offline.entry(runner.id).or_insert_with(|| (at.place.clone(), now));
                if now - *since >= patience {
                    remove_one(core, &mut pass, api, at, runner).await?;
                }
            }
        }
        self.offline.retain(|id, (place, _)| seen.contains(id) || !looked.contains(place));
        pass.tell("the runners of some places");
        Ok(())
    }
}

/// Whether a runner was one of this service, and nothing here knows of it. Another service's may be about to start, and one of
/// a similar name may be a person's.
fn is_left(prefix: &str, runner: &ListedRunner, ours: &HashSet<&str>) -> bool {
    let Some(vm) = runner.name.strip_prefix(prefix) else { return false };
    !runner.is_online && !runner.is_busy && !ours.iter().any(|ours| vm.starts_with(ours))
}

async fn remove_one(
    core: &Core, pass: &mut Pass<'_>, api: &dyn RunnerApi, at: &RunnerAccess, runner: &ListedRunner,
) -> Result<(), RunnersError> {
    match api.remove_runner(at, runner.id).await {
        Err(ForgeError::NotFound { .. }) => {}
        removed => {
            if pass.take(removed)?.is_some() {
                tracing::info!(runner = runner.name, place = %at.place, "a runner that was left registered was removed");
                core.metrics.runners.reconciled(Reconciled::RemovedRunner);
            }
        }
    }
    Ok(())
}

async fn ask_for_newest(core: &Core, api: &dyn RunnerApi, places: &[RunnerAccess]) -> Result<(), RunnersError> {
    let mut pass = Pass::new(core);
    for at in places.iter().take(NEWEST_PLACES) {
        if !pass.may_ask(&at.access) {
            continue;
        }
        if let Some(Some(version)) = pass.take(api.newest_runner(at).await)? {
            core.runners.note_newest(version);
            break;
        }
    }
    pass.tell("the newest version of its runner");
    Ok(())
}

/// Where runners of this service may be registered for these repositories.
fn places(core: &Core, repositories: &[RepoAccess]) -> Vec<RunnerAccess> {
    let mut seen: HashSet<RunnerPlace> = HashSet::new();
    let mut places = Vec::new();
    for access in repositories {
        for runner in core.config.profiles.iter().filter_map(|profile| profile.executor.actions_runner()) {
            let place = runner.place(&access.repo, Some(access.repo.owner()));
            if let Some(place) = place.filter(|place| seen.insert(place.clone())) {
                places.push(RunnerAccess { place, access: access.clone() });
            }
        }
    }
    places
}

/// How long the slowest machine may take to register.
fn longest_registration(core: &Core) -> Duration {
    let runners = core.config.profiles.iter().filter_map(|profile| profile.executor.actions_runner());
    runners.map(|runner| runner.registration_timeout).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_services_own_runners_without_a_machine_are_left() {
        let ours = HashSet::from(["vm-0123"]);
        let runner = |name: &str| ListedRunner { id: 1, name: name.to_owned(), is_online: false, is_busy: false };
        let cases = [
            ("dayfly-abc-vm-9999", true),
            ("dayfly-abc-vm-0123", false),
            ("dayfly-abc-vm-0123-2", false),
            ("dayfly-other-vm-9999", false),
            ("dayfly-builder", false),
            ("somebody", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_left("dayfly-abc-", &runner(name), &ours), expected, "{name}");
        }
        let online = ListedRunner { is_online: true, ..runner("dayfly-abc-vm-9999") };
        let busy = ListedRunner { is_busy: true, ..runner("dayfly-abc-vm-9999") };
        assert!(!is_left("dayfly-abc-", &online, &ours) && !is_left("dayfly-abc-", &busy, &ours));
    }
}

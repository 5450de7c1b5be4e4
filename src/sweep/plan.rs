//! What the sweep asks for and brings, from what is known. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use sha2::{Digest, Sha256};
use url::Url;

use crate::config::{Repository, RepositoryPattern};
use crate::forge::{Budget, FailedDelivery, Hook, HookOwner, RepoAccess, RepoName};
use crate::store::{DeliveryMemory, HeadMemory, PullHead};

/// How far back events are recovered. GitHub keeps failed deliveries as long; what is older nobody waits for.
pub const HORIZON: Duration = Duration::from_hours(3 * 24);

/// The sweep leaves alone a budget of which less than one part in so many is left: jobs need it more.
pub const RESERVED_SHARE: u64 = 5;

/// How often another attempt at one delivery is asked for. One that was refused so often will be refused again.
pub const MAX_REDELIVERIES: u32 = 3;

/// Attempts asked for in one sweep. GitHub slows down who asks for more than 80 things in a minute.
pub const REDELIVERIES_PER_SWEEP: usize = 60;

/// Repositories looked at in one sweep; the next one goes on behind them. Every ten minutes, this is a quarter of the smallest
/// budget.
pub const REPOSITORIES_PER_SWEEP: usize = 200;

/// Pull requests brought in one sweep, so that a long absence does not fill the queue at once.
pub const FINDINGS_PER_SWEEP: usize = 50;

/// What is settled is noted as seen no more often.
const NOTE_AGAIN: Duration = Duration::from_hours(24);

/// Attempts asked for in one sweep at the webhooks of one project or group. GitLab refuses more in a minute.
pub const RESENDS_PER_OWNER: usize = 5;

/// How long GitLab keeps what a webhook could not bring.
pub const KEPT_BY_GITLAB: Duration = Duration::from_hours(7 * 24);

/// The events from which runs can follow, in the words of GitHub and of GitLab. Others are not worth another attempt; lost news
/// of GitHub's own jobs are found with the jobs themselves (`runners/reconcile`).
const RECOVERED_EVENTS: [&str; 10] = [
    "check_run",
    "check_suite",
    "issue_comment",
    "merge_group",
    "merge_request",
    "note",
    "pull_request",
    "push",
    "repository_dispatch",
    "tag_push",
];

/// What to do about the head of a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is known.
    Leave,
    /// It needs nothing, and that is worth remembering.
    Settle,
    /// Its event may still be on its way: look again soon.
    Wait,
    /// Its event was lost: bring it.
    Bring,
}

/// What to do about the head of something open, which changed last at `changed_at`. Its event counts as on its way for
/// `patience` after that.
pub fn look(changed_at: Option<i64>, memory: HeadMemory, now: i64, patience: Duration) -> Look {
    let age = changed_at.map(|at| now.saturating_sub(at));
    match memory {
        HeadMemory::Settled { seen_at } if now.saturating_sub(seen_at) < millis(NOTE_AGAIN) => Look::Leave,
        HeadMemory::Settled { .. } | HeadMemory::HasRuns => Look::Settle,
        // What was last changed before that was there before Dayfly, or its runs are long forgotten.
        HeadMemory::Unknown if age.is_some_and(|age| age > millis(HORIZON)) => Look::Settle,
        HeadMemory::Unknown if age.is_some_and(|age| age < millis(patience)) => Look::Wait,
        HeadMemory::Unknown => Look::Bring,
    }
}

/// The id under which a head is stored that was found. The same head has the same one, whenever it is found.
pub fn delivery_id(head: &PullHead) -> String {
    let digest = Sha256::digest(format!("{}\n{}\n{}", head.repo, head.number, head.sha));
    format!("sweep-{}", hex::encode(&digest[..16]))
}

/// Of the deliveries that failed, those to ask for now: the oldest first.
pub fn redeliveries(
    failed: Vec<FailedDelivery>, known: &HashMap<String, DeliveryMemory>, now: i64, patience: Duration,
) -> Vec<FailedDelivery> {
    let is_wanted = |delivery: &FailedDelivery| {
        let memory = known.get(&delivery.guid).copied().unwrap_or_default();
        let is_under_way = memory.asked > 0 && now.saturating_sub(memory.asked_at) < millis(patience);
        RECOVERED_EVENTS.contains(&delivery.event.as_str())
            && !memory.is_stored
            && memory.asked < MAX_REDELIVERIES
            && !is_under_way
    };
    let mut wanted: Vec<FailedDelivery> = failed.into_iter().filter(is_wanted).collect();
    wanted.sort_by_key(|delivery| (delivery.delivered_at, delivery.id));
    let mut by_owner: HashMap<HookOwner, usize> = HashMap::new();
    wanted.retain(|delivery| {
        let Some(hook) = &delivery.hook else { return true };
        let count = by_owner.entry(hook.owner.clone()).or_default();
        *count += 1;
        *count <= RESENDS_PER_OWNER
    });
    wanted.truncate(REDELIVERIES_PER_SWEEP);
    wanted
}

/// Whose webhooks may tell of these projects: their own, and those of every group that they are in.
pub fn hook_owners(repositories: &[RepoAccess]) -> Vec<HookOwner> {
    let projects = repositories.iter().map(|access| HookOwner::Project(access.repo.clone()));
    let mut groups = BTreeSet::new();
    for access in repositories {
        let owner = access.repo.owner();
        groups.extend(owner.match_indices('/').map(|(end, _)| owner[..end].to_owned()).chain([owner.to_owned()]));
    }
    projects.chain(groups.into_iter().map(HookOwner::Group)).collect()
}

/// Which of the webhooks send here: those to the address under which this service is reached; and where there is none, those
/// to another name of it. `is_only`: the path may leave out the forge's name.
pub fn our_hooks(hooks: &[Hook], public_url: &Url, forge: &str, is_only: bool) -> Vec<u64> {
    let ends = [Some(format!("/webhooks/gitlab/{forge}")), is_only.then(|| "/webhooks/gitlab".to_owned())];
    let leads_here = |hook: &&(u64, Url)| {
        let path = hook.1.path().trim_end_matches('/');
        ends.iter().flatten().any(|end| path.ends_with(end))
    };
    let read: Vec<(u64, Url)> = hooks.iter().filter_map(|hook| Some((hook.id, Url::parse(&hook.url).ok()?))).collect();
    let candidates: Vec<&(u64, Url)> = read.iter().filter(leads_here).collect();
    let is_ours = |hook: &&&(u64, Url)| hook.1.origin() == public_url.origin();
    let ours: Vec<u64> = candidates.iter().filter(is_ours).map(|hook| hook.0).collect();
    if ours.is_empty() { candidates.into_iter().map(|hook| hook.0).collect() } else { ours }
}

/// Whether enough of the named budget is left. Of one that nothing is known of, everything.
pub fn may_ask(budgets: &[(String, Budget)], name: &str) -> bool {
    let budget = budgets.iter().find(|(known, _)| known == name).map(|(_, budget)| budget);
    budget.is_none_or(|budget| budget.remaining.saturating_mul(RESERVED_SHARE) >= budget.limit)
}

/// With a token, which cannot tell: the repositories that are configured by name, and those that sent events before.
pub fn repositories_of_token(configured: &[Repository], used: Vec<RepoAccess>) -> Vec<RepoAccess> {
    let named = configured.iter().filter_map(|entry| match &entry.pattern {
        RepositoryPattern::One(repo) => Some(repo.clone()),
        RepositoryPattern::AllOf { .. } => None,
    });
    let mut seen = HashSet::new();
    let all = used.into_iter().map(|access| access.repo).chain(named);
    let distinct = all.filter(|repo| seen.insert(repo.as_str().to_ascii_lowercase()));
    distinct.map(|repo| RepoAccess { repo, installation: None }).collect()
}

/// The repositories of this sweep, by name and from the one behind `last` on, around the end.
pub fn portion(mut all: Vec<RepoAccess>, last: Option<&RepoName>) -> Vec<RepoAccess> {
    all.sort_by(|a, b| a.repo.cmp(&b.repo));
    let first = last.map_or(0, |last| all.partition_point(|access| access.repo <= *last));
    all.rotate_left(first);
    all.truncate(REPOSITORIES_PER_SWEEP);
    all
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "plan_tests.rs"]
mod tests;

//! A job that has no VM yet.

use super::{Answer, JobQuestion, count, stands};
use crate::clock::ago;
use crate::ids::JobId;
use crate::scheduler::plan::{Action, Plan, Snapshot, Stage, WaitReason};
use crate::store::{Job, JobState};

/// What the plan of the moment has for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Absent if it moves at once.
    wait: Option<WaitReason>,
    /// Queued jobs that were queued before it, and how many of them are of its repository.
    before: (usize, usize),
    busy_vms: usize,
    max_vms: usize,
}

impl Outlook {
    /// The outlook of a job; `None` if the plan neither moves it nor has a reason why not.
    pub fn of(job: &JobId, snapshot: &Snapshot, plan: &Plan) -> Option<Self> {
        let wait = plan.why(job).cloned();
        if wait.is_none() && !plan.actions.iter().any(|action| concerns(action, job)) {
            return None;
        }
        let own = snapshot.jobs.iter().find(|known| known.id == *job)?;
        let queued_at = |known: &crate::scheduler::plan::Job| match known.stage {
            Stage::Queued { since } => Some(since),
            Stage::Waiting | Stage::Occupying | Stage::Finished(_) => None,
        };
        let since = queued_at(own);
        let is_before = |known: &&crate::scheduler::plan::Job| {
            since.is_some_and(|since| queued_at(known).is_some_and(|other| (other, &known.id) < (since, job)))
        };
        let before: Vec<_> = snapshot.jobs.iter().filter(is_before).collect();
        Some(Self {
            wait,
            before: (before.len(), before.iter().filter(|known| known.repo == own.repo).count()),
            busy_vms: snapshot.jobs.iter().filter(|known| known.stage == Stage::Occupying).count(),
            max_vms: snapshot.limits.max_vms,
        })
    }
}

fn concerns(action: &Action, job: &JobId) -> bool {
    match action {
        Action::Queue(id)
        | Action::Skip(id)
        | Action::Unfold(id)
        | Action::Join(id)
        | Action::Fail(id, _)
        | Action::Start(id)
        | Action::Claim(id, _)
        | Action::Cancel(id) => id == job,
        Action::Evict(_) => false,
    }
}

/// Not decided on yet.
pub(super) fn waiting(question: &JobQuestion<'_>) -> Answer {
    let answer = match question.outlook.as_ref().and_then(|outlook| outlook.wait.as_ref()) {
        Some(wait) => explained(question, wait),
        None => Answer::new("deciding", "All that it needs has ended: it is decided on at once"),
    };
    answer.fact("created", ago(question.now, question.job.created_at))
}

/// Could run if there were room.
pub(super) fn queued(question: &JobQuestion<'_>) -> Answer {
    let JobQuestion { now, job, outlook, .. } = question;
    let answer = match outlook.as_ref().and_then(|outlook| outlook.wait.as_ref()) {
        Some(wait) => explained(question, wait),
        None => Answer::new("starting", "Its turn has come: it gets its VM at once"),
    };
    answer
        .fact("queued", ago(*now, job.queued_at.unwrap_or(job.created_at)))
        .fact_if("queue", outlook.as_ref().map(|outlook| queue(question, outlook)))
        .fact_if("VMs", outlook.as_ref().map(|outlook| format!("{} of {} are busy", outlook.busy_vms, outlook.max_vms)))
}

fn queue(question: &JobQuestion<'_>, outlook: &Outlook) -> String {
    match outlook.before {
        (0, _) => "no other job was queued before it".to_owned(),
        (all, own) => {
            format!("{} queued before it, {own} of {}", count(all, "other job"), question.run.access.repo)
        }
    }
}

fn explained(question: &JobQuestion<'_>, wait: &WaitReason) -> Answer {
    let profile = question.job.profile.as_deref().unwrap_or_default();
    match wait {
        WaitReason::Needs(keys) => needs(question, keys),
        WaitReason::Group { group, run } => {
            let headline = format!("It waits for its turn in the concurrency group `{group}`: {run} is not over");
            Answer::new("waiting_for_group", headline).hint(
                "`concurrency` in the workflow says so; with `cancel-in-progress` the newer run ends the older one",
            )
        }
        WaitReason::Vms { max } => Answer::new("waiting_for_vm", format!("It waits for a VM: {max} of {max} are busy"))
            .hint("`dayfly vms` shows who has them; `limits.max_vms` is how many there may be"),
        WaitReason::Memory { needed_mib, free_mib } => {
            let headline = format!("It waits for memory: it takes {needed_mib} MiB, {free_mib} MiB are free");
            let hint = format!("`dayfly vms` shows who has it; `memory` of the profile `{profile}` is what it takes");
            Answer::new("waiting_for_memory", headline).hint(hint)
        }
        WaitReason::Vcpus { needed, free } => {
            let headline = format!("It waits for processors: it takes {needed} vCPUs, {free} are free");
            let hint = format!("`dayfly vms` shows who has them; `vcpus` of the profile `{profile}` is what it takes");
            Answer::new("waiting_for_vcpus", headline).hint(hint)
        }
        WaitReason::Matrix { max } => {
            let headline = format!("It waits for its matrix: {max} of {max} jobs at a time run");
            Answer::new("waiting_for_matrix", headline).hint("`max-parallel` in the workflow says so")
        }
        WaitReason::SharedSteps(leader) => {
            let headline = format!("It waits for `{leader}`, which runs the first steps of their matrix for all of it");
            Answer::new("waiting_for_shared_steps", headline)
                .hint(format!("`dayfly why {leader}` tells how far that one is; `matrix_fork` of the profile is why"))
        }
        WaitReason::Disk { free_mib, reserve_mib } => {
            let headline =
                format!("It waits for disk space: {free_mib} MiB are free, and {reserve_mib} MiB are kept free");
            Answer::new("waiting_for_disk", headline)
                .hint("free some space where `state_dir` is; `limits.disk_reserve` is what is kept free")
        }
        WaitReason::Pool => {
            let headline = "It waits for room: idle VMs of other profiles' pools are being destroyed for it";
            Answer::new("waiting_for_pool", headline)
                .hint("`dayfly vms` shows them; `pool` of the profiles says how many")
        }
        WaitReason::KeptFor(first) => {
            let headline = format!("It waits behind `{first}`, which has waited longer and needs more room");
            Answer::new("waiting_behind", headline).hint(format!("`dayfly why {first}` tells what that one waits for"))
        }
    }
}

/// It waits for other jobs of its run.
fn needs(question: &JobQuestion<'_>, keys: &[String]) -> Answer {
    let listed = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let mut answer = Answer::new("waiting_for_needs", format!("It waits for {listed} to end"));
    let is_awaited = |job: &&Job| keys.contains(&job.key) && job.state != JobState::Finished;
    let awaited: Vec<&Job> = question.siblings.iter().filter(is_awaited).collect();
    for job in &awaited {
        answer = answer.fact("needs", format!("`{}` ({}): {}", job.name, job.id, stands(question.now, job)));
    }
    match awaited.first() {
        Some(first) => answer.hint(format!("`dayfly why {}` tells what that one is at", first.id)),
        None => answer,
    }
}

//! Jobs of a local run whose turn is no machine: those that others take the place of, calls that end as their jobs did, and
//! those that enter a concurrency group of their own. What the service stores is in memory here.

use std::collections::BTreeSet;

use super::choose::Cells;
use super::session::{Job, Profiles, Slot, needs_of};
use crate::forge::Conclusion;
use crate::ids::JobId;
use crate::scheduler::plan::{OwnGroup, Stage};
use crate::scheduler::unfold::outcome_of_call;
use crate::store::Reason;
use crate::workflow::call::{self, enter, leave};
use crate::workflow::concurrency::{Arrival, Group, MAX_QUEUED, Member, arrive, job_group};
use crate::workflow::gate::{NeedResult, NeedsResults};
use crate::workflow::plan::{MAX_PLANNED, PlannedJob, expand};

/// Others take the place of a job, or a call ends.
pub(super) fn unfold(slots: &mut Vec<Slot>, id: &JobId, profiles: &Profiles, wanted: &Cells) {
    let Some(at) = slots.iter().position(|slot| slot.job.id == *id) else { return };
    if slots[at].inner_prefix.is_some() {
        return close(slots, at);
    }
    let planned = match planned(slots, &slots[at].job).and_then(|planned| narrowed(planned, wanted)) {
        Ok(planned) if slots.len() + planned.len() > MAX_PLANNED => {
            let why = format!("it would give the run more than {MAX_PLANNED} jobs");
            slots[at].end(Conclusion::Error, Reason::Workflow, why);
            return;
        }
        Ok(planned) => planned,
        Err(why) => return slots[at].end(Conclusion::Error, Reason::Workflow, why),
    };
    let job = &slots[at].job;
    let is_replaced = job.planned.spec.unexpanded;
    // What ends a call ends its jobs, and what they become.
    let stop = &slots[at].stop;
    let new: Vec<Slot> = planned.into_iter().map(|planned| Slot::new(job.beside(planned, profiles), stop)).collect();
    if is_replaced {
        slots.splice(at..=at, new);
    } else {
        let prefix = call::prefix(&job.planned.spec);
        slots[at].inner_prefix = Some(prefix);
        slots.splice(at + 1..at + 1, new);
    }
}

/// Those of the jobs whose cells a person wants.
fn narrowed(mut planned: Vec<PlannedJob>, wanted: &Cells) -> Result<Vec<PlannedJob>, String> {
    planned.retain(|job| job.spec.unexpanded || wanted.take(&job.spec.matrix));
    if planned.is_empty() {
        Err("the matrix has no cell with the values that `--matrix` asks for".to_owned())
    } else {
        Ok(planned)
    }
}

fn planned(slots: &[Slot], job: &Job) -> Result<Vec<PlannedJob>, String> {
    let (spec, github, needs) = (&job.planned.spec, job.github.to_value(), needs_of(slots, job));
    let others = slots.iter().filter(|slot| slot.job.run == job.run && slot.job.id != job.id);
    let taken: BTreeSet<String> = others.map(|slot| slot.job.planned.name.clone()).collect();
    if spec.unexpanded {
        return expand(spec, &github, &needs, taken).map_err(|complaint| complaint.to_string());
    }
    let called = job.called_workflow().ok_or_else(|| "the workflow that it calls was not read".to_owned())?;
    let complaints =
        |found: Vec<crate::document::Diagnostic>| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    enter(spec, called, &github, &needs, taken).map_err(complaints)
}

/// A call ends as its jobs did.
fn close(slots: &mut [Slot], at: usize) {
    let left = left(slots, &slots[at]);
    match left {
        Err(why) => slots[at].end(Conclusion::Error, Reason::Workflow, why),
        Ok(left) => slots[at].end_as(outcome_of_call(&left), left),
    }
}

fn left(slots: &[Slot], caller: &Slot) -> Result<NeedResult, String> {
    let (job, spec) = (&caller.job, &caller.job.planned.spec);
    let prefix = call::prefix(spec);
    let called = job.called_workflow().ok_or_else(|| "the workflow that it calls was not read".to_owned())?;
    let within = || slots.iter().filter(|slot| slot.job.run == job.run && slot.job.planned.key.starts_with(&prefix));
    let ids: BTreeSet<&str> = within().filter_map(|slot| slot.job.planned.key.strip_prefix(&prefix)).collect();
    let result_of = |id: &str| {
        let cells = within().filter(|slot| slot.job.planned.key.strip_prefix(&prefix) == Some(id));
        NeedResult::combine(cells.filter_map(|slot| slot.ended.as_ref()).map(|ended| ended.seen_by_needs.clone()))
    };
    let results = ids.into_iter().filter(|id| !id.contains('/')).map(|id| (id.to_owned(), result_of(id))).collect();
    let inputs = within().next().map(|slot| slot.job.planned.spec.inputs.clone()).unwrap_or_default();
    leave(spec, called, &job.github.to_value(), &inputs, &results).map_err(|complaint| complaint.to_string())
}

/// The concurrency group that a job is in by itself; an error is for its author.
pub(super) fn group_of(job: &Job, needs: &NeedsResults) -> Result<Option<Group>, String> {
    job_group(&job.planned.spec, &job.github.to_value(), needs).map_err(|complaint| complaint.to_string())
}

/// A job enters its group, and those end for which there is no place any more.
pub(super) fn join(slots: &mut [Slot], id: &JobId) {
    let Some(at) = slots.iter().position(|slot| slot.job.id == *id) else { return };
    let Ok(Some(group)) = group_of(&slots[at].job, &needs_of(slots, &slots[at].job)) else { return };
    let is_open = |slot: &Slot| slot.ended.is_none() && !slot.stop.is_cancelled();
    let since_in = |slot: &Slot| slot.own_group.as_ref().filter(|own| own.group == group.name).map(|own| own.since);
    let mut members: Vec<(i64, usize)> = (0..slots.len())
        .filter(|other| *other != at && is_open(&slots[*other]))
        .filter_map(|other| Some((since_in(&slots[other])?, other)))
        .collect();
    members.sort_unstable();
    let stage = |slot: &Slot| match slot.stage {
        Stage::Waiting if slot.inner_prefix.is_none() => Member::Waits,
        _ => Member::Runs,
    };
    let stages: Vec<Member> = members.iter().map(|(_, other)| stage(&slots[*other])).collect();
    match arrive(&stages, &group) {
        Arrival::TurnedAway => {
            let why = format!("{MAX_QUEUED} jobs of its concurrency group wait already");
            slots[at].end(Conclusion::Cancelled, Reason::Cancelled, why);
        }
        Arrival::Enters { ends } => {
            let why = format!("Cancelled: superseded by `{}`", slots[at].job.planned.name);
            ends.into_iter().filter_map(|place| members.get(place)).for_each(|(_, other)| slots[*other].cancel(&why));
            let since = members.last().map_or(0, |(since, _)| since + 1);
            slots[at].own_group = Some(OwnGroup { group: group.name, since });
        }
    }
}

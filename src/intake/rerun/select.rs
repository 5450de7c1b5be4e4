//! Which jobs of a run are repeated, and what is carried over of the others. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::ids::JobId;
use crate::scheduler::result_of;
use crate::store::{Job, JobState, Run};
use crate::workflow::gate::NeedResult;
use crate::workflow::plan::JobSpec;

/// What the next attempt consists of.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Repeat<'a> {
    /// With the keys that each has to wait for.
    pub(super) jobs: Vec<(&'a Job, Vec<String>)>,
    /// How the other jobs ended, by key. Of a matrix of which some cells are repeated, the result of the others.
    pub(super) carried: BTreeMap<String, NeedResult>,
}

/// Chooses from all attempts of a run, oldest first: `job` and what needs it, or all. What counts of each job is its newest
/// attempt. An error says why nothing can be repeated.
pub(super) fn select<'a>(attempts: &'a [(Run, Vec<Job>)], job: Option<&JobId>) -> Result<Repeat<'a>, String> {
    let newest: Vec<&Job> = newest_by_name(attempts).into_iter().filter(|job| call_around(job).is_none()).collect();
    let chosen = match job {
        None => newest.iter().map(|job| job.name.as_str()).collect(),
        Some(id) => with_dependents(attempts, &newest, id)?,
    };
    let is_chosen = |job: &&&Job| chosen.contains(job.name.as_str());
    // What a chosen job needs may still run if the job was cancelled before its turn.
    let needed: HashSet<String> = newest.iter().filter(is_chosen).flat_map(|job| ancestors(job)).collect();
    let must_be_over = |job: &&&Job| is_chosen(job) || needed.contains(&job.key);
    if let Some(busy) = newest.iter().filter(must_be_over).find(|job| job.state != JobState::Finished) {
        return Err(format!("the job `{}` has not finished", busy.name));
    }
    let keys: HashSet<&str> = newest.iter().filter(is_chosen).map(|job| job.key.as_str()).collect();
    let needs = |job: &Job| job_needs(job).into_iter().filter(|key| keys.contains(key.as_str())).collect();
    let jobs = newest.iter().filter(is_chosen).map(|job| (*job, needs(job))).collect();
    let others = newest.iter().filter(|job| !is_chosen(job) && job.state == JobState::Finished).copied();
    Ok(Repeat { jobs, carried: carried(attempts, &newest, others) })
}

/// Names tell the jobs of a run apart, in all of its attempts.
fn newest_by_name(attempts: &[(Run, Vec<Job>)]) -> Vec<&Job> {
    let mut newest: Vec<&Job> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for job in attempts.iter().flat_map(|(_, jobs)| jobs) {
        match places.get(job.name.as_str()) {
            Some(place) => newest[*place] = job,
            None => {
                places.insert(&job.name, newest.len());
                newest.push(job);
            }
        }
    }
    newest.retain(|job| !became_others(attempts, job));
    newest
}

/// Whether other jobs stand in its place in a later attempt: there it was not known yet what it would be.
fn became_others(attempts: &[(Run, Vec<Job>)], job: &Job) -> bool {
    let is_unexpanded = job.spec.get("unexpanded").and_then(serde_json::Value::as_bool).unwrap_or_default();
    let later = attempts.iter().skip_while(|(run, _)| run.id != job.run).skip(1).flat_map(|(_, jobs)| jobs);
    is_unexpanded && later.into_iter().any(|other| other.key == job.key)
}

/// The job that repeats this one, if it has not finished.
pub(crate) fn unfinished_repetition<'a>(attempts: &'a [(Run, Vec<Job>)], id: &JobId) -> Option<&'a JobId> {
    let asked = attempts.iter().flat_map(|(_, jobs)| jobs).find(|job| job.id == *id)?;
    let newest = newest_by_name(attempts).into_iter().find(|job| job.name == asked.name)?;
    Some(&newest.id).filter(|newest_id| *newest_id != id && newest.state != JobState::Finished)
}

fn with_dependents<'a>(
    attempts: &'a [(Run, Vec<Job>)], newest: &[&'a Job], id: &JobId,
) -> Result<HashSet<&'a str>, String> {
    let Some(wanted) = attempts.iter().flat_map(|(_, jobs)| jobs).find(|job| job.id == *id) else {
        return Err("the job is not one of the run".to_owned());
    };
    // A call is repeated as a whole.
    let wanted = match call_around(wanted) {
        None => wanted,
        Some((key, cell)) => newest
            .iter()
            .find(|job| job.key == key && cell.is_none_or(|cell| cell_of(job) == Some(cell)))
            .ok_or_else(|| format!("the call `{key}` of the job is not known, or no longer"))?,
    };
    let needs_it = |job: &&&Job| ancestors(job).contains(&wanted.key);
    let mut chosen: HashSet<&str> = newest.iter().filter(needs_it).map(|job| job.name.as_str()).collect();
    chosen.insert(&wanted.name);
    Ok(chosen)
}

/// The key of the outermost call that the job stands in the place of a part of, and the number of the call's cell from 1.
fn call_around(job: &Job) -> Option<(&str, Option<u32>)> {
    let (call, _) = job.key.split_once('/')?;
    Some(match call.split_once('#') {
        Some((key, cell)) => (key, cell.parse().ok()),
        None => (call, None),
    })
}

/// The number of the job in its matrix, from 1.
fn cell_of(job: &Job) -> Option<u32> {
    spec(job).map(|spec| spec.strategy.job_index + 1)
}

fn spec(job: &Job) -> Option<JobSpec> {
    serde_json::from_value(job.spec.clone()).ok()
}

/// All keys before the job, however indirectly.
fn ancestors(job: &Job) -> Vec<String> {
    spec(job).map_or_else(|| job.needs.clone(), |spec| spec.ancestors)
}

/// What the workflow says that it needs; the stored job of a re-run has only what it must wait for.
fn job_needs(job: &Job) -> Vec<String> {
    spec(job).map_or_else(|| job.needs.clone(), |spec| spec.job.needs.clone())
}

fn carried<'a>(
    attempts: &[(Run, Vec<Job>)], newest: &[&Job], others: impl Iterator<Item = &'a Job>,
) -> BTreeMap<String, NeedResult> {
    let mut by_key: BTreeMap<String, Vec<NeedResult>> = BTreeMap::new();
    for job in others {
        by_key.entry(job.key.clone()).or_default().push(result_of(job));
    }
    let mut carried: BTreeMap<String, NeedResult> =
        by_key.into_iter().map(|(key, cells)| (key, NeedResult::combine(cells))).collect();
    // The first attempts may have been forgotten: what the last one carried is all that is left of them.
    let earlier = attempts.last().and_then(|(run, _)| run.origin.rerun.as_ref()).map(|rerun| rerun.carried.clone());
    let earlier: BTreeMap<String, NeedResult> =
        earlier.and_then(|earlier| serde_json::from_value(earlier).ok()).unwrap_or_default();
    for (key, result) in earlier {
        if newest.iter().all(|job| job.key != key) {
            carried.insert(key, result);
        }
    }
    carried
}

#[cfg(test)]
mod tests;

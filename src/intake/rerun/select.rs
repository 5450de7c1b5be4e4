//! Which jobs of a run are repeated, and what is carried over of the others. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::ids::JobId;
use crate::scheduler::result_of;
use crate::store::{Job, JobState, Run};
use crate::workflow::gate::NeedResult;
use crate::workflow::plan::{JobSpec, PlannedJob};

/// What the next attempt consists of.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Repeat<'a> {
    pub(super) jobs: Vec<Repeated<'a>>,
    /// How the other jobs ended, by key. Of a matrix of which some cells are repeated, the result of the others.
    pub(super) carried: BTreeMap<String, NeedResult>,
}

/// A job that runs again.
#[derive(Debug, PartialEq)]
pub(super) struct Repeated<'a> {
    pub(super) job: &'a Job,
    /// Keys of the jobs that it has to wait for.
    pub(super) needs: Vec<String>,
    /// What was computed from jobs that run again is computed anew: the job as it was before that.
    pub(super) anew: Option<PlannedJob>,
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
    let jobs = repeated(newest.iter().filter(is_chosen).copied(), &keys);
    let others = newest.iter().filter(|job| !is_chosen(job) && job.state == JobState::Finished).copied();
    Ok(Repeat { jobs, carried: carried(attempts, &newest, others) })
}

/// The chosen jobs, whose keys these are. Cells whose matrix is computed anew are one job until then.
fn repeated<'a>(chosen: impl Iterator<Item = &'a Job>, keys: &HashSet<&str>) -> Vec<Repeated<'a>> {
    let mut jobs: Vec<Repeated<'a>> = Vec::new();
    for job in chosen {
        let needs = job_needs(job).into_iter().filter(|key| keys.contains(key.as_str())).collect();
        let depends = || ancestors(job).iter().any(|key| keys.contains(key.as_str()));
        let anew = spec(job).and_then(|spec| spec.before_expansion()).filter(|_| depends());
        let is_there = anew.is_some() && jobs.iter().any(|other| other.anew.is_some() && other.job.key == job.key);
        if !is_there {
            jobs.push(Repeated { job, needs, anew });
        }
    }
    jobs
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
    newest.retain(|job| !became_others(attempts, job) && !was_computed_anew(attempts, job));
    newest
}

/// Whether other jobs stand in its place in a later attempt: there it was not known yet what it would be.
fn became_others(attempts: &[(Run, Vec<Job>)], job: &Job) -> bool {
    let is_unexpanded = job.spec.get("unexpanded").and_then(serde_json::Value::as_bool).unwrap_or_default();
    let later = attempts.iter().skip_while(|(run, _)| run.id != job.run).skip(1).flat_map(|(_, jobs)| jobs);
    is_unexpanded && later.into_iter().any(|other| other.key == job.key)
}

/// Whether the job is a cell of a matrix whose cells a later attempt computed anew: there it may have others.
fn was_computed_anew(attempts: &[(Run, Vec<Job>)], job: &Job) -> bool {
    let is_computed = |job: &Job| ["unexpanded", "computed"].iter().any(|key| job.spec.get(key).is_some_and(is_set));
    let mut later = attempts.iter().skip_while(|(run, _)| run.id != job.run).skip(1);
    is_computed(job)
        && later.any(|(run, jobs)| {
            // Where only some of the cells ran again, the result of the others was carried over.
            let carries = run.origin.rerun.as_ref().is_some_and(|rerun| rerun.carried.get(&job.key).is_some());
            !carries && jobs.iter().any(|other| other.key == job.key && is_computed(other))
        })
}

fn is_set(value: &serde_json::Value) -> bool {
    !matches!(value, serde_json::Value::Null | serde_json::Value::Bool(false))
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

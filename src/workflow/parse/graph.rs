//! `needs` of all jobs together: every job that is needed exists, and none waits for itself.

use std::collections::{BTreeMap, BTreeSet};

use super::MAX_JOBS;
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Value as Yaml};

/// Works on the text, so that it finds its mistakes whatever else is wrong with the jobs.
pub(super) fn check(jobs: &[Field<'_>]) {
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for job in jobs {
        needs.insert(job.key, needs_of(job, jobs));
    }
    let mut settled = BTreeSet::new();
    for job in jobs {
        if let Some(cycle) = cycle_from(job.key, &needs, &mut settled) {
            let names: Vec<String> = cycle.iter().map(|name| quoted(name)).collect();
            let complaint = Complaint::new(format!("the jobs wait for each other: {}", names.join(" needs ")));
            job.refuse_key(complaint.hint("remove one of these `needs`"));
            return;
        }
    }
}

fn needs_of<'a>(job: &Field<'a>, jobs: &[Field<'a>]) -> Vec<&'a str> {
    let Yaml::Mapping(entries) = &job.value.node().value else { return Vec::new() };
    if !entries.iter().any(|entry| entry.key == "needs") {
        return Vec::new();
    }
    let fields = job.value.fields().unwrap_or_default();
    let mut found: Vec<&str> = Vec::new();
    let items = fields.iter().filter(|field| field.key == "needs").flat_map(|field| field.value.one_or_list());
    // No correct list is longer, and every wrong name costs a comparison with all jobs.
    for item in items.take(MAX_JOBS) {
        // The job's own reader complains about what is no string.
        let Yaml::String(name) = &item.node().value else { continue };
        if found.contains(&name.as_str()) {
            continue;
        }
        if jobs.iter().any(|other| other.key == name) {
            found.push(name);
        } else {
            let complaint = Complaint::new(format!("there is no job {}", quoted(name)));
            item.refuse(complaint.suggest(name, jobs.iter().map(|job| job.key).filter(|key| *key != job.key)));
        }
    }
    found
}

/// The jobs of a cycle that can be reached from `start`, with the first again as last. Jobs that lead to none are settled.
fn cycle_from<'a>(
    start: &'a str, needs: &BTreeMap<&'a str, Vec<&'a str>>, settled: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    // Each job on the way, and how many of its needs were followed.
    let mut way: Vec<(&str, usize)> = vec![(start, 0)];
    while let Some((job, followed)) = way.last_mut() {
        let job = *job;
        let next = if settled.contains(job) { None } else { needs.get(job).and_then(|needs| needs.get(*followed)) };
        *followed += 1;
        match next {
            None => {
                settled.insert(job);
                way.pop();
            }
            Some(next) => {
                let place = way.iter().position(|(on_way, _)| on_way == next);
                if let Some(place) = place {
                    return Some(way[place..].iter().map(|(job, _)| *job).chain([*next]).collect());
                }
                way.push((next, 0));
            }
        }
    }
    None
}

//! A commit: what it started, what is held, and what was ignored about it.

use super::{ABANDONED_HINT, Answer, count, failed_tries, is_held, told_to_forge};
use crate::clock::{ago, span};
use crate::forge::{Conclusion, ReportState};
use crate::store::{Delivery, DeliveryState, Job, JobState, Run, StoredReport};

/// Lines of a workflow's errors that are told of; the forge shows all.
const MAX_COMPLAINTS: usize = 20;

/// What is known about a commit that somebody asks about.
#[derive(Debug, Clone)]
pub struct CommitQuestion<'a> {
    /// Milliseconds since the epoch.
    pub now: i64,
    /// The commit, or as much of it as was given.
    pub sha: &'a str,
    /// Latest first.
    pub runs: &'a [RunFacts],
    /// Deliveries that name it and started nothing, latest first.
    pub deliveries: &'a [Delivery],
}

/// A run with all that belongs to it.
#[derive(Debug, Clone)]
pub struct RunFacts {
    pub run: Run,
    pub jobs: Vec<Job>,
    /// Of the run itself: it was held, or its workflow does not read.
    pub report: Option<StoredReport>,
}

/// The answer about a commit.
pub fn about_commit(question: &CommitQuestion<'_>) -> Answer {
    let mut answer = headline(question);
    for facts in question.runs {
        answer = answer.fact("run", run(question.now, facts));
        for line in complaints(facts) {
            answer = match line.strip_prefix("hint: ") {
                Some(hint) => answer.fact("hint", hint),
                None => answer.fact("error", line),
            };
        }
        if let Some(report) = facts.report.as_ref().filter(|report| report.sent_version < report.version) {
            answer = answer.fact("forge", told_to_forge(question.now, report));
        }
    }
    for known in question.deliveries {
        answer = answer.fact("delivery", delivery(question.now, known));
    }
    answer
}

fn headline(question: &CommitQuestion<'_>) -> Answer {
    let CommitQuestion { sha, runs, deliveries, .. } = question;
    let held = runs.iter().find(|facts| facts.report.as_ref().is_some_and(is_held) && facts.jobs.is_empty());
    let unfinished = |facts: &&RunFacts| facts.jobs.iter().any(|job| job.state != JobState::Finished);
    if let Some(facts) = held {
        let hint = format!("`dayfly approve --repo {} {}` runs it", facts.run.access.repo, facts.run.sha);
        return Answer::new("held", format!("Commit {sha} is held: nothing of it runs until somebody approves it"))
            .hint(hint);
    }
    if let Some(facts) = runs.iter().find(unfinished) {
        let waits = facts.jobs.iter().find(|job| job.state != JobState::Finished);
        let answer =
            Answer::new("in_progress", format!("Commit {sha} has {}, not all ended", count(runs.len(), "run")));
        return match waits {
            Some(job) => answer.hint(format!("`dayfly why {}` tells what that job is at", job.id)),
            None => answer,
        };
    }
    if !runs.is_empty() {
        let ended = if runs.iter().all(is_unplanned) { "which started no job" } else { "all ended" };
        let answer = Answer::new("ended", format!("Commit {sha} has {}, {ended}", count(runs.len(), "run")));
        let is_abandoned = |facts: &RunFacts| facts.report.as_ref().is_some_and(|report| report.abandoned.is_some());
        return if runs.iter().any(is_abandoned) { answer.hint(ABANDONED_HINT) } else { answer };
    }
    match deliveries.first().map(|delivery| delivery.state) {
        None => Answer::new("unknown", format!("Nothing that arrived here names commit {sha}"))
            .hint("look at the webhook's recent deliveries on the forge; `dayfly deliveries` lists what arrived"),
        Some(DeliveryState::Received) => {
            Answer::new("not_processed", format!("An event about commit {sha} has arrived and is not processed yet"))
        }
        Some(DeliveryState::Failed) => {
            Answer::new("failed", format!("An event about commit {sha} has arrived and could not be processed"))
                .hint("put right what it says, then `dayfly deliveries --redeliver ID`")
        }
        Some(DeliveryState::Processed | DeliveryState::Ignored | DeliveryState::Invalid) => {
            Answer::new("ignored", format!("Commit {sha} has started nothing"))
                .hint("each delivery below says why; `dayfly deliveries --redeliver ID` looks at one again")
        }
    }
}

fn run(now: i64, facts: &RunFacts) -> String {
    let RunFacts { run, jobs, report } = facts;
    let stands = match report {
        Some(_) if complaints(facts).next().is_some() => super::ended::word(Conclusion::Error).to_owned(),
        Some(report) if jobs.is_empty() => stands(report),
        _ => of_jobs(jobs),
    };
    let Run { id, workflow_name, number, event, access, .. } = run;
    format!("{id} {workflow_name} #{number} of {}, on {event}, {}: {stands}", access.repo, ago(now, run.created_at))
}

/// What the report says of a workflow that became no jobs, line by line.
fn complaints(facts: &RunFacts) -> impl Iterator<Item = &str> {
    let report = facts.report.as_ref().filter(|_| is_unplanned(facts));
    let lines = report.into_iter().flat_map(|report| report.desired.summary.lines().map(str::trim));
    lines.filter(|line| !line.is_empty() && !line.starts_with("```")).take(MAX_COMPLAINTS)
}

/// Whether its workflow became no jobs, because it cannot be run.
fn is_unplanned(facts: &RunFacts) -> bool {
    let is_wrong = |report: &StoredReport| report.desired.state == ReportState::Finished(Conclusion::Error);
    facts.jobs.is_empty() && facts.report.as_ref().is_some_and(is_wrong)
}

/// How many jobs there are in which state.
fn of_jobs(jobs: &[Job]) -> String {
    let conclusion = |job: &Job| job.outcome.as_ref().map(|outcome| outcome.conclusion);
    let with = |wanted: Conclusion| jobs.iter().filter(|job| conclusion(job) == Some(wanted)).count();
    let (succeeded, skipped) = (with(Conclusion::Success), with(Conclusion::Skipped));
    let ended = jobs.iter().filter(|job| job.state == JobState::Finished).count();
    let parts = [
        (succeeded, "succeeded"),
        (ended - succeeded - skipped, "did not succeed"),
        (skipped, "skipped"),
        (jobs.len() - ended, "not ended"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    match parts.is_empty() {
        true => "no jobs".to_owned(),
        false => format!("{}: {}", count(jobs.len(), "job"), parts.join(", ")),
    }
}

/// A run without jobs, in the words of its report.
fn stands(report: &StoredReport) -> String {
    match report.desired.state {
        ReportState::Finished(conclusion) => format!("{}: {}", super::ended::word(conclusion), report.desired.title),
        ReportState::Queued | ReportState::Running | ReportState::Held => report.desired.title.clone(),
    }
}

fn delivery(now: i64, delivery: &Delivery) -> String {
    let Delivery { key, event, state, detail, tries, next_try_at, .. } = delivery;
    let why = if detail.is_empty() { String::new() } else { format!(": {}", super::first_line(detail)) };
    let stands = match state {
        DeliveryState::Received if *tries > 0 => {
            format!("{}, the next is in {}{why}", failed_tries(*tries), span(next_try_at - now))
        }
        DeliveryState::Received => "about to be processed".to_owned(),
        state
        @ (DeliveryState::Processed | DeliveryState::Ignored | DeliveryState::Failed | DeliveryState::Invalid) => {
            format!("{state}{why}")
        }
    };
    format!("{key} {event}, {}: {stands}", ago(now, delivery.received_at))
}

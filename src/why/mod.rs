//! Why a job does not run, what it is at, or why it ended so: one honest answer for the person who asks. Pure.
//!
//! The answer is made from what the store and the plan say at that moment, and nothing is kept for it. Every state, every
//! reason to wait and every reason for an end has its words in a match without a catch-all, so that a new one does not compile
//! before somebody has decided what people are told.

mod commit;
mod ended;
mod running;
#[cfg(test)]
mod tests;
mod waiting;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::commit::{CommitQuestion, RunFacts, about_commit};
pub use self::waiting::Outlook;

use crate::clock::span;
use crate::config::Profile;
use crate::engine::Readiness;
use crate::forge::ReportState;
use crate::store::{Job, JobEvent, JobState, Run, StoredReport};

/// What is known about a job that somebody asks about.
#[derive(Debug, Clone)]
pub struct JobQuestion<'a> {
    /// Milliseconds since the epoch.
    pub now: i64,
    pub job: &'a Job,
    pub run: &'a Run,
    /// All jobs of the run.
    pub siblings: &'a [Job],
    /// What the plan has for it; only of jobs that wait or are queued.
    pub outlook: Option<Outlook>,
    /// The profile that takes it, if the configuration still has it.
    pub profile: Option<&'a Profile>,
    pub image: Readiness,
    /// Its own `timeout-minutes`, where that is a plain number.
    pub own_limit: Option<Duration>,
    pub events: &'a [JobEvent],
    pub report: Option<&'a StoredReport>,
    /// How often a job may be started.
    pub attempts: u32,
}

/// What a person is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The same for every job in this situation, for scripts.
    pub code: String,
    pub headline: String,
    pub facts: Vec<Fact>,
    /// What to do.
    pub hint: Option<String>,
}

/// One thing that bears on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    pub text: String,
}

impl Answer {
    fn new(code: &str, headline: impl Into<String>) -> Self {
        Self { code: code.to_owned(), headline: headline.into(), facts: Vec::new(), hint: None }
    }

    fn fact(mut self, name: &str, text: impl Into<String>) -> Self {
        self.facts.push(Fact { name: name.to_owned(), text: text.into() });
        self
    }

    fn fact_if(self, name: &str, text: Option<String>) -> Self {
        match text {
            Some(text) => self.fact(name, text),
            None => self,
        }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The answer about one job.
pub fn about_job(question: &JobQuestion<'_>) -> Answer {
    let answer = match question.job.state {
        JobState::Waiting => waiting::waiting(question),
        JobState::Queued => waiting::queued(question),
        JobState::Leased => running::leased(question),
        JobState::Running => running::running(question),
        JobState::Finished => ended::ended(question),
    };
    let answer = answer.fact_if("started from", started_from(question));
    let answer = answer.fact_if("attempt", attempt(question)).fact_if("cancelled", being_cancelled(question));
    let report = question.report;
    let told = answer.fact_if("forge", report.map(|report| told_to_forge(question.now, report)));
    match report.and_then(|report| report.abandoned.as_ref()) {
        Some(_) if told.hint.is_none() => told.hint(ABANDONED_HINT),
        _ => told,
    }
}

const ABANDONED_HINT: &str = "put right what the forge says; a restart of the service sends the report once more";

/// What its VM was restored from: the image, or what was prepared.
fn started_from(question: &JobQuestion<'_>) -> Option<String> {
    let is_it = |event: &&JobEvent| event.kind == "vm_origin" && event.attempt == question.job.attempt;
    question.events.iter().rfind(is_it).map(|event| event.detail.clone())
}

/// Which attempt it is and what became of the one before, if it is not the first.
fn attempt(question: &JobQuestion<'_>) -> Option<String> {
    let JobQuestion { job, events, attempts, .. } = question;
    let requeued = events.iter().rfind(|event| event.kind == "job_queued" && event.attempt == job.attempt);
    let why = requeued.map(|event| first_line(&event.detail)).filter(|why| !why.is_empty());
    (job.attempt > 1).then(|| match why {
        Some(why) => format!("{} of {attempts}; before that, {why}", job.attempt),
        None => format!("{} of {attempts}", job.attempt),
    })
}

fn being_cancelled(question: &JobQuestion<'_>) -> Option<String> {
    let JobQuestion { job, .. } = question;
    let why = job.cancel_why.as_deref().unwrap_or("somebody asked for its end");
    (job.cancel_requested && job.state != JobState::Finished)
        .then(|| format!("{why}; its steps have the grace period to clean up"))
}

/// How far the report about it got.
fn told_to_forge(now: i64, report: &StoredReport) -> String {
    if let Some(why) = &report.abandoned {
        return format!("{} does not take its report: {}", report.forge, first_line(why));
    }
    if report.sent_version >= report.version {
        return format!("{} shows this", report.forge);
    }
    let tries = match report.tries {
        0 => "not told yet".to_owned(),
        tries => format!("not told yet: {}", failed_tries(tries)),
    };
    if report.next_try_at > now {
        format!("{tries}; the next is in {}", span(report.next_try_at - now))
    } else {
        format!("{tries}; it is being sent")
    }
}

/// A finished or running state in a word, for lists of jobs.
fn stands(now: i64, job: &Job) -> String {
    match (job.state, &job.outcome) {
        (JobState::Finished, Some(outcome)) => ended::word(outcome.conclusion).to_owned(),
        (JobState::Finished, None) => "ended".to_owned(),
        (JobState::Running, _) => format!("running for {}", span(now - job.started_at.unwrap_or(now))),
        (state @ (JobState::Waiting | JobState::Queued | JobState::Leased), _) => state.to_string(),
    }
}

fn failed_tries(tries: u32) -> String {
    if tries == 1 { "one try failed".to_owned() } else { format!("{tries} tries failed") }
}

fn is_held(report: &StoredReport) -> bool {
    report.desired.state == ReportState::Held
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// `1 job`, `2 jobs`.
fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

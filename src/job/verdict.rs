//! What happened in a job → its outcome, its title and its summary. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::format_duration;
use crate::document::text::{cell, defused};
use crate::forge::Conclusion;
use crate::report::Results;
use crate::report::summary::remarks;
use crate::store::{Outcome, Reason};
use crate::vm::loss::Loss;
use crate::workflow::commands::{Annotation, MAX_OF_JOB};
use crate::workflow::contexts;
use crate::workflow::gate::NeedResult;
use crate::workflow::run::{JobEnd, StepReport};

/// What is said of a cancellation of which nobody stored a reason.
pub(crate) const CANCELLED: &str = "Cancelled";

/// How the attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The steps decided.
    Steps(JobEnd),
    /// The host's time limit.
    TimedOut(Duration),
    /// Somebody asked for its end; the text says who.
    Cancelled(String),
    /// The VM ended before the job did.
    VmLost(Loss),
    /// It could not begin.
    NotStarted { reason: Reason, detail: String },
    /// What ran a job of a forge's own decided.
    Foreign { conclusion: Conclusion, reason: Option<Reason>, detail: String },
}

/// One step, for the summary.
#[derive(Debug, Clone)]
pub(crate) struct StepLine {
    pub(crate) report: StepReport,
    pub(crate) took: Duration,
    /// Processes that the guest killed for lack of memory meanwhile.
    pub(crate) oom_kills: u64,
    /// The machine's disk was full when the step ended.
    pub(crate) is_disk_full: bool,
}

/// What a machine was too small for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortage {
    Memory,
    Disk,
}

impl Shortage {
    /// What a failed step lacked, if it lacked something.
    fn of(step: &StepLine) -> Option<Self> {
        match step {
            StepLine { oom_kills: 1.., .. } => Some(Self::Memory),
            StepLine { is_disk_full: true, .. } => Some(Self::Disk),
            _ => None,
        }
    }

    const fn reason(self) -> Reason {
        match self {
            Self::Memory => Reason::OutOfMemory,
            Self::Disk => Reason::GuestDiskFull,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Memory => "out of memory",
            Self::Disk => "the machine's disk is full",
        }
    }
}

/// The outcome of an attempt.
pub(crate) fn outcome(ending: &Ending, steps: &[StepLine]) -> Outcome {
    let failed = steps.iter().find(|line| line.report.conclusion == contexts::Outcome::Failure);
    let shortage = failed.and_then(Shortage::of);
    let (conclusion, reason, detail) = match ending {
        Ending::Steps(end) => match end.outcome {
            contexts::Outcome::Success | contexts::Outcome::Skipped => {
                (Conclusion::Success, None, format!("{} succeeded", count(steps.len(), "step")))
            }
            contexts::Outcome::Cancelled => (Conclusion::Cancelled, Some(Reason::Cancelled), "Cancelled".to_owned()),
            contexts::Outcome::Failure => {
                let detail = failure_text(failed, end, shortage);
                // The machine was too small, which says nothing about the code.
                let conclusion = if shortage.is_some() { Conclusion::Error } else { Conclusion::Failure };
                (conclusion, shortage.map(Shortage::reason), detail)
            }
        },
        Ending::TimedOut(limit) => {
            let detail = format!("The job took longer than its limit of {}", format_duration(*limit));
            (Conclusion::TimedOut, Some(Reason::Timeout), detail)
        }
        Ending::Cancelled(why) => (Conclusion::Cancelled, Some(Reason::Cancelled), why.clone()),
        Ending::VmLost(loss) => (Conclusion::Error, Some(reason_of(loss)), loss_text(loss)),
        Ending::NotStarted { reason, detail } => (Conclusion::Error, Some(*reason), detail.clone()),
        Ending::Foreign { conclusion, reason, detail } => (*conclusion, *reason, detail.clone()),
    };
    Outcome { conclusion, reason, detail }
}

fn reason_of(loss: &Loss) -> Reason {
    match loss {
        Loss::PoweredOff | Loss::Rebooted => Reason::PoweredOff,
        Loss::Panicked(_) => Reason::KernelPanic,
        Loss::HostDiskFull => Reason::DiskFull,
        Loss::TemplateChanged(_) => Reason::Image,
        Loss::Misbehaved(_) => Reason::GuestMisbehaved,
        Loss::Unresponsive(_) => Reason::Unresponsive,
        Loss::MonitorEnded | Loss::Other(_) => Reason::VmLost,
    }
}

/// Who lost whom: a guest that misbehaves is not lost, it is put down.
pub(super) fn loss_text(loss: &Loss) -> String {
    match loss {
        Loss::Misbehaved(_) => format!("The VM was destroyed: {loss}"),
        _ => format!("The VM was lost: {loss}"),
    }
}

fn failure_text(failed: Option<&StepLine>, end: &JobEnd, shortage: Option<Shortage>) -> String {
    let Some(StepLine { report, .. }) = failed else {
        return end.errors.first().cloned().unwrap_or_else(|| "The job failed".to_owned());
    };
    let why = report.errors.first().map_or("it failed", String::as_str);
    let step = format!("Step {} `{}`", report.index + 1, report.name);
    match shortage {
        Some(shortage) => format!("{step}: {}; {why}", shortage.words()),
        None => format!("{step}: {why}"),
    }
}

/// What the jobs that need this one see of its end.
pub(crate) fn need_result(ending: &Ending, outcome: &Outcome) -> NeedResult {
    match ending {
        Ending::Steps(end) => end.need_result(),
        _ => NeedResult { result: seen_by_needs(outcome.conclusion), outputs: BTreeMap::new() },
    }
}

/// The result, in the dialect's words, of a job that ended without its steps deciding.
pub(crate) fn seen_by_needs(conclusion: Conclusion) -> contexts::Outcome {
    match conclusion {
        Conclusion::Success => contexts::Outcome::Success,
        Conclusion::Skipped => contexts::Outcome::Skipped,
        Conclusion::Cancelled => contexts::Outcome::Cancelled,
        Conclusion::Failure | Conclusion::Error | Conclusion::TimedOut => contexts::Outcome::Failure,
    }
}

/// One line for the forge.
pub(crate) fn title(outcome: &Outcome, took: Duration) -> String {
    let first_line = outcome.detail.lines().next().unwrap_or_default();
    match outcome.conclusion {
        Conclusion::Success => format!("{first_line} in {}", format_duration(rounded(took))),
        _ => first_line.to_owned(),
    }
}

/// Markdown for the forge: the steps and what they wrote.
pub(crate) fn summary(
    outcome: &Outcome, steps: &[StepLine], end: Option<&JobEnd>, log_failure: Option<&str>,
) -> String {
    let mut text = format!("{}\n", defused(&outcome.detail));
    if !steps.is_empty() {
        text.push_str("\n| | Step | Time |\n|---|---|---:|\n");
        for StepLine { report, took, .. } in steps {
            let mark = report.conclusion.as_str();
            let (name, took) = (cell(&report.name), format_duration(rounded(*took)));
            text.push_str(&format!("| {mark} | {name} | {took} |\n"));
        }
    }
    for error in end.iter().flat_map(|end| &end.errors) {
        text.push_str(&format!("\n{}\n", defused(error)));
    }
    if let Some(failure) = log_failure {
        text.push_str(&format!("\nThe log is incomplete: {failure}\n"));
    }
    if let Some(end) = end.filter(|end| !end.summary.is_empty()) {
        text.push_str(&format!("\n{}\n", end.summary));
    }
    text
}

/// What the forge shows beside the code: what steps said, and behind it what their reports did.
pub(crate) fn annotations(steps: &[StepLine], results: &Results) -> Vec<Annotation> {
    let said = steps.iter().flat_map(|step| &step.report.annotations).cloned();
    said.chain(remarks(results)).take(MAX_OF_JOB).collect()
}

/// Nobody reads microseconds.
fn rounded(time: Duration) -> Duration {
    let step = if time < Duration::from_secs(10) { 10 } else { 1000 };
    Duration::from_millis(time.as_millis() as u64 / step * step)
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(index: usize, conclusion: contexts::Outcome, oom_kills: u64) -> StepLine {
        let errors = match conclusion {
            contexts::Outcome::Failure => vec!["the step ended with exit code 137".to_owned()],
            _ => Vec::new(),
        };
        let name = format!("Run step {index}");
        let report = StepReport {
            index,
            name,
            outcome: conclusion,
            conclusion,
            errors,
            left_out: Vec::new(),
            annotations: Vec::new(),
        };
        StepLine { report, took: Duration::from_millis(1234), oom_kills, is_disk_full: false }
    }

    fn ended(outcome: contexts::Outcome) -> Ending {
        Ending::Steps(JobEnd {
            outcome,
            tolerated: false,
            outputs: Default::default(),
            summary: String::new(),
            errors: Vec::new(),
            masks: Default::default(),
        })
    }

    #[test]
    fn every_ending_has_a_conclusion_a_reason_and_a_title() {
        let (good, bad) = (contexts::Outcome::Success, contexts::Outcome::Failure);
        let lines = [
            (ended(good), vec![step(0, good, 0), step(1, good, 3)]),
            (ended(bad), vec![step(0, good, 0), step(1, bad, 0)]),
            (ended(bad), vec![step(0, bad, 1)]),
            (Ending::TimedOut(Duration::from_secs(90)), vec![]),
            (Ending::Cancelled("Cancelled by the operator".into()), vec![]),
            (ended(bad), vec![StepLine { is_disk_full: true, ..step(0, bad, 0) }]),
            (Ending::VmLost(Loss::PoweredOff), vec![]),
            (Ending::VmLost(Loss::Rebooted), vec![]),
            (Ending::VmLost(Loss::Panicked(Some("Attempted to kill init!".into()))), vec![]),
            (Ending::VmLost(Loss::HostDiskFull), vec![]),
            (Ending::VmLost(Loss::TemplateChanged("/images/base/memory".into())), vec![]),
            (Ending::VmLost(Loss::MonitorEnded), vec![]),
            (Ending::VmLost(Loss::Misbehaved("the peer sent something else than an answer".into())), vec![]),
            (Ending::VmLost(Loss::Unresponsive("an answer of the guest took longer than 60 s".into())), vec![]),
            (Ending::VmLost(Loss::Other("its channel closed".into())), vec![]),
            (Ending::NotStarted { reason: Reason::Image, detail: "there is no image `x`\n  hint: y".into() }, vec![]),
        ]
        .map(|(ending, steps)| {
            let outcome = outcome(&ending, &steps);
            format!("{:?} {:?}: {}", outcome.conclusion, outcome.reason, title(&outcome, Duration::from_millis(2468)))
        });
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn strangers_words_do_not_hide_ours() {
        let mut hiding = step(1, contexts::Outcome::Failure, 0);
        hiding.report.name = "<!-- @octocat | <details>\nsecond".into();
        let steps = [step(0, contexts::Outcome::Success, 0), hiding, step(2, contexts::Outcome::Failure, 0)];
        let ending = ended(contexts::Outcome::Failure);
        let text = summary(&outcome(&ending, &steps), &steps, None, None);
        assert!(!text.contains("<!--") && !text.contains("<details>") && !text.contains("@octocat"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("| ")).count(), 1 + steps.len(), "{text}");
    }

    #[test]
    fn a_summary_lists_the_steps() {
        let steps = [step(0, contexts::Outcome::Success, 0), step(1, contexts::Outcome::Failure, 0)];
        let ending = ended(contexts::Outcome::Failure);
        let Ending::Steps(end) = &ending else { unreachable!("it was just made") };
        insta::assert_snapshot!(summary(&outcome(&ending, &steps), &steps, Some(end), Some("the disk is full")));
    }
}

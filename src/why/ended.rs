//! A job that has ended: in words, and what to do about it.

use super::{Answer, JobQuestion, stands};
use crate::clock::{ago, span};
use crate::config::format_size;
use crate::forge::Conclusion;
use crate::store::{Outcome, Reason};

/// What separates the remedy from the message in an outcome's detail.
const HINT: &str = "\n  hint: ";

pub(super) fn ended(question: &JobQuestion<'_>) -> Answer {
    let JobQuestion { now, job, .. } = question;
    let Some(outcome) = &job.outcome else { return Answer::new("ended", "It has ended") };
    let (detail, own_hint) = match outcome.detail.split_once(HINT) {
        Some((detail, hint)) => (detail, Some(hint.to_owned())),
        None => (outcome.detail.as_str(), None),
    };
    let mut lines = detail.lines();
    let mut answer = Answer::new(code(outcome), headline(outcome.conclusion, lines.next().unwrap_or_default()));
    for line in lines {
        answer = answer.fact("detail", line.trim());
    }
    // What was skipped says why itself.
    if let Some(reason) = outcome.reason.filter(|reason| *reason != Reason::Skipped || detail.is_empty()) {
        answer = answer.fact("reason", meaning(reason));
    }
    if outcome.reason == Some(Reason::Skipped) {
        for needed in question.siblings.iter().filter(|sibling| job.needs.contains(&sibling.key)) {
            answer = answer.fact("needs", format!("`{}` ({}): {}", needed.name, needed.id, stands(*now, needed)));
        }
    }
    let took = job.started_at.zip(job.finished_at).map(|(from, to)| format!(", after {}", span(to - from)));
    let when = job.finished_at.map(|at| format!("{}{}", ago(*now, at), took.unwrap_or_default()));
    let answer = answer.fact_if("ended", when);
    match own_hint.or_else(|| remedy(question, outcome)) {
        Some(hint) => answer.hint(hint),
        None => answer,
    }
}

/// What happened, and why; said once where the detail says it itself.
fn headline(conclusion: Conclusion, detail: &str) -> String {
    match (conclusion, detail) {
        (Conclusion::Cancelled | Conclusion::Skipped, detail) if !detail.is_empty() => detail.to_owned(),
        (conclusion, "") => format!("It {}", word(conclusion)),
        (conclusion, detail) => format!("It {}: {detail}", word(conclusion)),
    }
}

/// A conclusion as the end of "It …".
pub(super) fn word(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success => "succeeded",
        Conclusion::Failure => "failed",
        Conclusion::Error => "ended with an error",
        Conclusion::TimedOut => "timed out",
        Conclusion::Cancelled => "was cancelled",
        Conclusion::Skipped => "was skipped",
    }
}

fn code(outcome: &Outcome) -> &'static str {
    match (outcome.reason, outcome.conclusion) {
        (Some(Reason::Timeout), _) => "timeout",
        (Some(Reason::OutOfMemory), _) => "out_of_memory",
        (Some(Reason::VmLost), _) => "vm_lost",
        (Some(Reason::PoweredOff), _) => "powered_off",
        (Some(Reason::KernelPanic), _) => "kernel_panic",
        (Some(Reason::Unresponsive), _) => "unresponsive",
        (Some(Reason::GuestMisbehaved), _) => "guest_misbehaved",
        (Some(Reason::GuestDiskFull), _) => "guest_disk_full",
        (Some(Reason::Cancelled), _) => "cancelled",
        (Some(Reason::NoProfile), _) => "no_profile",
        (Some(Reason::Workflow), _) => "workflow",
        (Some(Reason::Image), _) => "image",
        (Some(Reason::DiskFull), _) => "disk_full",
        (Some(Reason::Internal), _) => "internal",
        (Some(Reason::ServiceRestarted), _) => "service_restarted",
        (Some(Reason::Runner), _) => "runner",
        (Some(Reason::Skipped), _) => "skipped",
        (None, Conclusion::Success) => "success",
        (None, Conclusion::Failure) => "failure",
        (None, Conclusion::Error) => "error",
        (None, Conclusion::TimedOut) => "timeout",
        (None, Conclusion::Cancelled) => "cancelled",
        (None, Conclusion::Skipped) => "skipped",
    }
}

/// What a reason means.
fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::Timeout => "it ran longer than it may",
        Reason::OutOfMemory => "its VM had no memory left, and the guest's kernel killed a process of the step",
        Reason::VmLost => "its VM ended, and neither the guest nor the host said why",
        Reason::PoweredOff => "the machine was switched off or restarted from inside",
        Reason::KernelPanic => "the guest's kernel gave up",
        Reason::Unresponsive => "the guest stopped answering",
        Reason::GuestMisbehaved => {
            "the guest broke the protocol between host and guest, which only one that was tampered with does"
        }
        Reason::GuestDiskFull => "a step failed, and the machine's disk was full",
        Reason::Cancelled => "somebody, or a newer run, asked for its end",
        Reason::NoProfile => "no profile that it may have offers all labels of its `runs-on`",
        Reason::Workflow => "its workflow cannot be evaluated",
        Reason::Image => "the image that its VM is made from is missing or does not start",
        Reason::DiskFull => "a disk of the host was full",
        Reason::Internal => "a fault of Dayfly, not of the job",
        Reason::ServiceRestarted => "the service restarted while it ran, and it had no attempt left",
        Reason::Runner => "GitHub's runner in the machine did not work",
        Reason::Skipped => "its `if` says so, or a job that it needs did not succeed",
    }
}

/// What to do about it; nothing where all is well.
fn remedy(question: &JobQuestion<'_>, outcome: &Outcome) -> Option<String> {
    let id = &question.job.id;
    let profile = question.job.profile.as_deref().unwrap_or_default();
    Some(match outcome.reason {
        Some(Reason::Timeout) => {
            format!("`timeout` of the profile `{profile}` and the job's `timeout-minutes` say how long it may take")
        }
        Some(Reason::OutOfMemory) => match question.profile {
            Some(known) => format!("give the profile `{profile}` more `memory` than {}", format_size(known.memory)),
            None => format!("give the profile `{profile}` more `memory`"),
        },
        Some(Reason::GuestDiskFull) => match question.profile {
            Some(known) => format!("give the profile `{profile}` a larger `disk` than {}", format_size(known.disk)),
            None => format!("give the profile `{profile}` a larger `disk`"),
        },
        Some(Reason::GuestMisbehaved) => format!("look at what the job runs: `dayfly logs {id}`"),
        Some(Reason::VmLost | Reason::PoweredOff | Reason::KernelPanic | Reason::Unresponsive) => {
            format!("its log ends with the machine's console: `dayfly logs {id}`; `dayfly rerun {id}` tries again")
        }
        Some(Reason::Cancelled) => format!("`dayfly rerun {id}` runs it again"),
        Some(Reason::NoProfile) => "change `runs-on`, or the labels of a profile in the configuration".to_owned(),
        Some(Reason::Workflow) => format!("mend `{}` and push", question.run.workflow_path),
        Some(Reason::Image) => match question.profile {
            Some(known) => {
                format!("`dayfly image build {}` shows what is wrong; then `dayfly rerun {id}`", known.image)
            }
            None => format!("put the image right, then `dayfly rerun {id}`"),
        },
        Some(Reason::DiskFull) => format!("free some space where `state_dir` is, then `dayfly rerun {id}`"),
        Some(Reason::Internal) => format!("the service's log tells more; `dayfly rerun {id}` tries again"),
        Some(Reason::ServiceRestarted) => {
            format!("`dayfly rerun {id}` runs it again; `limits.attempts` says how often that happens by itself")
        }
        Some(Reason::Runner) => {
            format!("`dayfly logs {id}` shows what the runner wrote; docs/actions-runner.md has its needs")
        }
        Some(Reason::Skipped) => return None,
        None => match outcome.conclusion {
            Conclusion::Success | Conclusion::Skipped => return None,
            Conclusion::Failure | Conclusion::Error | Conclusion::TimedOut | Conclusion::Cancelled => {
                format!("`dayfly logs {id}` shows what its steps wrote")
            }
        },
    })
}

//! A job that has a VM, or is getting one.

use super::{Answer, JobQuestion};
use crate::clock::{ago, span};
use crate::config::format_duration;
use crate::engine::Readiness;
use crate::store::JobEvent;

/// The VM is being made.
pub(super) fn leased(question: &JobQuestion<'_>) -> Answer {
    let image = question.profile.map_or("", |profile| profile.image.as_str());
    let answer = match question.image {
        Readiness::BeingMade => {
            let headline = format!("Its image `{image}` is being built or baked");
            let hint = "the first job after a change of the image or the profile waits for this, minutes at most; \
                        `dayfly image bake` does it before";
            Answer::new("image_being_made", headline).hint(hint)
        }
        Readiness::Ready | Readiness::Unknown => Answer::new("vm_being_made", "Its VM is being restored"),
    };
    let requested = at(question, "vm_requested").map(|event| ago(question.now, event.at_us / 1000));
    answer.fact_if("VM", question.job.vm.as_ref().map(ToString::to_string)).fact_if("requested", requested)
}

/// Its steps run.
pub(super) fn running(question: &JobQuestion<'_>) -> Answer {
    let JobQuestion { now, job, .. } = question;
    let answer = match (at(question, "step_started"), at(question, "step_finished"), at(question, "vm_paused")) {
        (_, _, Some(_)) => Answer::new("ending", "Its steps have ended: its VM is being destroyed"),
        (None, _, None) => Answer::new("preparing", "It has its VM: its first step begins at once"),
        (Some(step), done, None) if done.is_none_or(|done| number(done) != number(step)) => {
            let (number, name) = step.detail.split_once(' ').unwrap_or((&step.detail, ""));
            let lasts = span(now - step.at_us / 1000);
            Answer::new("running", format!("It has been at step {number} `{name}` for {lasts}"))
        }
        (Some(step), _, None) => {
            Answer::new("running", format!("It is between steps: step {} has ended", number(step)))
        }
    };
    let ran = job.started_at.map(|started| format!("{}{}", span(now - started), limit(question)));
    answer
        .fact_if("time", ran)
        .fact_if("VM", job.vm.as_ref().map(ToString::to_string))
        .hint(format!("`dayfly logs -f {}` follows its log", job.id))
}

/// How long it may run, as far as that is known before it ends.
fn limit(question: &JobQuestion<'_>) -> String {
    let Some(profile) = question.profile else { return String::new() };
    match question.own_limit.filter(|own| *own < profile.timeout) {
        Some(own) => format!(" of at most {} (its `timeout-minutes`)", format_duration(own)),
        None => {
            format!(" of at most {} (`timeout` of the profile `{}`)", format_duration(profile.timeout), profile.name)
        }
    }
}

/// The last event of that kind of the current attempt.
fn at<'a>(question: &JobQuestion<'a>, kind: &str) -> Option<&'a JobEvent> {
    question.events.iter().rfind(|event| event.kind == kind && event.attempt == question.job.attempt)
}

/// The step's number in an event's detail, such as `2 success`.
fn number(event: &JobEvent) -> &str {
    event.detail.split(' ').next().unwrap_or_default()
}

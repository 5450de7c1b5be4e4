//! From how a job ended here to the state that GitLab is told. Pure.

use serde::Deserialize;

use super::{ABORTED, CANCELING};
use crate::forge::Conclusion;
use crate::store::{Outcome, Reason};

/// Reasons that every GitLab knows.
const KNOWN: [&str; 3] = ["script_failure", "runner_system_failure", "job_execution_timeout"];

/// For reasons that a GitLab does not know.
const UNKNOWN: &str = "unknown_failure";

/// What the program that ran the job says of its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// `success`, `failed` or `canceled`; else there is no verdict.
    pub state: String,
    pub failure_reason: Option<String>,
    pub exit_code: Option<i64>,
}

/// A final state in GitLab's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Final {
    /// `success` or `failed`: GitLab makes `canceled` of a job that fails after it was asked to stop.
    pub state: &'static str,
    pub failure_reason: Option<String>,
    pub exit_code: Option<i64>,
    /// What the trace ends with, where nothing in it can say why the job ended.
    pub remark: Option<String>,
}

/// The final state of a job. `verdict` is that of the program that ran it, if it came so far; `known` are the failure
/// reasons that GitLab says it knows.
pub fn of(outcome: &Outcome, verdict: &Verdict, known: &[String]) -> Final {
    let (reason, exit_code, remark) = match verdict.state.as_str() {
        "success" => return succeeded(),
        "failed" => (verdict.failure_reason.as_deref().unwrap_or("script_failure"), verdict.exit_code, None),
        "canceled" => {
            (verdict.failure_reason.as_deref().unwrap_or_else(|| reason_of(outcome)), verdict.exit_code, None)
        }
        _ if outcome.conclusion == Conclusion::Success => return succeeded(),
        _ => (reason_of(outcome), None, Some(remark(outcome))),
    };
    let failure_reason = Some(understood(reason, known).to_owned());
    Final { state: "failed", failure_reason, exit_code, remark }
}

/// The final state of a job that cannot be run here.
pub fn refused(why: &str) -> Final {
    let outcome = Outcome { conclusion: Conclusion::Error, reason: Some(Reason::Workflow), detail: why.to_owned() };
    of(&outcome, &Verdict::default(), &[])
}

fn succeeded() -> Final {
    Final { state: "success", failure_reason: None, exit_code: None, remark: None }
}

/// Without a verdict it was the machine's end, or the job never began.
fn reason_of(outcome: &Outcome) -> &'static str {
    match (outcome.conclusion, outcome.reason) {
        (Conclusion::TimedOut, _) | (_, Some(Reason::Timeout)) => "job_execution_timeout",
        (Conclusion::Failure, _) => "script_failure",
        (Conclusion::Cancelled, _) if [CANCELING, ABORTED].contains(&outcome.detail.as_str()) => "job_canceled",
        (_, Some(Reason::NoProfile | Reason::Workflow)) => "runner_unsupported",
        _ => "runner_system_failure",
    }
}

/// As the official runner says it, in red.
fn remark(outcome: &Outcome) -> String {
    let detail = outcome.detail.split_whitespace().collect::<Vec<_>>().join(" ");
    let detail: String = detail.chars().filter(|letter| !letter.is_control()).collect();
    let kind = match outcome.conclusion {
        Conclusion::TimedOut => "execution took too long",
        Conclusion::Failure | Conclusion::Cancelled => "ended",
        _ => "system failure",
    };
    format!("\x1b[31;1mERROR: Job failed ({kind}): {detail}\x1b[0;m\n")
}

/// The reason itself, if this GitLab knows it; an unknown one would be refused.
fn understood<'a>(reason: &'a str, known: &[String]) -> &'a str {
    let is_known = |reason: &str| KNOWN.contains(&reason) || known.iter().any(|one| one == reason);
    match reason {
        reason if is_known(reason) => reason,
        // What the job cannot help is not shown as the job's fault.
        "job_canceled" | "runner_unsupported" | "image_pull_failure" => "runner_system_failure",
        _ if is_known(UNKNOWN) => UNKNOWN,
        _ => "script_failure",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn outcome(conclusion: Conclusion, reason: Option<Reason>, detail: &str) -> Outcome {
        Outcome { conclusion, reason, detail: detail.to_owned() }
    }

    fn verdict(text: &str) -> Verdict {
        serde_json::from_str(text).unwrap()
    }

    fn told(outcome: &Outcome, verdict: &Verdict) -> String {
        let known = ["unknown_failure", "job_canceled", "runner_unsupported"].map(str::to_owned);
        let Final { state, failure_reason, exit_code, remark } = of(outcome, verdict, &known);
        let exit_code = exit_code.map(|code| code.to_string());
        let remark = remark.map(|remark| remark.escape_debug().to_string());
        let parts = [Some(state.to_owned()), failure_reason, exit_code, remark];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ends_are_told_in_gitlabs_words() {
        let none = Verdict::default();
        let lost = outcome(Conclusion::Error, Some(Reason::VmLost), "The VM was lost:\n the monitor\u{7} ended");
        let success = outcome(Conclusion::Success, None, "");
        let lines = [
            told(&success, &verdict(r#"{"state": "success", "exit_code": null}"#)),
            told(&success, &none),
            told(&lost, &verdict(r#"{"state": "failed", "failure_reason": "script_failure", "exit_code": 3}"#)),
            told(&lost, &verdict(r#"{"state": "failed", "failure_reason": "made_up"}"#)),
            told(
                &outcome(Conclusion::Cancelled, Some(Reason::Cancelled), CANCELING),
                &verdict(r#"{"state": "canceled"}"#),
            ),
            told(
                &outcome(Conclusion::Cancelled, Some(Reason::Cancelled), "Cancelled by root"),
                &verdict(r#"{"state": "canceled"}"#),
            ),
            told(&lost, &none),
            told(&outcome(Conclusion::TimedOut, Some(Reason::Timeout), "longer than 1h"), &none),
            told(&outcome(Conclusion::Cancelled, Some(Reason::Cancelled), CANCELING), &none),
            told(&outcome(Conclusion::Cancelled, Some(Reason::Cancelled), "Cancelled by root"), &none),
            told(&outcome(Conclusion::Error, Some(Reason::NoProfile), "no profile"), &none),
            told(&outcome(Conclusion::Failure, None, "it failed"), &none),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        success
        success
        failed script_failure 3
        failed unknown_failure
        failed job_canceled
        failed runner_system_failure
        failed runner_system_failure \u{1b}[31;1mERROR: Job failed (system failure): The VM was lost: the monitor ended\u{1b}[0;m\n
        failed job_execution_timeout \u{1b}[31;1mERROR: Job failed (execution took too long): longer than 1h\u{1b}[0;m\n
        failed job_canceled \u{1b}[31;1mERROR: Job failed (ended): Cancelled at GitLab\u{1b}[0;m\n
        failed runner_system_failure \u{1b}[31;1mERROR: Job failed (ended): Cancelled by root\u{1b}[0;m\n
        failed runner_unsupported \u{1b}[31;1mERROR: Job failed (system failure): no profile\u{1b}[0;m\n
        failed script_failure \u{1b}[31;1mERROR: Job failed (ended): it failed\u{1b}[0;m\n
        ");
    }

    #[test]
    fn reasons_that_a_gitlab_does_not_know_are_not_sent() {
        let of = |reason: &str, known: &[&str]| {
            let verdict = Verdict { state: "failed".into(), failure_reason: Some(reason.into()), exit_code: None };
            let known: Vec<String> = known.iter().map(|&one| one.to_owned()).collect();
            super::of(&outcome(Conclusion::Failure, None, ""), &verdict, &known).failure_reason.unwrap()
        };
        assert_eq!(of("job_execution_timeout", &[]), "job_execution_timeout");
        assert_eq!(of("job_canceled", &[]), "runner_system_failure");
        assert_eq!(of("image_pull_failure", &["unknown_failure"]), "runner_system_failure");
        assert_eq!(of("made_up", &["unknown_failure"]), "unknown_failure");
        assert_eq!(of("made_up", &[]), "script_failure");
        assert_eq!(of("image_pull_failure", &["image_pull_failure"]), "image_pull_failure");
    }
}

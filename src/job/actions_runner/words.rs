//! What GitHub's runner says, and what that means. Pure.
//!
//! The runner has no other way to tell how far it is than the lines that it writes for people. They come from the guest: what
//! they say is believed of this machine alone, and GitHub's own word about the job goes first.

use crate::forge::Conclusion;
use crate::protocol::message::ExitStatus;
use crate::runners::plan::Stage;
use crate::store::Reason;

/// Bytes of the name of a job, and of a version, that are kept.
const MAX_WORD: usize = 256;

/// What the runner has said so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// [`Stage::Starting`], [`Stage::Idle`] or [`Stage::Busy`].
    pub(super) stage: Stage,
    /// The job that it took.
    pub(super) job: Option<String>,
    /// How that ended.
    pub(super) result: Option<String>,
    pub(super) version: Option<String>,
    /// GitHub gives it no jobs any more.
    pub(super) is_too_old: bool,
}

/// How the machine's job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) conclusion: Conclusion,
    pub(super) reason: Option<Reason>,
    pub(super) detail: String,
}

impl Default for Said {
    fn default() -> Self {
        Self { stage: Stage::Starting, job: None, result: None, version: None, is_too_old: false }
    }
}

impl Said {
    /// Takes note of a line. Gives whether the stage changed.
    pub(super) fn hear(&mut self, line: &str) -> bool {
        let line = without_time(line.trim());
        let before = self.stage;
        if line.starts_with("Listening for Jobs") && self.stage == Stage::Starting {
            self.stage = Stage::Idle;
        } else if let Some(name) = line.strip_prefix("Running job: ") {
            self.stage = Stage::Busy;
            self.job.get_or_insert_with(|| bounded(name));
        } else if let Some(result) = result_of(line) {
            self.stage = Stage::Busy;
            self.result.get_or_insert_with(|| bounded(result));
        } else if let Some(version) = line.strip_prefix("Current runner version: ") {
            self.version.get_or_insert_with(|| bounded(version.trim_matches('\'')));
        } else if line.contains("is deprecated and cannot receive messages") {
            self.is_too_old = true;
        }
        self.stage != before
    }

    /// How a machine ends whose runner has ended so. `told` is GitHub's own word for how the job ended.
    pub(super) fn verdict(&self, told: Option<&str>, status: &ExitStatus) -> Verdict {
        if self.is_too_old {
            return self.too_old();
        }
        match (self.stage, told.or(self.result.as_deref())) {
            (_, Some(result)) => self.ended(result),
            (Stage::Busy, None) => {
                let detail = format!("GitHub's runner {} in the middle of its job", ended_how(status));
                Verdict { conclusion: Conclusion::Error, reason: Some(Reason::Runner), detail }
            }
            (Stage::Idle, None) if *status == ExitStatus::Code(0) => {
                let detail = "The runner was removed before a job came".to_owned();
                Verdict { conclusion: Conclusion::Skipped, reason: Some(Reason::Skipped), detail }
            }
            (Stage::Idle, None) => {
                let detail = format!("GitHub's runner {} before a job came", ended_how(status));
                Verdict { conclusion: Conclusion::Error, reason: Some(Reason::Runner), detail }
            }
            (Stage::Queued | Stage::Starting, None) => {
                let detail = format!("GitHub's runner {} before it waited for a job", ended_how(status));
                Verdict { conclusion: Conclusion::Error, reason: Some(Reason::Runner), detail }
            }
        }
    }

    fn too_old(&self) -> Verdict {
        let version = self.version.as_deref().map(|version| format!(" `{version}`")).unwrap_or_default();
        let detail = format!(
            "GitHub gives no more jobs to the version{version} of its runner\n  hint: build the image again with a newer one"
        );
        Verdict { conclusion: Conclusion::Error, reason: Some(Reason::Runner), detail }
    }

    fn ended(&self, result: &str) -> Verdict {
        let job = self.job.as_deref().map_or_else(|| "The job".to_owned(), |job| format!("The job `{job}`"));
        let (conclusion, reason, word) = match result.to_ascii_lowercase().as_str() {
            "success" | "succeeded" | "succeededwithissues" | "neutral" => (Conclusion::Success, None, "succeeded"),
            "failure" | "failed" => (Conclusion::Failure, None, "failed"),
            "cancelled" | "canceled" => (Conclusion::Cancelled, Some(Reason::Cancelled), "was cancelled at GitHub"),
            "skipped" => (Conclusion::Skipped, Some(Reason::Skipped), "was skipped"),
            "timed_out" => (Conclusion::TimedOut, Some(Reason::Timeout), "timed out at GitHub"),
            _ => (Conclusion::Error, Some(Reason::Runner), "was abandoned"),
        };
        Verdict { conclusion, reason, detail: format!("{job} {word}") }
    }
}

/// What to say of a runner's version when that is the newest one; nothing if it is that.
pub(super) fn outdated(version: &str, newest: [u32; 3]) -> Option<String> {
    let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [major, minor, patch] = newest;
    (numbers.as_slice() < newest.as_slice()).then(|| {
        format!(
            "the image has version {version} of GitHub's runner, and {major}.{minor}.{patch} is out: GitHub gives older ones \
             jobs for some weeks only, so build the image again"
        )
    })
}

/// `Job NAME completed with result: RESULT`; the name may be anything.
fn result_of(line: &str) -> Option<&str> {
    let (_, result) = line.strip_prefix("Job ")?.rsplit_once(" completed with result: ")?;
    Some(result)
}

/// The line without the time that the runner writes before some of them: `2026-01-31 12:00:00Z: `.
fn without_time(line: &str) -> &str {
    match line.split_once("Z: ") {
        Some((time, rest)) if time.len() == 19 && time.bytes().all(|b| b.is_ascii_digit() || b"-: ".contains(&b)) => {
            rest
        }
        _ => line,
    }
}

fn ended_how(status: &ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("ended with exit code {code}"),
        ExitStatus::Signal(signal) => format!("was ended by signal {signal}"),
        ExitStatus::NotStarted(why) => format!("did not start ({why})"),
    }
}

fn bounded(word: &str) -> String {
    let kept = &word[..word.floor_char_boundary(MAX_WORD)];
    kept.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str]) -> Said {
        let mut said = Said::default();
        for line in lines {
            said.hear(line);
        }
        said
    }

    const READY: &str = "2026-01-31 12:00:00Z: Listening for Jobs";

    #[test]
    fn lines_tell_how_far_it_is() {
        assert_eq!(said(&["", "√ Connected to GitHub"]).stage, Stage::Starting);
        assert_eq!(said(&["Current runner version: '2.320.0'", READY]).version.as_deref(), Some("2.320.0"));
        assert_eq!(said(&[READY]).stage, Stage::Idle);
        let busy = said(&[READY, "2026-01-31 12:00:01Z: Running job: build (Z: 1)", READY]);
        assert_eq!((busy.stage, busy.job.as_deref()), (Stage::Busy, Some("build (Z: 1)")));
        let long = said(&[&format!("Running job: {}\u{1b}[2J", "é".repeat(1000))]);
        assert!(long.job.is_some_and(|job| job.len() <= MAX_WORD && !job.contains('\u{1b}')));
    }

    #[test]
    fn an_older_version_is_told_of() {
        assert_eq!(outdated("2.321.0", [2, 321, 0]), None);
        assert_eq!(outdated("2.322.0", [2, 321, 9]), None);
        assert_eq!(outdated("unknown", [2, 321, 0]), None);
        insta::assert_snapshot!(outdated("2.99.1", [2, 321, 0]).unwrap_or_default(), @"the image has version 2.99.1 of GitHub's runner, and 2.321.0 is out: GitHub gives older ones jobs for some weeks only, so build the image again");
    }

    #[test]
    fn every_end_has_its_words() {
        let done = |result: &str| said(&[READY, "Running job: b", &format!("Job b completed with result: {result}")]);
        let (good, bad) = (ExitStatus::Code(0), ExitStatus::Code(1));
        let old = "An error occurred: Runner version v2.1.0 is deprecated and cannot receive messages.";
        let ends = [
            done("Succeeded").verdict(None, &good),
            done("Failed").verdict(None, &good),
            done("Canceled").verdict(None, &good),
            done("Succeeded").verdict(Some("failure"), &good),
            done("Abandoned").verdict(None, &good),
            said(&[READY, "Running job: b"]).verdict(None, &ExitStatus::Signal(9)),
            said(&[READY, "Running job: b"]).verdict(Some("timed_out"), &good),
            said(&[READY]).verdict(None, &good),
            said(&[READY]).verdict(None, &bad),
            said(&[]).verdict(None, &bad),
            said(&[]).verdict(None, &ExitStatus::NotStarted("no such file".into())),
            said(&["Current runner version: '2.1.0'", old]).verdict(None, &bad),
        ];
        let lines: Vec<String> =
            ends.iter().map(|end| format!("{:?} {:?}: {}", end.conclusion, end.reason, end.detail)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        Success None: The job `b` succeeded
        Failure None: The job `b` failed
        Cancelled Some(Cancelled): The job `b` was cancelled at GitHub
        Failure None: The job `b` failed
        Error Some(Runner): The job `b` was abandoned
        Error Some(Runner): GitHub's runner was ended by signal 9 in the middle of its job
        TimedOut Some(Timeout): The job `b` timed out at GitHub
        Skipped Some(Skipped): The runner was removed before a job came
        Error Some(Runner): GitHub's runner ended with exit code 1 before a job came
        Error Some(Runner): GitHub's runner ended with exit code 1 before it waited for a job
        Error Some(Runner): GitHub's runner did not start (no such file) before it waited for a job
        Error Some(Runner): GitHub gives no more jobs to the version `2.1.0` of its runner
          hint: build the image again with a newer one
        ");
    }
}

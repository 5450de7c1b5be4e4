//! What happens in a local run as JSON, one object per line, for programs.
//!
//! Each object has `event` and `at_ms`. Names of jobs are `WORKFLOW/JOB`, as in the log for people. Texts of guests have no
//! control sequences, and a line of a log is one event, cut at [`MAX_LINE`].

use serde_json::{Value as Json, json};

use super::screen::Screened;
use crate::clock;
use crate::job::steps::{Witness, step_number};
use crate::job::verdict::StepLine;
use crate::local::job::Ended;
use crate::local::session::{Audience, Job};
use crate::log::{Stream, plain};

/// The longest line of a log that one event has, in bytes.
const MAX_LINE: usize = 64 << 10;

/// Prints events.
#[derive(Debug)]
pub(super) struct Events {
    output: Screened,
}

impl Events {
    pub(super) fn new(output: Screened) -> Self {
        Self { output }
    }

    /// What is going to run.
    pub(super) fn planned(&self, jobs: &[Job]) {
        self.output.print_now(line("planned", json!({"jobs": jobs.iter().map(described).collect::<Vec<_>>()})));
    }

    /// How all of it ended; `code` is the command's exit code.
    pub(super) fn finished(&self, ended: &[Ended], code: u8) {
        let jobs: Vec<Json> = ended.iter().map(result).collect();
        self.output.print_now(line("run_finished", json!({"jobs": jobs, "exit_code": code})));
    }
}

impl Audience for Events {
    type Witness = Told;

    fn job_started(&self, job: &Job) -> Told {
        let name = job.full_name();
        self.output.print_now(line("job_started", json!({"job": name})));
        Told { job: name, output: self.output.clone(), lines: Lines::default() }
    }

    fn job_ended(&self, ended: &Ended) {
        self.output.print_now(line("job_finished", result(ended)));
    }
}

/// One job that will run.
pub(super) fn described(job: &Job) -> Json {
    let planned = &job.planned;
    json!({
        "job": job.full_name(),
        "workflow": job.workflow,
        "file": planned.spec.file,
        "id": planned.key,
        "name": planned.name,
        "needs": planned.needs,
        "runs_on": planned.labels,
        "matrix": planned.spec.matrix,
        "is_expanded_later": planned.spec.unexpanded,
    })
}

fn result(ended: &Ended) -> Json {
    let outcome = &ended.outcome;
    let mut told = json!({
        "job": ended.name,
        "conclusion": outcome.conclusion.as_str(),
        "reason": outcome.reason,
        "detail": outcome.detail,
        "outputs": ended.seen_by_needs.outputs,
        "took_ms": millis(ended.took),
    });
    if !ended.results.is_empty() {
        told["results"] = ended.results.to_json();
    }
    told
}

fn line(event: &str, mut members: Json) -> String {
    let mut told = json!({"event": event, "at_ms": clock::now_ms()});
    if let (Some(told), Some(members)) = (told.as_object_mut(), members.as_object_mut()) {
        told.append(members);
    }
    format!("{told}\n")
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Tells of one job.
#[derive(Debug)]
pub(super) struct Told {
    job: String,
    output: Screened,
    lines: Lines,
}

impl Told {
    fn logged(&self, step: u16, stream: Stream, bytes: &[u8]) -> String {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Service | Stream::Heading => "dayfly",
        };
        let text = plain(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        line("log", json!({"job": self.job, "step": step, "stream": stream, "text": text}))
    }

    fn all(&self, lines: Vec<(u16, Stream, Vec<u8>)>) -> String {
        lines.into_iter().map(|(step, stream, bytes)| self.logged(step, stream, &bytes)).collect()
    }
}

impl Witness for Told {
    async fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Heading {
            let lines = self.lines.end_of(step);
            let begun = json!({"job": self.job, "step": step, "name": plain(bytes)});
            let text = format!("{}{}", self.all(lines), line("step_started", begun));
            return self.output.print_now(text);
        }
        let lines = self.lines.take(step, stream, bytes);
        let text = self.all(lines);
        match stream {
            Stream::Stdout | Stream::Stderr => self.output.put(text).await,
            Stream::Service | Stream::Heading => self.output.print_now(text),
        }
    }

    /// Each line says which step it is of.
    async fn step_goes_on(&mut self, _step: u16, _heading: &[u8]) {}

    fn step_ended(&mut self, ended: &StepLine) {
        let report = &ended.report;
        let lines = self.lines.end_of(step_number(report.index));
        let told = json!({
            "job": self.job,
            "step": report.index + 1,
            "name": report.name,
            "outcome": report.outcome.as_str(),
            "conclusion": report.conclusion.as_str(),
            "errors": report.errors,
            "took_ms": millis(ended.took),
        });
        self.output.print_now(format!("{}{}", self.all(lines), line("step_finished", told)));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let lines = self.lines.end();
        self.output.print_now(self.all(lines));
    }
}

/// Whole lines out of pieces. Standard output and error have one each that is not whole.
#[derive(Debug, Default)]
struct Lines {
    open: Vec<(u16, Stream, Vec<u8>)>,
}

impl Lines {
    fn take(&mut self, step: u16, stream: Stream, bytes: &[u8]) -> Vec<(u16, Stream, Vec<u8>)> {
        let at = self.open.iter().position(|(of, from, _)| (*of, *from) == (step, stream));
        let mut held = at.map(|at| self.open.swap_remove(at).2).unwrap_or_default();
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            held.extend_from_slice(piece);
            if held.ends_with(b"\n") || held.len() >= MAX_LINE {
                whole.push((step, stream, std::mem::take(&mut held)));
            }
        }
        if !held.is_empty() {
            self.open.push((step, stream, held));
        }
        whole
    }

    /// What has no end of its own, of one step.
    fn end_of(&mut self, step: u16) -> Vec<(u16, Stream, Vec<u8>)> {
        let (of_step, others) = std::mem::take(&mut self.open).into_iter().partition(|(of, ..)| *of == step);
        self.open = others;
        of_step
    }

    /// The same of all steps.
    fn end(&mut self) -> Vec<(u16, Stream, Vec<u8>)> {
        std::mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let mut lines = Lines::default();
        let mut shown = Vec::new();
        for (stream, bytes) in [
            (Stream::Stdout, "one\ntw"),
            (Stream::Stderr, "err"),
            (Stream::Stdout, "o\n\n"),
            (Stream::Stderr, "or\nopen"),
        ] {
            shown.extend(lines.take(1, stream, bytes.as_bytes()));
        }
        shown.extend(lines.end());
        let shown: Vec<_> = shown.iter().map(|(_, stream, bytes)| (*stream, String::from_utf8_lossy(bytes))).collect();
        assert_eq!(
            shown,
            [
                (Stream::Stdout, "one\n".into()),
                (Stream::Stdout, "two\n".into()),
                (Stream::Stdout, "\n".into()),
                (Stream::Stderr, "error\n".into()),
                (Stream::Stderr, "open".into()),
            ]
        );
        assert_eq!(lines.take(1, Stream::Stdout, &[b'x'; MAX_LINE]).len(), 1);
    }
}

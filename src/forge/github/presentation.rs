//! A [`Report`] in GitHub's words and within GitHub's limits. Pure: the bodies of requests, not the requests.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::forge::{Conclusion, Report, ReportState};
use crate::workflow::commands::{Annotation, Level};

/// Longest description of a commit status, in characters; GitHub refuses longer ones.
const MAX_DESCRIPTION: usize = 140;
/// Longest title of a check run, in characters.
const MAX_TITLE: usize = 255;
/// Longest summary and longest text of a check run. GitHub documents characters; bytes are never fewer, so counting them is
/// right under either reading.
const MAX_OUTPUT: usize = 65_535;
/// Annotations that one request may carry; further requests add to them.
pub(super) const MAX_ANNOTATIONS: usize = 50;
/// The path of what belongs to no file: GitHub requires one, and uses this itself.
const NO_FILE: &str = ".github";
/// Encloses the log. Lines of the log that would close it are defused, so it need not depend on the log.
const FENCE: &str = "````````````````";
/// Put before a line that would close the fence: invisible, but the line no longer starts with backticks.
const DEFUSER: char = '\u{200b}';

/// Whether GitHub considers a check run in this state as completed.
///
/// A held job is: `action_required` is what GitHub shows prominently, and an approval that nobody sees is never given.
pub(super) fn is_completed(state: ReportState) -> bool {
    matches!(state, ReportState::Held | ReportState::Finished(_))
}

/// The body that creates or changes a check run.
pub(super) fn check_run_body(report: &Report, is_new: bool) -> Value {
    let (status, conclusion) = match report.state {
        // A check run does not go back: one whose job lost its VM waits for the next attempt in progress.
        ReportState::Queued if report.started_at.is_some() => ("in_progress", None),
        ReportState::Queued => ("queued", None),
        ReportState::Running => ("in_progress", None),
        ReportState::Held => ("completed", Some("action_required")),
        ReportState::Finished(conclusion) => ("completed", Some(check_conclusion(conclusion))),
    };
    let title = one_line(&report.title, MAX_TITLE);
    let summary = if report.summary.is_empty() { title.clone() } else { keep_head(&report.summary, MAX_OUTPUT) };
    let mut output = json!({"title": title, "summary": summary});
    if !report.log.is_empty() {
        output["text"] = log_text(&report.log, report.details_url.as_deref()).into();
    }
    let mut body = Map::new();
    body.insert("name".to_owned(), report.context.clone().into());
    if is_new {
        body.insert("head_sha".to_owned(), report.sha.as_str().into());
    }
    body.insert("external_id".to_owned(), report.id.as_str().into());
    body.insert("status".to_owned(), status.into());
    let optional = [
        ("conclusion", conclusion.map(str::to_owned)),
        ("started_at", report.started_at.and_then(rfc3339)),
        ("completed_at", report.finished_at.filter(|_| is_completed(report.state)).and_then(rfc3339)),
        ("details_url", report.details_url.clone()),
    ];
    body.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into()))));
    body.insert("output".to_owned(), output);
    body.into()
}

/// As many of the annotations that the check run does not have yet as one request may carry.
pub(super) fn next_annotations(report: &Report, sent: usize) -> Vec<Value> {
    let rest = report.annotations.get(sent..).filter(|_| matches!(report.state, ReportState::Finished(_)));
    rest.unwrap_or_default().iter().take(MAX_ANNOTATIONS).map(annotation).collect()
}

/// The report where GitHub refused its annotations, for this reason. Its summary says so, before what may be cut.
pub(super) fn without_annotations(report: &Report, why: &str) -> Report {
    let why = one_line(why, MAX_TITLE).replace('`', "'");
    let note =
        format!("Annotations are missing here, because GitHub refused them: `{why}`. The log has what they say.");
    Report { summary: format!("{note}\n\n{}", report.summary), annotations: Vec::new(), ..report.clone() }
}

fn annotation(annotation: &Annotation) -> Value {
    let level = match annotation.level {
        Level::Notice => "notice",
        Level::Warning => "warning",
        Level::Error => "failure",
    };
    let (path, line) = match &annotation.file {
        Some(file) => (file.as_str(), annotation.line.unwrap_or(1)),
        None => (NO_FILE, 1),
    };
    let end_line = annotation.end_line.filter(|_| annotation.file.is_some()).unwrap_or(line);
    let mut value = json!({
        "path": path,
        "start_line": line,
        "end_line": end_line,
        "annotation_level": level,
        "message": annotation.message,
    });
    if let Some(title) = &annotation.title {
        value["title"] = one_line(title, MAX_TITLE).into();
    }
    // Columns are refused where the lines differ.
    if let Some(column) = annotation.column.filter(|_| line == end_line && annotation.file.is_some()) {
        value["start_column"] = column.into();
        value["end_column"] = annotation.end_column.unwrap_or(column).into();
    }
    value
}

fn check_conclusion(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success => "success",
        Conclusion::Failure | Conclusion::Error => "failure",
        Conclusion::TimedOut => "timed_out",
        Conclusion::Cancelled => "cancelled",
        Conclusion::Skipped => "skipped",
    }
}

/// The body of a commit status. It has fewer words than a check run: a skipped job counts as a success, as in GitHub
/// Actions, and `error` stands for everything that is not the repository's own failure.
pub(super) fn commit_status_body(report: &Report) -> Value {
    let state = match report.state {
        ReportState::Queued | ReportState::Running | ReportState::Held => "pending",
        ReportState::Finished(Conclusion::Success | Conclusion::Skipped) => "success",
        ReportState::Finished(Conclusion::Failure) => "failure",
        ReportState::Finished(Conclusion::Error | Conclusion::Cancelled | Conclusion::TimedOut) => "error",
    };
    let mut body = json!({
        "state": state,
        "context": report.context,
        "description": one_line(&report.title, MAX_DESCRIPTION),
    });
    if let Some(url) = &report.details_url {
        body["target_url"] = url.as_str().into();
    }
    body
}

fn rfc3339(milliseconds: i64) -> Option<String> {
    Timestamp::from_millisecond(milliseconds).ok().map(|at| at.to_string())
}

/// At most `limit` characters, on one line.
fn one_line(text: &str, limit: usize) -> String {
    let line: String = text.split(|c: char| c.is_control()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        None => line,
        Some(_) => line.chars().take(limit - 1).chain(['…']).collect(),
    }
}

/// The beginning of a text, in at most `limit` bytes.
fn keep_head(text: &str, limit: usize) -> String {
    const NOTE: &str = "\n\n… (cut)";
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}{NOTE}", &text[..text.floor_char_boundary(limit - NOTE.len())])
}

/// The log as Markdown within [`MAX_OUTPUT`]: the end is what people need, so the head is dropped, and the text says so.
fn log_text(log: &str, page: Option<&str>) -> String {
    let mut keep = log.len().min(MAX_OUTPUT);
    loop {
        let start = log.ceil_char_boundary(log.len() - keep);
        let text = fenced(log, start, page);
        if text.len() <= MAX_OUTPUT || start == log.len() {
            return text;
        }
        // The fence, the note and the defusers take room too: give it up at the head of the log.
        keep = (log.len() - start).saturating_sub(text.len() - MAX_OUTPUT);
    }
}

fn fenced(log: &str, start: usize, page: Option<&str>) -> String {
    let note = match page {
        _ if start == 0 => String::new(),
        Some(page) => format!("The first {start} bytes are not shown here: [the whole log]({page}).\n\n"),
        None => format!("The first {start} bytes are not shown here.\n\n"),
    };
    // What is left of the cut line does not start at the line's start, so it must not count as one.
    let cut_mark = if start == 0 { "" } else { "…" };
    let shown: Vec<Cow<'_, str>> = log[start..].trim_end_matches('\n').split('\n').map(defused).collect();
    format!("{note}{FENCE}text\n{cut_mark}{}\n{FENCE}", shown.join("\n"))
}

/// The line, changed only if it could close the fence. Markdown also ends a line at a carriage return.
fn defused(line: &str) -> Cow<'_, str> {
    if !line.contains(FENCE) {
        return Cow::Borrowed(line);
    }
    let parts = line
        .split('\r')
        .map(|part| if part.trim_start().starts_with(FENCE) { format!("{DEFUSER}{part}") } else { part.to_owned() });
    Cow::Owned(parts.collect::<Vec<_>>().join("\r"))
}

#[cfg(test)]
#[path = "presentation_tests.rs"]
mod tests;

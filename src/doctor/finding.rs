//! What an examination says: findings with stable ids, and the verdict that follows from them.

use serde::Serialize;
use serde_json::{Map, Value};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Not looked at, with the reason; or of no use to this version.
    Skipped,
    /// Jobs can run, but something is slower, weaker or less certain than it could be.
    Warning,
    /// Keeps jobs from running.
    Problem,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// `area.question`: the same in every version.
    pub id: String,
    pub status: Status,
    /// One line for people.
    pub title: String,
    /// What was seen, or what it leads to; may have several lines.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What was observed, for programs.
    pub data: Map<String, Value>,
}

impl Finding {
    /// A finding of this status. Values in `title` stand in backticks.
    pub fn new(status: Status, id: impl Into<String>, title: impl Into<String>) -> Self {
        let (id, title) = (id.into(), title.into());
        Self { id, status, title, detail: None, hint: None, data: Map::new() }
    }

    /// All is well.
    pub fn ok(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Status::Ok, id, title)
    }

    /// Jobs run all the same.
    pub fn warning(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Status::Warning, id, title)
    }

    /// Keeps jobs from running.
    pub fn problem(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Status::Problem, id, title)
    }

    /// Was not looked at, or is of no use yet.
    pub fn skipped(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Status::Skipped, id, title)
    }

    /// Adds what was seen, or what it leads to.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into()).filter(|text| !text.is_empty());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Takes apart an error that carries its own `hint:` line.
    #[must_use]
    pub fn explained_by(self, error: &str) -> Self {
        match error.split_once("\n  hint: ") {
            Some((detail, hint)) => self.detail(detail).hint(hint),
            None => self.detail(error),
        }
    }

    /// Adds an observation.
    #[must_use]
    pub fn data(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }

    /// The part of the id before the first dot.
    pub fn area(&self) -> &str {
        self.id.split_once('.').map_or(self.id.as_str(), |(area, _)| area)
    }
}

/// Everything that an examination found, in a fixed order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// The worst of the findings: `ok`, `warning` or `problem`.
    pub verdict: Status,
}

impl Report {
    /// The report of these findings.
    pub fn new(findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.status).filter(|status| *status != Status::Skipped).max();
        Self { verdict: worst.unwrap_or(Status::Ok), findings }
    }

    /// How many findings have this status.
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }
}

/// Findings as a test reads them: one line each, `status id: title`, then detail and hint.
#[cfg(test)]
pub(super) fn sketch(findings: &[Finding]) -> String {
    let indented = |text: &str| text.replace('\n', "\n    ");
    let lines = findings.iter().map(|finding| {
        let status = format!("{:?}", finding.status).to_lowercase();
        let detail = finding.detail.as_ref().map(|detail| format!("\n    {}", indented(detail))).unwrap_or_default();
        let hint = finding.hint.as_ref().map(|hint| format!("\n    -> {}", indented(hint))).unwrap_or_default();
        format!("{status} {}: {}{detail}{hint}", finding.id, finding.title)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_worst_that_was_found() {
        let verdict = |statuses: &[Status]| {
            Report::new(statuses.iter().map(|status| Finding::new(*status, "a.b", "")).collect()).verdict
        };
        use Status::{Ok, Problem, Skipped, Warning};
        assert_eq!(verdict(&[]), Ok);
        assert_eq!(verdict(&[Skipped, Ok]), Ok);
        assert_eq!(verdict(&[Skipped]), Ok);
        assert_eq!(verdict(&[Ok, Warning, Skipped]), Warning);
        assert_eq!(verdict(&[Problem, Warning]), Problem);
    }

    #[test]
    fn an_errors_own_hint_becomes_the_findings() {
        let finding = Finding::problem("a.b", "it failed").explained_by("`x` is missing\n  hint: install it");
        assert_eq!((finding.detail.as_deref(), finding.hint.as_deref()), (Some("`x` is missing"), Some("install it")));
    }
}

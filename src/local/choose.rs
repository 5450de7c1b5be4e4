//! Which workflows of a commit a person means, and by which event they start. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::document::Diagnostic;
use crate::document::reader::{nearest, quoted};
use crate::workflow::Workflow;
use crate::workflow::expression::Value;
use crate::workflow::plan::PlannedJob;
use crate::workflow::trigger::{Match, matches};

use super::event::Facts;

/// Where workflows are, the first that has any.
pub const DIRECTORIES: [&str; 2] = [".dayfly/workflows", ".github/workflows"];

/// Events that are tried, in this order, where none is asked for.
const USUAL_EVENTS: [&str; 3] = ["push", "pull_request", "workflow_dispatch"];

/// A request that cannot be meant; for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// A workflow file of the commit.
#[derive(Debug)]
pub struct Candidate {
    pub path: String,
    pub workflow: Result<Workflow, Vec<Diagnostic>>,
}

/// What will run.
#[derive(Debug)]
pub struct Choice {
    pub event: String,
    /// Each with its file's path.
    pub workflows: Vec<(String, Workflow)>,
    /// For the person: what was passed over, and why.
    pub notes: Vec<String>,
}

/// The files among `paths` that `wanted` may mean: a path, a file's name or its name without the ending; all files of the
/// first directory that has any where nothing is wanted.
pub fn meant(paths: &[String], wanted: Option<&str>) -> Result<Vec<String>, Misuse> {
    let below = |directory: &str| -> Vec<&String> {
        paths.iter().filter(|path| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))).collect()
    };
    let Some(wanted) = wanted else {
        let mut found = DIRECTORIES.into_iter().map(below);
        let first = found.find(|found| !found.is_empty()).map(|found| found.into_iter().cloned().collect());
        return first.ok_or_else(|| {
            let places = DIRECTORIES.map(|directory| format!("`{directory}`")).join(" or ");
            Misuse(format!("the commit has no workflow in {places}\n  hint: commit one, or give --dirty"))
        });
    };
    let is_meant = |path: &&String| {
        let file = path.rsplit('/').next().unwrap_or(path);
        **path == wanted || file == wanted || stem(file) == wanted
    };
    match DIRECTORIES.iter().flat_map(|directory| below(directory)).find(is_meant) {
        Some(path) => Ok(vec![path.clone()]),
        None => Err(Misuse(unknown_workflow(paths, wanted))),
    }
}

fn unknown_workflow(paths: &[String], wanted: &str) -> String {
    let mut text = format!("the commit has no workflow {}", quoted(wanted));
    let names: Vec<&str> = paths.iter().map(|path| stem(path.rsplit('/').next().unwrap_or(path))).collect();
    match nearest(wanted, names.iter().copied()) {
        Some(name) => _ = write!(text, "\n  hint: did you mean `{name}`?"),
        None if names.is_empty() => {
            text.push_str("\n  hint: it has none; is the file committed? --dirty takes it as it is")
        }
        None => _ = write!(text, "\n  hint: it has {}", listed(&names)),
    }
    text
}

fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// Chooses among the candidates. One that was asked for by name only has to have the event: filters on branches and paths
/// are for events that happened.
pub fn choose(
    candidates: Vec<Candidate>, event: Option<&str>, is_named: bool, facts: &Facts,
) -> Result<Choice, Misuse> {
    let mut workflows = Vec::new();
    for Candidate { path, workflow } in candidates {
        let workflow = workflow.map_err(|found| complaints(&found))?;
        workflows.push((path, workflow));
    }
    let starts = |workflow: &Workflow, event: &str| match matches(workflow, &facts.request(event).trigger) {
        Match::Passes(why) if !is_named || !has_event(workflow, event) => Err(why),
        _ => Ok(()),
    };
    let is_started = |event: &str| workflows.iter().any(|(_, workflow)| starts(workflow, event).is_ok());
    let chosen = match event {
        Some(event) => event,
        None => USUAL_EVENTS.into_iter().find(|event| is_started(event)).unwrap_or(USUAL_EVENTS[0]),
    };
    let mut choice = Choice { event: chosen.to_owned(), workflows: Vec::new(), notes: Vec::new() };
    if event.is_none() && chosen != USUAL_EVENTS[0] {
        choice.notes.push(format!("nothing here starts on `{}`; this is `{chosen}`", USUAL_EVENTS[0]));
    }
    let mut reasons = Vec::new();
    for (path, workflow) in workflows {
        match starts(&workflow, chosen) {
            Ok(()) => choice.workflows.push((path, workflow)),
            Err(why) => reasons.push((format!("`{path}` does not start: {why}"), workflow)),
        }
    }
    if choice.workflows.is_empty() {
        return Err(Misuse(nothing_starts(chosen, &reasons)));
    }
    choice.notes.extend(reasons.into_iter().map(|(reason, _)| reason));
    Ok(choice)
}

/// Complaints about a workflow, one behind the other.
pub fn complaints(found: &[Diagnostic]) -> Misuse {
    let listed: Vec<String> = found.iter().map(Diagnostic::to_string).collect();
    Misuse(listed.join("\nerror: "))
}

fn has_event(workflow: &Workflow, event: &str) -> bool {
    workflow.on.iter().any(|trigger| trigger.event == event)
}

fn nothing_starts(event: &str, reasons: &[(String, Workflow)]) -> String {
    let mut text = format!("no workflow starts on {}", quoted(event));
    for (reason, _) in reasons {
        _ = write!(text, "\n  {reason}");
    }
    let mut events: Vec<&str> =
        reasons.iter().flat_map(|(_, workflow)| workflow.on.iter().map(|on| on.event.as_str())).collect();
    events.sort_unstable();
    events.dedup();
    if !events.contains(&event) && !events.is_empty() {
        _ = write!(text, "\n  hint: give --event with one of {}", listed(&events));
    }
    text
}

/// The jobs with that id and those that they need.
pub fn narrow(planned: Vec<PlannedJob>, id: &str) -> Result<Vec<PlannedJob>, Misuse> {
    let wanted = planned.iter().find(|job| job.key == id);
    let Some(wanted) = wanted else {
        let mut ids: Vec<&str> = planned.iter().map(|job| job.key.as_str()).collect();
        ids.dedup();
        return Err(Misuse(format!("there is no job {}\n  hint: there are {}", quoted(id), listed(&ids))));
    };
    let mut keys = wanted.spec.ancestors.clone();
    keys.push(id.to_owned());
    Ok(planned.into_iter().filter(|job| keys.contains(&job.key)).collect())
}

/// Which cells of matrices a person wants: values by key. Several values of one key are alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cells(Vec<(String, String)>);

impl Cells {
    /// These pairs of a matrix's key and the text of its value.
    pub fn new(wanted: Vec<(String, String)>) -> Self {
        Self(wanted)
    }

    /// Whether a cell is wanted. A matrix without a key that is asked for has nothing to choose by it, nor has a job without
    /// a matrix.
    pub fn take(&self, cell: &Value) -> bool {
        let Value::Object(cell) = cell else { return true };
        cell.iter().all(|(key, value)| {
            let mut asked = self.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key)).peekable();
            asked.peek().is_none() || asked.any(|(_, wanted)| *value.to_text() == **wanted)
        })
    }

    /// The jobs whose cells are wanted.
    ///
    /// # Errors
    /// No matrix has such a key, or none of its cells such a value. Where a matrix is not known yet, it may still have it.
    pub fn narrow(&self, planned: Vec<PlannedJob>) -> Result<Vec<PlannedJob>, Misuse> {
        let may_come = planned.iter().any(|job| job.spec.unfolds());
        for (key, wanted) in self.0.iter().filter(|_| !may_come) {
            let cells = planned.iter().filter_map(|job| match &job.spec.matrix {
                Value::Object(cell) => cell.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)),
                _ => None,
            });
            let mut values: Vec<String> = cells.map(|(_, value)| value.to_text().to_string()).collect();
            if values.is_empty() {
                return Err(Misuse(format!("no matrix has the key {}", quoted(key))));
            }
            if !values.contains(wanted) {
                let mut seen = BTreeSet::new();
                values.retain(|value| seen.insert(value.clone()));
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                let hint = format!("the matrix has {}", listed(&values));
                return Err(Misuse(format!(
                    "{} of the matrix is never {}\n  hint: {hint}",
                    quoted(key),
                    quoted(wanted)
                )));
            }
        }
        let narrowed: Vec<PlannedJob> = planned.into_iter().filter(|job| self.take(&job.spec.matrix)).collect();
        if narrowed.is_empty() {
            return Err(Misuse("the matrix has no cell with all of these values".to_owned()));
        }
        Ok(narrowed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::event::sample;
    use super::*;
    use crate::workflow::parse;
    use crate::workflow::plan::{PlanInput, plan};

    fn facts() -> Facts {
        sample(serde_json::Value::Null)
    }

    #[test]
    fn cells_are_chosen_by_their_values() {
        let text = "on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {matrix: {os: [linux, bsd], node: [20, 22.0]}}\n    \
                    steps: [run: x]\n  b: {runs-on: x, steps: [run: x]}\n";
        let planned = || plan(&parse("w.yml", text).unwrap(), &PlanInput::default()).unwrap();
        let decide = |wanted: &[(&str, &str)]| {
            let wanted = wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            match Cells::new(wanted).narrow(planned()) {
                Ok(jobs) => jobs.into_iter().map(|job| job.name).collect::<Vec<_>>().join("; "),
                Err(Misuse(text)) => format!("refused: {text}"),
            }
        };
        let shown = [
            decide(&[]),
            decide(&[("OS", "linux")]),
            decide(&[("os", "linux"), ("node", "22")]),
            decide(&[("node", "20"), ("node", "22")]),
            decide(&[("os", "windows")]),
            decide(&[("arch", "x86")]),
        ];
        insta::assert_snapshot!(shown.join("\n"), @"
        a (linux, 20); a (linux, 22); a (bsd, 20); a (bsd, 22); b
        a (linux, 20); a (linux, 22); b
        a (linux, 22); b
        a (linux, 20); a (linux, 22); a (bsd, 20); a (bsd, 22); b
        refused: `os` of the matrix is never `windows`
          hint: the matrix has `linux`, `bsd`
        refused: no matrix has the key `arch`
        ");
    }

    #[test]
    fn a_workflow_is_meant_by_its_path_its_file_or_its_name() {
        let paths = [".dayfly/workflows/ci.yml", ".dayfly/workflows/docs.yaml", ".github/workflows/release.yml"]
            .map(str::to_owned);
        let decide = |wanted| match meant(&paths, wanted) {
            Ok(found) => found.join(" "),
            Err(Misuse(text)) => text.lines().next().unwrap().to_owned(),
        };
        for (wanted, expected) in [
            (None, ".dayfly/workflows/ci.yml .dayfly/workflows/docs.yaml"),
            (Some("ci"), ".dayfly/workflows/ci.yml"),
            (Some("docs.yaml"), ".dayfly/workflows/docs.yaml"),
            (Some(".github/workflows/release.yml"), ".github/workflows/release.yml"),
            (Some("release"), ".github/workflows/release.yml"),
            (Some("docs.yml"), "the commit has no workflow `docs.yml`"),
        ] {
            assert_eq!(decide(wanted), expected, "{wanted:?}");
        }
        assert_eq!(meant(&paths[2..], None).unwrap(), paths[2..]);
    }

    #[test]
    fn filters_count_unless_a_workflow_is_named() {
        let candidate = |path: &str, on: &str| Candidate {
            path: path.to_owned(),
            workflow: parse(path, &format!("on: {on}\njobs: {{a: {{runs-on: x, steps: [run: x]}}}}\n")),
        };
        let all = || vec![candidate("main", "{push: {branches: [main]}}"), candidate("pull", "pull_request")];
        let decide = |candidates, event, is_named| match choose(candidates, event, is_named, &facts()) {
            Ok(choice) => {
                let paths: Vec<String> = choice.workflows.into_iter().map(|(path, _)| path).collect();
                format!("{}: {} ({})", choice.event, paths.join(" "), choice.notes.join("; "))
            }
            Err(Misuse(text)) => format!("refused: {text}"),
        };
        let shown = [
            decide(all(), None, false),
            decide(all(), Some("push"), false),
            decide(vec![candidate("main", "{push: {branches: [main]}}")], None, true),
            decide(vec![candidate("pull", "pull_request")], Some("push"), true),
            decide(vec![candidate("bad", "pusch")], None, true),
        ];
        insta::assert_snapshot!(shown.join("\n"), @"
        pull_request: pull (nothing here starts on `push`; this is `pull_request`; `main` does not start: `on` does not name the event `pull_request`)
        refused: no workflow starts on `push`
          `main` does not start: the branch `topic` is left out by the filters
          `pull` does not start: `on` does not name the event `push`
        push: main ()
        refused: no workflow starts on `push`
          `pull` does not start: `on` does not name the event `push`
          hint: give --event with one of `pull_request`
        refused: bad:1:5: on: there is no event `pusch`
          hint: did you mean `push`?
        ");
    }
}

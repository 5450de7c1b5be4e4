//! Whether a job runs, once everything that it needs has ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::contexts::Outcome;
use super::expression::{Environment, Object, Status, Value};
use super::plan::JobSpec;
use crate::document::Diagnostic;
use crate::document::reader::quoted;

/// What is to be done with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Run,
    Skip,
}

/// How one job ended, all cells of its matrix together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedResult {
    /// A failure that the job's `continue-on-error` allows counts as success.
    pub result: Outcome,
    pub outputs: BTreeMap<String, String>,
}

impl NeedResult {
    /// A member of the `needs` and `jobs` contexts.
    pub(super) fn to_value(&self) -> Value {
        let outputs: Object = self.outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut object = Object::default();
        object.insert("result", self.result.as_str());
        object.insert("outputs", outputs);
        object.into()
    }

    /// One result for the cells of a matrix, in their order: a failure outweighs a cancellation, which outweighs success;
    /// skipped is only what was skipped in every cell. Of the outputs the last that is not empty counts.
    pub fn combine(cells: impl IntoIterator<Item = NeedResult>) -> Self {
        const RISING: [Outcome; 4] = [Outcome::Skipped, Outcome::Success, Outcome::Cancelled, Outcome::Failure];
        let weight = |outcome| RISING.iter().position(|other| *other == outcome);
        let mut combined = Self { result: Outcome::Skipped, outputs: BTreeMap::new() };
        for cell in cells {
            if weight(cell.result) > weight(combined.result) {
                combined.result = cell.result;
            }
            for (name, value) in cell.outputs {
                let known = combined.outputs.entry(name).or_default();
                if !value.is_empty() {
                    *known = value;
                }
            }
        }
        combined
    }
}

/// How the jobs before a job ended, by key. All of [`JobSpec::ancestors`] belong here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedsResults {
    pub jobs: BTreeMap<String, NeedResult>,
    /// Whether the run was cancelled.
    pub cancelled: bool,
}

impl NeedsResults {
    fn status(&self) -> Status {
        let has = |outcome| self.jobs.values().any(|job| job.result == outcome);
        if self.cancelled {
            Status::Cancelled
        } else if has(Outcome::Failure) {
            Status::Failure
        } else if has(Outcome::Cancelled) {
            Status::Cancelled
        } else if has(Outcome::Skipped) {
            Status::Skipped
        } else {
            Status::Success
        }
    }

    /// The `needs` context of a job: only what it names itself, by its ids in the workflow.
    pub(super) fn to_value(&self, spec: &JobSpec) -> Value {
        spec.needed().filter_map(|(id, key)| Some((id, self.jobs.get(&key)?.to_value()))).collect::<Object>().into()
    }
}

/// Whether the job runs.
///
/// # Errors
/// Its `if` cannot be computed.
pub fn gate(spec: &JobSpec, needs: &NeedsResults, github: &Value) -> Result<Gate, Diagnostic> {
    let mut contexts = Object::default();
    contexts.insert("github", github.clone());
    contexts.insert("inputs", spec.inputs.clone());
    contexts.insert("vars", spec.vars.clone());
    contexts.insert("needs", needs.to_value(spec));
    let environment = Environment::new(&contexts).with_status(needs.status());
    match spec.job.condition.holds(&environment) {
        Ok(true) => Ok(Gate::Run),
        Ok(false) => Ok(Gate::Skip),
        Err(error) => Err(error.at(&spec.file, spec.job.position, format!("jobs.{}.if", spec.job.id))),
    }
}

/// Why a job does not run whose [`gate`] says [`Gate::Skip`], for people.
pub fn why_skipped(spec: &JobSpec, needs: &NeedsResults) -> String {
    let condition = &spec.job.condition;
    if !condition.is_ruled_out(needs.status()) {
        return match condition.source() {
            Some(source) => format!("its `if` is false: {}", quoted(source)),
            None => "its condition is not met".to_owned(),
        };
    }
    let unsuccessful = |keys: &[String]| -> Vec<String> {
        let ended = keys.iter().filter_map(|key| Some((key, needs.jobs.get(key)?.result)));
        let bad = ended.filter(|(_, result)| *result != Outcome::Success);
        bad.map(|(key, result)| format!("`{key}`, which {}", ended_so(result))).collect()
    };
    // What it needs itself says more than what those needed.
    let needed: Vec<String> = spec.needed().map(|(_, key)| key).collect();
    let named = [&needed, &spec.ancestors].map(|keys| unsuccessful(keys));
    match named.into_iter().find(|named| !named.is_empty()) {
        Some(named) => format!("it needs {}", named.join(", and ")),
        None => "the run was cancelled".to_owned(),
    }
}

fn ended_so(result: Outcome) -> &'static str {
    match result {
        Outcome::Success => "succeeded",
        Outcome::Failure => "failed",
        Outcome::Cancelled => "was cancelled",
        Outcome::Skipped => "was skipped",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::workflow::parse;
    use crate::workflow::plan::{PlanInput, plan};

    fn result(result: Outcome, outputs: &[(&str, &str)]) -> NeedResult {
        NeedResult { result, outputs: outputs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() }
    }

    /// A job `c` that needs `b`, which needs `a`, and how those ended.
    fn third_of_three(condition: &str, a: Outcome, b: Outcome, cancelled: bool) -> (JobSpec, NeedsResults) {
        let text = format!(
            "on: push\njobs:\n  a: {{runs-on: x, steps: [run: x]}}\n  b: {{needs: a, runs-on: x, steps: [run: x]}}\n  \
             c: {{needs: b, runs-on: x, if: \"{condition}\", steps: [run: x]}}\n"
        );
        let planned = plan(&parse("w.yml", &text).unwrap(), &PlanInput::default()).unwrap();
        assert_eq!(planned[2].spec.ancestors, ["a", "b"]);
        let jobs = [("a".to_owned(), result(a, &[])), ("b".to_owned(), result(b, &[("go", "yes")]))].into();
        (planned[2].spec.clone(), NeedsResults { jobs, cancelled })
    }

    fn decide(condition: &str, a: Outcome, b: Outcome, cancelled: bool) -> Gate {
        let (spec, needs) = third_of_three(condition, a, b, cancelled);
        gate(&spec, &needs, &Value::Null).unwrap()
    }

    #[test]
    fn a_job_follows_the_success_of_all_before_it() {
        use Outcome::{Cancelled, Failure, Skipped, Success};
        for (condition, a, b, cancelled, expected) in [
            ("", Success, Success, false, Gate::Run),
            ("", Success, Failure, false, Gate::Skip),
            ("", Failure, Success, false, Gate::Skip),
            ("", Success, Skipped, false, Gate::Skip),
            ("", Success, Success, true, Gate::Skip),
            ("needs.b.outputs.go == 'YES'", Success, Success, false, Gate::Run),
            ("needs.b.outputs.go == 'no'", Success, Success, false, Gate::Skip),
            // Only what is needed directly is in the context.
            ("needs.a.result == 'success'", Success, Success, false, Gate::Skip),
            ("always()", Failure, Skipped, true, Gate::Run),
            ("failure()", Success, Failure, false, Gate::Run),
            ("failure()", Failure, Skipped, false, Gate::Run),
            ("failure()", Success, Success, false, Gate::Skip),
            ("!cancelled()", Failure, Skipped, false, Gate::Run),
            ("!cancelled()", Success, Success, true, Gate::Skip),
            ("cancelled()", Success, Cancelled, false, Gate::Run),
            ("!failure() && !cancelled()", Success, Skipped, false, Gate::Run),
        ] {
            assert_eq!(decide(condition, a, b, cancelled), expected, "{condition} {a:?} {b:?} {cancelled}");
        }
    }

    #[test]
    fn what_is_skipped_says_why() {
        use Outcome::{Cancelled, Failure, Skipped, Success};
        let told = [
            ("", Success, Failure, false),
            ("", Failure, Success, false),
            ("", Failure, Skipped, false),
            ("", Success, Cancelled, false),
            ("", Success, Success, true),
            ("needs.b.outputs.go == 'no'", Success, Success, false),
            ("needs.b.outputs.go == 'no'", Success, Failure, false),
            ("failure()", Success, Success, false),
        ]
        .map(|(condition, a, b, cancelled)| {
            let (spec, needs) = third_of_three(condition, a, b, cancelled);
            assert_eq!(gate(&spec, &needs, &Value::Null).unwrap(), Gate::Skip);
            why_skipped(&spec, &needs)
        });
        insta::assert_snapshot!(told.join("\n"), @"
        it needs `b`, which failed
        it needs `a`, which failed
        it needs `b`, which was skipped
        it needs `b`, which was cancelled
        the run was cancelled
        its `if` is false: `needs.b.outputs.go == 'no'`
        it needs `b`, which failed
        its `if` is false: `failure()`
        ");
    }

    #[test]
    fn cells_become_one_result() {
        use Outcome::{Cancelled, Failure, Skipped, Success};
        let combine = |cells: &[Outcome]| NeedResult::combine(cells.iter().map(|cell| result(*cell, &[]))).result;
        assert_eq!(combine(&[Success, Failure, Cancelled]), Failure);
        assert_eq!(combine(&[Success, Cancelled]), Cancelled);
        assert_eq!(combine(&[Skipped, Success]), Success);
        assert_eq!(combine(&[Skipped, Skipped]), Skipped);
        let cells = [result(Success, &[("a", "1"), ("b", "")]), result(Success, &[("a", ""), ("b", "2")])];
        assert_eq!(NeedResult::combine(cells), result(Success, &[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn a_condition_that_fails_names_its_job() {
        let text = "on: push\njobs:\n  a: {runs-on: x, if: \"fromJSON(github.none)\", steps: [run: x]}\n";
        let planned = plan(&parse("w.yml", text).unwrap(), &PlanInput::default()).unwrap();
        let error = gate(&planned[0].spec, &NeedsResults::default(), &Value::Null).unwrap_err();
        insta::assert_snapshot!(error, @r"
        w.yml:3:3: jobs.a.if: in the expression `fromJSON(github.none)`: the text for `fromJSON` is not JSON: EOF while parsing a value at line 1 column 0 (character 1 of the expression)
          hint: an output that was never set is empty, and empty text is not JSON
        ");
    }
}

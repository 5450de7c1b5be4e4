//! A workflow's `concurrency`: which group a run is in, and whether it ends the runs before it.
//!
//! The same setting of a job is read and checked, but not acted upon yet.

use super::expression::{Environment, ExpressionError, Object};
use super::inputs;
use super::model::Workflow;
use super::plan::PlanInput;
use crate::document::{Diagnostic, Position};

/// Bytes of a group's name.
pub const MAX_GROUP: usize = 400;

/// The group of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// In lower case: groups are not told apart by case.
    pub name: String,
    pub cancel_in_progress: bool,
}

/// The group that the workflow puts a run for this event into. An empty name is no group.
///
/// # Errors
/// What cannot be computed, or a name that is too long.
pub fn group(workflow: &Workflow, input: &PlanInput) -> Result<Option<Group>, Diagnostic> {
    let Some(concurrency) = &workflow.concurrency else { return Ok(None) };
    // The model does not keep where it stands; the key says it.
    let start = Position { line: 1, column: 1 };
    let at = |key: &str, error: ExpressionError| Diagnostic {
        position: None,
        ..error.at(&workflow.file, start, format!("concurrency.{key}"))
    };
    let mut contexts = Object::default();
    contexts.insert("github", input.github.clone());
    contexts.insert("inputs", inputs::of_dispatch(workflow, input)?);
    let environment = Environment::new(&contexts);
    let name = concurrency.group.evaluate_text(&environment).map_err(|error| at("group", error))?;
    let name = name.trim().to_lowercase();
    if name.len() > MAX_GROUP {
        let message = format!("the group's name has {} bytes; at most {MAX_GROUP} are allowed", name.len());
        return Err(at("group", ExpressionError::evaluation(message)));
    }
    let cancel_in_progress =
        concurrency.cancel_in_progress.resolve(&environment).map_err(|error| at("cancel-in-progress", error))?;
    Ok((!name.is_empty()).then_some(Group { name, cancel_in_progress }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workflow::expression::Value;
    use crate::workflow::parse;

    fn told(concurrency: &str) -> String {
        let text = format!("on: push\nconcurrency: {concurrency}\njobs:\n  a: {{runs-on: x, steps: [run: x]}}\n");
        let github = Value::from(json!({"ref": "refs/heads/Main", "event_name": "push", "long": "x".repeat(500)}));
        match group(&parse("ci.yml", &text).unwrap(), &PlanInput { github, inputs: Value::Null }) {
            Ok(None) => "none".to_owned(),
            Ok(Some(group)) => format!("{} {}", group.name, group.cancel_in_progress),
            Err(complaint) => complaint.to_string(),
        }
    }

    #[test]
    fn a_group_is_computed_from_the_event_and_folded() {
        for (concurrency, expected) in [
            ("Deploy", "deploy false"),
            ("'ci-${{ github.ref }}'", "ci-refs/heads/main false"),
            ("{group: a, cancel-in-progress: true}", "a true"),
            ("{group: a, cancel-in-progress: \"${{ github.ref != 'refs/heads/main' }}\"}", "a false"),
            ("{group: a, cancel-in-progress: \"${{ github.event_name == 'push' }}\"}", "a true"),
            ("'${{ github.head_ref }}'", "none"),
        ] {
            assert_eq!(told(concurrency), expected, "{concurrency}");
        }
        insta::assert_snapshot!(told("'${{ github.long }}'"), @"ci.yml: concurrency.group: the group's name has 500 bytes; at most 400 are allowed");
        insta::assert_snapshot!(told("{group: a, cancel-in-progress: \"${{ github.ref }}\"}"), @"ci.yml: concurrency.cancel-in-progress: in the expression `github.ref`: expected true or false, but the expression gives a string");
    }
}

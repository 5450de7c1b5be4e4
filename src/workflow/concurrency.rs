//! `concurrency` of a workflow and of a job: which group a run or a job is in, and what its arrival does to the others of it.

use super::expression::{Environment, ExpressionError, Object, Value};
use super::gate::NeedsResults;
use super::model::{Concurrency, Queue, Workflow};
use super::plan::{JobSpec, PlanInput};
use super::{call, inputs};
use crate::document::{Diagnostic, Position};

/// Bytes of a group's name.
pub const MAX_GROUP: usize = 400;

/// Members of a group with [`Queue::Max`] that wait.
pub const MAX_QUEUED: usize = 100;

/// The group of one run or job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// In lower case: groups are not told apart by case.
    pub name: String,
    pub cancel_in_progress: bool,
    pub queue: Queue,
}

/// The group that the workflow puts a run for this event into. An empty name is no group.
///
/// # Errors
/// What cannot be computed, or a name that is too long.
pub fn group(workflow: &Workflow, input: &PlanInput) -> Result<Option<Group>, Diagnostic> {
    let Some(concurrency) = &workflow.concurrency else { return Ok(None) };
    let mut contexts = Object::default();
    contexts.insert("github", input.github.clone());
    contexts.insert("inputs", inputs::of_dispatch(workflow, input)?);
    contexts.insert("vars", input.vars.clone());
    // The model does not keep where it stands; the key says it.
    let at = |key: &str, complaint: ExpressionError| {
        let start = Position { line: 1, column: 1 };
        Diagnostic { position: None, ..complaint.at(&workflow.file, start, format!("concurrency.{key}")) }
    };
    named(concurrency, &Environment::new(&contexts)).map_err(|(key, error)| at(key, error))
}

/// The group that a job is in by itself, once its needs have ended: its own, or that of the workflow that it calls. It may also
/// hold runs: groups are those of a repository.
///
/// # Errors
/// As [`group`].
pub fn job_group(spec: &JobSpec, github: &Value, needs: &NeedsResults) -> Result<Option<Group>, Diagnostic> {
    let of_called = spec.job.call.as_ref().and_then(|call| call.concurrency.as_ref());
    let (concurrency, contexts) = match (&spec.job.concurrency, of_called) {
        (Some(own), _) => (own, spec.contexts(github, needs)),
        (None, Some(called)) => {
            let mut contexts = Object::default();
            contexts.insert("github", github.clone());
            contexts.insert("inputs", call::bind(spec, &called.inputs, github, needs)?);
            contexts.insert("vars", spec.vars.clone());
            (&called.concurrency, contexts)
        }
        (None, None) => return Ok(None),
    };
    named(concurrency, &Environment::new(&contexts)).map_err(|(key, error)| {
        error.at(&spec.file, spec.job.position, format!("jobs.{}.concurrency.{key}", spec.job.id))
    })
}

fn named(
    concurrency: &Concurrency, environment: &Environment<'_>,
) -> Result<Option<Group>, (&'static str, ExpressionError)> {
    let name = concurrency.group.evaluate_text(environment).map_err(|error| ("group", error))?;
    let name = name.trim().to_lowercase();
    if name.len() > MAX_GROUP {
        let message = format!("the group's name has {} bytes; at most {MAX_GROUP} are allowed", name.len());
        return Err(("group", ExpressionError::evaluation(message)));
    }
    let cancel_in_progress =
        concurrency.cancel_in_progress.resolve(environment).map_err(|error| ("cancel-in-progress", error))?;
    if cancel_in_progress && concurrency.queue == Queue::Max {
        let message = "`queue: max` and `cancel-in-progress` exclude each other, but both hold here";
        return Err(("cancel-in-progress", ExpressionError::evaluation(message)));
    }
    Ok((!name.is_empty()).then_some(Group { name, cancel_in_progress, queue: concurrency.queue }))
}

/// Where a member of a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// It has begun.
    Runs,
    Waits,
}

/// What the arrival of a new member does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It waits, or begins if nobody else is left; these others, by their place in the group, end.
    Enters { ends: Vec<usize> },
    /// There is no place for it.
    TurnedAway,
}

/// What the arrival of somebody new does to a group, whose members are given in the order of their arrival. Those that end are
/// not counted any more, though they may still be at it.
pub fn arrive(members: &[Member], new: &Group) -> Arrival {
    let places = |wanted: &dyn Fn(Member) -> bool| -> Vec<usize> {
        members.iter().enumerate().filter(|(_, member)| wanted(**member)).map(|(place, _)| place).collect()
    };
    let waiting = places(&|member| member == Member::Waits);
    match new.queue {
        _ if new.cancel_in_progress => Arrival::Enters { ends: places(&|_| true) },
        Queue::Max if waiting.len() >= MAX_QUEUED => Arrival::TurnedAway,
        Queue::Max => Arrival::Enters { ends: Vec::new() },
        Queue::Single => Arrival::Enters { ends: waiting },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workflow::contexts::Outcome;
    use crate::workflow::examine;
    use crate::workflow::gate::NeedResult;
    use crate::workflow::parse;
    use crate::workflow::plan::plan;

    fn told(concurrency: &str) -> String {
        let text = format!("on: push\nconcurrency: {concurrency}\njobs:\n  a: {{runs-on: x, steps: [run: x]}}\n");
        let github = Value::from(json!({"ref": "refs/heads/Main", "event_name": "push", "long": "x".repeat(500)}));
        match group(&parse("ci.yml", &text).unwrap(), &PlanInput { github, ..PlanInput::default() }) {
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

    #[test]
    fn a_job_is_in_a_group_that_its_needs_and_its_cell_name() {
        let text = "on: push\njobs:\n  a: {runs-on: x, steps: [run: x]}\n  b:\n    needs: a\n    runs-on: x\n    \
                    strategy: {matrix: {n: [1, 2]}}\n    concurrency: {group: 'Deploy-${{ needs.a.outputs.to }}-${{ matrix.n }}', queue: max}\n    \
                    steps: [run: x]\n";
        let workflow = examine("ci.yml", text).workflow.unwrap();
        let planned = plan(&workflow, &PlanInput::default()).unwrap();
        let result = NeedResult { result: Outcome::Success, outputs: [("to".to_owned(), "prod".to_owned())].into() };
        let needs = NeedsResults { jobs: [("a".to_owned(), result)].into(), cancelled: false };
        let names: Vec<String> = planned
            .iter()
            .filter_map(|job| job_group(&job.spec, &Value::Null, &needs).unwrap())
            .map(|group| group.name)
            .collect();
        assert_eq!(names, ["deploy-prod-1", "deploy-prod-2"]);
    }

    #[test]
    fn a_newer_member_ends_those_that_its_group_has_no_place_for() {
        use Member::{Runs, Waits};
        let group = |cancel_in_progress, queue| Group { name: "g".into(), cancel_in_progress, queue };
        let arrival = |members: &[Member], new: Group| match arrive(members, &new) {
            Arrival::Enters { ends } => format!("ends {ends:?}"),
            Arrival::TurnedAway => "turned away".to_owned(),
        };
        for (members, cancels, queue, expected) in [
            (&[][..], false, Queue::Single, "ends []"),
            (&[Runs], false, Queue::Single, "ends []"),
            (&[Runs, Waits], false, Queue::Single, "ends [1]"),
            (&[Runs, Waits], false, Queue::Max, "ends []"),
            (&[Runs, Waits], true, Queue::Single, "ends [0, 1]"),
            (&[Waits; MAX_QUEUED], false, Queue::Max, "turned away"),
        ] {
            assert_eq!(arrival(members, group(cancels, queue)), expected, "{members:?} {cancels} {queue:?}");
        }
    }
}

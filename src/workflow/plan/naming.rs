//! Names of jobs, and the labels that their machines must have.

use std::collections::{BTreeMap, BTreeSet};

use super::PlannedJob;
use crate::document::text::one_line;
use crate::workflow::expression::{Environment, ExpressionError, Template, Value};
use crate::workflow::model::{Job, MAX_NAME};

/// Labels of one job.
const MAX_LABELS: usize = 100;

/// The job's name; where it does not choose its own words for a cell, the cell's values follow in parentheses.
pub(super) fn name(job: &Job, matrix: &Value, environment: &Environment<'_>) -> Result<String, ExpressionError> {
    let written = job.name.as_ref().map(|name| name.evaluate_text(environment)).transpose()?;
    let written = written.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let is_computed = job.name.as_ref().is_some_and(|name| name.as_literal().is_none());
    let mut values = Vec::new();
    leaves(matrix, &mut values);
    let name = match written {
        Some(name) if is_computed || values.is_empty() => name,
        written => {
            let name = written.as_deref().unwrap_or(&job.id);
            if values.is_empty() { name.to_owned() } else { format!("{name} ({})", values.join(", ")) }
        }
    };
    Ok(one_line(&name, MAX_NAME))
}

/// The values in a cell that are not empty, however deep.
fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(object) => object.iter().for_each(|(_, value)| leaves(value, found)),
        primitive => found.extend(Some(primitive.to_text().to_string()).filter(|text| !text.is_empty())),
    }
}

/// Statuses are told apart by name: no two jobs have the same, nor one of those that are taken.
pub(super) fn make_names_unique(planned: &mut [PlannedJob], taken: &mut BTreeSet<String>) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for job in planned {
        let base = job.name.clone();
        while !taken.insert(job.name.clone()) {
            let count = counts.entry(base.clone()).or_insert(1);
            *count += 1;
            job.name = format!("{base} #{count}");
        }
        job.spec.name.clone_from(&job.name);
    }
}

pub(super) fn labels(job: &Job, environment: &Environment<'_>) -> Result<Vec<String>, ExpressionError> {
    let mut labels: Vec<String> = Vec::new();
    for template in &job.runs_on.labels {
        for label in label_values(template, environment)? {
            let label = label.trim();
            if label.is_empty() {
                return Err(ExpressionError::evaluation(format!("`{template}` gives an empty label")));
            }
            if !labels.iter().any(|known| known == label) {
                labels.push(label.to_owned());
            }
        }
    }
    if labels.len() > MAX_LABELS {
        return Err(ExpressionError::evaluation(format!("a job has at most {MAX_LABELS} labels")));
    }
    if labels.is_empty() && job.runs_on.group.is_none() && job.call.is_none() {
        return Err(ExpressionError::evaluation("the list of labels is empty"));
    }
    Ok(labels)
}

fn label_values(template: &Template, environment: &Environment<'_>) -> Result<Vec<String>, ExpressionError> {
    let text = |value: &Value| {
        if value.is_primitive() {
            return Ok(value.to_text().to_string());
        }
        Err(ExpressionError::evaluation(format!("`{template}` must give labels, but gives {}", value.kind())))
    };
    match template.evaluate(environment)? {
        Value::Array(items) => items.iter().map(text).collect(),
        value => Ok(vec![text(&value)?]),
    }
}

//! A workflow's text to its model, with every mistake named at its place.
//!
//! Unknown keys are refused with the nearest known one. What the dialect has and Dayfly has not yet is told apart, in those
//! words; it is refused as well where the workflow would run, because it would run otherwise than its author means. Expressions are checked here against what exists in their place, long before anything runs.

mod action;
#[cfg(test)]
mod action_tests;
mod call;
mod checkout;
mod container;
mod events;
mod fields;
mod graph;
mod job;
mod keys;
#[cfg(test)]
mod later_tests;
mod native;
mod on;
mod steering;
mod step;
#[cfg(test)]
mod tests;

pub use action::action;

use super::model::{Job, MAX_NAME, Workflow};
use super::scopes;
use crate::document::text::one_line;
use crate::document::{Complaint, Diagnostic, Findings, Item, Reader, Severity, Table, yaml};

/// Bytes of one workflow file, as GitHub has it.
pub const MAX_FILE_BYTES: usize = 500 * 1024;

/// Jobs of one workflow file, before their matrices.
pub const MAX_JOBS: usize = 256;

/// Steps of one job.
pub const MAX_STEPS: usize = 1000;

const WORKFLOW_KEYS: &[&str] = &["name", "run-name", "on", "env", "defaults", "permissions", "concurrency", "jobs"];

/// A workflow's text, read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The workflow, unless there are errors, or something in it has no place in the model yet.
    pub workflow: Option<Workflow>,
    pub findings: Findings,
}

/// Reads the `text` of `file`, its path in the repository, and tells what is wrong apart from what is not supported yet.
pub fn examine(file: &str, text: &str) -> Reading {
    let document = match yaml::read(file, text) {
        Ok(document) => document,
        Err(errors) => return Reading { workflow: None, findings: Findings { errors, ..Findings::default() } },
    };
    let reader = Reader::new(file);
    keys::check(&reader.root(&document));
    let workflow = workflow(file, &reader.root(&document));
    let findings = reader.finish();
    let workflow = workflow.filter(|_| findings.errors.is_empty());
    Reading {
        workflow: workflow.map(|workflow| Workflow { warnings: findings.warnings.clone(), ..workflow }),
        findings,
    }
}

/// Parses the `text` of `file`, its path in the repository. Warnings are part of the workflow.
///
/// # Errors
/// All mistakes and all that is not supported, in the order of the text: what would run otherwise than its author means does
/// not run at all.
pub fn parse(file: &str, text: &str) -> Result<Workflow, Vec<Diagnostic>> {
    let Reading { workflow, findings } = examine(file, text);
    match workflow {
        Some(workflow) if findings.unsupported.is_empty() => Ok(workflow),
        _ => {
            let all = findings.into_sorted().into_iter();
            Err(all.filter(|(severity, _)| *severity != Severity::Warning).map(|(_, found)| found).collect())
        }
    }
}

/// `None` only where the reader was told why.
fn workflow(file: &str, root: &Item<'_>) -> Option<Workflow> {
    let table = root.table(WORKFLOW_KEYS)?;
    let on = table.required("on").map(|item| on::on(&item));
    let jobs = table.required("jobs").and_then(|item| jobs(&item));
    let name = table.read("name", name);
    let run_name = table.read("run-name", |item| fields::template(item, &scopes::WORKFLOW));
    let env = table.read_or("env", Vec::new(), |item| Some(fields::env(item, &scopes::WORKFLOW_ENV)));
    let defaults = table.read("defaults", |item| fields::run_defaults(item, &scopes::NOTHING));
    let permissions = table.read("permissions", fields::permissions);
    let concurrency = table.read("concurrency", |item| fields::concurrency(item, &scopes::WORKFLOW));
    let on = on?;
    Some(Workflow {
        file: file.to_owned(),
        commit: None,
        name,
        run_name,
        env,
        defaults: defaults.unwrap_or_default(),
        permissions,
        concurrency,
        on: on.triggers,
        call: on.call,
        schedules: on.schedules,
        jobs: jobs?,
        warnings: Vec::new(),
    })
}

fn name(item: &Item<'_>) -> Option<String> {
    Some(one_line(&item.scalar_text()?, MAX_NAME)).filter(|name| !name.is_empty())
}

fn jobs(item: &Item<'_>) -> Option<Vec<Job>> {
    let entries = item.fields()?;
    if entries.is_empty() {
        item.refuse("a workflow needs at least one job");
    }
    if entries.len() > MAX_JOBS {
        item.refuse(format!("a workflow has at most {MAX_JOBS} jobs, this one has {}", entries.len()));
        return None;
    }
    let jobs: Vec<Option<Job>> = entries.iter().map(job::job).collect();
    graph::check(&entries);
    jobs.into_iter().collect()
}

/// Reports keys that the dialect has, but Dayfly has not yet.
fn unsupported_keys(table: &Table<'_>, keys: &[(&str, &str)]) {
    for (key, hint) in keys {
        if let Some(field) = table.field(key) {
            field.unsupported_key(Complaint::new(format!("`{key}` is not supported yet")).hint(*hint));
        }
    }
}

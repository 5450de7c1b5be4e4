//! A workflow's text to its model, with every mistake named at its place.
//!
//! Unknown keys are refused with the nearest known one. Keys that the dialect has and Dayfly has not yet are refused in
//! those words. Expressions are checked here against what exists in their place, long before anything runs.

mod checkout;
mod fields;
mod graph;
mod job;
mod on;
mod step;
#[cfg(test)]
mod tests;

use super::model::{Job, MAX_NAME, Workflow};
use super::scopes;
use crate::document::text::one_line;
use crate::document::{Complaint, Diagnostic, Item, Reader, Table, yaml};

/// Jobs of one workflow file, before their matrices.
pub const MAX_JOBS: usize = 256;

/// Steps of one job.
pub const MAX_STEPS: usize = 1000;

const WORKFLOW_KEYS: &[&str] = &["name", "run-name", "on", "env", "defaults", "permissions", "concurrency", "jobs"];

/// Parses the `text` of `file`, its path in the repository. Warnings are part of the workflow.
///
/// # Errors
/// All mistakes, in the order of the text.
pub fn parse(file: &str, text: &str) -> Result<Workflow, Vec<Diagnostic>> {
    let document = yaml::read(file, text)?;
    let reader = Reader::new(file);
    let workflow = workflow(file, &reader.root(&document));
    let findings = reader.finish();
    match workflow {
        Some(workflow) if findings.errors.is_empty() => Ok(Workflow { warnings: findings.warnings, ..workflow }),
        _ => Err(findings.errors),
    }
}

/// `None` only where the reader was told why.
fn workflow(file: &str, root: &Item<'_>) -> Option<Workflow> {
    let table = root.table(WORKFLOW_KEYS)?;
    let on = table.required("on").map(|item| on::triggers(&item));
    let jobs = table.required("jobs").and_then(|item| jobs(&item));
    Some(Workflow {
        file: file.to_owned(),
        name: table.read("name", name),
        run_name: table.read("run-name", |item| fields::template(item, &scopes::WORKFLOW)),
        env: table.read_or("env", Vec::new(), |item| Some(fields::env(item, &scopes::WORKFLOW))),
        defaults: table.read("defaults", fields::run_defaults).unwrap_or_default(),
        permissions: table.read("permissions", fields::permissions),
        concurrency: table.read("concurrency", |item| fields::concurrency(item, &scopes::WORKFLOW)),
        on: on?,
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

/// Refuses keys that the dialect has, but Dayfly has not yet.
fn refuse_later(table: &Table<'_>, keys: &[(&str, &str)]) {
    for (key, hint) in keys {
        if let Some(field) = table.field(key) {
            field.refuse_key(Complaint::new(format!("`{key}` is not supported yet")).hint(*hint));
        }
    }
}

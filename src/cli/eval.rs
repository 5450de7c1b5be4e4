//! `dayfly eval`: one expression of the workflow dialect, without a workflow.

mod files;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use self::files::Directory;
use super::{EXIT_REFUSED, EXIT_USAGE, say};
use crate::workflow::expression::{
    Environment, Expression, ExpressionError, FileHashes, NoFiles, Object, Scope, Status, Value,
};

/// Bytes of a file with contexts.
const MAX_CONTEXTS: u64 = 16 * 1024 * 1024;

pub(super) const HELP: &str = "\
Examples:
  dayfly eval -- \"startsWith('refs/tags/v1', 'refs/tags/')\"
  dayfly eval --contexts contexts.json -- \"join(github.event.labels.*.name, ', ')\"
  dayfly eval --directory . -- \"hashFiles('**/Cargo.lock')\"
  dayfly eval --status failure -- \"failure() && !cancelled()\"

Exit codes: 0 the expression has a value; 1 it has none; 64 the contexts cannot be read.";

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// JSON file with an object of contexts, such as {"github": {"ref": "refs/heads/main"}}; `-` is standard input
    #[arg(long, value_name = "FILE")]
    contexts: Option<PathBuf>,
    /// Directory whose files `hashFiles` reads; without it there is no `hashFiles`
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// How what came before went; without it there are no `success()`, `failure()`, `cancelled()` and `always()`
    #[arg(long)]
    status: Option<AskedStatus>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The expression, without `${{` and `}}`
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expression: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AskedStatus {
    Success,
    Failure,
    Cancelled,
}

pub(super) fn run(arguments: &EvalArgs) -> anyhow::Result<u8> {
    let contexts = match arguments.contexts.as_deref().map_or_else(|| Ok(Object::default()), read) {
        Ok(contexts) => contexts,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(EXIT_USAGE);
        }
    };
    match value(arguments, &contexts) {
        Ok(value) => {
            say(if arguments.json { json_of_result(&value).to_string() } else { text_of(&value)? })?;
            Ok(0)
        }
        Err(error) => {
            if arguments.json {
                say(json_of_error(&error))?;
            } else {
                eprintln!("error: {}", explained(&error, &arguments.expression));
            }
            Ok(EXIT_REFUSED)
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Object> {
    let what = || format!("the contexts in `{}`", file.display());
    let mut text = String::new();
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(what)?)
    };
    let length = source.take(MAX_CONTEXTS + 1).read_to_string(&mut text).with_context(what)?;
    anyhow::ensure!(length as u64 <= MAX_CONTEXTS, "{} have more than {} MiB", what(), MAX_CONTEXTS >> 20);
    let contexts: serde_json::Map<String, Json> = serde_json::from_str(&text).with_context(what)?;
    Ok(contexts.into_iter().map(|(name, value)| (name, Value::from(value))).collect())
}

fn value(arguments: &EvalArgs, contexts: &Object) -> Result<Value, ExpressionError> {
    let names: Vec<&str> = contexts.iter().map(|(name, _)| name).collect();
    let scope = Scope {
        contexts: &names,
        status_functions: arguments.status.is_some(),
        hash_files: arguments.directory.is_some(),
    };
    let status = match arguments.status {
        None | Some(AskedStatus::Success) => Status::Success,
        Some(AskedStatus::Failure) => Status::Failure,
        Some(AskedStatus::Cancelled) => Status::Cancelled,
    };
    let directory = arguments.directory.as_deref().map(Directory::new);
    let files: &dyn FileHashes = directory.as_ref().map_or(&NoFiles, |directory| directory);
    let environment = Environment::new(contexts).with_status(status).with_files(files);
    Expression::parse(&arguments.expression, &scope)?.evaluate(&environment)
}

/// The value as plain JSON. Numbers that JSON lacks are strings with their names.
fn json_of(value: &Value) -> Json {
    match value {
        Value::Number(number) if !number.is_finite() => Json::from(&*value.to_text()),
        Value::Array(items) => items.iter().map(json_of).collect(),
        Value::Object(object) => {
            Json::Object(object.iter().map(|(name, value)| (name.to_owned(), json_of(value))).collect())
        }
        plain => Json::from(plain.clone()),
    }
}

fn json_of_result(value: &Value) -> Json {
    json!({"kind": value.type_name(), "value": json_of(value)})
}

fn json_of_error(error: &ExpressionError) -> Json {
    let mut told = json!({"kind": error.kind.to_string(), "message": error.to_string()});
    if let Some(position) = error.position {
        told["position"] = position.into();
    }
    if let Some(hint) = &error.hint {
        told["hint"] = hint.as_str().into();
    }
    json!({"err": told})
}

/// Text as it is, scalars as the language writes them, collections as indented JSON.
fn text_of(value: &Value) -> anyhow::Result<String> {
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) | Value::Object(_) => serde_json::to_string_pretty(&json_of(value))?,
        scalar => scalar.to_text().to_string(),
    })
}

/// The message, the expression with a mark below the place, and the hint.
fn explained(error: &ExpressionError, expression: &str) -> String {
    let mut text = format!("{}: {error}", error.kind);
    let shown = expression.trim();
    if let Some(position) = error.position.filter(|_| !shown.contains(['\n', '\r', '\t'])) {
        text.push_str(&format!("\n  {shown}\n  {}^", " ".repeat(position.saturating_sub(1))));
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    text
}

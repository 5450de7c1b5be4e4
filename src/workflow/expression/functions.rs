//! The functions of the language.

use std::sync::Arc;

use super::evaluator::{Evaluated, Evaluator, Status};
use super::lexer::Token;
use super::parser::Ast;
use super::value::{Value, fold};
use super::{ExpressionError, Scope, json};
use crate::document::reader::quoted;

/// Arguments of one call.
const MAX_ARGUMENTS: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Contains,
    StartsWith,
    EndsWith,
    Format,
    Join,
    ToJson,
    FromJson,
    Case,
    HashFiles,
    Always,
    Success,
    Failure,
    Cancelled,
}

/// Name, fewest and most arguments.
const FUNCTIONS: [(Function, &str, usize, usize); 13] = [
    (Function::Contains, "contains", 2, 2),
    (Function::StartsWith, "startsWith", 2, 2),
    (Function::EndsWith, "endsWith", 2, 2),
    (Function::Format, "format", 1, MAX_ARGUMENTS),
    (Function::Join, "join", 1, 2),
    (Function::ToJson, "toJSON", 1, 1),
    (Function::FromJson, "fromJSON", 1, 1),
    (Function::Case, "case", 3, MAX_ARGUMENTS),
    (Function::HashFiles, "hashFiles", 1, MAX_ARGUMENTS),
    (Function::Always, "always", 0, 0),
    (Function::Success, "success", 0, 0),
    (Function::Failure, "failure", 0, 0),
    (Function::Cancelled, "cancelled", 0, 0),
];

impl Function {
    /// The function of this name (letter case does not matter), if its place offers it.
    pub(super) fn find(name: &Token, scope: Option<&Scope<'_>>) -> Result<Self, ExpressionError> {
        let Some(&(function, canonical, ..)) =
            FUNCTIONS.iter().find(|(_, known, ..)| known.eq_ignore_ascii_case(&name.text))
        else {
            let names: Vec<&str> = FUNCTIONS.iter().map(|(_, name, ..)| *name).collect();
            let message = format!("there is no function `{}`", name.text);
            let hint = format!("the functions are {}", names.join(", "));
            return Err(ExpressionError::parsing(name.position, message).with_hint(hint));
        };
        let is_offered = scope.is_none_or(|scope| match function {
            Self::HashFiles => scope.hash_files,
            function => !function.is_status() || scope.status_functions,
        });
        if is_offered {
            return Ok(function);
        }
        let hint = if function.is_status() {
            "it can be called in `if:` of jobs and steps"
        } else {
            "it can be called in steps, where there are files"
        };
        let message = format!("the function `{canonical}` does not exist here");
        Err(ExpressionError::parsing(name.position, message).with_hint(hint))
    }

    /// Whether the function tells how the steps or jobs before went.
    pub(super) fn is_status(self) -> bool {
        matches!(self, Self::Always | Self::Success | Self::Failure | Self::Cancelled)
    }

    pub(super) fn check_argument_count(self, count: usize, position: usize) -> Result<(), ExpressionError> {
        let (_, name, fewest, most) =
            FUNCTIONS.iter().find(|(function, ..)| *function == self).expect("every function is in the table");
        let complaint = if count < *fewest {
            format!("`{name}` needs at least {fewest} arguments, not {count}")
        } else if count > *most {
            format!("`{name}` takes at most {most} arguments, not {count}")
        } else if self == Self::Case && count.is_multiple_of(2) {
            "`case` takes pairs of a condition and a value, then the value for all else".to_owned()
        } else {
            return Ok(());
        };
        Err(ExpressionError::parsing(position, complaint))
    }
}

type CallResult = Result<Value, ExpressionError>;

/// Calls `function`, whose number of arguments was checked when it was parsed.
pub(super) fn call(
    evaluator: &mut Evaluator<'_, '_>, function: Function, arguments: &[Ast],
) -> Result<Evaluated, ExpressionError> {
    match function {
        // What it gives is one of its arguments, not a copy: filters stay filters.
        Function::Case => case(evaluator, arguments),
        function => new_value(evaluator, function, arguments).map(Evaluated::plain),
    }
}

fn new_value(evaluator: &mut Evaluator<'_, '_>, function: Function, arguments: &[Ast]) -> CallResult {
    let status = evaluator.environment.status;
    match (function, arguments) {
        (Function::Always, _) => Ok(Value::Bool(true)),
        (Function::Success, _) => Ok(Value::Bool(status == Status::Success)),
        (Function::Failure, _) => Ok(Value::Bool(status == Status::Failure)),
        (Function::Cancelled, _) => Ok(Value::Bool(status == Status::Cancelled)),
        (Function::Contains, [place, item]) => contains(evaluator, place, item),
        (Function::StartsWith, [text, part]) => {
            compare_texts(evaluator, text, part, |text, part| text.starts_with(part))
        }
        (Function::EndsWith, [text, part]) => compare_texts(evaluator, text, part, |text, part| text.ends_with(part)),
        (Function::Format, [pattern, arguments @ ..]) => format(evaluator, pattern, arguments),
        (Function::Join, [items, separator @ ..]) => join(evaluator, items, separator.first()),
        (Function::ToJson, [value]) => {
            let value = evaluator.value(value)?;
            Ok(json::write(&value, evaluator.budget)?.into())
        }
        (Function::FromJson, [text]) => {
            let text = evaluator.value(text)?.to_text();
            json::read(&text, evaluator.budget)
        }
        (Function::HashFiles, patterns) => hash_files(evaluator, patterns),
        _ => Err(ExpressionError::evaluation("the function was called with too few arguments")),
    }
}

/// Compares two texts without regard to letter case; collections are no texts.
fn compare_texts(
    evaluator: &mut Evaluator<'_, '_>, text: &Ast, part: &Ast, matches: fn(&str, &str) -> bool,
) -> CallResult {
    let (text, part) = (evaluator.value(text)?, evaluator.value(part)?);
    if !text.is_primitive() || !part.is_primitive() {
        return Ok(Value::Bool(false));
    }
    evaluator.pay_to_read(&text)?;
    evaluator.pay_to_read(&part)?;
    Ok(Value::Bool(matches(&fold(&text.to_text()), &fold(&part.to_text()))))
}

fn contains(evaluator: &mut Evaluator<'_, '_>, place: &Ast, item: &Ast) -> CallResult {
    let (found, wanted) = (evaluator.value(place)?, evaluator.value(item)?);
    match &found {
        Value::Array(items) => {
            for item in items.iter() {
                evaluator.pay_to_read(item)?;
                evaluator.pay_to_read(&wanted)?;
                if item.loosely_equals(&wanted) {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        Value::Object(_) => Ok(Value::Bool(false)),
        text => {
            evaluator.pay_to_read(text)?;
            evaluator.pay_to_read(&wanted)?;
            let is_found = wanted.is_primitive() && fold(&text.to_text()).contains(&fold(&wanted.to_text()));
            Ok(Value::Bool(is_found))
        }
    }
}

fn join(evaluator: &mut Evaluator<'_, '_>, items: &Ast, separator: Option<&Ast>) -> CallResult {
    let items = evaluator.value(items)?;
    let separator = match separator.map(|separator| evaluator.value(separator)).transpose()? {
        Some(separator) if separator.is_primitive() => separator.to_text(),
        _ => ",".into(),
    };
    let Value::Array(items) = &items else {
        return Ok(Value::String(if items.is_primitive() { items.to_text() } else { "".into() }));
    };
    let mut text = String::new();
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            evaluator.budget.append(&separator)?;
            text.push_str(&separator);
        }
        let item = item.to_text();
        evaluator.budget.append(&item)?;
        text.push_str(&item);
    }
    Ok(text.into())
}

/// The value of the first true condition. Only what is needed is evaluated.
fn case(evaluator: &mut Evaluator<'_, '_>, arguments: &[Ast]) -> Result<Evaluated, ExpressionError> {
    let mut rest = arguments;
    while let [condition, value, others @ ..] = rest {
        match evaluator.value(condition)? {
            Value::Bool(true) => return evaluator.evaluated(value),
            Value::Bool(false) => rest = others,
            other => {
                let message = format!("a condition of `case` must be true or false, but it is {}", other.kind());
                return Err(ExpressionError::evaluation(message));
            }
        }
    }
    rest.first().map_or(Ok(Evaluated::plain(Value::Null)), |default| evaluator.evaluated(default))
}

fn hash_files(evaluator: &mut Evaluator<'_, '_>, patterns: &[Ast]) -> CallResult {
    let mut texts = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        let text = evaluator.value(pattern)?.to_text();
        evaluator.budget.create(text.len())?;
        texts.push(text.to_string());
    }
    evaluator.environment.files.hash_files(&texts).map(Value::from).map_err(ExpressionError::evaluation)
}

/// `{0}` stands for the first argument, `{{` and `}}` for braces. Arguments are evaluated when they are first used.
fn format(evaluator: &mut Evaluator<'_, '_>, pattern: &Ast, arguments: &[Ast]) -> CallResult {
    let pattern = evaluator.value(pattern)?.to_text();
    let mut values: Vec<Option<Arc<str>>> = vec![None; arguments.len()];
    let mut text = String::new();
    let mut rest: &str = &pattern;
    while let Some(brace) = rest.find(['{', '}']) {
        let (plain, after) = rest.split_at(brace);
        push(evaluator, &mut text, plain)?;
        if after.starts_with("{{") || after.starts_with("}}") {
            push(evaluator, &mut text, &after[..1])?;
            rest = &after[2..];
            continue;
        }
        let (place, after) = placeholder(after).ok_or_else(|| {
            ExpressionError::evaluation(format!("`format` has an invalid pattern: {}", quoted(&pattern)))
                .with_hint("write `{0}` for the first argument, and `{{` or `}}` for a brace")
        })?;
        let argument = arguments.get(place).ok_or_else(|| {
            let message = format!("the pattern of `format` names argument {place}, but has {}", arguments.len());
            ExpressionError::evaluation(message).with_hint("arguments count from 0")
        })?;
        let value = match &values[place] {
            Some(value) => value.clone(),
            None => values[place].insert(evaluator.value(argument)?.to_text()).clone(),
        };
        push(evaluator, &mut text, &value)?;
        rest = after;
    }
    push(evaluator, &mut text, rest)?;
    Ok(text.into())
}

fn push(evaluator: &mut Evaluator<'_, '_>, text: &mut String, more: &str) -> Result<(), ExpressionError> {
    evaluator.budget.append(more)?;
    text.push_str(more);
    Ok(())
}

/// The number in `{N}` at the start of `text`, and what follows.
fn placeholder(text: &str) -> Option<(usize, &str)> {
    let (digits, after) = text.strip_prefix('{')?.split_once('}')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let place = digits.parse::<u8>().ok().filter(|_| is_number)?;
    Some((usize::from(place), after))
}

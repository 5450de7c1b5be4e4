//! Text with expressions in it: `build ${{ matrix.os }}`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::evaluator::{self, Budget, Environment};
use super::value::Value;
use super::{ErrorKind, Expression, ExpressionError, Scope};

/// Bytes of text that a template may become, counted as [`super::MAX_MEMORY`] is, with all that its expressions create.
pub const MAX_TEMPLATE_BYTES: usize = 10 * 1024 * 1024;

const OPENING: &str = "${{";
const CLOSING: &str = "}}";

/// A text whose `${{ … }}` were parsed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Expression(Expression),
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// As [`Expression::parse`]; the message names the expression, since a text may have several.
    pub fn parse(source: &str, scope: &Scope<'_>) -> Result<Self, ExpressionError> {
        Self::parse_checked(source, Some(scope))
    }

    fn parse_checked(source: &str, scope: Option<&Scope<'_>>) -> Result<Self, ExpressionError> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some(start) = rest.find(OPENING) {
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let inside = &rest[start + OPENING.len()..];
            let end = closing(inside).ok_or_else(|| {
                ExpressionError::new(ErrorKind::Lexing, None, "an expression `${{` has no closing `}}`".to_owned())
            })?;
            if inside[..end].trim().is_empty() {
                let message = "an expression was expected between `${{` and `}}`".to_owned();
                return Err(ExpressionError::new(ErrorKind::Parsing, None, message));
            }
            let expression = Expression::parse_checked(&inside[..end], scope);
            parts.push(Part::Expression(expression.map_err(|error| error.within(&inside[..end]))?));
            rest = &inside[end + CLOSING.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// A text in which nothing is an expression, whatever it looks like.
    pub fn literal(text: &str) -> Self {
        let source = text.replace(OPENING, "${{ '${{' }}");
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Text(text.to_owned())] };
        Self { source, parts }
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text itself, if there is no expression in it.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The expression, if the text is nothing else.
    pub fn as_expression(&self) -> Option<&Expression> {
        match self.parts.as_slice() {
            [Part::Expression(expression)] => Some(expression),
            _ => None,
        }
    }

    /// Whether one of these contexts is named in one of its expressions.
    pub fn uses(&self, contexts: &[&str]) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Expression(expression) if expression.uses(contexts)))
    }

    /// As [`Expression::uses_member`], of any of its expressions.
    pub fn uses_member(&self, context: &str, member: &str) -> bool {
        let uses =
            |part: &Part| matches!(part, Part::Expression(expression) if expression.uses_member(context, member));
        self.parts.iter().any(uses)
    }

    /// The value: of the expression if the text is nothing else, so that it keeps its kind; else the text.
    ///
    /// # Errors
    /// As [`Expression::evaluate`], and more than [`MAX_TEMPLATE_BYTES`].
    pub fn evaluate(&self, environment: &Environment<'_>) -> Result<Value, ExpressionError> {
        let mut budget = Budget::new(MAX_TEMPLATE_BYTES, environment);
        if let Some(expression) = self.as_expression() {
            return evaluate(expression, environment, &mut budget);
        }
        let mut text = String::new();
        for part in &self.parts {
            let value;
            let more: &str = match part {
                Part::Text(text) => text,
                Part::Expression(expression) => {
                    value = evaluate(expression, environment, &mut budget)?.to_text();
                    &value
                }
            };
            budget.append(more)?;
            text.push_str(more);
        }
        Ok(text.into())
    }

    /// The value as text.
    ///
    /// # Errors
    /// As [`Template::evaluate`].
    pub fn evaluate_text(&self, environment: &Environment<'_>) -> Result<String, ExpressionError> {
        Ok(self.evaluate(environment)?.to_text().to_string())
    }
}

fn evaluate(
    expression: &Expression, environment: &Environment<'_>, budget: &mut Budget,
) -> Result<Value, ExpressionError> {
    evaluator::evaluate(&expression.root, environment, budget).map_err(|error| error.within(expression.source()))
}

/// Where the expression that starts here ends: the first `}}` outside of its strings.
fn closing(text: &str) -> Option<usize> {
    let mut in_string = false;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'\'' => in_string = !in_string,
            b'}' if !in_string && text[place..].starts_with(CLOSING) => return Some(place),
            _ => {}
        }
    }
    None
}

impl fmt::Display for Template {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.source)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl TryFrom<String> for Template {
    type Error = ExpressionError;
    fn try_from(source: String) -> Result<Self, ExpressionError> {
        Self::parse_checked(&source, None)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.source
    }
}

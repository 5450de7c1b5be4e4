//! Values of a workflow that are fixed or computed, and conditions.

use serde::{Deserialize, Serialize};

use super::expression::{Environment, Expression, ExpressionError, Object, Scope, Status, Template, Value};

/// A value that stands in the workflow, or one expression that will give it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting<T> {
    Fixed(T),
    Computed(Expression),
}

/// A type that a computed value can have.
pub trait FromValue: Sized {
    /// The value, or what it should have been.
    fn from_value(value: &Value) -> Result<Self, String>;
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(value) => Ok(*value),
            // Inputs and outputs carry booleans as text.
            Value::String(text) if &**text == "true" => Ok(true),
            Value::String(text) if &**text == "false" => Ok(false),
            other => Err(format!("expected true or false, but the expression gives {}", other.kind())),
        }
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<Self, String> {
        let number = value.to_number();
        let is_number = matches!(value, Value::Number(_) | Value::String(_)) && number.is_finite();
        if is_number {
            Ok(number)
        } else {
            Err(format!("expected a number, but the expression gives {}", value.kind()))
        }
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Result<Self, String> {
        let number = f64::from_value(value)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within the range")]
        if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
            return Ok(number as u32);
        }
        Err(format!("expected a whole number, but the expression gives `{number}`"))
    }
}

impl<T> Setting<T> {
    /// Whether it is computed from one of these contexts.
    pub fn uses(&self, contexts: &[&str]) -> bool {
        matches!(self, Self::Computed(expression) if expression.uses(contexts))
    }
}

impl<T: FromValue + Clone> Setting<T> {
    /// The value.
    ///
    /// # Errors
    /// The expression's error, or a value of another kind.
    pub fn resolve(&self, environment: &Environment<'_>) -> Result<T, ExpressionError> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Computed(expression) => expression
                .evaluate(environment)
                .and_then(|value| T::from_value(&value).map_err(ExpressionError::evaluation))
                .map_err(|error| error.within(expression.source())),
        }
    }
}

/// An `if:`. Without one, and where none of the status functions is called, success of what came before is asked too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Condition(Option<Expression>);

impl Condition {
    /// A condition that was written.
    pub fn new(expression: Expression) -> Self {
        Self(Some(expression))
    }

    /// One that holds whatever came before.
    pub fn always() -> Self {
        let scope = Scope { contexts: &[], status_functions: true, hash_files: false };
        Self(Expression::parse("always()", &scope).ok())
    }

    /// The expression as it was written, if one was.
    pub fn source(&self) -> Option<&str> {
        self.0.as_ref().map(Expression::source)
    }

    /// Whether it cannot hold, whatever the values are: it asks for success and there was none.
    pub fn is_ruled_out(&self, status: Status) -> bool {
        let asks_for_status = self.0.as_ref().is_some_and(Expression::asks_for_status);
        status != Status::Success && !asks_for_status
    }

    /// Whether it depends on one of these contexts.
    pub fn uses(&self, contexts: &[&str]) -> bool {
        self.0.as_ref().is_some_and(|expression| expression.uses(contexts))
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// The expression's error.
    pub fn holds(&self, environment: &Environment<'_>) -> Result<bool, ExpressionError> {
        if self.is_ruled_out(environment.status()) {
            return Ok(false);
        }
        let Some(expression) = &self.0 else { return Ok(true) };
        let value = expression.evaluate(environment).map_err(|error| error.within(expression.source()))?;
        Ok(value.is_truthy())
    }
}

/// A tree of values with expressions in it, as a matrix is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    Value(Value),
    Template(Template),
    Array(Vec<Data>),
    Object(Vec<(String, Data)>),
}

impl Data {
    /// Whether nothing in it has to be computed.
    pub fn is_static(&self) -> bool {
        match self {
            Self::Value(_) => true,
            Self::Template(_) => false,
            Self::Array(items) => items.iter().all(Self::is_static),
            Self::Object(members) => members.iter().all(|(_, value)| value.is_static()),
        }
    }

    /// Whether one of these contexts is named anywhere in it.
    pub fn uses(&self, contexts: &[&str]) -> bool {
        match self {
            Self::Value(_) => false,
            Self::Template(template) => template.uses(contexts),
            Self::Array(items) => items.iter().any(|item| item.uses(contexts)),
            Self::Object(members) => members.iter().any(|(_, value)| value.uses(contexts)),
        }
    }

    /// The value of the whole tree.
    ///
    /// # Errors
    /// The first expression's error.
    pub fn resolve(&self, environment: &Environment<'_>) -> Result<Value, ExpressionError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Template(template) => template.evaluate(environment),
            Self::Array(items) => items.iter().map(|item| item.resolve(environment)).collect(),
            Self::Object(members) => {
                let mut object = Object::default();
                for (name, value) in members {
                    object.insert(name.clone(), value.resolve(environment)?);
                }
                Ok(object.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::scopes::STEP_CONDITION;
    use super::*;

    #[test]
    fn a_condition_asks_for_success_unless_it_asks_for_the_status() {
        let holds = |text: Option<&str>, status| {
            let condition = text.map_or_else(Condition::default, |text| {
                Condition::new(Expression::parse(text, &STEP_CONDITION).unwrap())
            });
            condition.holds(&Environment::new(&Object::default()).with_status(status)).unwrap()
        };
        let all = [Status::Success, Status::Failure, Status::Cancelled, Status::Skipped];
        for (text, expected) in [
            (None, [true, false, false, false]),
            (Some("true"), [true, false, false, false]),
            (Some("false"), [false, false, false, false]),
            (Some("always()"), [true, true, true, true]),
            (Some("failure() || cancelled()"), [false, true, true, false]),
            (Some("!success()"), [false, true, true, true]),
            (Some("format('{0}', 'x') && !cancelled()"), [true, true, false, true]),
        ] {
            assert_eq!(all.map(|status| holds(text, status)), expected, "{text:?}");
        }
    }
}

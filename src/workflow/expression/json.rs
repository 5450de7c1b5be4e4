//! `toJSON` and `fromJSON`, within the evaluation's budget.

use super::ExpressionError;
use super::evaluator::Budget;
use super::number;
use super::value::{Object, Value};

/// Writes `value` with two spaces of indentation.
pub(super) fn write(value: &Value, budget: &mut Budget) -> Result<String, ExpressionError> {
    let mut writer = Writer { text: String::new(), budget };
    writer.value(value, 0)?;
    Ok(writer.text)
}

struct Writer<'b> {
    text: String,
    budget: &'b mut Budget,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<(), ExpressionError> {
        self.budget.append(text)?;
        self.text.push_str(text);
        Ok(())
    }

    fn new_line(&mut self, level: usize) -> Result<(), ExpressionError> {
        self.push("\n")?;
        self.push(&"  ".repeat(level))
    }

    /// Recursion is bounded: values come from JSON, whose reader limits nesting, and from documents, whose loader does.
    fn value(&mut self, value: &Value, level: usize) -> Result<(), ExpressionError> {
        match value {
            Value::Null => self.push("null"),
            Value::Bool(_) => self.push(&value.to_text()),
            Value::Number(value) => self.push(&number::format(*value)),
            Value::String(text) => self.string(text),
            Value::Array(items) if items.is_empty() => self.push("[]"),
            Value::Array(items) => {
                self.push("[")?;
                for (place, item) in items.iter().enumerate() {
                    self.push(if place > 0 { "," } else { "" })?;
                    self.new_line(level + 1)?;
                    self.value(item, level + 1)?;
                }
                self.new_line(level)?;
                self.push("]")
            }
            Value::Object(object) if object.is_empty() => self.push("{}"),
            Value::Object(object) => self.object(object, level),
        }
    }

    fn object(&mut self, object: &Object, level: usize) -> Result<(), ExpressionError> {
        self.push("{")?;
        for (place, (name, value)) in object.iter().enumerate() {
            self.push(if place > 0 { "," } else { "" })?;
            self.new_line(level + 1)?;
            self.string(name)?;
            self.push(": ")?;
            self.value(value, level + 1)?;
        }
        self.new_line(level)?;
        self.push("}")
    }

    fn string(&mut self, text: &str) -> Result<(), ExpressionError> {
        self.budget.append(text)?;
        let quoted = serde_json::to_string(text).expect("every text can be JSON");
        self.text.push_str(&quoted);
        Ok(())
    }
}

/// Reads JSON; the reader limits its nesting.
pub(super) fn read(text: &str, budget: &mut Budget) -> Result<Value, ExpressionError> {
    budget.create(text.len())?;
    serde_json::from_str::<serde_json::Value>(text).map(Value::from).map_err(|error| {
        ExpressionError::evaluation(format!("the text for `fromJSON` is not JSON: {error}"))
            .with_hint("an output that was never set is empty, and empty text is not JSON")
    })
}

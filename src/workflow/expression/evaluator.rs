//! Evaluates a parsed expression. Values of the contexts are shared, not copied; whatever an expression creates or searches
//! is paid from a [`Budget`], so that no expression can exhaust memory or time.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use super::parser::{Ast, Comparison};
use super::value::{Object, Value};
use super::{ExpressionError, functions};

/// Bytes that one expression may create, counted as the reference implementation does: two for each character.
pub const MAX_MEMORY: usize = 1024 * 1024;

/// Bytes of text that the evaluations of one [`Effort`] may create, compare or search.
pub const MAX_EFFORT: usize = 64 * 1024 * 1024;

/// What a value costs beside its text.
const VALUE_OVERHEAD: usize = 24;

/// How the steps or jobs before an expression went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// `success()` is true.
    #[default]
    Success,
    /// `failure()` is true.
    Failure,
    /// `cancelled()` is true.
    Cancelled,
    /// Something needed was skipped: none of the three is true.
    Skipped,
}

/// Answers `hashFiles`. The files are in the VM, so the language itself cannot read them.
pub trait FileHashes: fmt::Debug {
    /// The digest of the files that match `patterns` (empty if there are none), or why there is no answer.
    fn hash_files(&self, patterns: &[String]) -> Result<String, String>;
}

/// For places where `hashFiles` is not offered.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

impl FileHashes for NoFiles {
    fn hash_files(&self, _patterns: &[String]) -> Result<String, String> {
        Err("`hashFiles` has no files here".to_owned())
    }
}

/// What is left of the time for some evaluations; clones share it. A document may have thousands of expressions, so that a
/// limit for each of them would not be one.
#[derive(Debug, Clone)]
pub struct Effort(Rc<Cell<usize>>);

impl Default for Effort {
    fn default() -> Self {
        Self(Rc::new(Cell::new(MAX_EFFORT)))
    }
}

impl Effort {
    fn spend(&self, bytes: usize) -> Result<(), ExpressionError> {
        let left = self.0.get().checked_sub(bytes.saturating_add(1)).ok_or_else(|| {
            ExpressionError::evaluation("the expressions work on more text than they may in one place")
        })?;
        self.0.set(left);
        Ok(())
    }
}

/// What an expression is evaluated against.
#[derive(Debug, Clone)]
pub struct Environment<'a> {
    contexts: &'a Object,
    pub(super) status: Status,
    pub(super) files: &'a dyn FileHashes,
    effort: Effort,
}

impl<'a> Environment<'a> {
    /// After success, without files. A context that is missing is null.
    pub fn new(contexts: &'a Object) -> Self {
        Self { contexts, status: Status::Success, files: &NoFiles, effort: Effort::default() }
    }

    /// After `status`.
    pub fn with_status(self, status: Status) -> Self {
        Self { status, ..self }
    }

    /// With files for `hashFiles`.
    pub fn with_files(self, files: &'a dyn FileHashes) -> Self {
        Self { files, ..self }
    }

    /// With an effort that other environments share.
    pub fn with_effort(self, effort: &Effort) -> Self {
        Self { effort: effort.clone(), ..self }
    }

    /// How what came before went.
    pub fn status(&self) -> Status {
        self.status
    }
}

/// What is left of an evaluation's memory, and of the effort that it shares.
#[derive(Debug)]
pub(super) struct Budget {
    memory: usize,
    effort: Effort,
}

impl Budget {
    pub(super) fn new(memory: usize, environment: &Environment<'_>) -> Self {
        Self { memory, effort: environment.effort.clone() }
    }

    /// Pays for one new value with `characters` of text.
    pub(super) fn create(&mut self, characters: usize) -> Result<(), ExpressionError> {
        self.allocate(characters.saturating_mul(2).saturating_add(VALUE_OVERHEAD))
    }

    /// Pays for text that is added to a value.
    pub(super) fn append(&mut self, text: &str) -> Result<(), ExpressionError> {
        self.allocate(text.len().saturating_mul(2))
    }

    fn allocate(&mut self, bytes: usize) -> Result<(), ExpressionError> {
        self.memory = self.memory.checked_sub(bytes).ok_or_else(|| {
            ExpressionError::evaluation("the expression's values need more memory than an expression may use")
        })?;
        self.effort.spend(bytes)
    }

    /// Pays for reading through `bytes` of text.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), ExpressionError> {
        self.effort.spend(bytes)
    }
}

/// The value of `ast`.
pub(super) fn evaluate(
    ast: &Ast, environment: &Environment<'_>, budget: &mut Budget,
) -> Result<Value, ExpressionError> {
    Evaluator { environment, budget }.value(ast)
}

/// A value, and whether `.*` or `[*]` made it: then an index goes to each of its items.
pub(super) struct Evaluated {
    value: Value,
    filtered: bool,
}

impl Evaluated {
    pub(super) fn plain(value: Value) -> Self {
        Self { value, filtered: false }
    }
}

pub(super) struct Evaluator<'e, 'b> {
    pub(super) environment: &'e Environment<'e>,
    pub(super) budget: &'b mut Budget,
}

impl Evaluator<'_, '_> {
    pub(super) fn value(&mut self, ast: &Ast) -> Result<Value, ExpressionError> {
        Ok(self.evaluated(ast)?.value)
    }

    pub(super) fn evaluated(&mut self, ast: &Ast) -> Result<Evaluated, ExpressionError> {
        let value = match ast {
            Ast::Literal(value) => value.clone(),
            Ast::Context(name) => self.environment.contexts.get(name).cloned().unwrap_or_default(),
            Ast::Index { target, index } => return self.index(target, index),
            Ast::Every(target) => return self.every(target),
            Ast::Not(operand) => Value::Bool(!self.value(operand)?.is_truthy()),
            Ast::Comparison { operator, left, right } => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                Value::Bool(self.compare(*operator, &left, &right)?)
            }
            Ast::And(operands) => return self.first_where(operands, |value| !value.is_truthy()),
            Ast::Or(operands) => return self.first_where(operands, Value::is_truthy),
            Ast::Call { function, arguments, position } => {
                return functions::call(self, *function, arguments)
                    .map_err(|error| ExpressionError { position: error.position.or(Some(*position)), ..error });
            }
        };
        Ok(Evaluated::plain(value))
    }

    /// The first value that `decides`, else the last; what follows it is not evaluated.
    fn first_where(&mut self, operands: &[Ast], decides: fn(&Value) -> bool) -> Result<Evaluated, ExpressionError> {
        let mut found = Evaluated::plain(Value::Null);
        for operand in operands {
            found = self.evaluated(operand)?;
            if decides(&found.value) {
                break;
            }
        }
        Ok(found)
    }

    fn compare(&mut self, operator: Comparison, left: &Value, right: &Value) -> Result<bool, ExpressionError> {
        self.pay_to_read(left)?;
        self.pay_to_read(right)?;
        Ok(match operator {
            Comparison::Equal => left.loosely_equals(right),
            Comparison::NotEqual => !left.loosely_equals(right),
            Comparison::Less => left.loosely_compares(right) == Some(Ordering::Less),
            Comparison::LessOrEqual => {
                left.loosely_equals(right) || left.loosely_compares(right) == Some(Ordering::Less)
            }
            Comparison::Greater => left.loosely_compares(right) == Some(Ordering::Greater),
            Comparison::GreaterOrEqual => {
                left.loosely_equals(right) || left.loosely_compares(right) == Some(Ordering::Greater)
            }
        })
    }

    pub(super) fn pay_to_read(&mut self, value: &Value) -> Result<(), ExpressionError> {
        self.budget.read(if let Value::String(text) = value { text.len() } else { 0 })
    }

    fn index(&mut self, target: &Ast, index: &Ast) -> Result<Evaluated, ExpressionError> {
        let target = self.evaluated(target)?;
        let index = self.value(index)?;
        self.pay_to_read(&index)?;
        let items = match &target.value {
            Value::Array(items) if target.filtered => items,
            value => return Ok(Evaluated::plain(member(value, &index).unwrap_or_default())),
        };
        let mut found = Vec::new();
        for item in items.iter() {
            self.pay_to_read(&index)?;
            if let Some(value) = member(item, &index) {
                self.budget.create(0)?;
                found.push(value);
            }
        }
        Ok(Evaluated { value: found.into_iter().collect(), filtered: true })
    }

    fn every(&mut self, target: &Ast) -> Result<Evaluated, ExpressionError> {
        let target = self.evaluated(target)?;
        let mut found = Vec::new();
        match &target.value {
            Value::Array(items) if target.filtered => {
                for item in items.iter() {
                    self.add_values(item, &mut found)?;
                }
            }
            value => self.add_values(value, &mut found)?,
        }
        Ok(Evaluated { value: found.into_iter().collect(), filtered: true })
    }

    fn add_values(&mut self, collection: &Value, found: &mut Vec<Value>) -> Result<(), ExpressionError> {
        let mut add = |value: &Value| {
            self.budget.create(0)?;
            found.push(value.clone());
            Ok(())
        };
        match collection {
            Value::Array(items) => items.iter().try_for_each(&mut add),
            Value::Object(object) => object.iter().try_for_each(|(_, value)| add(value)),
            _ => Ok(()),
        }
    }
}

/// The member of a collection; an index that is itself a collection finds nothing.
fn member(collection: &Value, index: &Value) -> Option<Value> {
    match collection {
        Value::Object(object) if index.is_primitive() => object.get(&index.to_text()).cloned(),
        Value::Array(items) => {
            let number = index.to_number().floor();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; saturates")]
            if number >= 0.0 { items.get(number as usize).cloned() } else { None }
        }
        _ => None,
    }
}

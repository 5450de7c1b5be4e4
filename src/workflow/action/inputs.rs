//! What an action gets for its inputs: what the step gives, defaults for the rest, and the variables that carry them.

use std::collections::BTreeMap;

use super::manifest::Input;
use crate::document::reader::quoted;
use crate::workflow::expression::{Environment, ExpressionError, Object};

/// What the step gives, by name.
pub type Given = Vec<(String, String)>;

/// The values of an action's inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Those that the action names, in its order, then those that only the step names.
    values: Vec<(String, String)>,
    /// For the step's author.
    pub warnings: Vec<String>,
}

impl Inputs {
    /// Joins what a step gives with an action's defaults. A required input that nobody gives is a warning, as on GitHub: actions
    /// complain themselves.
    ///
    /// # Errors
    /// A default that cannot be computed.
    pub fn new(declared: &[Input], given: &Given, environment: &Environment<'_>) -> Result<Self, ExpressionError> {
        let mut inputs = Self::default();
        for input in declared {
            // Of two spellings the last one counts, as of two keys.
            let own = given.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(&input.name));
            let value = match (own, &input.default) {
                (Some((_, value)), _) => {
                    if let Some(text) = &input.deprecation {
                        inputs.warnings.push(format!("the input `{}` is deprecated: {text}", input.name));
                    }
                    value.clone()
                }
                (None, Some(default)) => default.evaluate_text(environment)?,
                (None, None) => {
                    if input.required {
                        inputs.warnings.push(format!("the input `{}` is required and has no value", input.name));
                    }
                    String::new()
                }
            };
            inputs.values.push((input.name.clone(), value));
        }
        inputs.add_unknown(declared, given);
        Ok(inputs)
    }

    /// What an action without a description gets: everything.
    pub fn of_given(given: &Given) -> Self {
        Self { values: given.clone(), warnings: Vec::new() }
    }

    fn add_unknown(&mut self, declared: &[Input], given: &Given) {
        let is_known = |name: &str| {
            // They belong to the runner, and say how a container starts.
            declared.iter().any(|input| input.name.eq_ignore_ascii_case(name)) || is_of_container(name)
        };
        let unknown: Vec<_> = given.iter().filter(|(name, _)| !is_known(name)).cloned().collect();
        if !unknown.is_empty() {
            let names: Vec<String> = unknown.iter().map(|(name, _)| quoted(name)).collect();
            let known: Vec<String> = declared.iter().map(|input| format!("`{}`", input.name)).collect();
            let known =
                if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
            self.warnings.push(format!("the action has no input {}; {known}", names.join(", ")));
        }
        self.values.extend(unknown);
        let of_container = given.iter().filter(|(name, _)| is_of_container(name));
        let more: Vec<_> = of_container.filter(|(name, _)| self.get(name).is_none()).cloned().collect();
        self.values.extend(more);
    }

    /// The value of an input, by its name in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The `inputs` context.
    pub fn to_object(&self) -> Object {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// The variables that carry the inputs to programs.
    pub fn variables(&self) -> BTreeMap<String, String> {
        self.values.iter().map(|(name, value)| (variable(name), value.clone())).collect()
    }
}

fn is_of_container(name: &str) -> bool {
    name.eq_ignore_ascii_case("entrypoint") || name.eq_ignore_ascii_case("args")
}

/// The variable that carries an input: in capitals, with `_` for spaces and everything else as it is.
pub fn variable(input: &str) -> String {
    format!("INPUT_{}", input.replace(' ', "_").to_uppercase())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::workflow::expression::Template;
    use crate::workflow::scopes;

    fn input(name: &str, default: Option<&str>) -> Input {
        let default = default.map(|text| Template::parse(text, &scopes::ACTION_INPUT).unwrap());
        Input { name: name.to_owned(), required: false, default, deprecation: None }
    }

    fn resolved(declared: &[Input], given: &[(&str, &str)]) -> Inputs {
        let contexts: Object = [("github", [("actor", "mona")].into_iter().collect::<Object>())].into_iter().collect();
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Inputs::new(declared, &given, &Environment::new(&contexts)).unwrap()
    }

    #[test]
    fn defaults_stand_in_for_what_is_not_given() {
        let declared =
            [input("who", Some("${{ github.actor }}")), input("Some Words-x", None), input("empty", Some("x"))];
        let inputs = resolved(&declared, &[("some words-X", "hi"), ("EMPTY", "")]);
        assert_eq!(inputs.get("WHO"), Some("mona"));
        assert_eq!(inputs.get("empty"), Some(""), "an empty value is a value");
        let variables: Vec<_> = inputs.variables().into_iter().collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(variables, [pair("INPUT_EMPTY", ""), pair("INPUT_SOME_WORDS-X", "hi"), pair("INPUT_WHO", "mona")]);
        assert_eq!(inputs.warnings, [""; 0]);
    }

    #[test]
    fn what_is_missing_unknown_or_old_is_said_and_nothing_fails() {
        let required = Input { required: true, ..input("token", None) };
        let old = Input { deprecation: Some("use `new`".into()), ..input("old", None) };
        let inputs = resolved(&[required, old], &[("old", "1"), ("typo", "2"), ("args", "x"), ("entrypoint", "y")]);
        insta::assert_snapshot!(inputs.warnings.join("\n"), @"
        the input `token` is required and has no value
        the input `old` is deprecated: use `new`
        the action has no input `typo`; it has `token`, `old`
        ");
        assert_eq!((inputs.get("typo"), inputs.get("args"), inputs.get("token")), (Some("2"), Some("x"), Some("")));
    }
}

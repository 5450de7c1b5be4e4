//! What the operator gives to jobs: the contexts `vars` and `secrets`.
//!
//! Variables are plain, and stay with a job's plan from the moment when it is made. Secrets are read when a job starts and
//! are never part of what is stored: only which of them a called workflow gets is ([`SecretAccess`]).

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::expression::{Environment, ExpressionError, Object, Value};
use super::gate::NeedsResults;
use super::model::{CallSecrets, Variables};
use super::plan::JobSpec;
use crate::document::reader::quoted;
use crate::document::{Complaint, Diagnostic};

/// Bytes of a variable's or a secret's value.
pub const MAX_VALUE: usize = 48 * 1024;

/// Characters of a name.
const MAX_NAME: usize = 100;

/// The secret that GitHub makes for each job. Here it is one like any other, if the operator has one of that name, and
/// every called workflow gets it.
pub const GITHUB_TOKEN: &str = "GITHUB_TOKEN";

/// Variables and secrets by name. Names are not told apart by case.
#[derive(Debug, Clone, Default)]
pub struct Values {
    vars: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretString>,
}

impl Values {
    /// Adds a variable, or gives it another value.
    pub fn set_var(&mut self, name: &str, value: String) {
        self.vars.insert(name.to_ascii_uppercase(), value);
    }

    /// Adds a secret, or gives it another value.
    pub fn set_secret(&mut self, name: &str, value: SecretString) {
        self.secrets.insert(name.to_ascii_uppercase(), value);
    }

    /// The same without any secret: what strangers' code gets.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        self.secrets.clear();
        self
    }

    /// The `vars` context.
    pub fn vars(&self) -> Value {
        self.vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Object>().into()
    }

    /// The `secrets` context: the secrets in clear, for as long as a job runs.
    pub(super) fn secrets(&self) -> SecretContext {
        let clear = self.secrets.iter().map(|(name, value)| (name.as_str(), value.expose_secret()));
        SecretContext(clear.collect::<Object>().into())
    }

    /// The secrets in clear: what must not be shown.
    pub(super) fn secret_texts(&self) -> impl Iterator<Item = &str> {
        self.secrets.values().map(|secret| secret.expose_secret())
    }

    /// Whether one of the secrets is this text.
    pub fn has_secret(&self, text: &str) -> bool {
        self.secrets.values().any(|secret| secret.expose_secret() == text)
    }
}

/// The `secrets` context, which no log of Dayfly can show by accident.
#[derive(Clone, Default)]
pub(super) struct SecretContext(Value);

impl SecretContext {
    pub(super) fn expose(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for SecretContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SecretContext(…)")
    }
}

/// Checks the name of a variable or a secret.
///
/// # Errors
/// What is no name.
pub fn check_name(name: &str) -> Result<(), Complaint> {
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.len() <= MAX_NAME
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let complaint = || Complaint::new(format!("{} is no name of a variable or secret", quoted(name)));
    is_name.then_some(()).ok_or_else(|| {
        complaint().hint(format!("letters, digits and `_`; no digit first; at most {MAX_NAME} characters"))
    })
}

/// Which secrets a job sees: all of them, unless it belongs to a called workflow that gets its own by name. Outermost call
/// first. Holds expressions and no secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretAccess(Vec<Handover>);

/// What one call gives by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Handover {
    secrets: Variables,
    /// The contexts of the calling job, but for `github` and `secrets`.
    contexts: Value,
}

impl SecretAccess {
    /// What the jobs of a called workflow see.
    pub(super) fn through(caller: &JobSpec, secrets: &CallSecrets, needs: &NeedsResults) -> Self {
        let mut access = caller.secrets.clone();
        if let CallSecrets::Named(secrets) = secrets {
            let contexts = caller.contexts(&Value::Null, needs).into();
            access.0.push(Handover { secrets: secrets.clone(), contexts });
        }
        access
    }

    /// What the job sees of all that there is for its repository.
    ///
    /// # Errors
    /// A call's expression has no value. The message may contain what it was computed from.
    pub(super) fn resolve(&self, all: &Values, github: &Value) -> Result<Values, ExpressionError> {
        let mut seen = all.clone();
        for Handover { secrets, contexts } in &self.0 {
            let mut contexts = match contexts {
                Value::Object(contexts) => contexts.iter().map(|(name, value)| (name, value.clone())).collect(),
                _ => Object::default(),
            };
            contexts.insert("github", github.clone());
            contexts.insert("secrets", seen.secrets().expose().clone());
            let environment = Environment::new(&contexts);
            let mut given: BTreeMap<String, SecretString> = BTreeMap::new();
            for (name, template) in secrets {
                let value = template.evaluate_text(&environment)?;
                given.insert(name.to_ascii_uppercase(), value.to_string().into());
            }
            if let Some(token) = seen.secrets.get(GITHUB_TOKEN) {
                given.entry(GITHUB_TOKEN.to_owned()).or_insert_with(|| token.clone());
            }
            seen.secrets = given;
        }
        Ok(seen)
    }
}

/// The name of the deployment environment whose values a job gets, if it has one.
///
/// # Errors
/// It cannot be computed.
pub fn environment_of(spec: &JobSpec, github: &Value, needs: &NeedsResults) -> Result<Option<String>, Diagnostic> {
    let Some(environment) = &spec.job.environment else { return Ok(None) };
    let contexts = spec.contexts(github, needs);
    let name = environment
        .name
        .evaluate_text(&Environment::new(&contexts))
        .map_err(|error| error.at(&spec.file, spec.job.position, format!("jobs.{}.environment", spec.job.id)))?;
    let name = name.trim();
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        values.set_var("Region", "eu".to_owned());
        values.set_secret("key", "-----BEGIN-----\r\n  abc\r\n\r\n-----END-----".to_owned().into());
        values.set_secret("TOKEN", "s3cret".to_owned().into());
        values.set_secret("longer", "s3cret-and-more".to_owned().into());
        values
    }

    #[test]
    fn names_are_not_told_apart_by_case_and_the_last_value_counts() {
        let mut values = values();
        values.set_var("REGION", "us".to_owned());
        assert_eq!(values.vars().member("region"), Value::from("us"));
        assert_eq!(values.secrets().expose().member("Token"), Value::from("s3cret"));
        assert_eq!(values.without_secrets().secrets().expose().member("Token"), Value::Null);
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let values = values();
        let shown = format!("{values:?} {:?}", values.secrets());
        assert!(!shown.contains("s3cret") && !shown.contains("abc"), "{shown}");
    }

    #[test]
    fn names_are_those_of_variables() {
        let refused = ["", "1A", "A-B", "A B", "é", "A\n"].map(|name| check_name(name).is_err());
        assert_eq!(refused, [true; 6]);
        assert!(["A", "_x", "NPM_TOKEN2"].iter().all(|name| check_name(name).is_ok()));
    }
}

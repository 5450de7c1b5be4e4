//! What a person gives to a local run beside its commit: the event with its payload, inputs and variables.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::SecretString;
use serde_json::{Value as Json, json};

use crate::local::choose::{Cells, Misuse};
use crate::local::event::{MAX_PAYLOAD, event_of, read_payload};
use crate::local::variables::{self, MAX_FILE};
use crate::workflow::Workflow;
use crate::workflow::contexts::is_reserved;
use crate::workflow::expression::Template;
use crate::workflow::values::{Values, check_name};

/// The event that inputs are for.
pub(super) const DISPATCH: &str = "workflow_dispatch";

#[derive(Debug, Args)]
#[command(next_help_heading = "Given")]
pub(super) struct GivenArgs {
    /// The event, or a JSON file with its payload [default: push, or the first of pull_request and workflow_dispatch that starts something]
    #[arg(long, short, value_name = "NAME|FILE")]
    event: Option<String>,
    /// A JSON file with members of the event's payload, `-` for standard input; what it lacks is made up
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// An input of `workflow_dispatch`
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
    /// Only cells whose matrix has this value; repeatable
    #[arg(long = "matrix", value_name = "KEY=VALUE")]
    matrix: Vec<String>,
    /// A variable of every step that the workflow does not set itself; without VALUE the one of this command's environment
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file of such variables: lines of NAME=VALUE
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<PathBuf>,
    /// A variable of the `vars` context
    #[arg(long = "var", value_name = "NAME=VALUE")]
    vars: Vec<String>,
    /// A file of such variables
    #[arg(long = "var-file", value_name = "FILE")]
    var_files: Vec<PathBuf>,
    /// A secret, masked in what is printed; without VALUE, which others on this host can see, that of this command's environment
    #[arg(long = "secret", value_name = "NAME[=VALUE]")]
    secrets: Vec<String>,
    /// A file of secrets
    #[arg(long = "secret-file", value_name = "FILE")]
    secret_files: Vec<PathBuf>,
}

/// What was given, read and checked.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) event: Option<String>,
    /// Members of the payload, or null.
    pub(super) payload: Json,
    pub(super) cells: Cells,
    env: BTreeMap<String, String>,
    vars: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretString>,
}

impl GivenArgs {
    /// Reads files and variables; for people, what is wrong with them.
    pub(super) fn read(&self) -> Result<Given, Misuse> {
        let (mut event, file) = match &self.event {
            // No event's name has a dot or a slash.
            Some(file) if file.contains(['.', '/']) => (None, Some(PathBuf::from(file))),
            name => (name.clone(), None),
        };
        if file.is_some() && self.payload.is_some() {
            return Err(Misuse("the payload is given twice\n  hint: with --payload, --event is a name".to_owned()));
        }
        let file = file.as_ref().or(self.payload.as_ref());
        let mut payload = file.map(|file| payload(file)).transpose()?.unwrap_or_default();
        if let (None, Some(file)) = (&event, file) {
            event = Some(event_of(&payload).map(str::to_owned).ok_or_else(|| unknown_event(file))?);
        }
        let inputs = gather("--input", &self.inputs, &[], Lacking::IsWrong)?;
        if !inputs.is_empty() {
            let event = event.get_or_insert_with(|| DISPATCH.to_owned());
            if event != DISPATCH {
                return Err(Misuse(format!("`--input` is for `{DISPATCH}`, and the event is `{event}`")));
            }
            add_inputs(&mut payload, inputs);
        }
        let matrix = gather_all("--matrix", &self.matrix, Lacking::IsWrong)?;
        let env = gather("--env", &self.env, &self.env_files, Lacking::IsInEnvironment)?;
        if let Some(name) = env.keys().find(|name| is_reserved(name)) {
            return Err(Misuse(format!("`--env {name}`: the variable has the same standard value in every step")));
        }
        let vars = gather("--var", &self.vars, &self.var_files, Lacking::IsWrong)?;
        let secrets = gather("--secret", &self.secrets, &self.secret_files, Lacking::IsInEnvironment)?;
        for (option, name) in
            vars.keys().map(|name| ("--var", name)).chain(secrets.keys().map(|name| ("--secret", name)))
        {
            check_name(name).map_err(|why| Misuse(format!("{option} `{name}`: {why}")))?;
        }
        let secrets = secrets.into_iter().map(|(name, value)| (name, value.into())).collect();
        Ok(Given { event, payload, cells: Cells::new(matrix), env, vars, secrets })
    }
}

impl Given {
    /// The inputs that a person gave: those of the payload.
    pub(super) fn inputs(&self) -> Json {
        self.payload.get("inputs").cloned().unwrap_or_default()
    }

    /// Variables and secrets for jobs: these go before those that are `configured`.
    pub(super) fn values(&self, configured: Values) -> Values {
        let mut values = configured;
        self.vars.iter().for_each(|(name, value)| values.set_var(name, value.clone()));
        self.secrets.iter().for_each(|(name, value)| values.set_secret(name, value.clone()));
        values
    }

    /// Puts the variables below those of the workflow, as those of the machine would be.
    pub(super) fn equip(&self, workflow: &mut Workflow) {
        let is_set = |name: &str| workflow.env.iter().any(|(known, _)| known == name);
        let own: Vec<_> = self.env.iter().filter(|(name, _)| !is_set(name)).collect();
        let own = own.into_iter().map(|(name, value)| (name.clone(), Template::literal(value))).collect::<Vec<_>>();
        workflow.env.splice(0..0, own);
    }
}

/// What a name without a value means.
#[derive(Debug, Clone, Copy)]
enum Lacking {
    IsWrong,
    IsInEnvironment,
}

/// Files first, so that what is given by itself goes before them.
fn gather(
    option: &str, given: &[String], files: &[PathBuf], lacking: Lacking,
) -> Result<BTreeMap<String, String>, Misuse> {
    let mut pairs = BTreeMap::new();
    for file in files {
        let listed = text(&format!("{option}-file"), file, MAX_FILE).and_then(|text| {
            variables::file(&text).map_err(|why| Misuse(format!("{option}-file `{}`: {why}", file.display())))
        });
        pairs.extend(listed?);
    }
    pairs.extend(gather_all(option, given, lacking)?);
    Ok(pairs)
}

fn gather_all(option: &str, given: &[String], lacking: Lacking) -> Result<Vec<(String, String)>, Misuse> {
    let pair = |text: &String| {
        let (name, value) = variables::pair(text).map_err(|why| Misuse(format!("{option}: {why}")))?;
        let value = match (value, lacking) {
            (Some(value), _) => value,
            (None, Lacking::IsWrong) => {
                return Err(Misuse(format!("{option} `{name}`: it must have the form NAME=VALUE")));
            }
            (None, Lacking::IsInEnvironment) => std::env::var(&name).map_err(|_| {
                let hint = format!("set it, or give `{option} {name}=VALUE`");
                Misuse(format!("{option} `{name}`: this command's environment has no such variable\n  hint: {hint}"))
            })?,
        };
        Ok((name, value))
    };
    given.iter().map(pair).collect()
}

fn payload(file: &Path) -> Result<Json, Misuse> {
    let text = text("the payload", file, MAX_PAYLOAD)?;
    read_payload(&text).map_err(|why| Misuse(format!("the payload `{}`: {why}", file.display())))
}

/// A file's text, of at most so many bytes.
fn text(what: &str, file: &Path, most: usize) -> Result<String, Misuse> {
    let mut text = String::new();
    let wrong = |why: std::io::Error| Misuse(format!("{what} `{}`: {why}", file.display()));
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(wrong)?)
    };
    // One byte more than is taken, so that what is too large is seen as such.
    source.take(most as u64 + 1).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

fn unknown_event(file: &Path) -> Misuse {
    let hint = "give its name with --event, and the file with --payload";
    Misuse(format!("`{}` does not tell which event it is of\n  hint: {hint}", file.display()))
}

/// Inputs that were given one by one go before those of the payload.
fn add_inputs(payload: &mut Json, inputs: BTreeMap<String, String>) {
    if !payload.is_object() {
        *payload = json!({});
    }
    let known = &mut payload["inputs"];
    if !known.is_object() {
        *known = json!({});
    }
    for (name, value) in inputs {
        known[name] = value.into();
    }
}

//! A checked workflow. Its expressions are parsed and use only what exists in their place; its ids are unique, its `needs`
//! exist and have no cycle. Everything can be stored as JSON and read back, because a job may run long after it was planned.

use serde::{Deserialize, Deserializer, Serialize};

use super::action::ActionRef;
use super::call::CallTarget;
use super::expression::{Template, Value};
use super::glob::Patterns;
use super::native::Native;
use super::schedule::Schedule;
use super::setting::{Condition, Data, Setting};
use crate::document::{Diagnostic, Position};

/// Characters of the name of a workflow or a job; longer ones are cut.
pub const MAX_NAME: usize = 100;

/// Minutes of the longest `timeout-minutes`: thirty days.
pub const MAX_TIMEOUT_MINUTES: f64 = 43_200.0;

/// Names and values in the order of the text; for environment variables and outputs.
pub type Variables = Vec<(String, Template)>;

/// One workflow file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// The file's path in the repository; of a workflow of another repository, how a `uses` names it.
    pub file: String,
    /// The commit that it was read at, if that is not the run's own.
    #[serde(default)]
    pub commit: Option<String>,
    pub name: Option<String>,
    pub run_name: Option<Template>,
    pub on: Vec<EventTrigger>,
    pub env: Variables,
    pub defaults: RunDefaults,
    /// What its jobs may do that say nothing themselves: see [`super::permission`].
    pub permissions: Option<Permissions>,
    pub concurrency: Option<Concurrency>,
    /// In the order of the text; never empty.
    pub jobs: Vec<Job>,
    /// What it takes and gives where another workflow calls it.
    #[serde(default)]
    pub call: Option<CallInterface>,
    /// Times at which it starts by itself.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
    /// What the author should know though the workflow can run.
    pub warnings: Vec<Diagnostic>,
}

impl Workflow {
    /// The name as people see it: the file's path where none was given.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.file)
    }
}

/// One event under `on` and what narrows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventTrigger {
    pub event: String,
    /// Activity types; `None` means the event's usual ones.
    pub types: Option<Vec<String>>,
    pub branches: Option<Filter>,
    pub tags: Option<Filter>,
    pub paths: Option<Filter>,
    /// Inputs of `workflow_dispatch`.
    pub inputs: Vec<DispatchInput>,
}

/// A filter by name: what to take, or what to leave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    Only(Patterns),
    Ignore(Patterns),
}

/// One input of a workflow that people start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DispatchInput {
    pub name: String,
    pub description: Option<String>,
    pub required: bool,
    pub default: Value,
    pub kind: InputKind,
    /// The choices of [`InputKind::Choice`].
    pub options: Vec<String>,
}

/// `on.workflow_call`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CallInterface {
    pub inputs: Vec<CallInput>,
    pub secrets: Vec<CallSecret>,
    pub outputs: Variables,
}

/// One input of a reusable workflow: a string, a boolean or a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallInput {
    pub name: String,
    pub kind: InputKind,
    pub required: bool,
    pub default: Option<Data>,
}

/// One secret that a reusable workflow knows by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSecret {
    pub name: String,
    pub required: bool,
}

/// A job that is another workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub target: CallTarget,
    /// Values for the inputs.
    pub with: Vec<(String, Data)>,
    pub secrets: CallSecrets,
    /// The concurrency group that the called workflow has for itself, once that was read.
    #[serde(default)]
    pub concurrency: Option<Box<CalledConcurrency>>,
}

/// `concurrency` of a called workflow, with what its expressions may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalledConcurrency {
    pub concurrency: Concurrency,
    /// The called workflow's.
    pub inputs: Vec<CallInput>,
}

/// Which secrets a called workflow gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallSecrets {
    /// Those of the caller, under their names.
    Inherit,
    /// These.
    Named(Variables),
}

/// What an input takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    String,
    Boolean,
    Number,
    Choice,
    Environment,
}

/// `defaults.run`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunDefaults {
    pub shell: Option<Shell>,
    /// One that is known only when the job runs.
    #[serde(default)]
    pub computed_shell: Option<Template>,
    pub working_directory: Option<Template>,
}

/// What runs a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shell {
    Bash,
    Sh,
    Python,
    Pwsh,
    /// The words of a command, with `{0}` for the file of the script in one of them.
    Custom(Vec<String>),
}

/// `permissions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permissions {
    All(Access),
    Each(Vec<(String, Access)>),
}

/// What a token may do with one kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    None,
    Read,
    Write,
}

impl Access {
    /// The word for it in a workflow.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// `concurrency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Concurrency {
    pub group: Template,
    pub cancel_in_progress: Setting<bool>,
    #[serde(default)]
    pub queue: Queue,
}

/// How many of a concurrency group wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// The newest.
    #[default]
    Single,
    /// All, up to [`super::concurrency::MAX_QUEUED`].
    Max,
}

/// One job as written: a matrix may make several of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    pub position: Position,
    pub name: Option<Template>,
    pub runs_on: RunsOn,
    pub needs: Vec<String>,
    pub condition: Condition,
    pub env: Variables,
    pub defaults: RunDefaults,
    pub outputs: Variables,
    pub steps: Vec<Step>,
    /// Where the steps run, if not in the machine itself: see [`super::container`].
    #[serde(default)]
    pub container: Option<Data>,
    /// Containers beside the job, by name.
    #[serde(default)]
    pub services: Option<Data>,
    pub timeout_minutes: Option<Setting<f64>>,
    /// How long the steps that always run have after a cancellation.
    #[serde(default)]
    pub cancel_timeout_minutes: Option<Setting<f64>>,
    pub continue_on_error: Setting<bool>,
    pub strategy: Strategy,
    /// What it may do: see [`super::permission`].
    pub permissions: Option<Permissions>,
    pub concurrency: Option<Concurrency>,
    /// Recorded.
    pub environment: Option<DeploymentEnvironment>,
    /// The workflow that the job is; such a job has no steps and no machine of its own.
    #[serde(default)]
    pub call: Option<Call>,
}

/// `runs-on`: labels that the machine must have, and the group it must be in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunsOn {
    /// Each gives a label; a lone expression may give a list of them.
    pub labels: Vec<Template>,
    pub group: Option<Template>,
}

/// `environment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentEnvironment {
    pub name: Template,
    pub url: Option<Template>,
}

/// `strategy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    pub matrix: Option<Data>,
    pub fail_fast: Setting<bool>,
    pub max_parallel: Option<Setting<u32>>,
}

impl Default for Strategy {
    fn default() -> Self {
        Self { matrix: None, fail_fast: Setting::Fixed(true), max_parallel: None }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub position: Position,
    pub id: Option<String>,
    pub name: Option<Template>,
    pub condition: Condition,
    pub env: Variables,
    pub continue_on_error: Setting<bool>,
    pub timeout_minutes: Option<Setting<f64>>,
    /// Whether the next step begins without waiting for this one.
    #[serde(default)]
    pub background: bool,
    pub action: Action,
}

impl Step {
    /// Whether anything in it is computed from one of these contexts.
    pub fn uses(&self, contexts: &[&str]) -> bool {
        let by_template = |template: Option<&Template>| template.is_some_and(|template| template.uses(contexts));
        self.condition.uses(contexts)
            || uses(&self.env, contexts)
            || self.continue_on_error.uses(contexts)
            || by_template(self.name.as_ref())
            || self.timeout_minutes.as_ref().is_some_and(|minutes| minutes.uses(contexts))
            || match &self.action {
                Action::Run { script, working_directory, .. } => {
                    script.uses(contexts) || by_template(working_directory.as_ref())
                }
                Action::Checkout(checkout) => checkout.inputs().into_iter().flatten().any(|input| input.uses(contexts)),
                Action::Uses { with, .. } => uses(with, contexts),
                Action::Native(native) => uses(&native.with, contexts),
                Action::Steer(_) => false,
            }
    }
}

/// Whether one of the values is computed from one of these contexts.
pub fn uses(variables: &Variables, contexts: &[&str]) -> bool {
    variables.iter().any(|(_, value)| value.uses(contexts))
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Run {
        script: Template,
        shell: Option<Shell>,
        working_directory: Option<Template>,
    },
    Checkout(Box<Checkout>),
    Native(Native),
    /// An action that is looked up when the job runs.
    Uses {
        reference: ActionRef,
        /// What it gets for its inputs, in the order of the text.
        with: Variables,
    },
    Steer(Steer),
}

/// What a step does to steps in the background before it, which are named by their places in the job, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    Wait(Vec<usize>),
    /// Waits for all that nothing has waited for yet.
    WaitAll,
    /// Waits for the steps of `parallel`, which stand right before it.
    Join(Vec<usize>),
    Cancel(Vec<usize>),
}

impl Steer {
    /// The name of a step without one.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Wait(_) => "Wait",
            Self::WaitAll => "Wait for all",
            Self::Join(_) => "Parallel group",
            Self::Cancel(_) => "Cancel",
        }
    }
}

/// `actions/checkout`, with its inputs as they are written; an input that is empty has its default. Without `repository` and
/// `reference` it is of the pinned commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkout {
    /// As written, such as `actions/checkout@v4`; for the step's name.
    pub uses: String,
    /// Relative to the workspace.
    pub path: Option<Template>,
    /// Commits of history; 0 is all of it.
    #[serde(default, deserialize_with = "input")]
    pub fetch_depth: Option<Template>,
    #[serde(default, deserialize_with = "input")]
    pub fetch_tags: Option<Template>,
    /// Whether to remove what is in the directory but not in the commit.
    #[serde(default, deserialize_with = "input")]
    pub clean: Option<Template>,
    /// `true`, `recursive`, or none.
    #[serde(default, deserialize_with = "input")]
    pub submodules: Option<Template>,
    /// Whether files of Git LFS are more than pointers.
    #[serde(default, deserialize_with = "input")]
    pub lfs: Option<Template>,
    /// `owner/name` of another repository, or of the job's own.
    #[serde(default)]
    pub repository: Option<Template>,
    /// A branch, a tag or a commit.
    #[serde(default)]
    pub reference: Option<Template>,
    /// A filter of git for a partial clone.
    #[serde(default)]
    pub filter: Option<Template>,
    /// Which files to have, one pattern a line.
    #[serde(default)]
    pub sparse: Option<Template>,
    /// Whether those are directories.
    #[serde(default, deserialize_with = "input")]
    pub sparse_cone: Option<Template>,
}

/// An input as it is written, or in the form in which runs of earlier versions are stored.
fn input<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Template>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Written(Option<Template>),
        Read(Setting<serde_json::Value>),
    }
    let text = match Stored::deserialize(source)? {
        Stored::Written(template) => return Ok(template),
        Stored::Read(Setting::Fixed(value)) => value.to_string(),
        Stored::Read(Setting::Computed(expression)) => format!("${{{{ {} }}}}", expression.source()),
    };
    Template::try_from(text).map(Some).map_err(serde::de::Error::custom)
}

impl Checkout {
    fn inputs(&self) -> [&Option<Template>; 11] {
        let Self { path, fetch_depth, fetch_tags, clean, submodules, lfs, repository, reference, .. } = self;
        let Self { filter, sparse, sparse_cone, .. } = self;
        [path, fetch_depth, fetch_tags, clean, submodules, lfs, repository, reference, filter, sparse, sparse_cone]
    }
}

/// Which submodules are checked out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Submodules {
    #[default]
    None,
    Direct,
    Recursive,
}

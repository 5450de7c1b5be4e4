//! What a job's driver is told to do, and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::WaitPlan;
use crate::forge::RepoName;
use crate::workflow::action::ActionRef;
use crate::workflow::action::inputs::Given;
use crate::workflow::commands::{Annotation, Said};
use crate::workflow::contexts::Outcome;
use crate::workflow::model::Submodules;
use crate::workflow::native::NativePlan;
use crate::workflow::setting::Condition;

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Run the step, then call [`super::JobRun::finish_step`].
    Run(Box<StepPlan>),
    /// A step in the background was put in line: start what [`super::JobRun::ready`] gives, and ask again.
    Aside,
    /// Wait until these steps in the background have ended, call [`super::JobRun::finish_wait`], and ask again.
    Wait(Box<WaitPlan>),
    /// The step does not run, and was recorded; ask again.
    Skipped(StepReport),
    /// The step cannot run, because something in it cannot be computed. It was recorded; ask again.
    Failed(StepReport),
    /// Hash the files of the workspace that match these patterns, call [`super::JobRun::answer_hash`], and ask again.
    HashFiles(Vec<String>),
    /// There are no more steps: call [`super::JobRun::finish`].
    Done,
}

/// One step, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPlan {
    /// Counted from 0.
    pub index: usize,
    /// Tells it from all other steps of the job, those of actions included; a part of a file's name.
    pub key: String,
    /// For people.
    pub name: String,
    pub action: StepAction,
    /// The whole environment but `PATH`, unless the workflow sets that itself: see [`StepPlan::path`].
    pub env: BTreeMap<String, String>,
    /// Directories that come before all others in `PATH`.
    pub path_additions: Vec<String>,
    /// The files that must exist, and be empty, when the step starts. `env` names them too.
    pub command_files: CommandFiles,
    pub timeout: Option<Duration>,
    /// Whether it goes on if the job is cancelled while it runs.
    pub outlasts_cancel: bool,
    /// What its author should know before it runs.
    pub remark: Option<String>,
}

impl StepPlan {
    /// The step's `PATH`, where `default` is the machine's own.
    pub fn path(&self, default: &str) -> String {
        let own = self.env.get("PATH").map_or(default, String::as_str);
        let parts = self.path_additions.iter().map(String::as_str).chain([own]);
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(":")
    }
}

/// What the step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepAction {
    Script {
        text: String,
        /// `.sh`, `.py`, `.ps1` or nothing.
        extension: &'static str,
        /// The command; `{0}` stands for the file that holds the text.
        argv: Vec<String>,
        /// Absolute.
        working_directory: String,
    },
    Checkout(CheckoutPlan),
    /// Something that the host does.
    Native(NativePlan),
    /// An action that the driver has to look at before it knows what it is.
    Uses(UsesPlan),
    /// A program of an action.
    Node(NodePlan),
    /// A container of an action.
    Container(ContainerPlan),
    /// Docker's client, with these words as its command line.
    Docker(Vec<String>),
}

/// An action and what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsesPlan {
    pub reference: ActionRef,
    pub with: Given,
}

/// A container and what runs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPlan {
    pub image: String,
    /// What the image runs by itself, if it is not said.
    pub entrypoint: Option<String>,
    pub arguments: Vec<String>,
}

/// A program for Node.js.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// The lowest major version that runs it.
    pub version: u32,
    /// Absolute.
    pub script: String,
}

/// A step after all others, registered by one that ran: what an action has to put back or to store. Post steps run in the
/// reverse order of their registration, also after a failure and a cancellation if their condition says so.
#[derive(Debug, Clone, PartialEq)]
pub struct PostStep {
    /// The step that it belongs to, counted from 0: it shares that step's `env`, and sees what that one wrote into
    /// `GITHUB_STATE` as `STATE_…`.
    pub of: usize,
    /// For people, such as `Post Run owner/action@v1`.
    pub name: String,
    /// `post-if`; what an action has without one is `always()`.
    pub condition: Condition,
    pub action: StepAction,
    /// More variables, such as the inputs of an action.
    pub env: BTreeMap<String, String>,
}

/// Which commit a checkout is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The one that the event named.
    Pinned,
    /// The one at which this branch or tag is when the step runs, or this one; empty: that of the default branch.
    Named(String),
}

/// Which files of a commit a checkout has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    pub patterns: Vec<String>,
    /// Whether they are directories rather than patterns of gitignore.
    pub cone: bool,
}

/// A checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckoutPlan {
    /// Another repository than the job's own.
    pub repository: Option<RepoName>,
    pub wanted: Wanted,
    /// A filter of git, such as `blob:none`.
    pub filter: Option<String>,
    pub sparse: Option<Sparse>,
    /// Absolute, the workspace or below it.
    pub directory: String,
    /// Commits of history; 0 is all of it.
    pub fetch_depth: u32,
    pub fetch_tags: bool,
    /// Whether to remove what is in the directory but not in the commit.
    pub clean: bool,
    pub submodules: Submodules,
    /// Whether to fetch the files of Git LFS.
    pub lfs: bool,
}

/// Paths in the VM of the files by which a step speaks to those after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFiles {
    pub env: String,
    pub output: String,
    pub path: String,
    pub summary: String,
    pub state: String,
}

impl CommandFiles {
    pub(super) fn new(directory: &str, step: &str) -> Self {
        let file = |name: &str| format!("{directory}/{name}_{step}");
        Self {
            env: file("env"),
            output: file("output"),
            path: file("path"),
            summary: file("summary"),
            state: file("state"),
        }
    }

    pub(super) fn variables(&self) -> [(&'static str, &str); 5] {
        [
            ("GITHUB_ENV", &self.env),
            ("GITHUB_OUTPUT", &self.output),
            ("GITHUB_PATH", &self.path),
            ("GITHUB_STEP_SUMMARY", &self.summary),
            ("GITHUB_STATE", &self.state),
        ]
    }
}

/// How a step ended, and what it wrote into its [`CommandFiles`]; files that were not read are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    pub end: StepEnd,
    pub env: Vec<u8>,
    pub output: Vec<u8>,
    pub path: Vec<u8>,
    pub summary: Vec<u8>,
    pub state: Vec<u8>,
    /// What it said in its output.
    pub said: Said,
}

impl StepResult {
    /// An end without files, of a step that said nothing.
    pub fn new(end: StepEnd) -> Self {
        let nothing = Vec::new;
        let said = Said::default();
        Self { end, env: nothing(), output: nothing(), path: nothing(), summary: nothing(), state: nothing(), said }
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepEnd {
    /// With this exit code; 0 is success.
    Exited(i32),
    /// It took longer than [`StepPlan::timeout`] and was ended.
    TimedOut,
    /// It was ended because the job was cancelled.
    Cancelled,
    /// It could not be run, or not to its end; why, for people.
    Failed(String),
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    pub index: usize,
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How it counts: a failure that `continue-on-error` allows is a success.
    pub conclusion: Outcome,
    /// For people; empty on success.
    pub errors: Vec<String>,
    /// What does not count of what the step said, and does not fail it.
    pub left_out: Vec<String>,
    /// What the job's page shows beside the code; the errors and what is left out included.
    pub annotations: Vec<Annotation>,
}

//! What an `action.yml` says, checked.

use super::super::expression::Template;
use super::super::model::{Step, Variables};
use super::super::setting::Condition;
use crate::document::Diagnostic;

/// The names under which an action's description is looked for, the first one first.
pub const FILES: [&str; 2] = ["action.yml", "action.yaml"];

/// An action that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub name: Option<String>,
    /// In the order of the text; names are unique, also without regard to case.
    pub inputs: Vec<Input>,
    /// Those of composite actions, which are computed; other actions set theirs themselves.
    pub outputs: Variables,
    pub runs: Runs,
    /// What the author should know though the action can run.
    pub warnings: Vec<Diagnostic>,
}

/// One input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub name: String,
    pub required: bool,
    pub default: Option<Template>,
    /// What is said to who gives the input a value.
    pub deprecation: Option<String>,
}

/// How an action runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Runs {
    /// Steps of its own.
    Composite(Vec<Step>),
    Node(Node),
    Docker(Docker),
}

/// A program for Node.js.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The major version that it asks for.
    pub version: u32,
    /// A file below the action's directory.
    pub main: String,
    pub pre: Option<Hook>,
    pub post: Option<Hook>,
}

/// What runs before all steps of the job, or after them.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// A file below the action's directory, or a program in its image.
    pub program: String,
    /// `always()` where none was written.
    pub condition: Condition,
}

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct Docker {
    pub image: DockerImage,
    pub env: Variables,
    pub args: Vec<Template>,
    pub entrypoint: Option<String>,
    pub pre: Option<Hook>,
    pub post: Option<Hook>,
}

/// Where a container's image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerImage {
    /// A Dockerfile below the action's directory.
    File(String),
    /// An image that a registry has.
    Registry(String),
}

impl Manifest {
    /// The actions that its steps use.
    pub fn used(&self) -> impl Iterator<Item = &super::ActionRef> {
        let steps = if let Runs::Composite(steps) = &self.runs { steps.as_slice() } else { &[] };
        super::used(steps)
    }
}

//! Workflows: what a repository's YAML asks for, without doing any of it.
//!
//! Everything here is pure. Text becomes a checked [`model`] by [`mod@parse`], an event is matched against its [`trigger`]s, the
//! jobs are [`plan`]ned, a [`gate`] decides about each of them when its needs have ended, and [`run`] decides a job's steps
//! one by one: all from values that the caller brings. The text and the values come from strangers, so every reader is
//! bounded, and no input can make one panic or hang.

pub mod action;
pub mod call;
pub mod commands;
pub mod concurrency;
pub mod container;
pub mod contexts;
pub mod expression;
pub mod file_commands;
pub mod file_patterns;
pub mod gate;
pub mod glob;
pub mod inputs;
pub mod matrix;
pub mod model;
pub mod native;
pub mod parse;
pub mod permission;
pub mod plan;
pub mod run;
pub mod schedule;
mod scopes;
pub mod setting;
pub mod share;
pub mod shell;
pub mod strategy;
pub mod trigger;
pub mod values;

pub use model::Workflow;
pub use parse::{MAX_FILE_BYTES, Reading, examine, parse};

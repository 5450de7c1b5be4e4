//! Workflows: what a repository's YAML asks for, without doing any of it.
//!
//! Everything here is pure. Text becomes a checked [`model`], an event is matched against its triggers, the jobs are planned
//! and a job's steps are decided one by one, all from values that the caller brings. The text and the values come from
//! strangers: every reader is bounded, and no input can make one panic or hang.

pub mod expression;

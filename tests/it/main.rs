//! Tests of Dayfly from outside: the real program, real VMs, and a forge on loopback.
//!
//! What runs VMs is in the modules `service`, `exec`, `faults`, `hostile` and `images`; the rest needs nothing of the host but git.

mod commands;
mod documents;
mod exec;
mod faults;
mod forge;
mod hostile;
mod images;
mod local_forge_rules;
mod purity;
mod refusals;
mod service;
mod support;
mod webhooks;

#[path = "../../examples/local-forge/forge/mod.rs"]
mod local_forge;

//! Tests of Dayfly from outside: the real program, real VMs, and a forge on loopback.
//!
//! What runs VMs is in the modules `clones`, `service`, `examples`, `exec`, `run`, `faults`, `firecracker`, `crashes`, `hostile`, `images`,
//! `caches` and `gitlab_jobs`; the
//! rest needs nothing of the host but git.

mod caches;
mod clones;
mod commands;
mod contract;
mod crashes;
mod dialect;
mod doctor;
mod documents;
mod examples;
mod exec;
mod faults;
mod firecracker;
mod forge;
mod forge_questions;
mod forge_runners;
mod forks;
mod gitlab;
mod gitlab_jobs;
mod hostile;
mod images;
mod local_forge_rules;
mod merge_requests;
mod metrics;
mod operator;
mod purity;
mod refusals;
mod reruns;
mod run;
mod service;
mod starts;
mod support;
mod sweep;
mod webhooks;

#[path = "../../examples/local-gitlab/api/mod.rs"]
mod gitlab_api;
#[path = "../../examples/local-forge/forge/mod.rs"]
mod local_forge;

#[path = "../../examples/local-gitlab/gitlab/mod.rs"]
mod local_gitlab;

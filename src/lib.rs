//! Dayfly: a self-hosted CI runner service. A job lives in its own machine, once, for one job.
//!
//! Dependencies between the modules point one way: `protocol` and `ids` ← the pure cores (`workflow`, `policy`,
//! `scheduler::plan`) ← the drivers ← `app`. ARCHITECTURE.md has the map and the invariants.

pub mod ids;
pub mod protocol;

#[cfg(feature = "agent")]
pub mod agent;

#[cfg(feature = "service")]
pub mod app;
#[cfg(feature = "service")]
pub mod artifact;
#[cfg(feature = "service")]
pub mod bench;
#[cfg(feature = "service")]
pub mod caches;
#[cfg(feature = "service")]
pub mod cli;
#[cfg(feature = "service")]
pub mod clock;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod core;
#[cfg(feature = "service")]
pub mod doctor;
#[cfg(feature = "service")]
pub mod document;
#[cfg(feature = "service")]
pub mod engine;
#[cfg(feature = "service")]
pub mod forge;
#[cfg(feature = "service")]
pub mod host;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "service")]
pub mod image;
#[cfg(feature = "service")]
pub mod intake;
#[cfg(feature = "service")]
pub mod job;
#[cfg(feature = "service")]
pub mod lifecycle;
#[cfg(feature = "service")]
pub mod local;
#[cfg(feature = "service")]
pub mod log;
#[cfg(feature = "service")]
pub mod metrics;
#[cfg(feature = "service")]
pub mod net;
#[cfg(feature = "service")]
pub mod policy;
#[cfg(feature = "service")]
pub mod pool;
#[cfg(feature = "service")]
pub mod reporter;
#[cfg(feature = "service")]
pub mod scheduler;
#[cfg(feature = "service")]
pub mod shutdown;
#[cfg(feature = "service")]
pub mod store;
#[cfg(feature = "service")]
pub mod sweep;
#[cfg(feature = "service")]
pub mod vm;
#[cfg(feature = "service")]
pub mod webhook;
#[cfg(feature = "service")]
pub mod why;
#[cfg(feature = "service")]
pub mod workflow;

//! Dayfly: a self-hosted CI runner service. A job lives in its own machine, once, for one job.
//!
//! Dependencies between the modules point one way: `protocol` and `ids` ← the pure cores (`vm::state`, `workflow`, `policy`,
//! `scheduler::plan`) ← the drivers ← `app`. ARCHITECTURE.md has the map and the invariants.

pub mod ids;
pub mod protocol;

#[cfg(feature = "agent")]
pub mod agent;

#[cfg(feature = "service")]
pub mod document;
#[cfg(feature = "service")]
pub mod forge;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "service")]
pub mod log;
#[cfg(feature = "service")]
pub mod scheduler;
#[cfg(feature = "service")]
pub mod store;

//! The runner against a strict GitLab on loopback, with machines that only write logs: what is told, whatever goes wrong.
#![allow(clippy::unwrap_used)]

mod artifacts;
mod hall;
mod load;
mod protocol;

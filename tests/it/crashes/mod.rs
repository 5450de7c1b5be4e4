//! The service ends at every step of a job's life, asked to or not. What it leaves is the next start's, and nobody else's.
#![allow(clippy::unwrap_used)]

mod forks;
mod reaper;
mod steps;
mod stops;
mod unfolding;

//! One attempt of one job in one VM: from the lease to the verified absence of the VM.
//!
//! ```text
//!  lease stored ─► VM restored ─► started stored ─► steps ─► VM paused ─► outcome stored ─► posted (≤ 5 s) ─► VM destroyed
//!        └─────────────┴────── no VM: queued again, or an outcome ───────────┘                  whatever the forge says
//! ```
//! - [`driver`]: that way, step by step; the only place that writes the job's states.
//! - `obtain`: how it gets its VM, and from what.
//! - [`attempt`]: the part between, in a machine that is there, within its time; `dayfly run` uses it as well.
//! - `matrix`: cells of a matrix that start where one of them stood; [`sharing`]: which those are.
//! - [`steps`]: the workflow's steps in the guest; `beside`: those in the background; `attend`: one program of a step; [`checkout`]: the
//!   one that is native; `witness`: who sees them run.
//! - `native`: actions that the host does: caches and artifacts.
//! - `action`: actions that are no native step.
//! - `container`: the containers of a job.
//! - `foreign`: jobs that a forge planned itself; `actions_runner`: GitHub's runner, which takes one of GitHub's own jobs.
//! - `ear`: what steps say in their output; `hashing`: `hashFiles` in the guest.
//! - `services`: what the host offers to the guest.
//! - `script`: scripts of Dayfly's own in the guest.
//! - `toolkit`: how tools learn of registries and certificates (pure); `outfit`: giving that to the guest.
//! - `reports`: what its programs reported, brought and read.
//! - [`verdict`]: what happened → outcome, title and summary (pure).
//! - [`journal`]: the job's log; [`timeline`]: what happened when.

pub(crate) mod action;
mod actions_runner;
pub mod attempt;
mod attend;
mod beside;
pub mod checkout;
mod container;
pub mod driver;
mod ear;
mod foreign;
mod gitlab;
mod hashing;
pub mod journal;
mod matrix;
mod native;
pub(crate) mod obtain;
pub(crate) mod outfit;
pub(crate) mod reports;
mod scene;
pub(crate) mod script;
pub(crate) mod services;
pub mod sharing;
pub mod steps;
pub mod timeline;
mod toolkit;
mod values;
pub mod verdict;
mod witness;

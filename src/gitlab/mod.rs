//! GitLab's runner protocol: GitLab reads `.gitlab-ci.yml`, plans, and gives single jobs away; this service runs each in a VM of
//! its own and tells how it goes.
//!
//! A job is stored before anything else is done with it, and from then on is a job like any other. What is here asks for jobs
//! and keeps GitLab informed. Invariants:
//! - What GitLab is told of a job follows from what is stored, so that a restart goes on where the service stood.
//! - The trace that GitLab has is the job's log from its first byte, none left out, none twice.
//! - A job gets one final state. It is sent until GitLab acknowledges it, or says that the job is no longer ours.

mod acceptance;
mod bureau;
pub mod client;
pub mod ending;
pub mod job;
pub mod outcome;
mod part;
pub mod polling;
pub mod ranges;
pub mod remote;
mod runner;
mod session;
pub mod wire;

pub use bureau::{Bureau, GitLabs};
pub(crate) use part::{known_system_id, system_id};
pub use part::{run, serve};
pub use runner::Runner;
pub(crate) use runner::runner_info;

/// How a job of a GitLab is marked among those of other forges.
pub(crate) const KIND: &str = "gitlab";

/// Why a job ends of which GitLab says that it is being cancelled: its `after_script` still runs.
pub const CANCELING: &str = "Cancelled at GitLab";

/// Why a job ends that GitLab has given up: nothing of it runs any more.
pub const ABORTED: &str = "GitLab has ended the job";

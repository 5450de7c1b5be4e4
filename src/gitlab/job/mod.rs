//! A job of GitLab's, up to where a machine is needed: what its variables come to, the programs of its stages, what its log says
//! and hides, which files it keeps. Pure.
//!
//! GitLab has read `.gitlab-ci.yml` already and sends one job with everything in it. What is here does with it what GitLab's own
//! runner would, so that a job ends the same wherever it runs:
//!
//! - [`variables`]: which of several equal names counts, what `$NAME` in a value becomes; [`settings`]: variables that change
//!   how the job is run.
//! - [`script`]: a list of commands → the program of a stage.
//! - [`sections`]: how the log is folded and coloured; [`masking`]: what of it nobody may see.
//! - [`paths`]: which files are meant; [`artifacts`], [`cache`]: what is kept of a job, under which name.
//! - [`containers`]: what the job's scripts run in, and beside.
//! - [`plan`]: all of it put together; [`sources`]: what is fetched, and from where.
//! - [`verdict`]: how the job ended.

pub mod artifacts;
pub mod cache;
pub mod containers;
pub mod masking;
pub mod paths;
pub mod plan;
pub mod script;
pub mod sections;
pub mod settings;
pub mod sources;
pub mod variables;
pub mod verdict;

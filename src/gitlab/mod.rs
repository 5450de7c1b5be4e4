//! GitLab, as a runner sees it.

pub mod job;

//! The way of a job, from the webhook to the verified absence of its VM.
#![allow(clippy::unwrap_used)]

mod calls;
mod cancel;
mod egress;
mod gitlab;
mod leavings;
mod machine;
mod matrix;
mod merge_request;
mod metrics;
mod operator;
mod outcomes;
mod planning;
mod pools;
mod prepared;
mod pull_request;
mod registries;
mod reports;
mod reruns;
mod room;
mod runners;
mod speech;
mod workflow;

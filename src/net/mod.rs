//! What a guest may reach. Every byte stream here begins in a VM and is handled as hostile: bounded, timed and recorded.

pub mod decisions;
pub mod egress;
pub mod git_proxy;
pub(crate) mod http;
pub mod registry;
pub mod results;
mod transfer;
pub(crate) mod upstream;

//! What `dayfly bench` measures: the figures of the host at hand, as ratios within one run wherever a claim is made.

pub mod bare;
pub mod bare_jail;
pub mod cold_boot;
pub mod create;
pub mod density;
pub mod egress;
pub mod fork;
pub mod log;
pub mod plan;
pub mod pool;
pub mod report;
pub mod resumed;
pub mod webhook;

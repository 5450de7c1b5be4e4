//! Why jobs wait, for people.

use std::fmt;

use crate::ids::JobId;

/// Why a job does not move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// These keys have unfinished jobs.
    Needs(Vec<String>),
    /// An earlier run of its concurrency group is not over; `run` is how people call that.
    Group {
        group: String,
        run: String,
    },
    Vms {
        max: usize,
    },
    Memory {
        needed_mib: u64,
        free_mib: u64,
    },
    Vcpus {
        needed: u32,
        free: u32,
    },
    /// This job runs the steps that all cells of their matrix have in common.
    SharedSteps(JobId),
    /// So many cells of its matrix run, which is its `max-parallel`.
    Matrix {
        max: u32,
    },
    /// There is too little room on the host's disk.
    Disk {
        free_mib: u64,
        reserve_mib: u64,
    },
    /// VMs that wait in pools are being destroyed to make room for it.
    Pool,
    /// This job has lost its patience, and what becomes free is kept for it.
    KeptFor(JobId),
}

impl fmt::Display for WaitReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Needs(keys) => write!(out, "waiting for {}", in_backticks(keys)),
            Self::Group { group, run } => {
                write!(out, "waiting for the concurrency group `{group}`: {run} is not over")
            }
            Self::Vms { max } => write!(out, "waiting for a VM: {max} of {max} are busy"),
            Self::Memory { needed_mib, free_mib } => {
                write!(out, "waiting for memory: it takes {needed_mib} MiB, {free_mib} MiB are free")
            }
            Self::Vcpus { needed, free } => write!(out, "waiting for vCPUs: it takes {needed}, {free} are free"),
            Self::Matrix { max } => write!(out, "waiting for its matrix: {max} of {max} jobs at a time run"),
            Self::SharedSteps(job) => write!(out, "waiting for `{job}`, which runs the first steps of their matrix"),
            Self::Disk { free_mib, reserve_mib } => {
                write!(out, "waiting for disk space: {free_mib} MiB are free, {reserve_mib} MiB are kept free")
            }
            Self::Pool => out.write_str("waiting for room: idle VMs of the pools are being destroyed"),
            Self::KeptFor(job) => write!(out, "waiting behind `{job}`, which has waited longer and needs more room"),
        }
    }
}

pub(super) fn in_backticks(keys: &[String]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

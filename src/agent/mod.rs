//! The guest's half: PID 1 of every VM.
//!
//! It runs from a small initramfs, loads the drivers, joins the read-only image and the private scratch disk into the root
//! file system, and then does what the host asks for over the channel: become somebody (identity, entropy, clock), run
//! programs, move files, forward connections. It decides nothing; what a job is, is the host's business.
//!
//! It must survive a snapshot: between two host connections it sits in a blocking read and holds no state of a
//! conversation. Threads and blocking calls, no async runtime: under software emulation every page of code that runs
//! after a restore is translated anew in every job, so less code is a faster start.

mod boot;
mod channel;
mod exec;
mod files;
mod identity;
mod line;
mod processes;
mod serve;
mod sys;
mod tunnel;
mod volume;

/// Runs the agent; returns only if it cannot serve at all, with the reason.
pub fn run() -> std::io::Error {
    match boot::boot() {
        Ok(machine) => serve::serve(machine),
        Err(error) => error,
    }
}

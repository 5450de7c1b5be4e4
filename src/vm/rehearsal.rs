//! What every job does first, done once beforehand, so that no job pays for doing it for the first time.
//!
//! The bake rehearses before it freezes: the programs' pages are then in the snapshot's memory and not read from a disk in
//! every VM. A VM that waits for its job rehearses too: under emulation its code is then translated.

use super::VmError;
use super::guest::Guest;
use crate::protocol::message::{Exec, Output, Owner};

/// What the steps of jobs begin with. An image without one of them is no worse for it.
const PROGRAMS: [&[&str]; 4] = [&["/bin/true"], &["sh", "-c", "true"], &["bash", "-c", "true"], &["git", "--version"]];

/// Runs each of the usual programs to its end.
pub async fn rehearse(guest: &Guest) -> Result<(), VmError> {
    for program in PROGRAMS {
        let mut running = guest
            .exec(Exec {
                argv: program.iter().map(|&word| word.to_owned()).collect(),
                env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
                directory: "/".into(),
                owner: Owner::ROOT,
                stdin: false,
            })
            .await?;
        while !matches!(running.next().await?, Output::Exited(_)) {}
    }
    Ok(())
}

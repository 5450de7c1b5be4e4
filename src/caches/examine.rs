//! A look at a volume that a guest wrote, in a VM that has nothing else to lose and is thrown away.
//!
//! Its verdict is worth as much as a file system's own checks are: a volume that makes its examiner lie harms only VMs of
//! the repository that made it, whose kernels are as little trusted.

use std::time::Duration;

use super::CacheError;
use crate::document::text::one_line;
use crate::protocol::message::{Exec, ExitStatus, Owner};
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::vm::machine::Machine;

const SCRIPT: &str = include_str!("examine.sh");
const SCRIPT_PLACE: &str = "/run/dayfly/examine.sh";

/// Files and directories of a volume.
const MAX_ENTRIES: u32 = 2_000_000;

/// How long it may take. Under emulation a large volume takes minutes.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Bytes of the script's output that are kept, and characters of it that a refusal quotes.
const KEPT_OUTPUT: usize = 4096;
const QUOTED: usize = 300;

/// Fails unless the volume that is attached to `machine` can be published. The machine is destroyed in any case.
pub(super) async fn in_machine(mut machine: Machine) -> Result<(), CacheError> {
    let examined = tokio::time::timeout(LIMIT, examine(machine.guest())).await;
    let destroyed = machine.destroy().await;
    let (status, output) = match examined {
        Ok(Ok(examined)) => examined,
        // It broke its examiner, or took all of its time. Whether by accident is no matter.
        Ok(Err(error @ (VmError::Lost(_) | VmError::Protocol(_)))) => {
            return Err(CacheError::Refused(error.to_string()));
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => return Err(CacheError::Refused(format!("it was not examined within {} s", LIMIT.as_secs()))),
    };
    destroyed?;
    match status {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(127) => Err(CacheError::Refused(
            "the image has no e2fsck to examine it with\n  hint: add the package `e2fsprogs` to the image".to_owned(),
        )),
        _ => Err(CacheError::Refused(format!("it does not hold a whole file system ({})", last_words(&output)))),
    }
}

/// Runs the script; gives its status and the end of its output.
async fn examine(guest: &Guest) -> Result<(ExitStatus, Vec<u8>), VmError> {
    guest.write_file(SCRIPT_PLACE, SCRIPT.as_bytes(), 0o755, Owner::ROOT).await?;
    let running = guest
        .exec(Exec {
            argv: vec!["/bin/sh".into(), SCRIPT_PLACE.into(), MAX_ENTRIES.to_string()],
            env: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()), ("LC_ALL".into(), "C".into())],
            directory: "/".into(),
            owner: Owner::ROOT,
            stdin: false,
        })
        .await?;
    running.ended(KEPT_OUTPUT).await
}

/// The last line that says something.
fn last_words(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    one_line(line, QUOTED)
}

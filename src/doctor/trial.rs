//! Machines that are started only to see whether they run.
//!
//! That something is installed, or can be opened, says little. Two trials say more: some instructions on a machine with all
//! devices and the confinement of a real VM, and a stock kernel until it finds no root file system. The second one matters for
//! KVM: there are hosts where the first works and the second never ends.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::host::cgroup::MAX_TASKS;
use crate::host::command::{self, CommandError};
use crate::host::jail::{self, Jail, Offer, Shown, parts_of};
use crate::host::output::Output;
use crate::host::process::{Lifetime, Spawn};
use crate::host::tsc;
use crate::host::uids::Uids;
use crate::vm::qemu::argv::{TRIAL_MIB, TRIAL_PORT, Trial, trial};
use crate::vm::spec::Accelerator;

/// How long some instructions may take; mostly the start of the monitor.
const INSTRUCTIONS_LIMIT: Duration = Duration::from_secs(8);
/// How long a kernel may take until it finds no root file system. With hardware support it takes less than a second.
const KERNEL_LIMIT: Duration = Duration::from_secs(8);

/// What the trial's firmware tells the monitor, and the exit code that the monitor makes of it.
const SIGNAL: u8 = 0x2A;
const SIGNALLED: i32 = SIGNAL as i32 * 2 + 1;

/// Size of the firmware: the last 64 KiB below 4 GiB, where a processor starts.
const FIRMWARE_BYTES: usize = 64 << 10;
/// Where in it a processor starts.
const RESET_VECTOR: usize = FIRMWARE_BYTES - 16;

/// A kernel that got so far has everything that it needs of a processor.
const KERNEL_ARRIVED: &str = "Unable to mount root fs";

/// How a trial went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Ran(Duration),
    Failed(String),
    TimedOut(Duration),
}

/// Runs some instructions.
pub(super) async fn instructions(program: &str, accelerator: Accelerator) -> Outcome {
    let prepared = || -> io::Result<_> {
        let directory = tempfile::Builder::new().prefix("dayfly-doctor-").tempdir()?;
        std::fs::write(directory.path().join("firmware"), firmware())?;
        Ok(directory)
    };
    let directory = match prepared() {
        Ok(directory) => directory,
        Err(error) => return Outcome::Failed(format!("temporary files cannot be made: {error}")),
    };
    let (firmware, scratch) = (directory.path().join("firmware"), directory.path().join("memory"));
    let arguments = trial(accelerator, Trial::Firmware { firmware: &firmware, scratch: &scratch }, tsc::khz());
    let began = Instant::now();
    match run(program, &arguments, INSTRUCTIONS_LIMIT).await {
        Err(error) if error.exit_code() == Some(SIGNALLED) => Outcome::Ran(began.elapsed()),
        Err(error) => failed(&error, INSTRUCTIONS_LIMIT),
        Ok(_) => Outcome::Failed("it ended without having run the instructions".to_owned()),
    }
}

/// Boots `kernel`.
pub(super) async fn kernel(program: &str, accelerator: Accelerator, kernel: &Path) -> Outcome {
    let arguments = trial(accelerator, Trial::Kernel(kernel), tsc::khz());
    let began = Instant::now();
    match run(program, &arguments, KERNEL_LIMIT).await {
        Ok(console) if String::from_utf8_lossy(&console).contains(KERNEL_ARRIVED) => Outcome::Ran(began.elapsed()),
        Ok(_) => Outcome::Failed("the kernel ended before it looked for its root file system".to_owned()),
        Err(error) => failed(&error, KERNEL_LIMIT),
    }
}

/// Runs the same instructions in a jail, as a monitor of a VM runs in one.
pub(super) async fn confined(program: &str, uids: &Uids) -> Outcome {
    let began = Instant::now();
    match tokio::time::timeout(INSTRUCTIONS_LIMIT, run_confined(program, uids)).await {
        Ok(Ok((status, _))) if status.code() == Some(SIGNALLED) => Outcome::Ran(began.elapsed()),
        Ok(Ok((status, said))) => Outcome::Failed(format!("it ended ({status}): {}", said.trim())),
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::TimedOut(INSTRUCTIONS_LIMIT),
    }
}

/// Gives how it ended and what it said.
async fn run_confined(program: &str, uids: &Uids) -> io::Result<(ExitStatus, String)> {
    const MEMORY: &str = "/memory";
    let directory = tempfile::Builder::new().prefix("dayfly-doctor-").tempdir()?;
    let (root, firmware) = (directory.path().join("root"), directory.path().join("firmware"));
    std::fs::create_dir(&root)?;
    std::fs::write(&firmware, self::firmware())?;
    std::fs::set_permissions(&firmware, Permissions::from_mode(0o644))?;
    let parts = parts_of(program).await?;
    let inside = Path::new("/firmware");
    let shown = [parts.shown, vec![Shown { from: firmware, at: inside.to_owned(), is_directory: false }]].concat();
    let trial = Trial::Firmware { firmware: inside, scratch: Path::new(MEMORY) };
    let (lease, output) = (uids.lease(directory.path())?, Output::new()?);
    let spawn = Spawn {
        program: &parts.program.display().to_string(),
        arguments: &self::trial(Accelerator::Tcg, trial, tsc::khz()),
        directory: directory.path(),
        inherited: &[],
        output: output.writer()?,
        lifetime: Lifetime::EndsWithUs,
    };
    let jail = Jail {
        uid: lease.uid(),
        root: &root,
        shown: &shown,
        group: None,
        file_size: TRIAL_MIB << 20,
        tasks: MAX_TASKS,
        ends_with_us: true,
    };
    let (mut child, opener) = jail::spawn(&spawn, &jail)?;
    let offers = [Offer { name: MEMORY, file: tempfile::tempfile_in(directory.path())? }];
    let (served, status) = tokio::join!(opener.serve(&offers), child.wait());
    served?;
    lease.release()?;
    Ok((status?, output.text()?))
}

async fn run(program: &str, arguments: &[String], limit: Duration) -> Result<Vec<u8>, CommandError> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    command::run(program, &arguments, limit, |_| {}).await
}

fn failed(error: &CommandError, limit: Duration) -> Outcome {
    match error.said() {
        _ if error.is_timeout() => Outcome::TimedOut(limit),
        Some(said) => Outcome::Failed(said.to_owned()),
        None => Outcome::Failed(error.to_string()),
    }
}

/// At the reset vector: `mov al, SIGNAL; out TRIAL_PORT, al`, then wait for ever.
fn firmware() -> Vec<u8> {
    const HALT_FOR_EVER: [u8; 3] = [0xF4, 0xEB, 0xFD];
    let mut code = vec![0; FIRMWARE_BYTES];
    code[RESET_VECTOR..][..4].copy_from_slice(&[0xB0, SIGNAL, 0xE6, TRIAL_PORT]);
    code[RESET_VECTOR + 4..][..3].copy_from_slice(&HALT_FOR_EVER);
    code
}

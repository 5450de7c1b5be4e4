//! A script of Dayfly's own in the guest, beside the steps of a job.

use std::time::Duration;

use tokio::time::timeout;

use super::witness::Witness;
use crate::log::Stream;
use crate::protocol::message::{Exec, ExitStatus, Output, Owner};
use crate::vm::VmError;
use crate::vm::guest::Guest;

/// How long it may take: it moves files about, on an emulated machine.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Where its programs are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// `text` as a program of `sh -e`.
pub(crate) fn exec(owner: Owner, text: &str, arguments: &[&str]) -> Exec {
    let mut argv: Vec<String> = ["sh", "-e", "-c", text, "dayfly"].map(str::to_owned).to_vec();
    argv.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let env = vec![("PATH".to_owned(), PATH.to_owned()), ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned())];
    Exec { argv, env, directory: "/".to_owned(), owner, stdin: false }
}

/// Runs `text` with `sh -e`; its output goes to the log. The inner error says in words why it failed.
pub(crate) async fn run<W: Witness>(
    guest: &Guest, owner: Owner, text: &str, arguments: &[&str], log: &mut W,
) -> Result<Result<(), String>, VmError> {
    let mut running = guest.exec(exec(owner, text, arguments)).await?;
    let attended = async {
        loop {
            match running.next().await? {
                Output::Stdout(bytes) => log.write(0, Stream::Stdout, &bytes).await,
                Output::Stderr(bytes) => log.write(0, Stream::Stderr, &bytes).await,
                Output::Exited(exit) => return Ok::<_, VmError>(exit.status),
            }
        }
    };
    Ok(match timeout(LIMIT, attended).await {
        Ok(status) => match status? {
            ExitStatus::Code(0) => Ok(()),
            ExitStatus::Code(code) => Err(format!("exit code {code}")),
            ExitStatus::Signal(signal) => Err(format!("it was ended by signal {signal}")),
            ExitStatus::NotStarted(why) => Err(why),
        },
        Err(_) => Err(format!("it took longer than {} s", LIMIT.as_secs())),
    })
}

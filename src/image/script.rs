//! Scripts of recipes, which run as root in a VM and never on the host.

use std::time::Duration;

use super::ImageError;
use super::recipe::Script;
use crate::protocol::message::{Exec, ExitStatus, Owner};
use crate::vm::guest::Guest;

/// How long one script may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Where it is while it runs; on a file system in memory, so that nothing of it stays.
const PLACE: &str = "/run/dayfly-script";
/// Lines of a failed script's output that the error quotes, and bytes that are kept for that.
const QUOTED_LINES: usize = 30;
const QUOTED_BYTES: usize = 16 << 10;

/// Runs one to its end. What it leaves in the background goes on.
pub(super) async fn run(guest: &Guest, script: &Script, environment: &[(String, String)]) -> Result<(), ImageError> {
    match run_within_limit(guest, script, environment).await? {
        (ExitStatus::Code(0), _) => Ok(()),
        (status, output) => Err(failed(script, described(&status), &output)),
    }
}

/// The same for one that an image without a shell can do without.
pub(super) async fn run_if_possible(
    guest: &Guest, script: &Script, environment: &[(String, String)],
) -> Result<(), ImageError> {
    match run_within_limit(guest, script, environment).await? {
        (ExitStatus::Code(0) | ExitStatus::NotStarted(_), _) => Ok(()),
        (status, output) => Err(failed(script, described(&status), &output)),
    }
}

fn failed(script: &Script, status: String, output: &[u8]) -> ImageError {
    ImageError::Script { name: script.name.clone(), status, output: last_lines(output) }
}

async fn run_within_limit(
    guest: &Guest, script: &Script, environment: &[(String, String)],
) -> Result<(ExitStatus, Vec<u8>), ImageError> {
    match tokio::time::timeout(LIMIT, run_to_end(guest, script, environment)).await {
        Ok(ended) => ended,
        Err(_) => Err(failed(script, format!("no end after {} s", LIMIT.as_secs()), b"")),
    }
}

async fn run_to_end(
    guest: &Guest, script: &Script, environment: &[(String, String)],
) -> Result<(ExitStatus, Vec<u8>), ImageError> {
    guest.write_file(PLACE, script.text.as_bytes(), 0o755, Owner::ROOT).await?;
    let running = guest
        .exec(Exec {
            argv: vec![PLACE.into()],
            env: environment.to_vec(),
            directory: "/".into(),
            owner: Owner::ROOT,
            stdin: false,
        })
        .await?;
    Ok(running.ended(QUOTED_BYTES).await?)
}

fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

fn described(status: &ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
        ExitStatus::NotStarted(why) => why.clone(),
    }
}

//! The files that `dayfly exec` brings back.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::artifact::name::Wanted;
use crate::artifact::receive::{Asker, Budget, ReceiveError, receive};
use crate::config::{format_duration, format_size, parse_size};
use crate::host::beneath::Beneath;
use crate::vm::VmError;
use crate::vm::guest::Guest;

/// How long all artifacts together may take, beyond the command's own time.
const LIMIT: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Args)]
pub(super) struct ArtifactArgs {
    /// Bring this file or directory back, whether or not the command succeeds; may be given several times and have * and ?
    #[arg(long = "artifact", value_name = "PATH", value_parser = Wanted::parse)]
    wanted: Vec<Wanted>,
    /// Where artifacts are put, under the paths that they have in the VM
    #[arg(long, value_name = "DIR", default_value = ".")]
    artifact_dir: PathBuf,
    /// The most that all artifacts together may take
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_bytes)]
    artifact_limit: u64,
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|complaint| complaint.to_string())
}

impl ArtifactArgs {
    pub(super) fn are_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Says what is wrong with the directory for them, where one can be told without making it.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.artifact_dir.metadata() {
            Ok(metadata) if !metadata.is_dir() => {
                Err(format!("--artifact-dir `{}` is not a directory", self.artifact_dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Brings all of them back, saying on standard error what came. Gives whether all came whole; fails if the VM did.
    pub(super) async fn bring(&self, guest: &Guest, asker: Asker<'_>, has_succeeded: bool) -> Result<bool, VmError> {
        let word = if has_succeeded { "error" } else { "warning" };
        let into = match Beneath::open(&self.artifact_dir) {
            Ok(into) => into,
            Err(error) => {
                eprintln!("{word}: --artifact-dir `{}`: {error}", self.artifact_dir.display());
                return Ok(false);
            }
        };
        let mut budget = Budget::new(self.artifact_limit);
        let all = async {
            let mut are_whole = true;
            for wanted in &self.wanted {
                are_whole &= bring_one(guest, asker, wanted, &into, &mut budget, word).await?;
            }
            Ok(are_whole)
        };
        tokio::time::timeout(LIMIT, all).await.unwrap_or_else(|_| {
            eprintln!("{word}: the artifacts did not come within {}", format_duration(LIMIT));
            Ok(false)
        })
    }
}

async fn bring_one(
    guest: &Guest, asker: Asker<'_>, wanted: &Wanted, into: &Beneath, budget: &mut Budget, word: &str,
) -> Result<bool, VmError> {
    match receive(guest, asker, wanted, into, budget).await {
        Ok(received) => {
            for note in &received.notes {
                eprintln!("note: artifact `{wanted}`: {note}");
            }
            if received.left_out > 0 {
                eprintln!("note: artifact `{wanted}`: {} more were left out", received.left_out);
            }
            let files = if received.files == 1 { "1 file".to_owned() } else { format!("{} files", received.files) };
            eprintln!("dayfly: artifact `{wanted}`: {files}, {}", format_size(received.bytes));
            Ok(true)
        }
        Err(ReceiveError::Vm(error)) if !matches!(error, VmError::Refused { .. }) => Err(error),
        Err(error) => {
            eprintln!("{word}: artifact `{wanted}`: {error}");
            Ok(false)
        }
    }
}

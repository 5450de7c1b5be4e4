//! Files of a guest, moved by its own `find` and `tar`: the host feeds their input and takes their output, and neither believes
//! what comes nor lets it grow.

use crate::core::heavy;
use crate::job::container::Inside;
use crate::protocol::message::{Exec, ExitStatus, Output, Owner};
use crate::vm::VmError;
use crate::vm::guest::{Guest, Input};

/// Bytes of the names of files that are found.
const MAX_LISTING: usize = 64 << 20;

/// Bytes of complaints that are kept.
const MAX_COMPLAINTS: usize = 2048;

/// Tells which places of the first `$1` there are, and everything in the others; with `files` before it, only files.
const LIST: &str = r#"
kind=$1 count=$2
shift 2
while [ "$count" -gt 0 ]; do
  if [ -e "$1" ] || [ -L "$1" ]; then printf '%s\0' "$1"; fi
  count=$((count - 1))
  shift
done
for root in "$@"; do
  [ -e "$root" ] || continue
  if [ "$kind" = files ]; then find -L "$root" -type f -print0; else find -L "$root" -print0; fi
done
exit 0
"#;

/// The guest and as whom things are done in it.
#[derive(Debug, Clone)]
pub(in crate::job) struct Hands<'a> {
    pub(super) guest: &'a Guest,
    pub(super) owner: Owner,
    pub(super) env: Vec<(String, String)>,
    pub(super) workspace: String,
    pub(super) home: String,
    pub(super) inside: Option<&'a Inside>,
}

/// Why a step of this kind does not do what it should.
#[derive(Debug, thiserror::Error)]
pub(in crate::job) enum Trouble {
    /// The step's own, for its log.
    #[error("{0}")]
    Said(String),
    #[error(transparent)]
    Vm(#[from] VmError),
}

impl Trouble {
    pub(in crate::job) fn said(error: impl std::fmt::Display) -> Self {
        Self::Said(error.to_string())
    }
}

impl<'a> Hands<'a> {
    /// Hands of that account, in that directory.
    pub(in crate::job) fn new(
        guest: &'a Guest, owner: Owner, env: Vec<(String, String)>, workspace: String, home: String,
    ) -> Self {
        Self { guest, owner, env, workspace, home, inside: None }
    }
}

impl Hands<'_> {
    /// Runs a script with these arguments. `feed` writes its input, `sink` takes its output. Gives its code, and the
    /// beginning of what it complained.
    pub(in crate::job) async fn run(
        &self, script: &str, arguments: &[&str], feed: impl AsyncFnOnce(Input) -> Result<(), Trouble>,
        mut sink: impl FnMut(&[u8]) -> Result<(), Trouble>,
    ) -> Result<(i32, String), Trouble> {
        let argv = ["sh", "-c", script, "sh"].into_iter().chain(arguments.iter().copied()).map(str::to_owned);
        let (argv, env, directory) = (argv.collect(), self.env.clone(), self.workspace.clone());
        let exec = match self.inside {
            Some(inside) => inside.program(argv, &directory, env.into_iter().collect(), true),
            None => Exec { argv, env, directory, owner: self.owner, stdin: true },
        };
        let mut running = match self.guest.exec(exec).await {
            Err(VmError::Refused { detail, .. }) => return Err(Trouble::Said(detail)),
            started => started?,
        };
        let feeding = feed(running.input());
        tokio::pin!(feeding);
        let (mut is_fed, mut complaints) = (false, Vec::new());
        loop {
            let output = tokio::select! {
                fed = &mut feeding, if !is_fed => {
                    fed?;
                    is_fed = true;
                    continue;
                }
                output = running.next() => output?,
            };
            match output {
                Output::Stdout(bytes) => heavy(|| sink(&bytes))?,
                Output::Stderr(bytes) => {
                    let room = MAX_COMPLAINTS.saturating_sub(complaints.len()).min(bytes.len());
                    complaints.extend_from_slice(&bytes[..room]);
                }
                Output::Exited(exit) => {
                    let complaints = String::from_utf8_lossy(&complaints).trim().to_owned();
                    return match exit.status {
                        ExitStatus::Code(code) => Ok((code, complaints)),
                        ExitStatus::Signal(signal) => Err(Trouble::Said(format!("it was ended by signal {signal}"))),
                        ExitStatus::NotStarted(why) => Err(Trouble::Said(why)),
                    };
                }
            }
        }
    }

    /// Those of `whole` that exist, and everything below `searched`; only files, if so wished. Paths that are not UTF-8 are
    /// left out.
    pub(super) async fn list(
        &self, only_files: bool, whole: &[&str], searched: &[&str],
    ) -> Result<Vec<String>, Trouble> {
        let count = whole.len().to_string();
        let kind = if only_files { "files" } else { "all" };
        let arguments: Vec<&str> = [kind, &count].into_iter().chain(whole.iter().chain(searched).copied()).collect();
        self.names_of(LIST, &arguments).await
    }

    /// The names that a script tells, with a NUL behind each.
    pub(in crate::job) async fn names_of(&self, script: &str, arguments: &[&str]) -> Result<Vec<String>, Trouble> {
        let mut listing = Vec::new();
        let sink = |bytes: &[u8]| {
            if listing.len() + bytes.len() > MAX_LISTING {
                return Err(Trouble::Said("the patterns search through too many files".to_owned()));
            }
            listing.extend_from_slice(bytes);
            Ok(())
        };
        let (code, complaints) = self.run(script, arguments, no_input, sink).await?;
        if code != 0 {
            return Err(Trouble::Said(format!("the files could not be listed: {complaints}")));
        }
        let paths = listing.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        Ok(paths.filter_map(|path| String::from_utf8(path.to_vec()).ok()).collect())
    }
}

/// For programs that read nothing.
pub(in crate::job) async fn no_input(input: Input) -> Result<(), Trouble> {
    input.end();
    Ok(())
}

/// Names with a NUL behind each, as `tar` reads them.
pub(in crate::job) fn names<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<u8> {
    names.into_iter().flat_map(|name| name.bytes().chain([0])).collect()
}

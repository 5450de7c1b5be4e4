//! A repository of this host's user, its workflows run in microVMs without a forge.
//!
//! ```text
//!  repository (names only) ─► mirror (one commit, our own) ─► workflows chosen ─► jobs planned ─► session ─► VMs
//!                                      └──────────────── what the guests may fetch ────────────────────────┘
//! ```
//! The pieces are the service's: the same parser, plan, gates, steps, checkout and machines. What a forge would say is made
//! up in [`event`]. Code and configuration of the repository run in VMs only; on the host nothing of it is ever executed.

mod belonging;
pub mod choose;
pub mod event;
pub mod job;
pub mod mirror;
pub mod repository;
pub mod session;
mod unfold;
pub mod variables;

use std::path::{Path, PathBuf};

use crate::forge::CommitSha;
use crate::host::command::CommandError;

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("`{}` is not in a git repository\n  hint: name one with --repo", shown(.0))]
    NotARepository(PathBuf),
    #[error("the repository in `{}` has no commit yet\n  hint: commit something", shown(.0))]
    NoCommit(PathBuf),
    #[error(
        "the repository of `{}` says that its files are `{}`, and those are not its own\n  \
         hint: look at `core.worktree` in its configuration, or use a clone of it",
        shown(place),
        shown(files)
    )]
    OtherFiles { place: PathBuf, files: PathBuf },
    #[error(
        "the repository of `{}` says that {part} is `{}`, which does not say so itself\n  \
         hint: what a guest may read is not for a directory to choose; use a clone of it (`git clone --no-local`)",
        shown(place),
        shown(target)
    )]
    Foreign { place: PathBuf, part: &'static str, target: PathBuf },
    #[error("the repository in `{}` has no files beside it, only commits\n  hint: leave --dirty out", shown(.0))]
    NoFiles(PathBuf),
    #[error("there is no commit {sha} in `{}`\n  hint: fetch it first", shown(place))]
    NoSuchCommit { sha: CommitSha, place: PathBuf },
    #[error(
        "the commit cannot be copied whole: {0}\n  hint: a partial clone lacks objects; `git fetch --refetch --no-filter` brings them"
    )]
    Incomplete(String),
    #[error(transparent)]
    Git(#[from] CommandError),
    #[error("`{}`: {source}", shown(path))]
    Io { path: PathBuf, source: std::io::Error },
}

impl LocalError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A path in a message. A directory that came from elsewhere may have names that would speak to the terminal.
fn shown(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        if letter.is_control() { text.extend(letter.escape_default()) } else { text.push(letter) }
    }
    text
}

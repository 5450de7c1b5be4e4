//! Actions of other repositories, fetched once by this host and kept by commit.
//!
//! A tag or a branch is resolved whenever a job asks, a commit never changes: its files are an archive in
//! `DIRECTORY/public/OWNER/NAME/SHA.tar`, or below `private/` where a credential was needed, so that who may not fetch a
//! repository finds nothing of it either. Guests get copies. Git runs here as [`crate::host::git`] runs it: without hooks, filters
//! or anybody's configuration, and no file of an action is ever opened on this host.

mod keep;

use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use tokio::sync::Mutex;
use url::Url;

use crate::forge::{CommitSha, RepoName};
use crate::host::command::CommandError;
use crate::host::git::{self, Place, Remote};
use crate::workflow::action::RemoteAction;

/// Bytes of one action's repository, unpacked. The largest that are much used have 30 MB.
pub const MAX_ARCHIVE: u64 = 512 << 20;

/// Bytes that a fetch may take on the way: what git fetched, and the archive that it makes of that.
const MAX_FETCH: u64 = 2 * MAX_ARCHIVE;

/// Before the name of a directory in which something is fetched.
const FETCH: &str = ".fetch-";

/// Where repositories of actions are.
#[derive(Debug, Clone)]
pub enum Source {
    /// Below this address, as `OWNER/NAME`.
    Forge(Url),
    /// Below this directory, as `OWNER/NAME` or `OWNER/NAME.git`; with files beside them or bare.
    Directory(PathBuf),
}

/// The way to one repository with a credential.
#[derive(Debug)]
pub struct Access {
    pub url: Url,
    /// The value of the `Authorization` header.
    pub authorization: Option<SecretString>,
}

/// Fetched actions, on this host's disk.
#[derive(Debug)]
pub struct ActionStore {
    directory: PathBuf,
    source: Source,
    /// Bytes that are kept.
    budget: u64,
    /// One fetch at a time: two of the same would do everything twice.
    fetching: Mutex<()>,
}

/// The files of an action's repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    pub sha: CommitSha,
    /// A tar archive.
    pub file: PathBuf,
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    #[error(
        "the action `{action}` cannot be fetched: its repository is not there, or not readable without a credential\n  hint: \
         private repositories of actions are listed in `[actions] private`"
    )]
    NoRepository { action: RemoteAction },
    #[error(
        "the action `{action}` cannot be fetched: there is no tag or branch `{}` in `{}`\n  hint: a commit is written with all \
         of its 40 digits", action.version, action.repo
    )]
    NoVersion { action: RemoteAction },
    #[error("the action `{action}` cannot be fetched: `{}` has no commit `{}`", action.repo, action.version)]
    NoCommit { action: RemoteAction },
    #[error("the repository of the action `{action}` has more than {} MiB", MAX_ARCHIVE >> 20)]
    TooLarge { action: RemoteAction },
    #[error("storing the action `{action}`: {source}{}", crate::host::disk::hint_if_full(source))]
    NotStored { action: RemoteAction, source: io::Error },
}

impl ActionStore {
    /// A store in `directory`, which is made when it is needed, of at most about `budget` bytes.
    pub fn new(directory: PathBuf, source: Source, budget: u64) -> Self {
        keep::remove_torn(&directory, FETCH);
        Self { directory, source, budget, fetching: Mutex::new(()) }
    }

    /// The files of an action's repository; `access` for those that need a credential.
    ///
    /// # Errors
    /// As [`ActionError`] says; why git failed is in the service's log.
    pub async fn obtain(&self, action: &RemoteAction, access: Option<&Access>) -> Result<Archive, ActionError> {
        let remote = self.remote(&action.repo, access);
        let sha = match pinned(action) {
            Some(sha) => sha,
            None => resolve(action, &remote).await?,
        };
        let kind = if access.is_some() { "private" } else { "public" };
        let repo = action.repo.as_str().to_ascii_lowercase();
        let directory = self.directory.join(kind).join(repo);
        let file = directory.join(format!("{sha}.tar"));
        // One that is there waits for nobody's fetch.
        if keep::is_there(&file) {
            return Ok(Archive { sha, file });
        }
        let _fetching = self.fetching.lock().await;
        if keep::is_there(&file) {
            return Ok(Archive { sha, file });
        }
        let stored = |source| ActionError::NotStored { action: action.clone(), source };
        std::fs::create_dir_all(&directory).map_err(stored)?;
        let room = tempfile::Builder::new().prefix(FETCH).tempdir_in(&self.directory).map_err(stored)?;
        // Dropped, the fetch ends with its git.
        let archive = tokio::select! {
            fetched = fetch(action, &remote, &sha, room.path()) => fetched?,
            () = keep::outgrown(room.path(), MAX_FETCH) => return Err(ActionError::TooLarge { action: action.clone() }),
        };
        let length = std::fs::metadata(&archive).map_err(stored)?.len();
        if length > MAX_ARCHIVE {
            return Err(ActionError::TooLarge { action: action.clone() });
        }
        std::fs::rename(&archive, &file).map_err(stored)?;
        keep::make_room(&self.directory, self.budget, &file);
        Ok(Archive { sha, file })
    }

    fn remote(&self, repo: &RepoName, access: Option<&Access>) -> Remote {
        if let Some(Access { url, authorization }) = access {
            return Remote { address: url.to_string(), authorization: authorization.clone() };
        }
        let address = match &self.source {
            Source::Forge(url) => format!("{}/{repo}", url.as_str().trim_end_matches('/')),
            Source::Directory(directory) => {
                let bare = directory.join(format!("{repo}.git"));
                let found = if bare.is_dir() { bare } else { directory.join(repo.as_str()) };
                found.display().to_string()
            }
        };
        Remote { address, authorization: None }
    }
}

fn pinned(action: &RemoteAction) -> Option<CommitSha> {
    CommitSha::parse(&action.version.to_ascii_lowercase()).ok().filter(|_| action.is_pinned())
}

/// The commit of a tag, or else of a branch, as git itself resolves a name.
async fn resolve(action: &RemoteAction, remote: &Remote) -> Result<CommitSha, ActionError> {
    let version = &action.version;
    let names = [format!("refs/tags/{version}^{{}}"), format!("refs/tags/{version}"), format!("refs/heads/{version}")];
    let listed = git::list_remote(remote, &[&names[1], &names[0], &names[2]]).await.map_err(|error| {
        told(action, &error);
        ActionError::NoRepository { action: action.clone() }
    })?;
    let listed = String::from_utf8_lossy(&listed);
    let of = |name: &String| {
        let line = listed.lines().find_map(|line| line.split_once('\t').filter(|(_, listed)| listed == name));
        line.and_then(|(sha, _)| CommitSha::parse(sha).ok())
    };
    names.iter().find_map(of).ok_or_else(|| ActionError::NoVersion { action: action.clone() })
}

/// Fetches one commit without its history; gives its archive in `room`.
async fn fetch(action: &RemoteAction, remote: &Remote, sha: &CommitSha, room: &Path) -> Result<PathBuf, ActionError> {
    let (repository, archive) = (room.join("repository.git"), room.join("archive.tar"));
    let failed = |error: CommandError| {
        told(action, &error);
        if action.is_pinned() {
            ActionError::NoCommit { action: action.clone() }
        } else {
            ActionError::NoRepository { action: action.clone() }
        }
    };
    let format = if sha.as_str().len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    let arguments = ["init", "--quiet", "--bare", "--template=", format];
    git::run(Place::Own(&repository), &arguments, Vec::new()).await.map_err(failed)?;
    git::fetch(&repository, remote, sha.as_str()).await.map_err(failed)?;
    let output = format!("--output={}", archive.display());
    let arguments = ["archive", "--format=tar", &output, sha.as_str()];
    git::run(Place::Own(&repository), &arguments, Vec::new()).await.map_err(failed)?;
    Ok(archive)
}

/// What git says is for the operator: it may name addresses of this host's network.
fn told(action: &RemoteAction, error: &CommandError) {
    tracing::warn!(%action, %error, "an action could not be fetched");
}

#[cfg(test)]
mod tests;

//! Actions and workflows of other repositories, fetched once by this host and kept by commit.
//!
//! A tag or a branch is resolved whenever a job or a run asks, a commit never changes: its files are an archive in
//! `DIRECTORY/public/OWNER/NAME/SHA.tar`, and its workflows are in `SHA.workflows` beside it; or below `private/` where a
//! credential was needed, so that who may not fetch a repository finds nothing of it either. Guests get copies. Git runs here as
//! [`crate::host::git`] runs it: without hooks, filters or anybody's configuration, and no file of an action is ever opened on
//! this host.

mod keep;
mod workflows;

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
    #[error("the {} `{action}` cannot be fetched: the server of its repository does not answer", action.noun())]
    Unreachable { action: RemoteAction },
    #[error(
        "the {} `{action}` cannot be fetched: its repository is not there, or not readable without a credential\n  hint: \
         private repositories of actions and workflows are listed in `[actions] private`", action.noun()
    )]
    NoRepository { action: RemoteAction },
    #[error(
        "the {} `{action}` cannot be fetched: there is no tag or branch `{}` in `{}`\n  hint: a commit is written with all \
         of its 40 digits", action.noun(), action.version, action.repo
    )]
    NoVersion { action: RemoteAction },
    #[error("the {} `{action}` cannot be fetched: `{}` has no commit `{}`", action.noun(), action.repo, action.version)]
    NoCommit { action: RemoteAction },
    #[error("the repository of the {} `{action}` has more than {} MiB", action.noun(), MAX_ARCHIVE >> 20)]
    TooLarge { action: RemoteAction },
    #[error("storing the {} `{action}`: {source}{}", action.noun(), crate::host::disk::hint_if_full(source))]
    NotStored { action: RemoteAction, source: io::Error },
}

/// A workflow's file of another repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowFile {
    pub sha: CommitSha,
    /// Its text; or why there is none, for people.
    pub text: Result<String, String>,
}

/// What is kept of a commit.
#[derive(Debug, Clone, Copy)]
enum Part {
    Archive,
    Workflows,
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
        let (sha, file) = self.keep(action, None, access, Part::Archive).await?;
        Ok(Archive { sha, file })
    }

    /// A workflow's file; at the commit `at`, if it is known already which one the version is.
    ///
    /// # Errors
    /// As [`Self::obtain`].
    pub async fn workflow(
        &self, workflow: &RemoteAction, at: Option<&CommitSha>, access: Option<&Access>,
    ) -> Result<WorkflowFile, ActionError> {
        let (sha, file) = self.keep(workflow, at, access, Part::Workflows).await?;
        let kept = workflows::read(&file);
        let mut kept = kept.map_err(|source| ActionError::NotStored { action: workflow.clone(), source })?;
        let absent = || Err(format!("the commit {} of {} has no such file", sha.short(), workflow.repo));
        Ok(WorkflowFile { text: kept.remove(&workflow.path).unwrap_or_else(absent), sha })
    }

    /// The commit that is meant, and the file with what is kept of it.
    async fn keep(
        &self, action: &RemoteAction, at: Option<&CommitSha>, access: Option<&Access>, part: Part,
    ) -> Result<(CommitSha, PathBuf), ActionError> {
        let remote = self.remote(&action.repo, access);
        let sha = match at.cloned().or_else(|| pinned(action)) {
            Some(sha) => sha,
            None => resolve(action, &remote).await?,
        };
        let kind = if access.is_some() { "private" } else { "public" };
        let repo = action.repo.as_str().to_ascii_lowercase();
        let directory = self.directory.join(kind).join(repo);
        let ending = match part {
            Part::Archive => "tar",
            Part::Workflows => "workflows",
        };
        let file = directory.join(format!("{sha}.{ending}"));
        // One that is there waits for nobody's fetch.
        if keep::is_there(&file) {
            return Ok((sha, file));
        }
        let _fetching = self.fetching.lock().await;
        if keep::is_there(&file) {
            return Ok((sha, file));
        }
        let stored = |source| ActionError::NotStored { action: action.clone(), source };
        std::fs::create_dir_all(&directory).map_err(stored)?;
        let room = tempfile::Builder::new().prefix(FETCH).tempdir_in(&self.directory).map_err(stored)?;
        // Dropped, the fetch ends with its git.
        let packed = tokio::select! {
            fetched = fetch(action, &remote, &sha, room.path(), part) => fetched?,
            () = keep::outgrown(room.path(), MAX_FETCH) => return Err(ActionError::TooLarge { action: action.clone() }),
        };
        let length = std::fs::metadata(&packed).map_err(stored)?.len();
        if length > MAX_ARCHIVE {
            return Err(ActionError::TooLarge { action: action.clone() });
        }
        std::fs::rename(&packed, &file).map_err(stored)?;
        keep::make_room(&self.directory, self.budget, &file);
        Ok((sha, file))
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
    let names = match version.starts_with("refs/") {
        true => [format!("{version}^{{}}"), version.clone(), version.clone()],
        false => [format!("refs/tags/{version}^{{}}"), format!("refs/tags/{version}"), format!("refs/heads/{version}")],
    };
    let listed = git::list_remote(remote, &[&names[1], &names[0], &names[2]]).await;
    let listed =
        listed.map_err(|error| failed(action, &error, ActionError::NoRepository { action: action.clone() }))?;
    let listed = String::from_utf8_lossy(&listed);
    let of = |name: &String| {
        let line = listed.lines().find_map(|line| line.split_once('\t').filter(|(_, listed)| listed == name));
        line.and_then(|(sha, _)| CommitSha::parse(sha).ok())
    };
    names.iter().find_map(of).ok_or_else(|| ActionError::NoVersion { action: action.clone() })
}

/// Fetches one commit without its history; gives what is to be kept of it, in `room`.
async fn fetch(
    action: &RemoteAction, remote: &Remote, sha: &CommitSha, room: &Path, part: Part,
) -> Result<PathBuf, ActionError> {
    let (repository, packed) = (room.join("repository.git"), room.join("packed"));
    let failed = |error: CommandError| {
        let action_of = || action.clone();
        failed(
            action,
            &error,
            match action.is_pinned() {
                true => ActionError::NoCommit { action: action_of() },
                false => ActionError::NoRepository { action: action_of() },
            },
        )
    };
    let format = if sha.as_str().len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    let arguments = ["init", "--quiet", "--bare", "--template=", format];
    git::run(Place::Own(&repository), &arguments, Vec::new()).await.map_err(failed)?;
    git::fetch(&repository, remote, sha.as_str()).await.map_err(failed)?;
    match part {
        Part::Archive => {
            let output = format!("--output={}", packed.display());
            let arguments = ["archive", "--format=tar", &output, sha.as_str()];
            git::run(Place::Own(&repository), &arguments, Vec::new()).await.map_err(failed)?;
        }
        Part::Workflows => {
            let files = workflows::collect(&repository, sha).await.map_err(failed)?;
            let stored = |source| ActionError::NotStored { action: action.clone(), source };
            workflows::write(&packed, &files).map_err(stored)?;
        }
    }
    Ok(packed)
}

/// Why git failed: its server, or else `missing`. What git says is for the operator: it may name addresses of this host's
/// network.
fn failed(action: &RemoteAction, error: &CommandError, missing: ActionError) -> ActionError {
    tracing::warn!(%action, %error, "something of another repository could not be fetched");
    let said = error.said().unwrap_or_default();
    if error.is_timeout() || is_unreachable(said) {
        return ActionError::Unreachable { action: action.clone() };
    }
    missing
}

/// Whether git says that nobody answered, or nobody who could just then. Other refusals stay.
fn is_unreachable(said: &str) -> bool {
    let status = said.split("returned error: ").nth(1).map(|rest| rest.trim());
    match status {
        Some(status) => status.starts_with('5') || status.starts_with("429"),
        None => said.contains("unable to access"),
    }
}

#[cfg(test)]
mod tests;

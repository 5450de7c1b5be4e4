//! A repository of the user: what is in it, by names only. Whatever reads files or objects is done in a [`super::mirror`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::LocalError;
use super::belonging::Places;
use crate::forge::CommitSha;
use crate::host::git::{self, Place};

/// Settings of the user that say how files become content, and run nothing.
const KEPT_SETTINGS: &str = r"^core\.(autocrlf|eol|excludesfile|filemode|ignorecase|symlinks)$";

/// A repository on this host.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The top of its files; absent in a bare repository.
    pub files: Option<PathBuf>,
    /// `HEAD`, pinned when this was made.
    pub head: CommitSha,
    /// The branch that is checked out; absent where `HEAD` is detached.
    pub branch: Option<String>,
    /// What `origin` calls its main branch, if that is known.
    pub default_branch: Option<String>,
    /// The address of `origin`, as configured.
    pub origin: Option<String>,
    /// Where the user asked, or the top of the files.
    pub(super) place: PathBuf,
    /// The directory of this work tree's own things, such as its index.
    pub(super) private: PathBuf,
    /// The directory that all work trees share.
    pub(super) common: PathBuf,
    pub(super) object_format: String,
}

impl Repository {
    /// The repository that `directory` is in.
    pub async fn open(directory: &Path) -> Result<Self, LocalError> {
        let not_one = || LocalError::NotARepository(directory.to_owned());
        if !directory.is_dir() {
            return Err(not_one());
        }
        git::require()?;
        let asked = ["--git-dir", "--git-common-dir", "--show-object-format", "--is-bare-repository"];
        let arguments = [&["rev-parse", "--path-format=absolute"][..], &asked].concat();
        let answer = lines(git::run(Place::Users(directory), &arguments, Vec::new()).await.map_err(|_| not_one())?);
        let [private, common, format, bare] = answer.as_slice() else { return Err(not_one()) };
        let files = match bare.as_slice() {
            b"true" => None,
            _ => name(directory, &["rev-parse", "--path-format=absolute", "--show-toplevel"]).await.map(path),
        };
        if let Some(files) = &files {
            require_own_files(directory, files, private).await?;
        }
        let (private, common) = (path(private.clone()), path(common.clone()));
        // Of this file alone: what it includes may be anybody's.
        let settings = private.join("config").to_string_lossy().into_owned();
        let worktree = name(directory, &["config", "--file", &settings, "--get", "core.worktree"]).await.map(path);
        let places = Places {
            asked: directory,
            files: files.as_deref(),
            private: &private,
            common: &common,
            worktree: worktree.as_deref(),
        };
        places.check()?;
        let head = name(directory, &["rev-parse", "--verify", "--quiet", "HEAD"]).await;
        let head = head.and_then(|head| CommitSha::parse(&text(&head)).ok());
        let remote_head = name(directory, &["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]).await;
        let branch = name(directory, &["symbolic-ref", "--quiet", "HEAD"]).await;
        Ok(Self {
            head: head.ok_or_else(|| LocalError::NoCommit(directory.to_owned()))?,
            branch: branch.and_then(|name| text(&name).strip_prefix("refs/heads/").map(str::to_owned)),
            default_branch: remote_head
                .and_then(|name| text(&name).strip_prefix("refs/remotes/origin/").map(str::to_owned)),
            origin: name(directory, &["config", "--get", "remote.origin.url"]).await.map(|url| text(&url)),
            place: files.clone().unwrap_or_else(|| directory.to_owned()),
            files,
            private,
            common,
            object_format: text(format),
        })
    }

    /// The directory of git's own things that all work trees share.
    pub fn git_directory(&self) -> &Path {
        &self.common
    }

    /// The name of the directory that the files are in.
    pub fn directory_name(&self) -> String {
        let place = self.place.canonicalize().unwrap_or_else(|_| self.place.clone());
        place.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Tags in the history of `HEAD`, as lines for `git update-ref --stdin`.
    pub(super) async fn tags(&self) -> Result<Vec<u8>, LocalError> {
        let merged = format!("--merged={}", self.head);
        let format = "--format=create %(refname) %(objectname)";
        let arguments = ["for-each-ref", merged.as_str(), format, "refs/tags"];
        Ok(git::run(Place::Users(&self.place), &arguments, Vec::new()).await?)
    }

    /// The user's settings about the content of files.
    pub(super) async fn content_settings(&self) -> Vec<(String, String)> {
        let arguments = ["config", "--null", "--get-regexp", KEPT_SETTINGS];
        // It fails where there is none.
        let listed = git::run(Place::Users(&self.place), &arguments, Vec::new()).await.unwrap_or_default();
        let settings = listed.split(|byte| *byte == 0).filter(|setting| !setting.is_empty()).map(text);
        settings
            .filter_map(|setting| setting.split_once('\n').map(|(name, value)| (name.into(), value.into())))
            .collect()
    }
}

/// Fails unless the files are around `directory` and belong to the repository whose private directory is `private`. A
/// repository's own `core.worktree` could name any directory of this host, such as one that all of the user's files are in.
async fn require_own_files(directory: &Path, files: &Path, private: &[u8]) -> Result<(), LocalError> {
    let is_around = match (directory.canonicalize(), files.canonicalize()) {
        (Ok(directory), Ok(files)) => directory.starts_with(files),
        _ => false,
    };
    // Whoever asks in those files must find the same repository: links to it are theirs, and not what it says itself.
    let is_own = is_around && name(files, &["rev-parse", "--absolute-git-dir"]).await.as_deref() == Some(private);
    let other = || LocalError::OtherFiles { place: directory.to_owned(), files: files.to_owned() };
    if is_own { Ok(()) } else { Err(other()) }
}

/// One line that git knows, or nothing where it knows none.
async fn name(directory: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let answer = git::run(Place::Users(directory), arguments, Vec::new()).await.ok()?;
    lines(answer).into_iter().next().filter(|line| !line.is_empty())
}

fn lines(answer: Vec<u8>) -> Vec<Vec<u8>> {
    let whole = answer.strip_suffix(b"\n").unwrap_or(&answer);
    whole.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsStr::from_bytes(&bytes).into()
}

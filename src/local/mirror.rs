//! A bare repository of our own with one commit of the user's repository, its history and the tags in it: what a guest may
//! fetch, and nothing else.
//!
//! Everything that reads objects or files happens here, under our own configuration, so that no program which the user's
//! repository names ever runs. While it is made it borrows the user's objects; then it has its own. The user's index, refs
//! and files are not written.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::LocalError;
use super::repository::Repository;
use crate::forge::CommitSha;
use crate::host::git::{self, Place};

/// The mirror.
#[derive(Debug)]
pub struct Mirror {
    pub directory: PathBuf,
    /// The commit that runs.
    pub sha: CommitSha,
    /// Files that differ from `HEAD`; 0 where that is not known, as without files.
    pub differing: usize,
}

/// Which commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Head,
    /// A commit of the files as they are, ignored ones left out.
    WorkTree,
    Commit(CommitSha),
}

impl Mirror {
    /// Makes a mirror in `directory`, which must not exist.
    pub async fn create(repository: &Repository, which: &Which, directory: &Path) -> Result<Self, LocalError> {
        let borrowed = begin(repository, directory).await?;
        let wanted = match which {
            Which::Head | Which::WorkTree => &repository.head,
            Which::Commit(sha) => sha,
        };
        require_commit(directory, wanted, repository).await?;
        let (sha, differing) = match which {
            Which::WorkTree => commit_of_files(repository, directory).await?,
            Which::Head => (wanted.clone(), count_differing(repository, directory).await),
            Which::Commit(_) => (wanted.clone(), 0),
        };
        name(repository, which, directory, &sha).await?;
        let copied = git::run(Place::Own(directory), &["repack", "-a", "-d", "-q", "--window=0"], Vec::new()).await;
        copied.map_err(|error| LocalError::Incomplete(error.to_string()))?;
        fs::remove_file(&borrowed).map_err(LocalError::io(&borrowed))?;
        Ok(Self { directory: directory.to_owned(), sha, differing })
    }

    /// The files directly in a directory of the commit, with their sizes in bytes; none if it is not there.
    pub async fn list(&self, directory: &str) -> Result<Vec<(String, u64)>, LocalError> {
        Ok(git::list_files(&self.directory, self.sha.as_str(), &[&format!("{directory}/")]).await?)
    }

    /// A file of the commit.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, LocalError> {
        Ok(git::read_file(&self.directory, self.sha.as_str(), path).await?)
    }
}

/// Makes an empty repository that borrows the user's objects; gives the file that says so.
async fn begin(repository: &Repository, directory: &Path) -> Result<PathBuf, LocalError> {
    let format = format!("--object-format={}", repository.object_format);
    let arguments = ["init", "--quiet", "--bare", "--template=", "--initial-branch=dayfly", &format];
    git::run(Place::Own(directory), &arguments, Vec::new()).await?;
    let objects = repository.common.join("objects");
    let mut line = objects.as_os_str().as_bytes().to_vec();
    if line.contains(&b'\n') || line.starts_with(b"\"") {
        return Err(LocalError::io(&objects)(std::io::Error::other("a path like this cannot be borrowed from")));
    }
    line.push(b'\n');
    let borrowed = directory.join("objects/info/alternates");
    fs::create_dir_all(directory.join("objects/info")).map_err(LocalError::io(&borrowed))?;
    fs::write(&borrowed, line).map_err(LocalError::io(&borrowed))?;
    // A clone with a part of the history is one here as well; what the user ignores in this repository alone is ignored.
    for name in ["shallow", "info/exclude"] {
        let (from, to) = (repository.common.join(name), directory.join(name));
        if from.is_file() {
            fs::create_dir_all(directory.join("info")).map_err(LocalError::io(&to))?;
            fs::copy(&from, &to).map_err(LocalError::io(&from))?;
        }
    }
    Ok(borrowed)
}

async fn require_commit(directory: &Path, sha: &CommitSha, repository: &Repository) -> Result<(), LocalError> {
    let object = format!("{sha}^{{commit}}");
    let found = git::run(Place::Own(directory), &["cat-file", "-e", &object], Vec::new()).await;
    found.map(drop).map_err(|_| LocalError::NoSuchCommit { sha: sha.clone(), place: repository.place.clone() })
}

/// A commit of the files as they are, or `HEAD` where they do not differ; and how many do.
async fn commit_of_files(repository: &Repository, directory: &Path) -> Result<(CommitSha, usize), LocalError> {
    let files = repository.files.as_ref().ok_or_else(|| LocalError::NoFiles(repository.place.clone()))?;
    let work = WorkTree::read(repository, directory, files).await?;
    let differing = work.differing.len();
    let sha = if differing > 0 { work.commit(&repository.head).await? } else { repository.head.clone() };
    work.forget();
    Ok((sha, differing))
}

/// How many files differ from `HEAD`. The run does not depend on them, so one that cannot tell is none.
async fn count_differing(repository: &Repository, directory: &Path) -> usize {
    let Some(files) = &repository.files else { return 0 };
    match WorkTree::read(repository, directory, files).await {
        Ok(work) => {
            work.forget();
            work.differing.len()
        }
        Err(error) => {
            tracing::debug!(%error, "the files could not be compared with HEAD");
            0
        }
    }
}

/// Gives the commit its branch's name, and its history their tags.
async fn name(repository: &Repository, which: &Which, directory: &Path, sha: &CommitSha) -> Result<(), LocalError> {
    // One commit that was asked for by its id has neither branch nor tags.
    let is_head = !matches!(which, Which::Commit(_));
    let mut names = if is_head { repository.tags().await? } else { Vec::new() };
    match repository.branch.as_ref().filter(|_| is_head) {
        Some(branch) => {
            let head = format!("refs/heads/{branch}");
            names.extend_from_slice(format!("create {head} {sha}\n").as_bytes());
            git::run(Place::Own(directory), &["symbolic-ref", "HEAD", &head], Vec::new()).await?;
        }
        None => {
            git::run(Place::Own(directory), &["update-ref", "--no-deref", "HEAD", sha.as_str()], Vec::new()).await?;
        }
    }
    git::run(Place::Own(directory), &["update-ref", "--stdin"], names).await?;
    Ok(())
}

/// The user's files, compared with `HEAD` by an index of our own.
struct WorkTree<'a> {
    mirror: &'a Path,
    files: &'a Path,
    index: PathBuf,
    settings: Vec<(String, String)>,
    differing: BTreeSet<Vec<u8>>,
    /// What is to be taken into the index, for `git update-index`.
    unstaged: Vec<u8>,
}

impl<'a> WorkTree<'a> {
    async fn read(repository: &Repository, mirror: &'a Path, files: &'a Path) -> Result<Self, LocalError> {
        let settings = repository.content_settings().await;
        let index = mirror.join("work-tree-index");
        let mut work = Self { mirror, files, index, settings, differing: BTreeSet::new(), unstaged: Vec::new() };
        // The user's own index knows which files have not been touched. One that depends on other files is not used.
        // Neither is one that is no file: reading a pipe would never end.
        let users = repository.private.join("index");
        let is_copied = users.is_file() && fs::copy(&users, &work.index).is_ok();
        if !is_copied || work.compare(&repository.head).await.is_err() {
            git::run(work.place(), &["read-tree", repository.head.as_str()], Vec::new()).await?;
            work.compare(&repository.head).await?;
        }
        Ok(work)
    }

    fn place(&self) -> Place<'_> {
        Place::WorkTree { repository: self.mirror, files: self.files, index: &self.index, settings: &self.settings }
    }

    async fn compare(&mut self, head: &CommitSha) -> Result<(), LocalError> {
        let arguments = ["ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"];
        let unstaged = git::run(self.place(), &arguments, Vec::new()).await?;
        let arguments = ["diff-index", "--cached", "--name-only", "-z", head.as_str()];
        let staged = git::run(self.place(), &arguments, Vec::new()).await?;
        // A repository within this one is listed with a slash at its end: its files are not this one's.
        let paths = |listed: &[u8]| -> Vec<Vec<u8>> {
            let paths = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty() && !path.ends_with(b"/"));
            paths.map(<[u8]>::to_vec).collect()
        };
        self.unstaged.clear();
        for path in paths(&unstaged) {
            self.unstaged.extend_from_slice(&path);
            self.unstaged.push(0);
            self.differing.insert(path);
        }
        self.differing.extend(paths(&staged));
        Ok(())
    }

    /// A commit of the files as they are. Filters do not run: content is taken as it is on the disk.
    async fn commit(&self, parent: &CommitSha) -> Result<CommitSha, LocalError> {
        let arguments = ["update-index", "--add", "--remove", "-z", "--stdin"];
        git::run(self.place(), &arguments, self.unstaged.clone()).await?;
        let tree = git::run(self.place(), &["write-tree"], Vec::new()).await?;
        let tree = String::from_utf8_lossy(&tree).trim().to_owned();
        let message = format!("The work tree on {}", parent.short());
        let arguments = ["commit-tree", "-p", parent.as_str(), "-m", &message, &tree];
        let sha = git::run(self.place(), &arguments, Vec::new()).await?;
        CommitSha::parse(String::from_utf8_lossy(&sha).trim()).map_err(LocalError::Incomplete)
    }

    fn forget(&self) {
        // The whole mirror goes soon.
        drop(fs::remove_file(&self.index));
    }
}

#[cfg(test)]
mod tests;

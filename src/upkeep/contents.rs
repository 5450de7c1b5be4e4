//! What a key's files have in them at a commit, by asking the forge for listings only: git names contents by their hash.
//!
//! A commit never changes, so what was learned once is kept; the jobs of one commit ask once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::key::{Contents, NoKey, contents, directories};
use crate::config::Prepare;
use crate::forge::{CommitSha, DirectoryEntry, Forge, ForgeError, RepoAccess, RepoName};

/// Answers that are kept; those that were asked for first go first.
const KEPT: usize = 1000;

/// How long the forge may take for all directories of one key. A job waits for this.
const LIMIT: Duration = Duration::from_secs(10);

/// Why contents are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error("the forge took longer than {} s to list the directories of the key's files", LIMIT.as_secs())]
    TimedOut,
    #[error(transparent)]
    NoKey(#[from] NoKey),
}

type Question = (RepoName, CommitSha, Vec<String>);

/// What was learned.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<VecDeque<(Question, Contents)>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Question, Contents)>> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The contents of the key's files at a commit.
    pub(super) async fn contents(
        &self, forge: &dyn Forge, access: &RepoAccess, sha: &CommitSha, recipe: &Prepare,
    ) -> Result<Contents, Unknown> {
        let question = (access.repo.clone(), sha.clone(), recipe.key.clone());
        let known = self.lock().iter().find(|(asked, _)| *asked == question).map(|(_, contents)| contents.clone());
        if let Some(contents) = known {
            return Ok(contents);
        }
        let listings = tokio::time::timeout(LIMIT, listings(forge, access, sha, recipe));
        let contents = contents(recipe, &listings.await.map_err(|_| Unknown::TimedOut)??)?;
        let mut memory = self.lock();
        memory.push_back((question, contents.clone()));
        if memory.len() > KEPT {
            memory.pop_front();
        }
        Ok(contents)
    }
}

async fn listings<'r>(
    forge: &dyn Forge, access: &RepoAccess, sha: &CommitSha, recipe: &'r Prepare,
) -> Result<BTreeMap<&'r str, Vec<DirectoryEntry>>, ForgeError> {
    let mut listings = BTreeMap::new();
    for directory in directories(recipe) {
        match forge.list_directory(access, directory, sha).await {
            Ok(entries) => drop(listings.insert(directory, entries)),
            // Also what a forge says of a commit that it has not replicated: then no file is there, and there is no key.
            Err(ForgeError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listings)
}

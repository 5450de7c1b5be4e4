//! One attempt of a job at the depot: whose things it may see and make.

use super::scope::{Origin, Scopes};
use super::{Artifact, CacheEntry, Depot, DepotError, Found, Reservation, Upload, Uploaded};
use crate::depot::artifacts::{Maker, NewArtifact};
use crate::forge::{RepoName, github};
use crate::ids::{JobId, RunId};
use crate::workflow::contexts::GithubContext;

/// Who uses the depot.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub depot: Depot,
    /// Of [`place_of`] its repository: to which its cache entries belong.
    pub repo: String,
    /// The run's first attempt, to which its artifacts belong.
    pub run: RunId,
    pub job: JobId,
    pub maker: Maker,
    /// For people.
    pub job_name: String,
    pub scopes: Scopes,
    /// Where people find the artifacts of the job.
    pub page: Option<String>,
}

/// What tells a repository from those of the same name at other forges.
pub fn place_of(forge: &str, repo: &RepoName) -> String {
    if forge == github::NAME { repo.to_string() } else { format!("{forge}:{repo}") }
}

/// Which cache entries a run uses that has this context.
pub fn scopes_of(github: &GithubContext, pull_request: Option<u64>, is_of_fork: bool) -> Scopes {
    let default_branch = github.event.member("repository").member("default_branch");
    Scopes::of(Origin {
        pull_request,
        is_of_fork,
        git_ref: &github.git_ref,
        base_ref: &github.base_ref,
        default_branch: &default_branch.to_text(),
    })
}

impl Tenant {
    /// As [`Depot::find_cache`].
    ///
    /// # Errors
    /// As there.
    pub fn find_cache(&self, keys: &[String], version: &str) -> Result<Option<Found>, DepotError> {
        self.depot.find_cache(&self.repo, &self.scopes, keys, version)
    }

    /// As [`Depot::reserve_cache`].
    ///
    /// # Errors
    /// As there.
    pub fn reserve_cache(&self, key: &str, version: &str) -> Result<Reservation, DepotError> {
        self.depot.reserve_cache(&self.repo, &self.scopes, key, version)
    }

    /// As [`Depot::store_cache`].
    ///
    /// # Errors
    /// As there.
    pub fn store_cache(
        &self, key: &str, version: &str, reservation: &Reservation, uploaded: Uploaded,
    ) -> Result<CacheEntry, DepotError> {
        self.depot.store_cache(&self.repo, &self.scopes, key, version, reservation, uploaded)
    }

    /// Starts an entry of a cache.
    ///
    /// # Errors
    /// The host's file system.
    pub fn begin_cache(&self) -> Result<Upload, DepotError> {
        self.depot.begin(self.depot.limits().cache_size)
    }

    /// Starts an artifact that may have as many bytes as its run has left.
    ///
    /// # Errors
    /// [`DepotError::TooLarge`] if that is none; the host's file system.
    pub fn begin_artifact(&self) -> Result<Upload, DepotError> {
        match self.depot.artifact_room(&self.run) {
            0 => Err(DepotError::TooLarge("this run has no room for further artifacts".to_owned())),
            room => self.depot.begin(room),
        }
    }

    /// The artifacts of its run, oldest first.
    pub fn artifacts(&self) -> Vec<Artifact> {
        self.depot.artifacts(&self.run)
    }

    /// What an artifact of that name would be.
    pub fn new_artifact<'a>(&'a self, name: &'a str, mime: &'a str) -> NewArtifact<'a> {
        NewArtifact {
            run: &self.run,
            job: &self.job_name,
            maker: &self.maker,
            name,
            mime,
            retention: None,
            overwrite: false,
        }
    }
}

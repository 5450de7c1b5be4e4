//! Artifacts of a run: files that its jobs share and that people download, each under a name.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::caches::object_id;
use super::{Content, Depot, DepotError, Uploaded, object};
use crate::clock;
use crate::config::format_size;
use crate::ids::{JobId, RunId};

/// Bytes of a name.
pub const MAX_NAME: usize = 255;

/// Artifacts of one run.
pub const MAX_ARTIFACTS: usize = 500;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Characters that some file system does not take, by the words for them.
const FORBIDDEN: [(char, &str); 9] = [
    ('"', "a double quote"),
    (':', "a colon"),
    ('<', "`<`"),
    ('>', "`>`"),
    ('|', "a vertical bar"),
    ('*', "an asterisk"),
    ('?', "a question mark"),
    ('\r', "a carriage return"),
    ('\n', "a line feed"),
];

/// Who made an artifact: an attempt of a job, in an attempt of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    pub run: RunId,
    pub job: JobId,
    pub attempt: u32,
}

impl Maker {
    /// Whether it comes after that one and does again what that one did. Jobs of one attempt of a run stand beside each other.
    fn repeats(&self, other: &Self) -> bool {
        self.run != other.run || (self.job == other.job && self.attempt != other.attempt)
    }
}

/// A stored artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub id: u64,
    /// The run's first attempt.
    pub run: RunId,
    /// The job that made it, for people.
    pub job: String,
    #[serde(default)]
    pub maker: Option<Maker>,
    pub name: String,
    /// Bytes of the stored file.
    pub size: u64,
    /// Of the stored file, in hexadecimal digits.
    pub sha256: String,
    /// What the stored file is; usually a zip archive.
    pub mime: String,
    /// Milliseconds since the epoch, as is `expires_at`.
    pub created_at: i64,
    pub expires_at: i64,
}

impl Artifact {
    /// Whether the stored file is an archive of the artifact's files.
    pub fn is_zip(&self) -> bool {
        self.mime == ZIP
    }

    /// What its file is called where it is downloaded to.
    pub fn file_name(&self) -> String {
        if self.is_zip() && !self.name.ends_with(".zip") { format!("{}.zip", self.name) } else { self.name.clone() }
    }
}

/// The type of archives.
pub const ZIP: &str = "application/zip";

/// What an artifact shall be.
#[derive(Debug, Clone)]
pub struct NewArtifact<'a> {
    pub run: &'a RunId,
    pub job: &'a str,
    pub maker: &'a Maker,
    pub name: &'a str,
    pub mime: &'a str,
    /// How long it is kept; `None`: as the configuration says. Never longer than that.
    pub retention: Option<Duration>,
    /// Whether it takes the place of one of the same name.
    pub overwrite: bool,
}

impl NewArtifact<'_> {
    /// Whether it takes that one's place: as was asked, or because its maker did the same in an earlier attempt.
    fn replaces(&self, other: &Artifact) -> bool {
        self.overwrite || other.maker.as_ref().is_some_and(|maker| self.maker.repeats(maker))
    }
}

/// What is wrong with a name, for whoever wrote it.
///
/// # Errors
/// It is empty, too long, `.` or `..`, or has characters that some file system does not take.
pub fn check_name(name: &str) -> Result<(), DepotError> {
    let refuse = |why: &str| Err(DepotError::Refused(format!("the artifact name `{}` {why}", shown(name))));
    if name.is_empty() || name == "." || name == ".." {
        return refuse("is no name");
    }
    if name.len() > MAX_NAME {
        return refuse(&format!("is longer than {MAX_NAME} bytes"));
    }
    let of_name = FORBIDDEN.into_iter().chain([('\\', "a backslash"), ('/', "a slash"), ('\0', "a NUL")]);
    match of_name.into_iter().find(|(letter, _)| name.contains(*letter)) {
        Some((_, words)) => refuse(&format!("contains {words}, which not every file system takes")),
        None if name.chars().any(char::is_control) => refuse("contains a control character"),
        None => Ok(()),
    }
}

/// What is wrong with the path of a file in an artifact.
///
/// # Errors
/// It has characters that some file system does not take.
pub fn check_path(path: &str) -> Result<(), DepotError> {
    match FORBIDDEN.into_iter().find(|(letter, _)| path.contains(*letter)) {
        Some((_, words)) => {
            let path = shown(path);
            Err(DepotError::Refused(format!("the path `{path}` contains {words}, which not every file system takes")))
        }
        None => Ok(()),
    }
}

fn shown(name: &str) -> String {
    crate::document::text::one_line(name, 100)
}

impl Depot {
    /// The artifacts of a run that are not expired, oldest first.
    pub fn artifacts(&self, run: &RunId) -> Vec<Artifact> {
        let now = clock::now_ms();
        let places = object::directories(&self.of_run(run)).into_iter();
        let mut artifacts: Vec<Artifact> = places.filter_map(|place| object::read_meta(&place)).collect();
        artifacts.retain(|artifact| artifact.expires_at > now);
        artifacts.sort_by_key(|artifact| (artifact.created_at, artifact.id));
        artifacts
    }

    /// The artifact of that name, if the run has it and it is not expired.
    pub fn artifact(&self, run: &RunId, name: &str) -> Option<Artifact> {
        let artifact: Artifact = object::read_meta(&self.place(run, name))?;
        (artifact.expires_at > clock::now_ms()).then_some(artifact)
    }

    /// The content of an artifact; `None` if it was removed meanwhile.
    ///
    /// # Errors
    /// The host's file system.
    pub fn open_artifact(&self, artifact: &Artifact) -> Result<Option<Content>, DepotError> {
        object::open(&self.place(&artifact.run, &artifact.name))
    }

    /// Refuses what could not be stored, before it is uploaded.
    ///
    /// # Errors
    /// [`DepotError::Refused`] for a name that is none; [`DepotError::Exists`]; [`DepotError::TooLarge`] for one too many.
    pub fn check_new_artifact(&self, new: &NewArtifact<'_>) -> Result<(), DepotError> {
        check_name(new.name)?;
        let others = self.artifacts(new.run);
        let there = others.iter().find(|artifact| artifact.name == new.name);
        let is_there = there.is_some();
        if there.is_some_and(|there| !new.replaces(there)) {
            return Err(DepotError::Exists(format!("an artifact `{}` of this run", shown(new.name))));
        }
        if !is_there && others.len() >= MAX_ARTIFACTS {
            return Err(DepotError::TooLarge(format!("a run has at most {MAX_ARTIFACTS} artifacts")));
        }
        Ok(())
    }

    /// How many bytes the next artifact of the run may have.
    pub fn artifact_room(&self, run: &RunId) -> u64 {
        let limits = self.limits();
        let taken = self.artifacts(run).iter().map(|artifact| artifact.size).fold(0, u64::saturating_add);
        limits.artifact_budget.saturating_sub(taken).min(limits.artifact_size)
    }

    /// Stores an artifact.
    ///
    /// # Errors
    /// As [`Depot::check_new_artifact`], a run without room for it, and the host's file system.
    pub fn store_artifact(&self, new: &NewArtifact<'_>, uploaded: Uploaded) -> Result<Artifact, DepotError> {
        self.check_new_artifact(new)?;
        if self.artifact(new.run, new.name).is_some_and(|there| new.replaces(&there)) {
            self.remove_artifact(new.run, new.name);
        }
        if uploaded.size > self.artifact_room(new.run) {
            let budget = format_size(self.limits().artifact_budget);
            return Err(DepotError::TooLarge(format!("the artifacts of this run have more than {budget}")));
        }
        let longest = self.limits().artifact_retention;
        let retention = new.retention.map_or(longest, |wanted| wanted.min(longest));
        let created_at = clock::now_ms();
        let artifact = Artifact {
            id: object_id(),
            run: new.run.clone(),
            job: new.job.to_owned(),
            maker: Some(new.maker.clone()),
            name: new.name.to_owned(),
            size: uploaded.size,
            sha256: uploaded.sha256.clone(),
            mime: new.mime.to_owned(),
            created_at,
            expires_at: created_at.saturating_add(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX)),
        };
        let place = self.place(new.run, new.name);
        if self.artifact(new.run, new.name).is_none() {
            // Of one that expired, or that was being removed, nothing is shown and something may be left.
            object::remove(&place);
        }
        object::publish(uploaded, &artifact, &place, &format!("an artifact `{}` of this run", shown(new.name)))?;
        Ok(artifact)
    }

    /// Removes the artifact of that name; gives what it was.
    pub fn remove_artifact(&self, run: &RunId, name: &str) -> Option<Artifact> {
        let place = self.place(run, name);
        let artifact = object::read_meta(&place)?;
        object::remove(&place).then_some(artifact)
    }

    pub(super) fn expire_artifacts(&self, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        for run in object::directories(&self.directory("artifacts")) {
            for place in object::directories(&run) {
                let expires_at = object::read_meta::<Artifact>(&place).map_or(0, |artifact| artifact.expires_at);
                if expires_at <= now {
                    object::remove(&place);
                }
            }
            // One that is not empty stays.
            drop(std::fs::remove_dir(&run));
        }
    }

    fn of_run(&self, run: &RunId) -> PathBuf {
        // Ids have letters and digits only.
        self.directory("artifacts").join(Path::new(run.as_str()))
    }

    fn place(&self, run: &RunId, name: &str) -> PathBuf {
        self.of_run(run).join(object::digest_of(&[name]))
    }
}

/// Whole days of a retention, as the action's input counts them; 0 is what the configuration says.
pub fn retention_of_days(days: u64) -> Option<Duration> {
    (days > 0).then(|| Duration::from_millis(days.saturating_mul(DAY_MS.unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_again_takes_the_place_of_what_was_and_neighbours_do_not() {
        let (run, job) = (RunId::random(), JobId::random());
        let first = Maker { run: run.clone(), job: job.clone(), attempt: 1 };
        let again = Maker { attempt: 2, ..first.clone() };
        let neighbour = Maker { job: JobId::random(), ..first.clone() };
        let rerun = Maker { run: RunId::random(), job: JobId::random(), attempt: 1 };
        assert!(again.repeats(&first) && rerun.repeats(&first) && rerun.repeats(&again));
        assert!(!first.repeats(&first) && !neighbour.repeats(&first) && !first.repeats(&neighbour));
    }
}

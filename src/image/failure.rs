//! What could not be made: remembered beside the image for those who ask, and in the process so that not every job tries
//! again.
//!
//! A restart tries everything at once: that is how operators ask for another try.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::catalog::{Catalog, write_json};
use crate::vm::spec::Shape;

/// Between the first failure and the next try; doubled after each, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Bytes of an error that are kept.
const MAX_ERROR: usize = 4096;

/// Beginning of the names of the files.
const FILE: &str = "failed-";

/// What was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    Build,
    Bake(Shape),
}

/// The last failure to make something, until it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub work: Work,
    /// The digest of the recipe, empty if that could not be read.
    pub recipe: String,
    /// For the operator.
    pub error: String,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// How often in a row.
    pub tries: u32,
}

impl Work {
    fn file(self) -> String {
        match self {
            Self::Build => format!("{FILE}build.json"),
            Self::Bake(Shape { vcpus, memory_mib, disk_mib, card }) => {
                let with_card = if card { "-card" } else { "" };
                format!("{FILE}bake-{vcpus}-{memory_mib}-{disk_mib}{with_card}.json")
            }
        }
    }
}

/// How long nothing is tried after so many failures in a row.
pub(super) fn pause(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

/// What failed in this process, and when it may be tried again. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Pauses(Arc<Mutex<HashMap<(String, Work), Pause>>>);

/// After a failure.
#[derive(Debug, Clone)]
pub(super) struct Pause {
    recipe: String,
    pub(super) tries: u32,
    pub(super) until: Instant,
    pub(super) error: String,
}

impl Pauses {
    /// The pause in which that work is, if it failed with this recipe.
    pub(super) fn now(&self, name: &str, work: Work, recipe: &str) -> Option<Pause> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = pauses.get(&(name.to_owned(), work))?;
        (pause.recipe == recipe && pause.until > Instant::now()).then(|| pause.clone())
    }

    /// Begins the next pause.
    pub(super) fn begin(&self, name: &str, work: Work, recipe: &str, error: &ImageError) -> Pause {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pauses.get(&(name.to_owned(), work)).filter(|pause| pause.recipe == recipe);
        let tries = before.map_or(0, |pause| pause.tries) + 1;
        let pause =
            Pause { recipe: recipe.to_owned(), tries, until: Instant::now() + pause(tries), error: shortened(error) };
        pauses.insert((name.to_owned(), work), pause.clone());
        pause
    }

    pub(super) fn end(&self, name: &str, work: Work) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(name.to_owned(), work));
    }
}

impl Pause {
    /// The same as a file tells it.
    pub(super) fn failure(&self, work: Work) -> Failure {
        let Self { recipe, tries, error, .. } = self;
        Failure { work, recipe: recipe.clone(), error: error.clone(), at: crate::clock::now_ms(), tries: *tries }
    }
}

fn shortened(error: &ImageError) -> String {
    let text = error.to_string();
    let end = (0..=MAX_ERROR.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

impl Catalog {
    /// Remembers that something could not be made. That this fails too, on a full disk for example, changes nothing.
    pub(super) fn note_failure(&self, name: &str, failure: &Failure) {
        let path = self.directory(name).join(failure.work.file());
        if let Err(error) = write_json(&path, failure) {
            tracing::warn!(%error, "a failure could not be noted");
        }
    }

    /// Forgets a failure, now that it is made.
    pub(super) fn forget_failure(&self, name: &str, work: Work) {
        match fs::remove_file(self.directory(name).join(work.file())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "an old failure could not be forgotten");
            }
            _ => {}
        }
    }

    /// What could not be made of an image since it was made the last time. Files that do not read are left out.
    pub fn failures(&self, name: &str) -> Vec<Failure> {
        let entries = fs::read_dir(self.directory(name)).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(FILE))
            .map(|entry| entry.path())
            .collect();
        files.sort();
        files.into_iter().filter_map(|file| serde_json::from_slice(&fs::read(file).ok()?).ok()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { vcpus: 1, memory_mib: 256, disk_mib: 1024, card: false };

    #[test]
    fn pauses_grow_and_end() {
        let minutes: Vec<u64> = [1, 2, 3, 6, 7, 99].map(|tries| pause(tries).as_secs() / 60).into();
        assert_eq!(minutes, [1, 2, 4, 32, 60, 60]);
        let (pauses, error) = (Pauses::default(), ImageError::Unusable("broken".into()));
        assert_eq!(pauses.begin("a", Work::Build, "one", &error).tries, 1);
        assert_eq!(pauses.begin("a", Work::Build, "one", &error).tries, 2);
        assert!(pauses.now("a", Work::Build, "one").is_some());
        assert!(pauses.now("a", Work::Build, "two").is_none(), "another recipe is tried at once");
        assert!(pauses.now("a", Work::Bake(SHAPE), "one").is_none());
        assert_eq!(pauses.begin("a", Work::Build, "two", &error).tries, 1);
        pauses.end("a", Work::Build);
        assert!(pauses.now("a", Work::Build, "two").is_none());
    }

    #[test]
    fn what_failed_is_told_until_it_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(directory.path().to_owned());
        fs::create_dir(catalog.directory("a")).unwrap();
        let error = ImageError::Unusable("é".repeat(MAX_ERROR));
        let works = [Work::Bake(SHAPE), Work::Build];
        for work in works {
            catalog.note_failure("a", &Pauses::default().begin("a", work, "one", &error).failure(work));
        }
        let told = catalog.failures("a");
        assert_eq!(told.iter().map(|failure| failure.work).collect::<Vec<_>>(), works);
        assert!(told[0].error.len() <= MAX_ERROR);
        catalog.forget_failure("a", Work::Build);
        catalog.forget_failure("a", Work::Build);
        assert_eq!(catalog.failures("a").len(), 1);
    }
}

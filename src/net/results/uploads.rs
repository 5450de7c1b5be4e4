//! What one attempt is uploading, and what it may download.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;

use super::reply::Failure;
use crate::depot::{Artifact, Found, Reservation, Upload, Uploaded};

/// Uploads that are open at the same time.
const MAX_OPEN: usize = 16;

/// Objects whose addresses an attempt has.
const MAX_GRANTS: usize = 10_000;

/// What an upload will be.
#[derive(Debug)]
pub(super) enum Purpose {
    Cache { key: String, version: String, reservation: Reservation },
    Artifact { name: String, mime: String, retention: Option<Duration> },
}

/// How far it is.
#[derive(Debug)]
enum Stage {
    Open(Arc<Upload>),
    /// Somebody puts it together.
    Closing,
    Whole(Uploaded),
}

#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    stage: Stage,
    /// Pieces whose order is that of their names; the newer service tells it at the end.
    pieces: BTreeSet<String>,
}

/// Something that may be downloaded.
#[derive(Debug, Clone)]
pub(super) enum Grant {
    Cache(Arc<Found>),
    Artifact(Box<Artifact>),
}

#[derive(Debug, Default)]
struct Tables {
    last: u64,
    pending: HashMap<u64, Pending>,
    grants: HashMap<u64, Grant>,
}

/// Both tables. What is still in them at the end is removed with them.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<Tables>);

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Whoever panicked while holding the lock left tables that are still tables.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new upload; gives its number.
    pub(super) fn open(&self, purpose: Purpose, upload: Upload) -> Result<u64, Failure> {
        let mut tables = self.lock();
        if tables.pending.len() >= MAX_OPEN {
            return Err(Failure::exhausted(format!("{MAX_OPEN} uploads are open, which is as many as may be")));
        }
        tables.last += 1;
        let number = tables.last;
        tables
            .pending
            .insert(number, Pending { purpose, stage: Stage::Open(Arc::new(upload)), pieces: BTreeSet::new() });
        Ok(number)
    }

    /// An upload that takes further pieces.
    pub(super) fn get(&self, number: u64) -> Result<Arc<Upload>, Failure> {
        match self.lock().pending.get(&number).map(|pending| &pending.stage) {
            Some(Stage::Open(upload)) => Ok(Arc::clone(upload)),
            Some(_) => Err(Failure::new(StatusCode::CONFLICT, "failed_precondition", "the upload is complete")),
            None => Err(Failure::not_found("there is no such upload")),
        }
    }

    /// Notes a piece that has come.
    pub(super) fn note_piece(&self, number: u64, name: String) -> Result<(), Failure> {
        let mut tables = self.lock();
        let pending = tables.pending.get_mut(&number).ok_or_else(|| Failure::not_found("there is no such upload"))?;
        pending.pieces.insert(name);
        Ok(())
    }

    /// The pieces that were noted, in the order of their names.
    pub(super) fn pieces(&self, number: u64) -> Result<Vec<String>, Failure> {
        let tables = self.lock();
        let pending = tables.pending.get(&number).ok_or_else(|| Failure::not_found("there is no such upload"))?;
        Ok(pending.pieces.iter().cloned().collect())
    }

    /// Takes the upload out to put its pieces together; nobody may be writing one.
    pub(super) fn close(&self, number: u64) -> Result<Upload, Failure> {
        let mut tables = self.lock();
        let unknown = || Failure::not_found("there is no such upload");
        let pending = tables.pending.get_mut(&number).ok_or_else(unknown)?;
        let busy = || Failure::new(StatusCode::CONFLICT, "failed_precondition", "pieces of it are still coming");
        match std::mem::replace(&mut pending.stage, Stage::Closing) {
            Stage::Open(upload) => match Arc::try_unwrap(upload) {
                Ok(upload) => Ok(upload),
                Err(shared) => {
                    pending.stage = Stage::Open(shared);
                    Err(busy())
                }
            },
            other => {
                pending.stage = other;
                Err(busy())
            }
        }
    }

    /// The upload is whole and waits to be finalized.
    pub(super) fn complete(&self, number: u64, uploaded: Uploaded) {
        if let Some(pending) = self.lock().pending.get_mut(&number) {
            pending.stage = Stage::Whole(uploaded);
        }
    }

    /// Removes an upload that came to nothing.
    pub(super) fn abandon(&self, number: u64) {
        self.lock().pending.remove(&number);
    }

    /// Takes out the whole upload for which `is_wanted`.
    pub(super) fn take(&self, is_wanted: impl Fn(u64, &Purpose) -> bool) -> Result<(Purpose, Uploaded), Failure> {
        let mut tables = self.lock();
        let number = tables.pending.iter().find(|(number, pending)| is_wanted(**number, &pending.purpose));
        let Some(number) = number.map(|(number, _)| *number) else {
            return Err(Failure::not_found("nothing like that was begun"));
        };
        match tables.pending.remove(&number) {
            Some(Pending { purpose, stage: Stage::Whole(uploaded), .. }) => Ok((purpose, uploaded)),
            Some(unfinished) => {
                tables.pending.insert(number, unfinished);
                Err(Failure::exhausted("its content was not uploaded"))
            }
            None => Err(Failure::not_found("nothing like that was begun")),
        }
    }

    /// Forgets an artifact that was begun under this name and not finished: a client tries once more.
    pub(super) fn forget_artifact(&self, wanted: &str) {
        self.lock()
            .pending
            .retain(|_, pending| !matches!(&pending.purpose, Purpose::Artifact { name, .. } if name == wanted));
    }

    /// Allows a download.
    pub(super) fn grant(&self, id: u64, grant: Grant) -> Result<(), Failure> {
        let mut tables = self.lock();
        if tables.grants.len() >= MAX_GRANTS && !tables.grants.contains_key(&id) {
            return Err(Failure::exhausted(format!(
                "the job has asked for {MAX_GRANTS} downloads, which is as many as it may"
            )));
        }
        tables.grants.insert(id, grant);
        Ok(())
    }

    /// What may be downloaded under this number.
    pub(super) fn granted(&self, id: u64) -> Option<Grant> {
        self.lock().grants.get(&id).cloned()
    }
}

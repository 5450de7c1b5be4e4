//! Named dependency caches: what one job of the default branch prepared, and every later job of its repository starts with.
//!
//! ```text
//!  begin ─► a trusted VM fills a fresh volume ─► sealed, VM gone ─► examined in a throwaway VM ─► published: generation N
//!     └────────────────────────┴───────────────────────┴──────────────────────┘ any failure: nothing is left
//! ```
//! Invariants:
//! - A generation never changes. It appears whole, by a rename, or not at all; monitors open it read-only.
//! - What a guest wrote is untrusted. The host makes the empty file system, and afterwards only hashes the file: it is
//!   mounted and examined by guests alone.
//! - A generation that somebody holds is not removed, unless the operator forces it; and what runs has its volume open.
//! - Whatever ended half-way has no owner, and is removed by whoever looks next.

mod examine;
mod generation;
mod produce;
mod retention;
mod shelf;
#[cfg(test)]
mod tests;

pub use generation::{CacheId, Generation, GenerationInfo, Producer};
pub use produce::{Examined, Producing, Published, SMALLEST_VOLUME, Wish};
pub use retention::{Kept, Retention, superfluous};
pub use shelf::Caches;

use crate::host::disk::{FormatError, hint_if_full};
use crate::vm::VmError;

/// Why a cache could not be used, filled or removed. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file operation failed.
    #[error("{what}: {source}{}", hint_if_full(source))]
    Io { what: String, source: std::io::Error },
    /// The empty file system could not be made.
    #[error("the fresh cache volume: {0}")]
    Format(#[from] FormatError),
    /// The VM that took part in it failed.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// What the producer wrote is not a volume that others may have.
    #[error("the cache volume is refused: {0}")]
    Refused(String),
    /// The generation is being used.
    #[error(
        "generation {number} of the cache `{cache}` is in use\n  hint: wait for the job that uses it, or add `--force`"
    )]
    InUse { cache: String, number: u64 },
}

impl CacheError {
    /// For `map_err` on input and output.
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether the host's disk is full.
    pub fn is_disk_full(&self) -> bool {
        let is_full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
        match self {
            Self::Io { source, .. } | Self::Format(FormatError::File(source)) => is_full(source),
            Self::Vm(error) => error.is_disk_full(),
            _ => false,
        }
    }
}

/// Work on files that may take seconds, where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(CacheError::io("work on a cache was interrupted")(std::io::Error::other(error))))
}

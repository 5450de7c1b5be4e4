//! Images: what a VM starts from.
//!
//! ```text
//!  recipe ─► packages (mmdebstrap) ─► root.erofs ─┐
//!         └► kernel and its drivers               ├─► set-up script in a VM ─► layer ─┐
//!                                                 └───────────────────────────────────┴─► bake: boot once, freeze ─► snapshot
//! ```
//! An image is a directory named after the digest of what it was built from; a bake is a directory in it named after the
//! digest of everything that a snapshot is fixed to. Both appear whole, by a rename, or not at all; nothing in them changes
//! afterwards, so any number of VMs share them.

pub mod bake;
pub mod build;
pub mod cache;
pub mod catalog;
pub mod frozen;
pub mod initramfs;
pub mod modules;
pub mod prove;
pub mod recipe;
mod staging;

use crate::host::command::CommandError;
use crate::host::disk::hint_if_full;
use crate::vm::VmError;

/// Why an image could not be made or found. The text is for the operator and ends in a hint where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No recipe and no image of that name.
    #[error("there is no image `{name}`\n  hint: {hint}")]
    Unknown { name: String, hint: String },
    /// The recipe is wrong.
    #[error("the recipe `{file}` is wrong: {detail}")]
    Recipe { file: String, detail: String },
    /// Building needs rights that this user does not have.
    #[error(
        "building an image needs root (mmdebstrap makes a root file system with its owners)\n  hint: run it with sudo"
    )]
    NotRoot,
    /// A tool failed or is missing.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A VM that took part in it failed.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The set-up script failed; the text is the end of its output.
    #[error("the image's set-up script failed ({status}):\n{output}")]
    Setup { status: String, output: String },
    /// A file operation failed.
    #[error("{what}: {source}{}", hint_if_full(source))]
    Io { what: String, source: std::io::Error },
    /// What several waited for failed, and each of them is told.
    #[error(transparent)]
    Shared(std::sync::Arc<Self>),
    /// Something about the built system is not as expected.
    #[error("{0}")]
    Unusable(String),
}

impl ImageError {
    /// For `map_err` on input and output.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether the host's disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Vm(error) => error.is_disk_full(),
            Self::Shared(error) => error.is_disk_full(),
            _ => false,
        }
    }
}

/// Where long work says what it does now.
pub trait Progress: Send + Sync {
    /// A step of the work begins; `text` is for people.
    fn step(&self, text: &str);
    /// A sign of life within a step.
    fn detail(&self, text: &str);
}

/// Progress for nobody but the log.
#[derive(Debug, Clone, Copy)]
pub struct Logged;

impl Progress for Logged {
    fn step(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn detail(&self, text: &str) {
        tracing::debug!("{text}");
    }
}

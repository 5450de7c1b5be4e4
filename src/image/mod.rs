//! Images: what a VM starts from.
//!
//! ```text
//!  recipe ─► packages, archive or OCI layout ─► root.erofs ─┐
//!         └► kernel and its drivers                         ├─► set-up scripts in a VM ─► layer ─┐
//!                                                           └────────────────────────────────────┴─► bake: boot once, freeze ─► snapshot
//! ```
//! An image is a directory named after the digest of what it was built from; a bake is a directory in it named after the
//! digest of everything that a snapshot is fixed to. Both appear whole, by a rename, or not at all; nothing in them changes
//! afterwards, so any number of VMs share them.

pub mod bake;
pub mod build;
pub mod cache;
pub mod catalog;
mod checked;
pub mod failure;
pub mod fetch;
mod files;
pub mod frozen;
pub mod gc;
pub mod initramfs;
pub mod keeper;
mod kernel;
mod lz4;
pub mod modules;
pub mod packages;
mod plain;
pub mod prove;
pub mod recipe;
mod script;
mod source;
mod staging;
mod tools;
mod vmlinux;

pub use checked::Checked;
use fetch::FetchError;

use crate::host::checksum::Damage;
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
    /// A file of the network could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A script of the recipe failed; the text is the end of its output.
    #[error("the {name} failed ({status}):\n{output}")]
    Script { name: String, status: String, output: String },
    /// A file of the image is not what it was when it was built.
    #[error("the image `{name}` is damaged: {damage}\n  hint: `dayfly image build {name}` builds it again")]
    Damaged { name: String, damage: Damage },
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

    /// Whether there is nothing of that name.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Shared(error) => error.is_unknown(),
            _ => false,
        }
    }

    /// Whether the host's disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Fetch(FetchError::NotStored { source, .. }) => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Vm(error) => error.is_disk_full(),
            // Tools say so in the words of the C library.
            Self::Command(error) => error.said().is_some_and(|said| said.contains("No space left on device")),
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

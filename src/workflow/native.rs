//! Actions that Dayfly does itself, so that they need neither Node.js in the image nor a fetch from the forge: those that
//! keep caches and artifacts. Their inputs are those of the actions themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model::Variables;

/// One of the actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NativeKind {
    /// `actions/cache`: restores now, and saves when the job succeeded.
    Cache,
    CacheRestore,
    CacheSave,
    UploadArtifact,
    DownloadArtifact,
}

impl NativeKind {
    /// The action of that name, without its version.
    pub fn of(name: &str) -> Option<Self> {
        let known = [
            ("actions/cache", Self::Cache),
            ("actions/cache/restore", Self::CacheRestore),
            ("actions/cache/save", Self::CacheSave),
            ("actions/upload-artifact", Self::UploadArtifact),
            ("actions/download-artifact", Self::DownloadArtifact),
        ];
        known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, kind)| kind)
    }

    /// Inputs that are read.
    pub fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Cache | Self::CacheRestore => {
                &["path", "key", "restore-keys", "enableCrossOsArchive", "fail-on-cache-miss", "lookup-only"]
            }
            Self::CacheSave => &["path", "key", "enableCrossOsArchive"],
            Self::UploadArtifact => &[
                "name",
                "path",
                "if-no-files-found",
                "retention-days",
                "compression-level",
                "overwrite",
                "include-hidden-files",
                "archive",
            ],
            Self::DownloadArtifact => &["name", "artifact-ids", "path", "pattern", "merge-multiple"],
        }
    }

    /// Inputs that mean nothing here: what they are about goes another way, or is refused by its value only.
    pub fn ignored(self) -> &'static [&'static str] {
        match self {
            Self::Cache | Self::CacheSave => &["upload-chunk-size", "save-always"],
            Self::CacheRestore => &["upload-chunk-size"],
            Self::UploadArtifact => &[],
            Self::DownloadArtifact => &["digest-mismatch"],
        }
    }

    /// Inputs that ask for something that is not there: the artifacts of another run or repository.
    pub fn unsupported(self) -> &'static [&'static str] {
        match self {
            Self::DownloadArtifact => &["github-token", "repository", "run-id", "skip-decompress"],
            Self::Cache | Self::CacheRestore | Self::CacheSave | Self::UploadArtifact => &[],
        }
    }

    /// Inputs without which the action means nothing.
    pub fn required(self) -> &'static [&'static str] {
        match self {
            Self::Cache | Self::CacheRestore | Self::CacheSave => &["path", "key"],
            Self::UploadArtifact => &["path"],
            Self::DownloadArtifact => &[],
        }
    }
}

/// A step that uses one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Native {
    /// As written, such as `actions/cache@v4`; for the step's name.
    pub uses: String,
    pub kind: NativeKind,
    /// The inputs that are read, by their names in [`NativeKind::inputs`].
    pub with: Variables,
}

/// One of them, ready to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativePlan {
    /// For the name of its post step.
    pub uses: String,
    pub kind: NativeKind,
    pub inputs: BTreeMap<String, String>,
    /// Whether this is what comes after all other steps.
    pub is_post: bool,
}

impl NativePlan {
    /// An input without the spaces around it; empty if it was not given.
    pub fn input(&self, name: &str) -> &str {
        self.inputs.get(name).map_or("", |value| value.trim())
    }

    /// An input's lines that are not empty.
    pub fn lines(&self, name: &str) -> Vec<String> {
        self.input(name).lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// An input that is `true` or `false`.
    ///
    /// # Errors
    /// It is something else; in words.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.input(name) {
            "" => Ok(default),
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            other => Err(format!("the input `{name}` is `{other}`, which is neither `true` nor `false`")),
        }
    }
}

//! What stands in a VM's two places for cache volumes, and what the guest does with it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::host::lease::Lease;
use crate::protocol::message::{self, CacheContent, Owner, VolumeFormat};

/// A cache as one VM gets it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheMount {
    volume: Option<Volume>,
    /// What the guest is told; nothing, if it is not to mount the volume.
    mount: Option<message::CacheMount>,
    /// Somebody uses the generation, as long as this is held. Not where it is only written down.
    #[serde(skip)]
    _hold: Option<Arc<Lease>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Volume {
    /// Opened read-only by the monitor.
    Shared(PathBuf),
    Fresh(PathBuf),
}

/// How jobs see a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Nobody can write.
    #[default]
    ReadOnly,
    /// Writes go to the VM's own disk, and end with it.
    Overlay,
}

impl CacheMount {
    /// A volume that others see too, at `target`.
    pub fn of_volume(volume: PathBuf, format: VolumeFormat, mode: CacheMode, target: &str) -> Self {
        let content = match mode {
            CacheMode::ReadOnly => CacheContent::ReadOnly(format),
            CacheMode::Overlay => CacheContent::Overlay(format),
        };
        Self::at(target, content, Some(Volume::Shared(volume)))
    }

    /// A fresh volume, which the VM fills at `target`.
    pub fn filling(volume: PathBuf, target: &str) -> Self {
        Self::at(target, CacheContent::Fresh, Some(Volume::Fresh(volume)))
    }

    /// An empty directory of `owner`, where there is no volume yet.
    pub fn empty(target: &str, owner: Owner) -> Self {
        Self::at(target, CacheContent::Empty(owner), None)
    }

    /// A volume that the guest does not mount by itself: it is to be examined.
    pub fn unmounted(volume: PathBuf) -> Self {
        Self { volume: Some(Volume::Shared(volume)), mount: None, _hold: None }
    }

    fn at(target: &str, content: CacheContent, volume: Option<Volume>) -> Self {
        Self { volume, mount: Some(message::CacheMount { target: target.to_owned(), content }), _hold: None }
    }

    /// The same, and whoever has it keeps what `hold` guards.
    #[must_use]
    pub fn held_by(self, hold: Arc<Lease>) -> Self {
        Self { _hold: Some(hold), ..self }
    }

    /// What stands in the place of the placeholder.
    pub fn shared(&self) -> Option<&Path> {
        match &self.volume {
            Some(Volume::Shared(path)) => Some(path),
            _ => None,
        }
    }

    /// What the VM writes.
    pub(super) fn fresh(&self) -> Option<&Path> {
        match &self.volume {
            Some(Volume::Fresh(path)) => Some(path),
            _ => None,
        }
    }

    /// Whether its volume is still on the host, if it has one.
    pub fn is_there(&self) -> bool {
        match &self.volume {
            Some(Volume::Shared(path) | Volume::Fresh(path)) => path.is_file(),
            None => true,
        }
    }

    /// Whether the guest mounts a volume.
    pub(super) fn is_mounted(&self) -> bool {
        self.volume.is_some() && self.mount.is_some()
    }

    pub(super) fn mount(&self) -> Option<&message::CacheMount> {
        self.mount.as_ref()
    }
}

/// Two are the same if a guest cannot tell them apart, whoever holds what they are of.
impl PartialEq for CacheMount {
    fn eq(&self, other: &Self) -> bool {
        self.volume == other.volume && self.mount == other.mount
    }
}

impl Eq for CacheMount {}

/// The volume's place on the host.
impl fmt::Display for CacheMount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.volume {
            Some(Volume::Shared(path) | Volume::Fresh(path)) => path.display().fmt(out),
            None => out.write_str("no volume"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is kept of a VM that was frozen names its cache; whoever starts clones later holds nothing.
    #[test]
    fn a_cache_is_the_same_after_it_was_written_down_and_whoever_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let lease = Arc::new(Lease::try_take(directory.path()).unwrap().unwrap());
        let volume = || CacheMount::of_volume("/v".into(), VolumeFormat::Ext4, CacheMode::Overlay, "/cache");
        let held = volume().held_by(lease);
        let written = serde_json::to_string(&held).unwrap();
        assert_eq!(serde_json::from_str::<CacheMount>(&written).unwrap(), held);
        assert_eq!(volume(), held);
        assert_ne!(CacheMount::of_volume("/v".into(), VolumeFormat::Ext4, CacheMode::ReadOnly, "/cache"), held);
        assert_ne!(CacheMount::filling("/v".into(), "/cache"), held);
    }

    #[test]
    fn what_the_guest_has_mounted_is_told_from_what_it_has_not() {
        let owner = Owner { uid: 1, gid: 1 };
        assert!(CacheMount::filling("/v".into(), "/cache").is_mounted());
        assert!(!CacheMount::empty("/cache", owner).is_mounted(), "a generation may come in its place");
        assert!(!CacheMount::unmounted("/v".into()).is_mounted());
        assert_eq!(CacheMount::unmounted("/v".into()).shared(), Some(Path::new("/v")));
        assert_eq!(CacheMount::filling("/v".into(), "/cache").shared(), None);
    }
}

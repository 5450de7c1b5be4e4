//! Where images and bakes are, and what is known of them.
//!
//! ```text
//!  images/NAME/current ──► DIGEST           the one that new VMs use
//!  images/NAME/DIGEST/image.json            what it is
//!                     kernel  root.erofs  layer.ext4  modules/
//!                     bakes/KEY/snapshot.json  memory  state  scratch  cache-placeholder  initramfs
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::recipe::{User, check_name};
use crate::host::disk;
use crate::host::lease::Lease;
use crate::vm::spec::{Accelerator, Shape};

/// All images of a host.
#[derive(Debug, Clone)]
pub struct Catalog {
    root: PathBuf,
}

/// `image.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageInfo {
    pub name: String,
    pub digest: String,
    pub description: String,
    pub suite: String,
    /// Version of the guest's kernel.
    pub kernel: String,
    pub user: User,
    pub environment: Vec<(String, String)>,
    /// Installed packages, as `name=version`.
    pub packages: Vec<String>,
    /// Milliseconds since the epoch.
    pub built_at: i64,
}

/// An image on disk.
#[derive(Debug, Clone)]
pub struct Image {
    pub directory: PathBuf,
    pub info: ImageInfo,
}

/// `snapshot.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BakeInfo {
    pub key: String,
    pub shape: Shape,
    pub accelerator: Accelerator,
    /// What the monitor says of its version.
    pub monitor: String,
    pub command_line: String,
    /// Milliseconds since the epoch.
    pub baked_at: i64,
}

/// A bake on disk.
#[derive(Debug, Clone)]
pub struct Bake {
    pub directory: PathBuf,
    pub info: BakeInfo,
}

impl Catalog {
    /// The catalogue in `root`, which is made when something is put into it.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory of one image name.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The image that new VMs use, if it has been built.
    pub fn current(&self, name: &str) -> Result<Option<Image>, ImageError> {
        check_name(name)?;
        let link = self.directory(name).join("current");
        match fs::read_link(&link) {
            Ok(target) => self.image(name, &target.to_string_lossy()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io(link.display().to_string())(error)),
        }
    }

    /// The image with this digest.
    pub fn image(&self, name: &str, digest: &str) -> Result<Image, ImageError> {
        let directory = self.directory(name).join(digest);
        let info = read_json(&directory.join("image.json"))?;
        Ok(Image { directory, info })
    }

    /// Every image, current or not, ordered by name.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut images = Vec::new();
        for name in names_in(&self.root)? {
            for digest in names_in(&self.root.join(&name))? {
                if self.root.join(&name).join(&digest).join("image.json").is_file() && digest != "current" {
                    images.push(self.image(&name, &digest)?);
                }
            }
        }
        Ok(images)
    }

    /// Removes every image of that name. A VM that runs keeps its open files until it ends; the caller refuses when one
    /// would be started from it.
    pub fn remove(&self, name: &str) -> Result<(), ImageError> {
        check_name(name)?;
        let directory = self.directory(name);
        if !directory.is_dir() {
            let hint = "`dayfly image list` shows what there is".to_owned();
            return Err(ImageError::Unknown { name: name.to_owned(), hint });
        }
        fs::remove_dir_all(&directory).map_err(ImageError::io(directory.display().to_string()))
    }

    /// Waits until nobody else builds or bakes this image. Blocks the thread.
    pub fn lock(&self, name: &str) -> Result<Lease, ImageError> {
        let directory = self.directory(name);
        let context = || ImageError::io(format!("image directory `{}`", directory.display()));
        fs::create_dir_all(&directory).map_err(context())?;
        Lease::wait(&directory).map_err(context())
    }

    /// Makes `digest` the image that new VMs use.
    pub fn set_current(&self, name: &str, digest: &str) -> Result<(), ImageError> {
        let directory = self.directory(name);
        let fresh = directory.join(".current");
        let replace = || -> io::Result<()> {
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::os::unix::fs::symlink(digest, &fresh)?;
            fs::rename(&fresh, directory.join("current"))
        };
        replace().map_err(ImageError::io(format!("image directory `{}`", directory.display())))
    }
}

impl Image {
    /// A file of the image.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What the set-up script wrote, if the image has one.
    pub fn layer(&self) -> Option<PathBuf> {
        Some(self.file("layer.ext4")).filter(|path| path.is_file())
    }

    /// The bake with this key, if there is one.
    pub fn bake(&self, key: &str) -> Result<Option<Bake>, ImageError> {
        let directory = self.bakes().join(key);
        let description = directory.join("snapshot.json");
        if !description.is_file() {
            return Ok(None);
        }
        Ok(Some(Bake { info: read_json(&description)?, directory }))
    }

    /// Where the bakes are.
    pub fn bakes(&self) -> PathBuf {
        self.directory.join("bakes")
    }

    /// Every bake.
    pub fn list_bakes(&self) -> Result<Vec<Bake>, ImageError> {
        names_in(&self.bakes())?.into_iter().filter_map(|key| self.bake(&key).transpose()).collect()
    }
}

impl Bake {
    /// A file of the bake.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// A directory under construction beside its final place. Dropped before [`Staging::publish`], nothing is left.
#[derive(Debug)]
pub struct Staging {
    directory: PathBuf,
}

impl Staging {
    /// Starts building something that will be a subdirectory of `parent`. What an earlier builder left is removed: the
    /// caller holds the image's lock, so nobody is at it.
    pub fn begin(parent: &Path) -> Result<Self, ImageError> {
        let begin = || -> io::Result<PathBuf> {
            fs::create_dir_all(parent)?;
            for entry in fs::read_dir(parent)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(".building-") {
                    disk::remove_tree(&entry.path())?;
                }
            }
            Ok(tempfile::Builder::new().prefix(".building-").tempdir_in(parent)?.keep())
        };
        begin()
            .map(|directory| Self { directory })
            .map_err(ImageError::io(format!("building in `{}`", parent.display())))
    }

    /// The directory to build in.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Moves what was built to its place, which replaces what was there.
    pub fn publish(self, place: &Path) -> Result<(), ImageError> {
        let publish = || -> io::Result<()> {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755))?;
            if place.exists() {
                fs::remove_dir_all(place)?;
            }
            fs::rename(self.path(), place)
        };
        publish().map_err(ImageError::io(format!("publishing `{}`", place.display())))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match disk::remove_tree(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(directory = %self.directory.display(), %error, "an unfinished build could not be removed");
            }
            _ => {}
        }
    }
}

/// Writes a description that is on the disk when this returns.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), ImageError> {
    let text = serde_json::to_vec_pretty(value).expect("descriptions are plain data");
    let write = || -> io::Result<()> {
        fs::write(path, &text)?;
        fs::File::open(path)?.sync_all()
    };
    write().map_err(ImageError::io(path.display().to_string()))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    let text = fs::read(path).map_err(ImageError::io(path.display().to_string()))?;
    serde_json::from_slice(&text).map_err(|error| {
        ImageError::Unusable(format!(
            "`{}` is damaged: {error}\n  hint: remove the image and build it again",
            path.display()
        ))
    })
}

/// Names of the visible subdirectories, ordered; none if the directory is not there.
fn names_in(directory: &Path) -> Result<Vec<String>, ImageError> {
    let context = || ImageError::io(directory.display().to_string());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(context()(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(context())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

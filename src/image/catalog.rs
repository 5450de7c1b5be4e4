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
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::build::LAYER;
use super::recipe::{RemoteFile, Script, User, check_name};
use super::staging::remove_unfinished_in;
use crate::host::checksum::{self, Checksums, Damage};
use crate::host::disk;
use crate::host::lease::Lease;
use crate::vm::spec::{Accelerator, Shape};

/// What no image is without.
const NEEDED: [&str; 3] = ["kernel", "root.erofs", "modules"];

/// What stands in for the cache volume in a bake. It is too large to have a checksum, and all holes.
pub(super) const PLACEHOLDER: &str = "cache-placeholder";

/// The link to the image that new VMs use.
const CURRENT: &str = "current";

/// Below an image's directory.
const BAKES: &str = "bakes";

/// All images of a host.
#[derive(Debug, Clone)]
pub struct Catalog {
    root: PathBuf,
}

/// `image.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageInfo {
    pub name: String,
    /// Of everything that it was made of: equal content has equal digests.
    pub digest: String,
    /// The digest of the recipe; another one has the image built again.
    #[serde(default)]
    pub recipe: String,
    pub description: String,
    /// What the root file system was made from, for people.
    #[serde(default)]
    pub source: String,
    /// Version of the guest's kernel.
    pub kernel: String,
    pub user: User,
    pub environment: Vec<(String, String)>,
    /// Installed packages, as `name=version`.
    pub packages: Vec<String>,
    /// What the set-up scripts got from the network.
    #[serde(default)]
    pub fetched: Vec<RemoteFile>,
    /// What runs in each VM that is about to become a snapshot.
    #[serde(default)]
    pub bake: Vec<Script>,
    /// Milliseconds since the epoch.
    pub built_at: i64,
    /// The version of Dayfly that built it, and the SHA-256 of the agent that ran the set-up scripts.
    #[serde(default)]
    pub built_by: String,
    #[serde(default)]
    pub agent: String,
    /// What its files have to be like.
    #[serde(default)]
    pub files: Checksums,
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
    /// What its files have to be like.
    #[serde(default)]
    pub files: Checksums,
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

    /// The image that new VMs use, if it has been built. One that is damaged or not there is as good as none: it is built
    /// again.
    pub fn current(&self, name: &str) -> Result<Option<Image>, ImageError> {
        check_name(name)?;
        let link = self.directory(name).join(CURRENT);
        let digest = match fs::read_link(&link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io(link.display().to_string())(error)),
        };
        match self.image(name, &digest.to_string_lossy()) {
            Ok(image) => match image.is_there() {
                Ok(()) => Ok(Some(image)),
                Err(damage) => {
                    tracing::warn!(directory = %image.directory.display(), %damage, "an image is damaged");
                    Ok(None)
                }
            },
            Err(ImageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(ImageError::Unusable(why)) => {
                tracing::warn!("{why}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The image with this digest.
    pub fn image(&self, name: &str, digest: &str) -> Result<Image, ImageError> {
        let directory = self.directory(name).join(digest);
        let info = read_json(&directory.join("image.json"))?;
        Ok(Image { directory, info })
    }

    /// Where all images are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of images that there are, ordered.
    pub fn names(&self) -> Result<Vec<String>, ImageError> {
        names_in(&self.root)
    }

    /// The digests of an image's builds, whole or not, ordered.
    pub fn digests(&self, name: &str) -> Result<Vec<String>, ImageError> {
        let mut digests = names_in(&self.directory(name))?;
        digests.retain(|digest| digest != CURRENT);
        Ok(digests)
    }

    /// The digest that new VMs use, whether or not that image is whole.
    pub fn current_digest(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.directory(name).join(CURRENT)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// The images of one name, current or not; those that do not read are left out.
    pub fn images(&self, name: &str) -> Result<Vec<Image>, ImageError> {
        let digests = self.digests(name)?;
        Ok(digests.iter().filter_map(|digest| self.image(name, digest).ok()).collect())
    }

    /// Every image, current or not, ordered by name.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut images = Vec::new();
        for name in self.names()? {
            images.extend(self.images(&name)?);
        }
        Ok(images)
    }

    /// Removes every image of that name, once nobody builds or bakes it; blocks the thread until then. A VM that runs keeps
    /// its open files until it ends; the caller refuses when one would be started from it.
    pub fn remove(&self, name: &str) -> Result<(), ImageError> {
        check_name(name)?;
        let directory = self.directory(name);
        let unknown = || {
            let hint = "`dayfly image list` shows what there is".to_owned();
            ImageError::Unknown { name: name.to_owned(), hint }
        };
        if !directory.is_dir() {
            return Err(unknown());
        }
        let _lock = self.lock(name)?;
        let remove = || -> io::Result<usize> {
            let mut removed = 0;
            // First, so that nobody starts from what is half gone.
            match fs::remove_file(directory.join(CURRENT)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                // The lock file stays: somebody may wait for it.
                if entry.file_type()?.is_dir() {
                    disk::remove_tree(&entry.path())?;
                    removed += 1;
                }
            }
            Ok(removed)
        };
        match remove().map_err(ImageError::io(directory.display().to_string()))? {
            0 => Err(unknown()),
            _ => Ok(()),
        }
    }

    /// Removes what builds and bakes left that ended half-way. Images at which somebody is just working are left alone.
    /// Blocks the thread.
    ///
    /// # Errors
    /// The first failure; the other images are seen to all the same.
    pub fn remove_unfinished(&self) -> Result<(), ImageError> {
        let remove = |name: &String| {
            let directory = self.root.join(name);
            let context = || ImageError::io(format!("image directory `{}`", directory.display()));
            let Some(_lock) = Lease::try_take(&directory).map_err(context())? else { return Ok(()) };
            remove_unfinished_in(&directory).map_err(context())?;
            for digest in names_in(&directory)? {
                remove_unfinished_in(&directory.join(digest).join(BAKES)).map_err(context())?;
            }
            Ok(())
        };
        names_in(&self.root)?.iter().map(remove).fold(Ok(()), Result::and)
    }

    /// Waits until nobody else builds or bakes this image. Blocks the thread.
    pub fn lock(&self, name: &str) -> Result<Lease, ImageError> {
        let directory = self.directory(name);
        let context = || ImageError::io(format!("image directory `{}`", directory.display()));
        fs::create_dir_all(&directory).map_err(context())?;
        Lease::wait(&directory).map_err(context())
    }

    /// Makes `digest` the image that new VMs use. The time of the one before it tells until when it was that.
    pub fn set_current(&self, name: &str, digest: &str) -> Result<(), ImageError> {
        let directory = self.directory(name);
        let fresh = directory.join(".current");
        let replace = || -> io::Result<()> {
            if let Ok(superseded) = fs::File::open(directory.join(CURRENT)) {
                superseded.set_modified(SystemTime::now())?;
            }
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::os::unix::fs::symlink(digest, &fresh)?;
            fs::rename(&fresh, directory.join(CURRENT))
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
        Some(self.file(LAYER)).filter(|path| path.is_file())
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

    /// All that it needs.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let needed = NEEDED.into_iter().chain(self.info.files.keys().map(String::as_str));
        needed.map(|file| self.file(file))
    }

    /// Whether its files are there, with the lengths that they had. What is in them, [`Image::verify`] tells.
    pub fn is_there(&self) -> Result<(), Damage> {
        NEEDED.iter().try_for_each(|file| require(&self.directory, file))?;
        checksum::verify_lengths(&self.directory, &self.info.files)
    }

    /// Whether its files are what they were when it was built.
    pub async fn verify(&self) -> Result<(), Damage> {
        verify(self.directory.clone(), self.info.files.clone()).await
    }

    /// Where the bakes are.
    pub fn bakes(&self) -> PathBuf {
        self.directory.join(BAKES)
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

    /// All that it needs, beside the image.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        std::iter::once(PLACEHOLDER).chain(self.info.files.keys().map(String::as_str)).map(|file| self.file(file))
    }

    /// Whether its files are there, with the lengths that they had. What is in them, [`Bake::verify`] tells.
    pub fn is_there(&self) -> Result<(), Damage> {
        require(&self.directory, PLACEHOLDER)?;
        checksum::verify_lengths(&self.directory, &self.info.files)
    }

    /// Whether its files are what they were when it was made.
    pub async fn verify(&self) -> Result<(), Damage> {
        require(&self.directory, PLACEHOLDER)?;
        verify(self.directory.clone(), self.info.files.clone()).await
    }
}

fn require(directory: &Path, file: &str) -> Result<(), Damage> {
    let found = fs::metadata(directory.join(file)).map(drop);
    found.map_err(|error| Damage { file: file.to_owned(), how: checksum::How::Unreadable(error.to_string()) })
}

/// Compares files with their checksums, where it holds up nobody.
async fn verify(directory: PathBuf, files: Checksums) -> Result<(), Damage> {
    let shown = directory.display().to_string();
    let done = tokio::task::spawn_blocking(move || checksum::verify(&directory, &files)).await;
    done.unwrap_or_else(|error| Err(Damage { file: shown, how: checksum::How::Unreadable(error.to_string()) }))
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

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
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

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;

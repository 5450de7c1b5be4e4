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
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::recipe::{User, check_name};
use super::staging::remove_unfinished_in;
use crate::host::disk;
use crate::host::lease::Lease;
use crate::vm::spec::{Accelerator, Shape};

/// What no image is without.
const NEEDED: [&str; 3] = ["kernel", "root.erofs", "modules"];

/// How long an image that is not current any more is kept, for VMs that are just starting from it. A VM that runs has its
/// files open and does not need the names.
const SUPERSEDED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

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

    /// The image that new VMs use, if it has been built. One that is damaged or not there is as good as none: it is built
    /// again.
    pub fn current(&self, name: &str) -> Result<Option<Image>, ImageError> {
        check_name(name)?;
        let link = self.directory(name).join("current");
        let digest = match fs::read_link(&link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io(link.display().to_string())(error)),
        };
        match self.image(name, &digest.to_string_lossy()) {
            Ok(image) if NEEDED.iter().all(|file| image.file(file).exists()) => Ok(Some(image)),
            Ok(image) => {
                tracing::warn!(directory = %image.directory.display(), "an image lacks some of its files");
                Ok(None)
            }
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
            match fs::remove_file(directory.join("current")) {
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

    /// Removes the images of that name that have not been current for a day. The caller holds the image's lock.
    pub fn remove_superseded(&self, name: &str) -> Result<(), ImageError> {
        let directory = self.directory(name);
        let Ok(current) = fs::read_link(directory.join("current")) else { return Ok(()) };
        let superseded_at = |digest: &str| -> io::Result<SystemTime> { directory.join(digest).metadata()?.modified() };
        for digest in names_in(&directory)? {
            let age = superseded_at(&digest).ok().and_then(|when| when.elapsed().ok());
            let is_old = age.is_some_and(|age| age > SUPERSEDED_KEPT);
            if is_old && digest != "current" && Path::new(&digest) != current {
                let path = directory.join(&digest);
                disk::remove_tree(&path).map_err(ImageError::io(path.display().to_string()))?;
            }
        }
        Ok(())
    }

    /// Removes what builds and bakes left that ended half-way. Images at which somebody is just working are left alone.
    /// Blocks the thread.
    pub fn remove_unfinished(&self) -> Result<(), ImageError> {
        for name in names_in(&self.root)? {
            let directory = self.root.join(&name);
            let context = || ImageError::io(format!("image directory `{}`", directory.display()));
            let Some(_lock) = Lease::try_take(&directory).map_err(context())? else { continue };
            remove_unfinished_in(&directory).map_err(context())?;
            for digest in names_in(&directory)? {
                remove_unfinished_in(&directory.join(digest).join(BAKES)).map_err(context())?;
            }
        }
        Ok(())
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
            if let Ok(superseded) = fs::File::open(directory.join("current")) {
                superseded.set_modified(SystemTime::now())?;
            }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::staging::Staging;
    use super::*;

    async fn publish(catalog: &Catalog, digest: &str) -> PathBuf {
        let staging = Staging::begin(&catalog.directory("base")).unwrap();
        let info = ImageInfo {
            name: "base".into(),
            digest: digest.into(),
            description: String::new(),
            suite: "stable".into(),
            kernel: "1".into(),
            user: serde_json::from_str(r#"{"name": "ci", "uid": 1000, "gid": 1000}"#).unwrap(),
            environment: Vec::new(),
            packages: Vec::new(),
            built_at: 0,
        };
        for file in NEEDED {
            fs::write(staging.path().join(file), "").unwrap();
        }
        write_json(&staging.path().join("image.json"), &info).unwrap();
        let place = catalog.directory("base").join(digest);
        staging.publish(&place).await.unwrap();
        catalog.set_current("base", digest).unwrap();
        place
    }

    fn visible(catalog: &Catalog) -> Vec<String> {
        names_in(&catalog.directory("base")).unwrap().into_iter().filter(|name| name != "current").collect()
    }

    #[tokio::test]
    async fn a_dangling_or_damaged_image_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(directory.path().to_owned());
        let place = publish(&catalog, "one").await;
        assert_eq!(catalog.current("base").unwrap().unwrap().info.digest, "one");
        fs::remove_file(place.join("root.erofs")).unwrap();
        assert!(catalog.current("base").unwrap().is_none(), "a file is missing");
        fs::write(place.join("image.json"), "{").unwrap();
        assert!(catalog.current("base").unwrap().is_none(), "its description is damaged");
        fs::remove_dir_all(&place).unwrap();
        assert!(catalog.current("base").unwrap().is_none(), "it is not there");
        publish(&catalog, "one").await;
        assert!(catalog.current("base").unwrap().is_some());
    }

    #[tokio::test]
    async fn what_takes_the_place_of_an_image_leaves_nothing_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(directory.path().to_owned());
        let place = publish(&catalog, "one").await;
        fs::write(place.join("old"), "").unwrap();
        publish(&catalog, "one").await;
        assert!(!place.join("old").exists());
        let hidden = fs::read_dir(catalog.directory("base")).unwrap().flatten();
        assert_eq!(hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count(), 0);
    }

    #[tokio::test]
    async fn what_ended_half_way_goes_unless_somebody_is_at_it() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(directory.path().to_owned());
        catalog.remove_unfinished().unwrap();
        let place = publish(&catalog, "one").await;
        let left = [catalog.directory("base").join(".building-a"), place.join(BAKES).join(".replaced-b")];
        left.iter().for_each(|left| fs::create_dir_all(left.join("root")).unwrap());
        let lock = catalog.lock("base").unwrap();
        catalog.remove_unfinished().unwrap();
        assert!(left.iter().all(|left| left.exists()));
        drop(lock);
        catalog.remove_unfinished().unwrap();
        assert!(!left.iter().any(|left| left.exists()));
        assert!(catalog.current("base").unwrap().is_some());
    }

    #[tokio::test]
    async fn only_what_is_superseded_and_old_goes() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(directory.path().to_owned());
        let age = |digest: &str| {
            let place = fs::File::open(catalog.directory("base").join(digest)).unwrap();
            place.set_modified(SystemTime::now() - 2 * SUPERSEDED_KEPT).unwrap();
        };
        for digest in ["old", "young", "current-and-old"] {
            publish(&catalog, digest).await;
        }
        age("old");
        age("current-and-old");
        catalog.remove_superseded("base").unwrap();
        assert_eq!(visible(&catalog), ["current-and-old", "young"]);
    }

    #[tokio::test]
    async fn an_image_is_removed_when_its_builder_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(directory.path().to_owned());
        publish(&catalog, "one").await;
        let lock = catalog.lock("base").unwrap();
        let removing = std::thread::spawn({
            let catalog = catalog.clone();
            move || catalog.remove("base")
        });
        assert_eq!(visible(&catalog), ["one"], "it waits for the builder");
        drop(lock);
        removing.join().unwrap().unwrap();
        assert!(visible(&catalog).is_empty());
        assert!(catalog.current("base").unwrap().is_none());
        assert!(matches!(catalog.remove("base"), Err(ImageError::Unknown { .. })));
    }
}

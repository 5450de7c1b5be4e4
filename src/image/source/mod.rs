//! Root file systems that exist already: a tar archive, or an image of an OCI image layout.
//!
//! Both may be the work of strangers. Archives are decompressed by processes of their own, digests are compared before
//! anything is unpacked, and unpacking cannot leave the directory ([`Root`]).

mod leash;
mod oci;
mod root;
mod tree;
mod unpack;
mod xattrs;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use self::leash::Leash;
pub(super) use self::root::Root;
use self::unpack::{Unpacker, Whiteouts};
use super::plain::Plain;
use super::recipe::Source;
use super::{ImageError, Progress};

/// How long it may take to unpack an archive, or to compare a layout with its digests.
const UNPACK_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Beside the root file system, while it is being made: what was removed from it, and a layout's files.
const TRASH: &str = "removed";
const LAYOUT: &str = "layout";

/// What a source says about its programs.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// Environment, for what the recipe does not say itself.
    pub(super) environment: Vec<(String, String)>,
}

/// Makes `directory/root` from `source`.
pub(super) async fn unpack(source: &Source, directory: &Path, progress: &dyn Progress) -> Result<Unpacked, ImageError> {
    let top = directory.join("root");
    let trash = directory.join(TRASH);
    let unpacked = match source {
        Source::Packages(_) => return Err(ImageError::Unusable("packages are installed, not unpacked".to_owned())),
        Source::Rootfs(file) => {
            progress.step(&format!("unpacking `{}`", file.path.display()));
            let archive = open(&file.path)?;
            lay(vec![archive], top, trash.clone(), Whiteouts::Plain, &file.path).await?;
            Unpacked::default()
        }
        Source::OciLayout { layout, reference } => {
            let place = directory.join(LAYOUT);
            let image = oci::find(&layout.path, reference.as_deref(), &place).await?;
            progress.step(&format!("unpacking {} layers of `{}`", image.layers.len(), layout.path.display()));
            lay(image.layers, top, trash.clone(), Whiteouts::Obeyed, &layout.path).await?;
            remove_if_there(&place)?;
            Unpacked { environment: image.environment }
        }
    };
    remove_if_there(&trash)?;
    Ok(unpacked)
}

fn remove_if_there(directory: &Path) -> Result<(), ImageError> {
    match crate::host::disk::remove_tree(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::io(directory.display().to_string())(error))
        }
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<File, ImageError> {
    File::open(path).map_err(ImageError::io(format!("`{}`", path.display())))
}

/// Lays archives over one another.
async fn lay(
    archives: Vec<File>, top: std::path::PathBuf, trash: std::path::PathBuf, whiteouts: Whiteouts, from: &Path,
) -> Result<(), ImageError> {
    let from = format!("unpacking `{}`", from.display());
    let work = move |leash: &Leash| -> io::Result<Vec<Plain>> {
        let mut plain: Vec<Plain> = archives.into_iter().map(Plain::of).collect::<Result<_, _>>()?;
        let mut root = Root::open(&top, &trash)?;
        let mut unpacker = Unpacker::new(&mut root);
        plain.iter_mut().try_for_each(|archive| {
            let mut archive = leash.hold(archive);
            unpacker.unpack(&mut archive, whiteouts)?;
            // A decompressor that is not read to its end could not say that something is wrong.
            io::copy(&mut archive, &mut io::sink()).map(drop)
        })?;
        Ok(plain)
    };
    let plain = leash::work(&from, UNPACK_LIMIT, work).await?;
    for archive in plain.map_err(ImageError::io(from))? {
        archive.finish().await?;
    }
    Ok(())
}

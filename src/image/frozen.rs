//! Frozen VMs that are kept: what is known of them, and whether they may still be used.
//!
//! ```text
//!  DIRECTORY/frozen.json   what it is, with a checksum of each file
//!            memory  state  scratch
//! ```
//! The directory can be renamed, so that it appears whole, and used after a restart. It needs the image and the bake that its
//! VM was restored from. What was frozen with another monitor, processor model or Dayfly is refused, as is what has changed.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalog::{BakeInfo, Catalog, ImageInfo, read_json, write_json};
use super::{ImageError, bake};
use crate::clock;
use crate::host::checksum::{self, Checksums};
use crate::vm::backend::Vmm;
use crate::vm::freeze::{Frozen, MEMORY, SCRATCH, STATE};
use crate::vm::machine::Template;
use crate::vm::spec::{Accelerator, Shape};
use crate::vm::volume::CacheMount;

/// The name of the description.
pub const DESCRIPTION: &str = "frozen.json";

/// Changes with the meaning of the files.
const FORMAT: u32 = 1;

/// `frozen.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenInfo {
    format: u32,
    /// Name and digest of the image.
    pub image: String,
    pub digest: String,
    /// Key of the bake, which stands for everything that a snapshot is fixed to.
    pub bake: String,
    pub shape: Shape,
    pub accelerator: Accelerator,
    /// The cache volume that the guest has mounted.
    pub mounted: Option<CacheMount>,
    /// Milliseconds since the epoch.
    pub frozen_at: i64,
    checksums: Checksums,
}

/// What clones of a frozen VM start from.
#[derive(Debug, Clone)]
pub struct Thawed {
    pub image: ImageInfo,
    pub bake: BakeInfo,
    pub template: Template,
}

/// Describes what a VM of that image and bake was frozen to, beside it. Only then [`open`] takes it.
pub async fn describe(frozen: &Frozen, image: &ImageInfo, bake: &BakeInfo) -> Result<FrozenInfo, ImageError> {
    let info = FrozenInfo {
        format: FORMAT,
        image: image.name.clone(),
        digest: image.digest.clone(),
        bake: bake.key.clone(),
        shape: bake.shape,
        accelerator: bake.accelerator,
        mounted: frozen.mounted.clone(),
        frozen_at: clock::now_ms(),
        checksums: looking_at(&frozen.directory, |directory| checksum::of_files(directory, &[MEMORY, SCRATCH, STATE]))
            .await?
            .map_err(ImageError::io(frozen.directory.display().to_string()))?,
    };
    write_json(&frozen.directory.join(DESCRIPTION), &info)?;
    Ok(info)
}

/// What clones of the frozen VM in `directory` start from, after a look at everything that is in it: a tenth of a second for
/// each 100 MiB. `vmm` is the monitor.
///
/// # Errors
/// With the reason, when it must not be used; it never will be again then.
pub async fn open(directory: &Path, catalog: &Catalog, vmm: &Vmm) -> Result<Thawed, ImageError> {
    let refused = |why: String| {
        let place = directory.display();
        ImageError::Unusable(format!(
            "the frozen VM `{place}` cannot be used: {why}\n  hint: remove it; another is made"
        ))
    };
    let info: FrozenInfo =
        read_json(&directory.join(DESCRIPTION)).map_err(|error| refused(format!("its description: {error}")))?;
    if info.format != FORMAT {
        return Err(refused(format!("it has the format {}, and this version reads {FORMAT}", info.format)));
    }
    let image = catalog
        .image(&info.image, &info.digest)
        .map_err(|_| refused(format!("its image `{}` {} is not there any more", info.image, info.digest)))?;
    if bake::key(&image, vmm, info.accelerator, info.shape).await? != info.bake {
        return Err(refused("the monitor, the processor or Dayfly is another than the one that froze it".to_owned()));
    }
    let bake = image.bake(&info.bake)?.ok_or_else(|| refused("its bake is not there any more".to_owned()))?;
    if let Some(gone) = info.mounted.as_ref().filter(|mounted| !mounted.is_there()) {
        return Err(refused(format!("its cache volume `{gone}` is not there any more")));
    }
    let expected = info.checksums.clone();
    let verified = looking_at(directory, move |directory| checksum::verify(directory, &expected)).await?;
    verified.map_err(|damage| refused(damage.to_string()))?;
    let frozen = Frozen { directory: directory.to_owned(), mounted: info.mounted };
    let template = frozen.template(&bake::template(&image, &bake, vmm));
    Ok(Thawed { image: image.info, bake: bake.info, template })
}

/// Files of hundreds of MiB are read where that holds up nobody.
async fn looking_at<T: Send + 'static>(
    directory: &Path, look: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, ImageError> {
    let directory = directory.to_owned();
    let done = tokio::task::spawn_blocking(move || look(&directory)).await;
    done.map_err(|error| ImageError::Unusable(format!("looking at a frozen VM was interrupted: {error}")))
}

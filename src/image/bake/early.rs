//! A snapshot of a kernel that has only just begun, for measurements: to load one and let it run is the same work for a monitor
//! whatever its guest is at, and it can also be measured on a host that cannot run a guest to its end.

use std::path::Path;

use super::{Studio, lay_out};
use crate::host::disk;
use crate::host::process::Lifetime;
use crate::ids::VmId;
use crate::image::ImageError;
use crate::image::catalog::Image;
use crate::vm::VmError;
use crate::vm::backend::{Launch, Start};
use crate::vm::home::Home;
use crate::vm::machine::Template;
use crate::vm::spec::{Boot, Disks, Shape};

/// Makes one in an empty directory. Nobody speaks with the guest.
pub async fn early(image: &Image, studio: &Studio, shape: Shape, directory: &Path) -> Result<Template, ImageError> {
    let (boot, disks) = lay_out(image, studio, shape, directory).await?;
    let memory = directory.join("memory");
    if studio.vmm.needs_own_memory() {
        disk::create_sparse(&memory, shape.memory_mib << 20).map_err(ImageError::io("the memory file"))?;
    }
    let mut home = studio.homes.create(VmId::random())?;
    let state = directory.join("state");
    let saved = save(&home, studio, shape, &boot, &disks, [&state, &memory]).await;
    home.remove().await?;
    saved?;
    let Disks { root, layer, scratch, cache, fill: _ } = disks;
    Ok(Template {
        vmm: studio.vmm.clone(),
        accelerator: studio.accelerator,
        shape,
        boot,
        root,
        layer,
        memory,
        state,
        scratch,
        cache_placeholder: cache.unwrap_or_default(),
        mounted: None,
    })
}

async fn save(
    home: &Home, studio: &Studio, shape: Shape, boot: &Boot, disks: &Disks, [state, memory]: [&Path; 2],
) -> Result<(), VmError> {
    let accelerator = studio.accelerator;
    let (start, lifetime) = (Start::BootForSnapshot, Lifetime::EndsWithUs);
    let launch = Launch { accelerator, shape, start, boot, disks, memory, lifetime };
    let (mut monitor, _) = studio.vmm.launch(home, launch).await?;
    let saved = async {
        monitor.pause().await?;
        monitor.save(state, memory).await
    };
    let saved = saved.await;
    monitor.kill().await.map_err(VmError::host("ending the monitor"))?;
    saved
}

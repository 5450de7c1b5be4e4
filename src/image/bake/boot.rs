//! What a machine boots from: the kernel in the form that its monitor takes, and the initramfs with the drivers that it has a
//! use for.

use std::fs;
use std::path::{Path, PathBuf};

use super::AGENT;
use crate::image::catalog::Image;
use crate::image::initramfs::{self, File};
use crate::image::{ImageError, vmlinux};
use crate::vm::backend::{AgentLink, KernelForm, Vmm};

/// Drivers that only one kind of machine has a device for. The others do without the memory and the time that they take.
const OF_VIRTIO_SERIAL: [&str; 1] = ["virtio_console"];
const OF_VSOCK: [&str; 6] =
    [VSOCK_DRIVER, "vmw_vsock_virtio_transport_common", "vsock", "virtio_rng", "rng_core", "vmgenid"];
const OF_CARD: [&str; 3] = [CARD_DRIVER, "net_failover", "failover"];
const CARD_DRIVER: &str = "virtio_net";
const VSOCK_DRIVER: &str = "vmw_vsock_virtio_transport";

/// The kernel that a monitor boots, which lies in `directory` if it had to be unpacked.
pub(super) fn kernel_file(vmm: &Vmm, image: &Image, directory: &Path) -> PathBuf {
    match vmm.capabilities().kernel {
        KernelForm::Packed => image.file("kernel"),
        KernelForm::Elf => directory.join("vmlinux"),
    }
}

/// The same, unpacked into `directory` if need be.
pub(super) async fn kernel_for(vmm: &Vmm, image: &Image, directory: &Path) -> Result<PathBuf, ImageError> {
    let kernel = kernel_file(vmm, image, directory);
    if vmm.capabilities().kernel == KernelForm::Elf {
        vmlinux::unpack(&image.file("kernel"), &kernel).await?;
    }
    Ok(kernel)
}

/// Writes the initramfs of an image's machines, with or without a network card, to `to`.
pub(super) fn write_initramfs(image: &Image, vmm: &Vmm, card: bool, to: &Path) -> Result<(), ImageError> {
    let context = || ImageError::io("building the initramfs");
    let link = vmm.capabilities().link;
    let mut modules = Vec::new();
    for entry in fs::read_dir(image.file("modules")).map_err(context())? {
        let entry = entry.map_err(context())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        modules.push((name, fs::read(entry.path()).map_err(context())?));
    }
    require_drivers(link, card, modules.iter().map(|(name, _)| module_of(name)), &image.info.name)?;
    modules.retain(|(name, _)| !is_of_another(link, card, module_of(name)));
    modules.sort();
    for (name, _) in &mut modules {
        name.insert_str(0, "modules/");
    }
    let mut files = vec![File { path: "init", content: AGENT }];
    files.extend(modules.iter().map(|(path, content)| File { path, content }));
    let directories = ["dev", "proc", "sys", "modules", "lower", "layer", "scratch", "root"];
    fs::write(to, initramfs::archive(&directories, &files)).map_err(context())
}

/// The module in a file like `05-virtio-rng.ko`, named as the kernel does.
fn module_of(file: &str) -> String {
    let name = file.split_once('-').map_or(file, |(_, name)| name);
    name.trim_end_matches(".ko").replace('-', "_")
}

fn is_of_another(link: AgentLink, card: bool, module: String) -> bool {
    let of_other_link: &[&str] = match link {
        AgentLink::VirtioSerial => &OF_VSOCK,
        AgentLink::Vsock => &OF_VIRTIO_SERIAL,
    };
    of_other_link.contains(&module.as_str()) || !card && OF_CARD.contains(&module.as_str())
}

/// A kernel that has the one link's driver in a file has that of the other there too, unless the image is older than its use.
fn require_drivers(
    link: AgentLink, card: bool, modules: impl Iterator<Item = String>, image: &str,
) -> Result<(), ImageError> {
    let modules: Vec<String> = modules.collect();
    let has = |module: &str| modules.iter().any(|known| known == module);
    let lacks = |driver| has(OF_VIRTIO_SERIAL[0]) && !has(driver);
    let purpose = match (link, card) {
        (AgentLink::Vsock, _) if lacks(VSOCK_DRIVER) => "Firecracker's way to the guest",
        (_, true) if lacks(CARD_DRIVER) => "a network card, which `egress` with `nat` takes",
        _ => return Ok(()),
    };
    Err(ImageError::Unusable(format!(
        "the image `{image}` has no driver for {purpose}\n  hint: `dayfly image build {image}` builds it anew, with one"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_gets_the_drivers_of_its_devices() {
        let files = [
            "00-virtio.ko",
            "05-virtio-rng.ko",
            "06-failover.ko",
            "07-vsock.ko",
            "04-virtio_console.ko",
            "09-erofs.ko",
        ];
        let kept = |link, card| -> Vec<&str> {
            files.into_iter().filter(|file| !is_of_another(link, card, module_of(file))).collect()
        };
        let serial = AgentLink::VirtioSerial;
        assert_eq!(kept(serial, false), ["00-virtio.ko", "04-virtio_console.ko", "09-erofs.ko"]);
        assert_eq!(kept(serial, true), ["00-virtio.ko", "06-failover.ko", "04-virtio_console.ko", "09-erofs.ko"]);
        assert_eq!(kept(AgentLink::Vsock, false), ["00-virtio.ko", "05-virtio-rng.ko", "07-vsock.ko", "09-erofs.ko"]);
    }

    #[test]
    fn an_image_from_before_a_driver_is_told_from_a_kernel_that_has_it_built_in() {
        let with_card = |modules: &[&str]| {
            let modules = modules.iter().map(|module| (*module).to_owned());
            require_drivers(AgentLink::VirtioSerial, true, modules, "base")
        };
        assert!(with_card(&["virtio_console"]).unwrap_err().to_string().contains("network card"));
        with_card(&["virtio_console", CARD_DRIVER]).unwrap();
        with_card(&[]).unwrap();
        let check = |modules: &[&str]| {
            require_drivers(AgentLink::Vsock, false, modules.iter().map(|module| (*module).to_owned()), "base")
        };
        assert!(check(&["virtio_console"]).unwrap_err().to_string().contains("`dayfly image build base`"));
        check(&["virtio_console", VSOCK_DRIVER]).unwrap();
        check(&[]).unwrap();
    }
}

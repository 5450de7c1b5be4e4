//! What the guest's kernel is told.

use crate::host::tsc;
use crate::image::catalog::Image;
use crate::protocol::options::MachineOptions;
use crate::vm::backend::Vmm;
use crate::vm::spec::{Accelerator, Shape};

/// The argument with the frequency of the time stamp counter, in kHz.
const FREQUENCY: &str = "tsc_early_khz=";

/// The command line of the image's guests. Under emulation it has the frequency of the counter, as the image's snapshots have
/// it if they were made on this host: another measurement must not make another snapshot.
pub(super) fn of(image: &Image, vmm: &Vmm, accelerator: Accelerator, shape: Shape) -> String {
    // A panic becomes a reboot, which the monitor turns into an end that it tells.
    let common = "console=ttyS0 quiet panic=-1 rdinit=/init random.trust_cpu=on";
    let options = MachineOptions { has_card: shape.card, ..MachineOptions::default() };
    match (vmm, accelerator) {
        // It has a keyboard controller for this purpose alone, and no PCI.
        (Vmm::Firecracker(_), _) => format!("{common} reboot=k pci=off"),
        // By a triple fault: this machine has none of the devices with which a kernel would try otherwise, for minutes.
        (Vmm::Qemu(_), Accelerator::Kvm) => format!("{common} reboot=t{options}"),
        // An emulated machine has no timer to calibrate the counter with.
        (Vmm::Qemu(_), Accelerator::Tcg) => {
            format!("{common} reboot=t {FREQUENCY}{} mitigations=off{options}", tsc::settled(known(image)))
        }
    }
}

/// The frequencies in the image's snapshots; one that does not read has none.
fn known(image: &Image) -> Vec<u64> {
    let entries = std::fs::read_dir(image.bakes()).into_iter().flatten().flatten();
    let bakes = entries.filter_map(|entry| image.bake(entry.file_name().to_str()?).ok()?);
    bakes.filter_map(|bake| frequency(&bake.info.command_line)).collect()
}

fn frequency(command_line: &str) -> Option<u64> {
    command_line.split(' ').find_map(|argument| argument.strip_prefix(FREQUENCY))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequency_is_read_as_it_is_written() {
        assert_eq!(frequency("quiet tsc_early_khz=2500000 mitigations=off"), Some(2_500_000));
        assert_eq!((frequency("quiet"), frequency("tsc_early_khz=fast")), (None, None));
    }
}

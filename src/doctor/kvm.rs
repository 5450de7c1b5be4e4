//! KVM, really tried. The presence of `/dev/kvm` proves nothing, and neither do some instructions that ran: only a stock
//! kernel that boots does.

use std::path::PathBuf;
use std::sync::Arc;

use super::finding::{Finding, Status};
use super::subject::Subject;
use super::trial::{self, Outcome};
use crate::engine::Backend;
use crate::host::probe::{KVM_API_VERSION, kvm_version};
use crate::host::process::find_program;
use crate::image::catalog::Catalog;
use crate::image::prove::{self, Proof};
use crate::vm::spec::Accelerator;

/// What it means that KVM cannot be used.
const SLOW: &str = "VMs are emulated in software: everything works, several times slower";

#[derive(Debug, Clone)]
struct Facts {
    backend: Backend,
    /// The processor's own flag for virtualisation.
    extension: Option<&'static str>,
    /// Whether this host is a guest itself.
    is_guest: bool,
    device: Device,
    /// Absent without a usable device or without QEMU, and where it was decided to do without.
    instructions: Option<Outcome>,
    /// Absent after failed instructions, and where no kernel is at hand.
    kernel: Option<Outcome>,
    /// What the last bake with `backend = "auto"` found out since the host started.
    remembered: Option<Remembered>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Device {
    Missing,
    Refused(String),
    Version(i32),
}

#[derive(Debug, Clone)]
struct Remembered {
    accelerator: Accelerator,
    why_not_kvm: Option<String>,
    file: PathBuf,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let facts = observe(&subject).await;
    vec![device(&facts), instructions(&facts), boots(&facts)]
}

async fn observe(subject: &Subject) -> Facts {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| {
        processor.lines().any(|line| line.starts_with("flags") && line.split_whitespace().any(|word| word == flag))
    };
    let device = match kvm_version() {
        Ok(version) => Device::Version(version),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Device::Missing,
        Err(error) => Device::Refused(error.to_string()),
    };
    let can_try = subject.backend != Backend::QemuTcg
        && device == Device::Version(KVM_API_VERSION)
        && find_program(&subject.qemu).is_some();
    let instructions = match can_try {
        true => Some(trial::instructions(&subject.qemu, Accelerator::Kvm).await),
        false => None,
    };
    let kernel = match (&instructions, kernel_at_hand(subject)) {
        (Some(Outcome::Ran(_)), Some(kernel)) => Some(trial::kernel(&subject.qemu, Accelerator::Kvm, &kernel).await),
        _ => None,
    };
    Facts {
        backend: subject.backend,
        extension: ["vmx", "svm"].into_iter().find(|flag| has(flag)),
        is_guest: has("hypervisor"),
        device,
        instructions,
        kernel,
        remembered: remembered(subject).await,
    }
}

/// A stock kernel: one of a built image's guests, else the host's own.
fn kernel_at_hand(subject: &Subject) -> Option<PathBuf> {
    let catalog = Catalog::new(subject.images_dir.clone());
    let of_image = |name: &str| catalog.current(name).ok().flatten().map(|image| image.file("kernel"));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let own = PathBuf::from(format!("/boot/vmlinuz-{}", release.trim()));
    subject.profiles.iter().find_map(|wanted| of_image(&wanted.image)).or(Some(own).filter(|own| own.is_file()))
}

async fn remembered(subject: &Subject) -> Option<Remembered> {
    let Proof { accelerator, why_not_kvm, .. } = prove::recall(&subject.state_dir, &subject.qemu).await?;
    Some(Remembered { accelerator, why_not_kvm, file: prove::memory_file(&subject.state_dir) })
}

/// How bad it is to be without KVM.
fn severity(backend: Backend) -> Status {
    match backend {
        Backend::Auto => Status::Warning,
        Backend::QemuKvm | Backend::Firecracker => Status::Problem,
        // It was decided to do without.
        Backend::QemuTcg => Status::Skipped,
    }
}

fn without_kvm(facts: &Facts, id: &str, title: impl Into<String>) -> Finding {
    let finding = Finding::new(severity(facts.backend), id, title);
    match facts.backend {
        Backend::Auto => finding.detail(SLOW),
        Backend::QemuKvm => finding.detail("`backend = \"qemu-kvm\"` asks for it: no job can run"),
        Backend::Firecracker => finding.detail("Firecracker runs nothing without it: no job can run"),
        Backend::QemuTcg => finding.detail("`backend = \"qemu-tcg\"` does without it"),
    }
}

fn device(facts: &Facts) -> Finding {
    const ID: &str = "kvm.device";
    let finding = match &facts.device {
        Device::Version(KVM_API_VERSION) => Finding::ok(ID, "`/dev/kvm` opens"),
        Device::Version(other) => without_kvm(facts, ID, format!("`/dev/kvm` has version {other} of its interface, not {KVM_API_VERSION}")),
        Device::Refused(why) => without_kvm(facts, ID, format!("`/dev/kvm` cannot be opened: {why}"))
            .hint("run it as root, or as a member of the group `kvm`"),
        Device::Missing => without_kvm(facts, ID, "there is no `/dev/kvm`").hint(match (facts.extension, facts.is_guest) {
            (Some("vmx"), _) => "`modprobe kvm_intel`; in a container: pass the device on",
            (Some(_), _) => "`modprobe kvm_amd`; in a container: pass the device on",
            (None, true) => "this host is a virtual machine itself: switch on nested virtualisation for it, or use a bare-metal host",
            (None, false) => "switch on virtualisation in the host's firmware",
        }),
    };
    finding.data("processor_extension", facts.extension).data("host_is_guest", facts.is_guest)
}

fn instructions(facts: &Facts) -> Finding {
    const ID: &str = "kvm.instructions";
    match &facts.instructions {
        None if facts.backend == Backend::QemuTcg => without_kvm(facts, ID, "KVM was not tried"),
        None => Finding::skipped(ID, "some instructions under KVM were not tried: QEMU or the device is missing"),
        Some(Outcome::Ran(took)) => {
            Finding::ok(ID, format!("some instructions ran under KVM ({} ms)", took.as_millis()))
                .data("milliseconds", took.as_millis() as u64)
        }
        Some(Outcome::Failed(said)) => {
            without_kvm(facts, ID, "QEMU does not start with KVM").detail(format!("{said}\n{SLOW}"))
        }
        Some(Outcome::TimedOut(limit)) => {
            without_kvm(facts, ID, format!("some instructions under KVM did not end within {} s", limit.as_secs()))
        }
    }
}

fn boots(facts: &Facts) -> Finding {
    const ID: &str = "kvm.boots";
    let failed = |title: String| {
        let finding = without_kvm(facts, ID, title);
        match facts.is_guest && facts.extension.is_none() {
            true => finding.hint(
                "this host is a virtual machine without hardware virtualisation of its own: switch on nested \
                 virtualisation for it, or use a bare-metal host",
            ),
            false => finding,
        }
    };
    let finding = match (&facts.kernel, &facts.remembered) {
        (Some(Outcome::Ran(took)), Some(Remembered { accelerator: Accelerator::Tcg, why_not_kvm, file })) => {
            Finding::warning(
                ID,
                format!("a stock kernel boots under KVM ({} ms), but a bake failed before", took.as_millis()),
            )
            .detail(why_not_kvm.clone().unwrap_or_default())
            .hint(format!(
                "it is not tried again until the host restarts; remove `{}` to have it tried",
                file.display()
            ))
        }
        (Some(Outcome::Ran(took)), _) => {
            Finding::ok(ID, format!("a stock kernel boots under KVM ({} ms)", took.as_millis()))
                .data("milliseconds", took.as_millis() as u64)
        }
        (Some(Outcome::Failed(said)), _) => failed(format!("a stock kernel does not boot under KVM: {said}")),
        (Some(Outcome::TimedOut(limit)), _) => {
            failed(format!("a stock kernel does not get going under KVM within {} s", limit.as_secs()))
        }
        (None, Some(Remembered { accelerator: Accelerator::Kvm, .. })) => {
            Finding::ok(ID, "a bake with KVM worked since the host started")
        }
        (None, Some(Remembered { why_not_kvm, .. })) => {
            failed("a bake with KVM failed since the host started".to_owned())
                .detail(why_not_kvm.clone().unwrap_or_default())
        }
        (None, None) => match facts.instructions {
            None if facts.backend == Backend::QemuTcg => without_kvm(facts, ID, "no kernel was booted under KVM"),
            None => Finding::skipped(ID, "no kernel was booted under KVM: QEMU or the device is missing"),
            Some(Outcome::Ran(_)) => {
                Finding::skipped(ID, "no kernel is at hand to boot under KVM: the first bake will show it")
            }
            Some(_) => Finding::skipped(ID, "no kernel was booted under KVM: it does not start"),
        },
    };
    let remembered = facts.remembered.as_ref().map(|remembered| remembered.accelerator.to_string());
    finding.data("remembered_accelerator", remembered)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::finding::sketch;
    use super::*;

    const RAN: Outcome = Outcome::Ran(Duration::from_millis(40));
    const HUNG: Outcome = Outcome::TimedOut(Duration::from_secs(8));

    fn facts() -> Facts {
        Facts {
            backend: Backend::Auto,
            extension: Some("vmx"),
            is_guest: false,
            device: Device::Version(KVM_API_VERSION),
            instructions: Some(RAN),
            kernel: Some(RAN),
            remembered: None,
        }
    }

    fn without_device(extension: Option<&'static str>, is_guest: bool) -> Facts {
        Facts { extension, is_guest, device: Device::Missing, instructions: None, kernel: None, ..facts() }
    }

    fn remembered(accelerator: Accelerator, why: Option<&str>) -> Option<Remembered> {
        Some(Remembered { accelerator, why_not_kvm: why.map(str::to_owned), file: "/s/accelerator.json".into() })
    }

    #[test]
    fn devices() {
        let refused = Facts { device: Device::Refused("Permission denied".into()), ..facts() };
        let old = Facts { device: Device::Version(11), ..facts() };
        insta::assert_snapshot!(sketch(&[
            device(&facts()), device(&refused), device(&old), device(&without_device(Some("vmx"), false)),
            device(&without_device(Some("svm"), true)), device(&without_device(None, true)), device(&without_device(None, false)),
        ]), @"
        ok kvm.device: `/dev/kvm` opens
        warning kvm.device: `/dev/kvm` cannot be opened: Permission denied
            VMs are emulated in software: everything works, several times slower
            -> run it as root, or as a member of the group `kvm`
        warning kvm.device: `/dev/kvm` has version 11 of its interface, not 12
            VMs are emulated in software: everything works, several times slower
        warning kvm.device: there is no `/dev/kvm`
            VMs are emulated in software: everything works, several times slower
            -> `modprobe kvm_intel`; in a container: pass the device on
        warning kvm.device: there is no `/dev/kvm`
            VMs are emulated in software: everything works, several times slower
            -> `modprobe kvm_amd`; in a container: pass the device on
        warning kvm.device: there is no `/dev/kvm`
            VMs are emulated in software: everything works, several times slower
            -> this host is a virtual machine itself: switch on nested virtualisation for it, or use a bare-metal host
        warning kvm.device: there is no `/dev/kvm`
            VMs are emulated in software: everything works, several times slower
            -> switch on virtualisation in the host's firmware
        ");
    }

    #[test]
    fn trials() {
        let aborted =
            Facts { instructions: Some(Outcome::Failed("failed to set MSR 0x10a".into())), kernel: None, ..facts() };
        let stuck = Facts { kernel: Some(HUNG), extension: None, is_guest: true, ..facts() };
        insta::assert_snapshot!(sketch(&[
            instructions(&facts()), boots(&facts()), instructions(&aborted), boots(&aborted), boots(&stuck),
            boots(&Facts { kernel: None, ..facts() }), instructions(&without_device(None, false)),
        ]), @"
        ok kvm.instructions: some instructions ran under KVM (40 ms)
        ok kvm.boots: a stock kernel boots under KVM (40 ms)
        warning kvm.instructions: QEMU does not start with KVM
            failed to set MSR 0x10a
            VMs are emulated in software: everything works, several times slower
        skipped kvm.boots: no kernel was booted under KVM: it does not start
        warning kvm.boots: a stock kernel does not get going under KVM within 8 s
            VMs are emulated in software: everything works, several times slower
            -> this host is a virtual machine without hardware virtualisation of its own: switch on nested virtualisation for it, or use a bare-metal host
        skipped kvm.boots: no kernel is at hand to boot under KVM: the first bake will show it
        skipped kvm.instructions: some instructions under KVM were not tried: QEMU or the device is missing
        ");
    }

    #[test]
    fn what_bakes_found_out_counts_where_nothing_was_tried() {
        let refuted = Facts { remembered: remembered(Accelerator::Tcg, Some("the boot took too long")), ..facts() };
        let proven = Facts { kernel: None, remembered: remembered(Accelerator::Kvm, None), ..facts() };
        let failed = Facts { kernel: None, ..refuted.clone() };
        insta::assert_snapshot!(sketch(&[boots(&refuted), boots(&proven), boots(&failed)]), @"
        warning kvm.boots: a stock kernel boots under KVM (40 ms), but a bake failed before
            the boot took too long
            -> it is not tried again until the host restarts; remove `/s/accelerator.json` to have it tried
        ok kvm.boots: a bake with KVM worked since the host started
        warning kvm.boots: a bake with KVM failed since the host started
            the boot took too long
        ");
    }

    #[test]
    fn it_is_as_bad_as_the_configuration_needs_it() {
        let status = |backend| boots(&Facts { backend, kernel: Some(HUNG), ..facts() }).status;
        assert_eq!(status(Backend::Auto), Status::Warning);
        assert_eq!(status(Backend::QemuKvm), Status::Problem);
        assert_eq!(status(Backend::QemuTcg), Status::Skipped);
        let untried = Facts { backend: Backend::QemuTcg, instructions: None, kernel: None, ..facts() };
        insta::assert_snapshot!(sketch(&[instructions(&untried), boots(&untried)]), @r#"
        skipped kvm.instructions: KVM was not tried
            `backend = "qemu-tcg"` does without it
        skipped kvm.boots: no kernel was booted under KVM
            `backend = "qemu-tcg"` does without it
        "#);
    }
}

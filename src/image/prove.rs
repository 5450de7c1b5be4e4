//! Which accelerator works here. The presence of `/dev/kvm` proves nothing: there are hosts whose KVM opens, makes virtual
//! machines and still cannot run a stock kernel. The proof is a bake that ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bake::{Studio, bake, monitor_version};
use super::catalog::{Image, write_json};
use super::{ImageError, Progress};
use crate::vm::VmError;
use crate::vm::spec::{Accelerator, Shape};

/// A stock kernel with hardware support boots in well under a second; this is for a host under load.
const KVM_BOOT_LIMIT: Duration = Duration::from_secs(20);

/// What was found. Kept until the host starts again or the monitor changes, if a guest that ran is the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub accelerator: Accelerator,
    /// Why it is not KVM, for people.
    pub why_not_kvm: Option<String>,
    /// The boot of the host in which it was found.
    boot_id: String,
    /// What the monitor said of its version.
    monitor: String,
}

/// Why KVM is not used.
struct Refusal {
    why: String,
    /// Whether a guest ran and failed: it would again. Anything else may be mended, and costs little to find out.
    is_proven: bool,
}

/// Finds out by baking `image` with KVM, or remembers the answer of this boot in `state_dir`.
pub async fn accelerator(
    image: &Image, studio: &Studio, shape: Shape, state_dir: &Path, progress: &dyn Progress,
) -> Result<Proof, ImageError> {
    let memory = memory_file(state_dir);
    let (boot_id, monitor) = (boot_id(), monitor_version(studio.vmm.program()).await?);
    if let Some(proof) = remembered(&memory, &boot_id, &monitor) {
        say_how_to_forget(&proof, &memory);
        return Ok(proof);
    }
    let proof = match try_kvm(image, studio, shape, progress).await {
        Ok(()) => Proof { accelerator: Accelerator::Kvm, why_not_kvm: None, boot_id, monitor },
        Err(Refusal { why, is_proven }) => {
            let proof = Proof { accelerator: Accelerator::Tcg, why_not_kvm: Some(why), boot_id, monitor };
            if !is_proven {
                return Ok(proof);
            }
            proof
        }
    };
    write_json(&memory, &proof)?;
    say_how_to_forget(&proof, &memory);
    Ok(proof)
}

/// Where the answer is remembered. Without the file KVM is tried again.
pub fn memory_file(state_dir: &Path) -> PathBuf {
    state_dir.join("accelerator.json")
}

/// For the operator only: the reason itself is also in the logs of jobs, where paths of the host do not belong.
fn say_how_to_forget(proof: &Proof, memory: &Path) {
    if proof.why_not_kvm.is_some() {
        tracing::warn!(
            "KVM failed and is not used until the host restarts; remove `{}` to have it tried again",
            memory.display()
        );
    }
}

/// What is remembered in `state_dir` of the monitor `program`, if it still holds. Tries nothing.
pub async fn recall(state_dir: &Path, program: &str) -> Option<Proof> {
    remembered(&memory_file(state_dir), &boot_id(), &monitor_version(program).await.ok()?)
}

/// The remembered answer, if it was found since the host started and with this version of the monitor.
fn remembered(memory: &Path, boot_id: &str, monitor: &str) -> Option<Proof> {
    let text = std::fs::read(memory).ok()?;
    let proof = serde_json::from_slice::<Proof>(&text).ok()?;
    (proof.boot_id == boot_id && proof.monitor == monitor).then_some(proof)
}

async fn try_kvm(image: &Image, studio: &Studio, shape: Shape, progress: &dyn Progress) -> Result<(), Refusal> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Err(Refusal { why: format!("/dev/kvm cannot be opened ({error})"), is_proven: false });
    }
    progress.step("trying KVM");
    let studio = Studio { accelerator: Accelerator::Kvm, boot_limit: KVM_BOOT_LIMIT, ..studio.clone() };
    match bake(image, &studio, shape, progress).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let is_proven = is_the_guests(&error);
            Err(Refusal { why: format!("a bake with KVM failed: {error}"), is_proven })
        }
    }
}

/// Whether a guest ran and failed, as opposed to a tool, a file or the start of the monitor.
fn is_the_guests(error: &ImageError) -> bool {
    matches!(error, ImageError::Vm(VmError::TimedOut { .. } | VmError::Lost(_) | VmError::Protocol(_)))
}

/// Differs after every start of the host.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_one_boot_and_one_version_of_the_monitor() {
        let directory = tempfile::tempdir().unwrap();
        let memory = directory.path().join("accelerator.json");
        let proof = Proof {
            accelerator: Accelerator::Kvm,
            why_not_kvm: None,
            boot_id: "boot".into(),
            monitor: "version 1".into(),
        };
        write_json(&memory, &proof).unwrap();
        assert_eq!(remembered(&memory, "boot", "version 1"), Some(proof));
        assert_eq!(remembered(&memory, "boot", "version 2"), None);
        assert_eq!(remembered(&memory, "another", "version 1"), None);
    }

    #[test]
    fn only_a_guest_that_failed_proves_something() {
        let timed_out = VmError::TimedOut { what: "the boot", limit: KVM_BOOT_LIMIT };
        assert!(is_the_guests(&timed_out.into()));
        assert!(is_the_guests(&VmError::Lost("it ended".into()).into()));
        assert!(!is_the_guests(&VmError::Monitor { detail: "no access".into() }.into()));
        assert!(!is_the_guests(&VmError::host("a file")(std::io::Error::other("full")).into()));
        assert!(!is_the_guests(&ImageError::NotRoot));
    }
}

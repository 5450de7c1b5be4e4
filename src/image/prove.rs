//! Which accelerator works here. The presence of `/dev/kvm` proves nothing: there are hosts whose KVM opens, makes virtual
//! machines and still cannot run a stock kernel. The proof is a bake that ends.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bake::{Studio, bake};
use super::catalog::{Image, write_json};
use super::{ImageError, Progress};
use crate::vm::spec::{Accelerator, Shape};

/// A stock kernel with hardware support boots in well under a second; this is for a host under load.
const KVM_BOOT_LIMIT: Duration = Duration::from_secs(20);

/// What was found, kept until the host's kernel or boot changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub accelerator: Accelerator,
    /// Why it is not KVM, for people.
    pub why_not_kvm: Option<String>,
    /// The boot of the host in which it was found.
    boot_id: String,
}

/// Finds out by baking `image` with KVM, or remembers the answer of this boot in `state_dir`.
pub async fn accelerator(
    image: &Image, studio: &Studio, shape: Shape, state_dir: &Path, progress: &dyn Progress,
) -> Result<Proof, ImageError> {
    let memory = state_dir.join("accelerator.json");
    let boot_id = boot_id();
    if let Some(proof) = remembered(&memory, &boot_id) {
        return Ok(proof);
    }
    let why_not_kvm = try_kvm(image, studio, shape, progress).await.err();
    let accelerator = if why_not_kvm.is_none() { Accelerator::Kvm } else { Accelerator::Tcg };
    let proof = Proof { accelerator, why_not_kvm, boot_id };
    write_json(&memory, &proof)?;
    Ok(proof)
}

/// The remembered answer, if it was found since the host started.
pub fn remembered(memory: &Path, boot_id: &str) -> Option<Proof> {
    let text = std::fs::read(memory).ok()?;
    serde_json::from_slice::<Proof>(&text).ok().filter(|proof| proof.boot_id == boot_id)
}

async fn try_kvm(image: &Image, studio: &Studio, shape: Shape, progress: &dyn Progress) -> Result<(), String> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Err(format!("/dev/kvm cannot be opened ({error})"));
    }
    progress.step("trying KVM");
    let studio = Studio { accelerator: Accelerator::Kvm, boot_limit: KVM_BOOT_LIMIT, ..studio.clone() };
    bake(image, &studio, shape, progress).await.map(drop).map_err(|error| format!("a bake with KVM failed: {error}"))
}

/// Differs after every start of the host.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

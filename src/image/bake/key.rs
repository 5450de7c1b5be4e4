//! The name of a snapshot: a digest of everything that it cannot change afterwards. The kernel's command line is among that, and under
//! emulation it has the frequency of the time stamp counter.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{AGENT, command_line, monitor_version};
use crate::host::cpu;
use crate::image::catalog::Image;
use crate::image::{ImageError, tools};
use crate::protocol;
use crate::vm::backend::Vmm;
use crate::vm::qemu::argv::cpu_model;
use crate::vm::spec::{Accelerator, Shape};

/// Raised when snapshots are laid out differently.
const FORMAT: u32 = 2;

/// Everything to which a snapshot is fixed. Another value of any of them is another snapshot.
#[derive(Debug, Clone, Serialize)]
struct KeyParts<'a> {
    format: u32,
    dayfly: &'a str,
    protocol: u32,
    /// The SHA-256 of the agent.
    agent: String,
    /// The SHA-256 of what configures tools.
    tools: String,
    image: &'a str,
    built_at: i64,
    shape: Shape,
    accelerator: Accelerator,
    /// What the monitor says of its version.
    monitor: &'a str,
    cpu: String,
    command_line: String,
}

impl KeyParts<'_> {
    fn key(&self) -> String {
        let text = serde_json::to_vec(self).expect("the parts of a key are plain data");
        hex::encode(&Sha256::digest(text)[..12])
    }
}

/// The key of the snapshot that a monitor makes of `image` in that shape.
pub async fn key(image: &Image, vmm: &Vmm, accelerator: Accelerator, shape: Shape) -> Result<String, ImageError> {
    let monitor = monitor_version(vmm.program()).await?;
    let parts = KeyParts {
        format: FORMAT,
        dayfly: env!("CARGO_PKG_VERSION"),
        protocol: protocol::VERSION.into(),
        agent: hex::encode(Sha256::digest(AGENT)),
        tools: hex::encode(Sha256::digest(tools::SCRIPT)),
        image: &image.info.digest,
        built_at: image.info.built_at,
        shape,
        accelerator,
        monitor: &monitor,
        cpu: match accelerator {
            Accelerator::Kvm => format!("{} {}", cpu_model(accelerator), cpu::model()),
            // What the monitor emulates does not depend on the host.
            Accelerator::Tcg => cpu_model(accelerator).to_owned(),
        },
        command_line: command_line::of(image, vmm, accelerator, shape),
    };
    Ok(parts.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_snapshot_is_fixed_to_makes_another_key() {
        let parts = KeyParts {
            format: FORMAT,
            dayfly: "1",
            protocol: 1,
            agent: "a".into(),
            tools: "t".into(),
            image: "i",
            built_at: 1,
            shape: Shape { vcpus: 1, memory_mib: 256, disk_mib: 1024, card: false },
            accelerator: Accelerator::Tcg,
            monitor: "QEMU emulator version 7.2",
            cpu: "max".into(),
            command_line: "quiet tsc_early_khz=1".into(),
        };
        let changes: [fn(&mut KeyParts<'_>); 12] = [
            |parts| parts.format += 1,
            |parts| parts.dayfly = "2",
            |parts| parts.protocol += 1,
            |parts| parts.agent = "b".into(),
            |parts| parts.tools = "u".into(),
            |parts| parts.image = "j",
            |parts| parts.built_at += 1,
            |parts| parts.shape.memory_mib += 1,
            |parts| parts.accelerator = Accelerator::Kvm,
            |parts| parts.monitor = "QEMU emulator version 8",
            |parts| parts.cpu = "host Some CPU".into(),
            |parts| parts.command_line.push('0'),
        ];
        let mut keys = vec![parts.key()];
        for change in changes {
            let mut changed = parts.clone();
            change(&mut changed);
            keys.push(changed.key());
        }
        assert_eq!(parts.key(), parts.clone().key());
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), changes.len() + 1);
    }
}

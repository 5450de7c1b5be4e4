//! Firecracker's requests, as values. Pure; the bodies are compared with snapshots, and with the API's description.

use serde_json::{Value, json};

use super::files::{self, Disk};
use crate::protocol::options::MachineOptions;
use crate::vm::spec::Shape;

/// The guest's number on the vsock. Nothing is shared between VMs, so all have the same.
const GUEST_CID: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Put,
    Patch,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub body: Value,
}

impl Call {
    fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::Put, path: path.into(), body }
    }

    /// How errors name it.
    pub fn name(&self) -> String {
        let method = match self.method {
            Method::Put => "PUT",
            Method::Patch => "PATCH",
        };
        format!("{method} {}", self.path)
    }
}

/// A path inside of the jail.
fn inside(name: &str) -> String {
    format!("/{name}")
}

/// What makes a machine and boots it, in order.
pub fn boot(shape: Shape, command_line: &str, disks: &[Disk<'_>]) -> Vec<Call> {
    let names = disks.iter().map(|disk| disk.id.to_owned()).collect();
    let options = MachineOptions { has_vsock: true, disks: Some(names), has_card: false };
    let machine = json!({ "vcpu_count": shape.vcpus, "mem_size_mib": shape.memory_mib });
    let source = json!({
        "kernel_image_path": inside(files::KERNEL),
        "initrd_path": inside(files::INITRAMFS),
        "boot_args": format!("{command_line}{options}"),
    });
    let mut calls = vec![Call::put("/machine-config", machine), Call::put("/boot-source", source)];
    calls.extend(disks.iter().map(drive));
    calls.push(Call::put("/vsock", json!({ "guest_cid": GUEST_CID, "uds_path": inside(files::VSOCK) })));
    calls.push(Call::put("/entropy", json!({})));
    calls.push(Call::put("/actions", json!({ "action_type": "InstanceStart" })));
    calls
}

/// The host puts on the platter itself what is to stay there, so that a guest's flushes need not.
fn drive(disk: &Disk<'_>) -> Call {
    let body = json!({
        "drive_id": disk.id,
        "path_on_host": inside(disk.id),
        "is_root_device": false,
        "is_read_only": disk.is_read_only,
        "cache_type": "Unsafe",
    });
    Call::put(format!("/drives/{}", disk.id), body)
}

/// Loads the snapshot in the jail. The guest stands still afterwards.
pub fn load() -> Call {
    let body = json!({
        "snapshot_path": inside(files::STATE),
        "mem_backend": { "backend_type": "File", "backend_path": inside(files::MEMORY) },
        "resume_vm": false,
    });
    Call::put("/snapshot/load", body)
}

/// Saves state and all of the memory of a guest that stands still.
pub fn save() -> Call {
    let body = json!({
        "snapshot_type": "Full",
        "snapshot_path": inside(files::SAVED_STATE),
        "mem_file_path": inside(files::SAVED_MEMORY),
    });
    Call::put("/snapshot/create", body)
}

pub fn pause() -> Call {
    Call { method: Method::Patch, path: "/vm".to_owned(), body: json!({ "state": "Paused" }) }
}

pub fn resume() -> Call {
    Call { method: Method::Patch, path: "/vm".to_owned(), body: json!({ "state": "Resumed" }) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{files, schema};
    use super::*;
    use crate::vm::spec::Disks;

    fn all() -> Vec<Call> {
        let disks = Disks {
            root: "/i/root".into(),
            layer: None,
            scratch: "/v/scratch".into(),
            cache: Some("/c/volume".into()),
            fill: None,
        };
        let shape = Shape { vcpus: 2, memory_mib: 256, disk_mib: 64, card: false };
        let mut calls = boot(shape, "quiet", &files::in_order(&disks));
        calls.extend([pause(), save(), load(), resume()]);
        calls
    }

    #[test]
    fn every_request_is_what_the_api_describes() {
        for call in all() {
            schema::check(&call.name(), &call.body).unwrap();
        }
    }

    #[test]
    fn a_machine_is_made_booted_saved_and_loaded() {
        let lines: Vec<String> = all().iter().map(|call| format!("{} {}", call.name(), call.body)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}

//! Every step of a Firecracker's life, and what becomes of each that fails, with a [fake](super::fake) that is strict.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::fake::{self, Fake};
use super::{Firecracker, Programs};
use crate::host::process::Lifetime;
use crate::ids::VmId;
use crate::vm::VmError;
use crate::vm::attach::attach;
use crate::vm::backend::{GuestEnd, Launch, Monitor, Reach, Start};
use crate::vm::confinement::Settings;
use crate::vm::home::{Home, Homes};
use crate::vm::spec::{Accelerator, Boot, Disks, Shape};

const DEADLINE: Duration = Duration::from_secs(20);

/// A state directory with everything that a machine is made of.
struct Scene {
    directory: tempfile::TempDir,
    homes: Homes,
    programs: Programs,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["kernel", "initramfs", "root", "cache"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let homes = Homes::open(&directory.path().join("state"), Settings::default()).unwrap();
        let programs = fake::programs(directory.path());
        Self { directory, homes, programs }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn home(&self) -> Home {
        let home = self.homes.create(VmId::random()).unwrap();
        fs::write(home.path().join("scratch"), "scratch").unwrap();
        home
    }

    async fn launch(&self, home: &Home, start: Start) -> Result<(Firecracker, Reach), VmError> {
        self.launch_with(home, start, &self.programs).await
    }

    async fn launch_with(
        &self, home: &Home, start: Start, programs: &Programs,
    ) -> Result<(Firecracker, Reach), VmError> {
        let boot =
            Boot { kernel: self.file("kernel"), initramfs: self.file("initramfs"), command_line: "quiet".into() };
        let disks = Disks {
            root: self.file("root"),
            layer: None,
            scratch: home.path().join("scratch"),
            cache: Some(self.file("cache")),
            fill: None,
        };
        let launch = Launch {
            accelerator: Accelerator::Kvm,
            shape: Shape { vcpus: 1, memory_mib: 128, disk_mib: 64, card: false },
            start,
            boot: &boot,
            disks: &disks,
            memory: &self.file("memory"),
            lifetime: Lifetime::EndsWithUs,
        };
        let (monitor, vsock) = Firecracker::launch(home, programs, launch).await?;
        Ok((monitor, Reach::Vsock(vsock)))
    }

    /// A snapshot, as a bake makes one.
    async fn bake(&self) {
        let mut home = self.home();
        let _fake = Fake::of(&home);
        let (mut monitor, _) = self.launch(&home, Start::BootForSnapshot).await.unwrap();
        monitor.pause().await.unwrap();
        monitor.save(&self.file("state.saved"), &self.file("memory")).await.unwrap();
        Monitor::kill(&mut monitor).await.unwrap();
        home.remove().await.unwrap();
    }
}

fn root_of(home: &Home) -> PathBuf {
    home.path().join("jail/firecracker").join(home.marker()).join("root")
}

fn is_owned_by_us(path: &Path) -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap()) == nix::unistd::geteuid().as_raw()
}

#[tokio::test]
async fn a_machine_is_booted_attached_saved_and_gone() {
    let scene = Scene::new();
    let mut home = scene.home();
    let fake = Fake::of(&home);
    let (monitor, reach) = scene.launch(&home, Start::BootForSnapshot).await.unwrap();
    let mut attached = attach(Box::new(monitor), reach, DEADLINE, false).await.unwrap();
    attached.monitor.pause().await.unwrap();
    attached.monitor.save(&scene.file("state.saved"), &scene.file("memory")).await.unwrap();
    attached.monitor.kill().await.unwrap();
    assert_eq!(fs::metadata(scene.file("memory")).unwrap().len(), 1 << 20);
    assert!(is_owned_by_us(&scene.file("memory")) && is_owned_by_us(&home.path().join("scratch")));
    insta::assert_snapshot!(fake.calls().join("\n"), @"
    PUT /machine-config
    PUT /boot-source
    PUT /drives/root
    PUT /drives/cache
    PUT /drives/scratch
    PUT /drives/fill
    PUT /vsock
    PUT /entropy
    PUT /actions
    PATCH /vm
    PUT /snapshot/create
    ");
    home.remove().await.unwrap();
    assert!(scene.homes.is_absent(home.id()).unwrap());
}

#[tokio::test]
async fn a_snapshot_is_loaded_with_other_files_under_the_same_names() {
    let scene = Scene::new();
    scene.bake().await;
    fs::write(scene.file("cache"), "another volume").unwrap();
    let mut home = scene.home();
    let fake = Fake::of(&home);
    let (mut monitor, reach) = scene.launch(&home, Start::Restore).await.unwrap();
    monitor.load_state(&scene.file("state.saved")).await.unwrap();
    assert_eq!(fs::read(root_of(&home).join("cache")).unwrap(), b"another volume");
    // Nothing is filled: the disk in that place has room for nothing.
    assert_eq!(fs::metadata(root_of(&home).join("fill")).unwrap().len(), super::start::NO_VOLUME);
    fake.ignore_calls(3);
    let mut attached = attach(Box::new(monitor), reach, DEADLINE, true).await.unwrap();
    assert_eq!(fake.calls(), ["PUT /snapshot/load", "PATCH /vm"]);
    attached.monitor.kill().await.unwrap();
    home.remove().await.unwrap();
}

#[tokio::test]
async fn a_load_that_is_refused_says_why_and_ends_it() {
    let scene = Scene::new();
    scene.bake().await;
    fs::write(scene.file("torn"), "{").unwrap();
    let mut home = scene.home();
    let _fake = Fake::of(&home);
    let (mut monitor, _) = scene.launch(&home, Start::Restore).await.unwrap();
    let error = monitor.load_state(&scene.file("torn")).await.unwrap_err();
    insta::assert_snapshot!(error, @r"
    the virtual machine monitor failed: `PUT /snapshot/load`: Load snapshot error: Failed to restore from snapshot: Failed to get snapshot state from file: bitcode error
    jailed
    ");
    let mut ended = monitor.ended();
    assert_eq!(*ended.wait_for(Option::is_some).await.unwrap(), Some(GuestEnd::MonitorGone));
    Monitor::kill(&mut monitor).await.unwrap();
    home.remove().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_as_such() {
    let scene = Scene::new();
    let mut home = scene.home();
    let fake = Fake::of(&home);
    fake.leave_no_room_for("PUT /snapshot/create");
    let (mut monitor, _) = scene.launch(&home, Start::BootForSnapshot).await.unwrap();
    monitor.pause().await.unwrap();
    let error = monitor.save(&scene.file("state.saved"), &scene.file("memory")).await.unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    Monitor::kill(&mut monitor).await.unwrap();
    home.remove().await.unwrap();
}

#[tokio::test]
async fn each_way_to_end_is_told_apart() {
    let scene = Scene::new();
    for (code, end) in [(0, GuestEnd::Reset), (1, GuestEnd::MonitorGone), (148, GuestEnd::MonitorGone)] {
        let mut home = scene.home();
        let fake = Fake::of(&home);
        let (mut monitor, _) = scene.launch(&home, Start::Boot).await.unwrap();
        assert_eq!(*monitor.ended().borrow(), None);
        fake.end(code);
        assert_eq!(monitor.ended().wait_for(Option::is_some).await.unwrap().clone(), Some(end));
        assert_eq!(monitor.console().await.unwrap(), "jailed\n");
        let error = monitor.pause().await.unwrap_err();
        assert!(error.to_string().contains("`PATCH /vm`"), "{error}");
        Monitor::kill(&mut monitor).await.unwrap();
        home.remove().await.unwrap();
    }
}

#[tokio::test]
async fn what_does_not_start_says_why() {
    let scene = Scene::new();
    let broken = scene.file("broken");
    fs::create_dir(&broken).unwrap();
    let mut home = scene.home();
    let error = scene.launch_with(&home, Start::Boot, &fake::broken_programs(&broken)).await.unwrap_err();
    assert_eq!(error.to_string(), "the virtual machine monitor failed: Error: no such group");
    home.remove().await.unwrap();

    let mut home = scene.home();
    let nowhere = Programs::beside(&scene.file("nowhere/firecracker"));
    let error = scene.launch_with(&home, Start::Boot, &nowhere).await.unwrap_err();
    assert!(matches!(error, VmError::NoMonitor { .. }), "{error}");
    home.remove().await.unwrap();

    let mut home = scene.home();
    fs::remove_file(scene.file("root")).unwrap();
    let error = scene.launch(&home, Start::Boot).await.unwrap_err();
    assert!(error.to_string().contains("root` for the VM's jail: No such file"), "{error}");
    home.remove().await.unwrap();
}

#[tokio::test]
async fn the_fake_is_as_strict_as_the_real_one() {
    let scene = Scene::new();
    let mut home = scene.home();
    let fake = Fake::of(&home);
    let paths = json!({ "snapshot_path": "/saved-state", "mem_file_path": "/saved-memory" });
    let load =
        json!({ "snapshot_path": "/state", "mem_backend": { "backend_type": "File", "backend_path": "/memory" } });
    let refused = |call: &str, body: &serde_json::Value| fake.take(call, body).unwrap_err();
    let mut said = vec![
        refused("PATCH /vm", &json!({ "state": "Resumed" })),
        refused("PUT /snapshot/create", &paths),
        refused("PUT /actions", &json!({ "action_type": "InstanceStart" })),
    ];
    fake.take("PUT /machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": 128 })).unwrap();
    said.push(refused("PUT /snapshot/load", &load));
    for name in ["kernel", "initramfs"] {
        fs::write(root_of(&home).join(name), "").unwrap();
    }
    fake.take("PUT /boot-source", &json!({ "kernel_image_path": "/kernel", "initrd_path": "/initramfs" })).unwrap();
    fake.take("PUT /actions", &json!({ "action_type": "InstanceStart" })).unwrap();
    said.push(refused("PUT /machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": 128 })));
    said.push(refused("PUT /snapshot/create", &paths));
    insta::assert_snapshot!(said.join("\n"));
    home.remove().await.unwrap();
}

//! QEMU's argument vector, as a pure function.
//!
//! A snapshot can only be loaded into the machine that saved it, so boot and restore share everything but the way in which
//! memory is mapped, and what happens first: only a guest that boots needs a kernel.

use std::path::Path;

use crate::vm::backend::Start;
use crate::vm::spec::{Accelerator, Boot, CACHE_VOLUME_BYTES, Disks, Shape};

/// Everything that the vector depends on.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    pub name: &'a str,
    pub accelerator: Accelerator,
    pub shape: Shape,
    pub start: Start,
    pub boot: &'a Boot,
    pub disks: &'a Disks,
    /// The memory file; unused for [`Start::Boot`].
    pub memory: &'a Path,
    pub sockets: Sockets,
    /// Numbers of inherited descriptors; a disk named `/dev/fdset/1` is the first of them.
    pub files: &'a [i32],
    /// The number of an inherited tap, for a shape with a network card.
    pub tap: Option<i32>,
}

/// Numbers of inherited listening sockets.
#[derive(Debug, Clone, Copy)]
pub struct Sockets {
    pub monitor: i32,
    pub control: i32,
    pub bulk: i32,
}

/// Bytes of serial console that are kept for the report on a lost VM.
const CONSOLE_BYTES: u32 = 64 * 1024;

/// Options of a disk that one VM writes. The host puts it on the platter itself, if it is to stay there.
const PRIVATE: &str = "cache.no-flush=on,discard=unmap";

/// The processor that guests see. Under emulation it is everything that QEMU can emulate.
pub const fn cpu_model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    }
}

/// MiB of translated code that an emulating monitor keeps. Left alone it may take a gigabyte, which is more than the VM's
/// cgroup has room for.
const TRANSLATION_MIB: u32 = 256;

fn accelerator(accelerator: Accelerator) -> String {
    match accelerator {
        Accelerator::Kvm => "kvm".to_owned(),
        Accelerator::Tcg => format!("tcg,tb-size={TRANSLATION_MIB}"),
    }
}

/// What a trial machine runs instead of an agent.
#[derive(Debug, Clone, Copy)]
pub enum Trial<'a> {
    /// A firmware of some instructions, which end the monitor by the port [`TRIAL_PORT`]; with every kind of device that a
    /// VM has. `scratch` is the memory file.
    Firmware { firmware: &'a Path, scratch: &'a Path },
    /// A kernel, which finds no root file system and says so on the serial console, which is standard output.
    Kernel(&'a Path),
}

/// Writing `n` there ends a trial machine's monitor with the exit code `2n + 1`.
pub const TRIAL_PORT: u8 = 0xF4;

/// MiB of memory of a trial machine: what a stock kernel boots in.
pub const TRIAL_MIB: u64 = 128;

/// Arguments for a machine that shows whether this host can run others: the same platform, devices and confinement.
/// `ticks_khz` is the frequency of the time stamp counter, which a kernel under emulation must be told.
pub fn trial(accelerator: Accelerator, trial: Trial<'_>, ticks_khz: u64) -> Vec<String> {
    let mut arguments = Arguments::default();
    arguments.platform(accelerator);
    arguments.flag("-no-reboot");
    arguments.push("-m", format!("{TRIAL_MIB}M"));
    arguments.confinement();
    match trial {
        Trial::Firmware { firmware, scratch } => {
            let memory = escaped(scratch);
            let object = format!("memory-backend-file,id=ram,size={TRIAL_MIB}M,share=on,mem-path={memory}");
            arguments.push("-object", object);
            arguments.push("-bios", firmware.display().to_string());
            arguments.push("-device", format!("isa-debug-exit,iobase={TRIAL_PORT:#x},iosize=1"));
            arguments.push("-device", "virtio-serial-device,max_ports=3");
            arguments.push("-chardev", "ringbuf,id=control,size=4096");
            arguments.push("-device", "virtserialport,chardev=control,name=trial");
            arguments.disk("scratch", firmware, "read-only=on,file.locking=off");
        }
        Trial::Kernel(kernel) => {
            arguments.push("-object", format!("memory-backend-ram,id=ram,size={TRIAL_MIB}M"));
            arguments.push("-kernel", kernel.display().to_string());
            let options = format!("console=ttyS0 panic=-1 reboot=t mitigations=off tsc_early_khz={ticks_khz}");
            arguments.push("-append", options);
            arguments.push("-serial", "stdio");
        }
    }
    arguments.0
}

/// Arguments, without the program.
pub fn arguments(machine: &Machine<'_>) -> Vec<String> {
    let mut arguments = Arguments::default();
    arguments.machine(machine);
    arguments.memory(machine);
    // A restored guest has its kernel in memory. The monitor would read both files again, and keep them in its own memory.
    let is_restored = machine.start.is_restore();
    if !is_restored {
        arguments.kernel(machine.boot);
    }
    arguments.ports(machine.sockets);
    arguments.files(machine.files);
    arguments.disks(machine.disks);
    if let Some(tap) = machine.tap {
        arguments.card(tap);
    }
    arguments.confinement();
    if is_restored {
        arguments.push("-incoming", "defer");
    }
    arguments.0
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn push(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    fn flag(&mut self, option: &str) {
        self.0.push(option.to_owned());
    }

    fn machine(&mut self, machine: &Machine<'_>) {
        self.push("-name", machine.name);
        // A guest that powers off, reboots or panics is held still, so that its last words can be read.
        self.push("-action", "reboot=shutdown,shutdown=pause,panic=pause");
        self.platform(machine.accelerator);
        self.push("-smp", machine.shape.vcpus.to_string());
    }

    fn platform(&mut self, accelerated_by: Accelerator) {
        self.flag("-nodefaults");
        self.flag("-no-user-config");
        self.push("-display", "none");
        self.push("-machine", "microvm,x-option-roms=off,rtc=on,acpi=on,pcie=off,pit=on,pic=on,memory-backend=ram");
        self.push("-accel", accelerator(accelerated_by));
        self.push("-cpu", cpu_model(accelerated_by));
    }

    fn memory(&mut self, machine: &Machine<'_>) {
        let size = machine.shape.memory_mib;
        self.push("-m", format!("{size}M"));
        let object = match machine.start {
            Start::Boot => format!("memory-backend-ram,id=ram,size={size}M"),
            Start::BootForSnapshot | Start::RestoreOwned => {
                format!("memory-backend-file,id=ram,size={size}M,share=on,mem-path={}", escaped(machine.memory))
            }
            Start::Restore => {
                format!("memory-backend-file,id=ram,size={size}M,share=off,mem-path={}", escaped(machine.memory))
            }
        };
        self.push("-object", object);
    }

    fn kernel(&mut self, boot: &Boot) {
        self.push("-kernel", boot.kernel.display().to_string());
        self.push("-initrd", boot.initramfs.display().to_string());
        self.push("-append", boot.command_line.clone());
    }

    fn ports(&mut self, sockets: Sockets) {
        self.push("-chardev", format!("ringbuf,id=console,size={CONSOLE_BYTES}"));
        self.push("-serial", "chardev:console");
        self.push("-chardev", format!("socket,id=monitor,fd={},server=on,wait=off", sockets.monitor));
        self.push("-mon", "chardev=monitor,mode=control");
        self.push("-device", "virtio-serial-device,max_ports=3");
        for (id, socket, name) in [
            ("control", sockets.control, crate::protocol::CONTROL_PORT),
            ("bulk", sockets.bulk, crate::protocol::BULK_PORT),
        ] {
            self.push("-chardev", format!("socket,id={id},fd={socket},server=on,wait=off"));
            self.push("-device", format!("virtserialport,chardev={id},name={name}"));
        }
    }

    fn files(&mut self, descriptors: &[i32]) {
        for (index, descriptor) in descriptors.iter().enumerate() {
            self.push("-add-fd", format!("fd={descriptor},set={}", index + 1));
        }
    }

    fn disks(&mut self, disks: &Disks) {
        let shared = [("root", Some(&disks.root)), ("layer", disks.layer.as_ref()), ("cache", disks.cache.as_ref())];
        for (id, path) in shared {
            if let Some(path) = path {
                self.disk(id, path, "read-only=on,file.locking=off");
            }
        }
        // The scratch disk dies with its VM: nothing has to reach the platter.
        self.disk("scratch", &disks.scratch, PRIVATE);
        match &disks.fill {
            Some(volume) => self.disk("fill", volume, PRIVATE),
            None if disks.cache.is_some() => self.forgetful_disk("fill"),
            None => {}
        }
    }

    /// A disk that can be written to without end and stays empty, where a snapshot wants one and nobody needs it.
    fn forgetful_disk(&mut self, id: &str) {
        let size = CACHE_VOLUME_BYTES;
        self.push("-blockdev", format!("driver=null-co,node-name={id},size={size},read-zeroes=on,discard=unmap"));
        self.device(id);
    }

    fn disk(&mut self, id: &str, path: &Path, options: &str) {
        let file = escaped(path);
        self.push("-blockdev", format!("driver=raw,node-name={id},file.driver=file,file.filename={file},{options}"));
        self.device(id);
    }

    fn device(&mut self, id: &str) {
        self.push("-device", format!("virtio-blk-device,drive={id},serial=dayfly-{id}"));
    }

    fn card(&mut self, tap: i32) {
        self.push("-netdev", format!("tap,id=card,fd={tap}"));
        self.push("-device", format!("virtio-net-device,netdev=card,mac={}", crate::protocol::card::MAC));
    }

    fn confinement(&mut self) {
        self.push("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }
}

/// QEMU splits options at commas; a doubled one stands for itself.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine_with(start: Start, cache: bool, fill: Option<&str>) -> String {
        machine_with_files(start, cache, fill, &[])
    }

    fn machine_with_files(start: Start, cache: bool, fill: Option<&str>, files: &[i32]) -> String {
        let boot = Boot { kernel: "/i/kernel".into(), initramfs: "/i/initramfs".into(), command_line: "quiet".into() };
        let disks = Disks {
            root: "/i/root".into(),
            layer: None,
            scratch: "/v/a,b/scratch".into(),
            cache: cache.then(|| "/c/volume".into()),
            fill: fill.map(Into::into),
        };
        let machine = Machine {
            name: "dayfly-vm-1",
            accelerator: Accelerator::Tcg,
            shape: Shape { vcpus: 2, memory_mib: 256, disk_mib: 64, card: false },
            start,
            boot: &boot,
            disks: &disks,
            memory: Path::new("/i/memory"),
            sockets: Sockets { monitor: 3, control: 4, bulk: 5 },
            files,
            tap: None,
        };
        arguments(&machine).join("\n").replace("\n-", "\u{0}-").replace('\n', " ").replace('\0', "\n")
    }

    #[test]
    fn a_restore_maps_memory_privately_and_waits() {
        insta::assert_snapshot!(machine_with(Start::Restore, true, None));
    }

    #[test]
    fn what_fills_a_volume_has_it_in_the_place_of_the_forgetful_disk() {
        let without = machine_with(Start::Restore, true, None);
        let with = machine_with(Start::Restore, true, Some("/c/fresh"));
        let changed: Vec<&str> = with.lines().filter(|line| !without.contains(line)).collect();
        insta::assert_debug_snapshot!(changed, @r#"
        [
            "-blockdev driver=raw,node-name=fill,file.driver=file,file.filename=/c/fresh,cache.no-flush=on,discard=unmap",
        ]
        "#);
        assert_eq!(with.lines().count(), without.lines().count());
    }

    #[test]
    fn inherited_files_are_sets_of_one() {
        let without = machine_with(Start::Restore, true, None);
        let with = machine_with_files(Start::Restore, true, None, &[7, 9]);
        let added: Vec<&str> = with.lines().filter(|line| !without.contains(line)).collect();
        assert_eq!(added, ["-add-fd fd=7,set=1", "-add-fd fd=9,set=2"]);
    }

    #[test]
    fn a_bake_differs_from_a_restore_in_memory_and_start_only() {
        let kernel = "-kernel /i/kernel\n-initrd /i/initramfs\n-append quiet\n";
        let bake = machine_with(Start::BootForSnapshot, true, None);
        let restore = machine_with(Start::Restore, true, None);
        assert!(bake.contains(kernel));
        assert_eq!(restore.replace("share=off", "share=on").replace("\n-incoming defer", ""), bake.replace(kernel, ""));
    }

    #[test]
    fn what_can_be_frozen_differs_from_other_restores_in_memory_only() {
        let owned = machine_with(Start::RestoreOwned, true, None);
        assert_eq!(machine_with(Start::Restore, true, None).replace("share=off", "share=on"), owned);
    }
}

//! From the initramfs to a root file system.
//!
//! ```text
//!  dayfly-root  (erofs, shared by all VMs of an image) ─┐
//!  dayfly-layer (ext4, read-only: what the set-up wrote) ┼─ overlay ─► /
//!  dayfly-scratch (ext4, private to this VM) ───────────┘
//! ```
//! Disks are found by serial number, or by the order in which the host says that it attached them: device names depend on
//! the order of probing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use super::line::Line;
use super::sys;
use crate::protocol::card;
use crate::protocol::options::MachineOptions;
use crate::protocol::{BULK_PORT, BULK_VSOCK_PORT, CONTROL_PORT, CONTROL_VSOCK_PORT};

/// What serial numbers of disks begin with, before the name.
const SERIAL: &str = "dayfly-";

/// Names of the disks, which the host gives.
const ROOT_DISK: &str = "root";
const LAYER_DISK: &str = "layer";
const SCRATCH_DISK: &str = "scratch";
/// The read-only dependency cache, exchanged at restore.
pub(super) const CACHE_DISK: &str = "cache";
/// The fresh volume, which is there only in a VM that fills a cache; else whatever is written to it is gone.
pub(super) const FILL_DISK: &str = "fill";

/// The name that the kernel gives the first card.
const CARD: &str = "eth0";

/// Where programs find the address of the resolver.
const RESOLVERS: &str = "/etc/resolv.conf";

/// How long drivers may take to make a device appear. Generous: it is waited for only under emulation.
const DEVICE_DEADLINE: Duration = Duration::from_secs(30);
const DEVICE_POLL: Duration = Duration::from_millis(5);

/// Milliseconds. Short, because a fast disk replaces the page cache of a small machine in a fraction of a second, and that is
/// no lack of memory.
const WORKING_SET_MS: &str = "20";

/// What the agent serves with.
pub(super) struct Machine {
    pub(super) control: Line,
    pub(super) bulk: Line,
    /// The scratch disk's mount point, which no path leads to after the switch of roots.
    pub(super) scratch: File,
}

/// Mounts everything and moves into the new root.
pub(super) fn boot() -> io::Result<Machine> {
    mount_kernel_file_systems()?;
    prefer_death_to_thrashing()?;
    load_modules(Path::new("/modules"))?;
    let has_vsock = options()?.has_vsock;
    let line = |name, port| if has_vsock { Line::listen(port) } else { open_port(name).map(Line::Port) };
    let control = line(CONTROL_PORT, CONTROL_VSOCK_PORT).map_err(|error| named("the line to the host", error))?;
    let bulk = line(BULK_PORT, BULK_VSOCK_PORT).map_err(|error| named("the line to the host", error))?;
    let scratch = mount_root()?;
    enter_root()?;
    sys::raise_loopback()?;
    if options()?.has_card {
        configure_card().map_err(|error| named("the network card", error))?;
    }
    Ok(Machine { control, bulk, scratch })
}

/// Gives the card its addresses, and resolvers the host's. An image may have a link there, to a service that does not run.
fn configure_card() -> io::Result<()> {
    wait_for(CARD, || Ok(Path::new("/sys/class/net").join(CARD).exists().then(|| CARD.to_owned())))?;
    sys::configure_card(CARD)?;
    match fs::remove_file(RESOLVERS) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(RESOLVERS, error)),
        _ => {}
    }
    fs::create_dir_all("/etc")?;
    fs::write(RESOLVERS, format!("nameserver {}\n", card::GATEWAY)).map_err(|error| named(RESOLVERS, error))
}

/// What the host says about the machine that it made.
fn options() -> io::Result<MachineOptions> {
    fs::read_to_string("/proc/cmdline").map(|line| MachineOptions::of(&line))
}

fn mount_kernel_file_systems() -> io::Result<()> {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount_at(kind, target, kind, MsFlags::empty(), "")?;
    }
    Ok(())
}

/// Makes the kernel kill a process when memory is so short that even what was used within [`WORKING_SET_MS`] has to go.
/// Otherwise it may look for the last pages for minutes, with nothing else running, this agent included.
fn prefer_death_to_thrashing() -> io::Result<()> {
    let settings = Path::new("/sys/kernel/mm/lru_gen");
    // Absent from kernels that know no generations.
    if !settings.is_dir() {
        return Ok(());
    }
    for (name, value) in [("enabled", "y"), ("min_ttl_ms", WORKING_SET_MS)] {
        fs::write(settings.join(name), value).map_err(|error| named(name, error))?;
    }
    Ok(())
}

/// Loads the modules in the order of their file names, which is their order of dependency.
fn load_modules(directory: &Path) -> io::Result<()> {
    let mut modules: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    modules.sort();
    for module in modules {
        sys::load_module(&File::open(&module)?).map_err(|error| named(&module.display().to_string(), error))?;
    }
    Ok(())
}

fn mount_root() -> io::Result<File> {
    mount_at(&find_disk(ROOT_DISK)?, "/lower", "erofs", MsFlags::MS_RDONLY, "")?;
    mount_at(&find_disk(SCRATCH_DISK)?, "/scratch", "ext4", MsFlags::MS_NOATIME, "noinit_itable")?;
    let mut lower = "/lower".to_owned();
    if let Some(layer) = disk_named(LAYER_DISK)? {
        mount_at(&layer, "/layer", "ext4", MsFlags::MS_RDONLY, "noload")?;
        lower = format!("/layer/upper:{lower}");
    }
    for directory in ["/scratch/upper", "/scratch/work"] {
        fs::create_dir_all(directory)?;
    }
    let options = format!("lowerdir={lower},upperdir=/scratch/upper,workdir=/scratch/work");
    mount_at("overlay", "/root", "overlay", MsFlags::empty(), &options)?;
    File::open("/scratch")
}

fn enter_root() -> io::Result<()> {
    for directory in ["dev", "proc", "sys"] {
        fs::create_dir_all(format!("/root/{directory}"))?;
        move_mount(&format!("/{directory}"), &format!("/root/{directory}"))?;
    }
    std::env::set_current_dir("/root")?;
    move_mount(".", "/")?;
    nix::unistd::chroot(".")?;
    std::env::set_current_dir("/")?;
    mount_at("tmpfs", "/run", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    mount_at("tmpfs", "/dev/shm", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "")?;
    mount_at("devpts", "/dev/pts", "devpts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=620,ptmxmode=666")?;
    mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "")?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, link)?;
    }
    fs::create_dir_all("/tmp")?;
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777))
}

/// Mounts, making the mount point first; the error names the target.
pub(super) fn mount_at(source: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    mount(Some(source), target, Some(kind), flags, Some(options))
        .map_err(|errno| named(&format!("mount of {kind} at {target}"), errno.into()))
}

fn move_mount(from: &str, to: &str) -> io::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|errno| named(&format!("move of {from}"), errno.into()))
}

fn find_disk(name: &str) -> io::Result<String> {
    wait_for(name, || disk_named(name))
}

/// `/dev/…` of the disk of that name, if there is one now.
pub(super) fn disk_named(name: &str) -> io::Result<Option<String>> {
    match options()?.disks {
        Some(names) => match names.iter().position(|known| known == name) {
            Some(position) => disk_in_place(position, names.len()),
            None => Ok(None),
        },
        None => disk_with_serial(&format!("{SERIAL}{name}")),
    }
}

/// The disk that was attached in that place, once all of them are there.
fn disk_in_place(position: usize, count: usize) -> io::Result<Option<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        if let Some(number) = virtio_number(&fs::read_link(entry.path())?) {
            found.push((number, entry.file_name()));
        }
    }
    found.sort();
    let is_complete = found.len() == count;
    let name = found.into_iter().nth(position).filter(|_| is_complete);
    Ok(name.map(|(_, name)| format!("/dev/{}", name.to_string_lossy())))
}

/// The number of the virtio device that a disk is, by its place among the devices. They are numbered as they are found, which is
/// in the order in which the host lists them.
fn virtio_number(place: &Path) -> Option<u32> {
    let names = place.components().filter_map(|part| part.as_os_str().to_str());
    names.filter_map(|name| name.strip_prefix("virtio")?.parse().ok()).next()
}

/// `/dev/…` of the disk with this serial number, if there is one now.
fn disk_with_serial(serial: &str) -> io::Result<Option<String>> {
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if found.trim_end() == serial {
            return Ok(Some(format!("/dev/{}", entry.file_name().to_string_lossy())));
        }
    }
    Ok(None)
}

/// Opens the virtio-serial port with this name.
fn open_port(name: &str) -> io::Result<File> {
    let device = wait_for(name, || {
        let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else { return Ok(None) };
        for port in ports {
            let port = port?;
            let mut found = String::new();
            File::open(port.path().join("name"))?.read_to_string(&mut found)?;
            if found.trim_end() == name {
                return Ok(Some(format!("/dev/{}", port.file_name().to_string_lossy())));
            }
        }
        Ok(None)
    })?;
    File::options().read(true).write(true).open(device)
}

fn wait_for(what: &str, mut look: impl FnMut() -> io::Result<Option<String>>) -> io::Result<String> {
    let deadline = Instant::now() + DEVICE_DEADLINE;
    loop {
        // Attributes of a device that is just appearing may fail to read; only the deadline decides.
        if let Ok(Some(found)) = look() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("no device `{what}` after {} s", DEVICE_DEADLINE.as_secs())));
        }
        std::thread::sleep(DEVICE_POLL);
    }
}

/// An error that says what it is about.
pub(super) fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

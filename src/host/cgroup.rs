//! One cgroup (version 2) per VM: what bounds a virtual machine monitor whatever happens in it.
//!
//! A monitor enters its group before its first instruction, so that all of its memory is charged to it. Pages of a snapshot are
//! shared by all VMs that start from it, and the kernel charges a page of a file to whoever reads it first: the service reads them
//! before any VM does (`disk::read_ahead`), so that no job pays for the others.
//!
//! In a unit of systemd's with `Delegate=yes` the groups are made in the unit's own, so that its limits bound them all and they end with
//! it; the service itself moves one level down, since a group that passes controllers on has no processes of its own. Elsewhere
//! they are made at the top.
//!
//! Hosts with version 1 only, or without write access, run VMs without one; the caller says so once, clearly.

use std::ffi::CStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{major, minor};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use super::xattr;

const ROOT: &str = "/sys/fs/cgroup";
/// Where nothing was delegated, all cgroups of this product are below this one.
const PARENT: &str = "dayfly";
/// In what was delegated, the group of this process itself.
const OWN: &str = "service";
/// What systemd marks a group with that it delegates, by version.
const DELEGATED: [&CStr; 2] = [c"trusted.delegate", c"user.delegate"];
/// The controllers that bound a monitor.
pub const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// The controller that bounds what it may ask of a disk, which not every kernel has.
pub const IO_CONTROLLER: &str = "io";
/// Bytes that a monitor needs beside the guest's memory. Half of it is for the translated code of an emulated guest.
pub const MONITOR_OVERHEAD: u64 = 512 << 20;
/// Threads of a monitor: vCPUs, IO workers.
pub const MAX_TASKS: u64 = 256;

/// What one VM may ask of the host's disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoLimits {
    /// Bytes each second, for reading and for writing each; `None`: as much as there is.
    pub bandwidth: Option<u64>,
    /// Operations each second, likewise.
    pub operations: Option<u64>,
}

/// The limits of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// In bytes: the guest's, and what its monitor needs.
    pub memory: u64,
    pub vcpus: u32,
    pub io: IoLimits,
    /// A file on the disk for which the limits on IO hold.
    pub on_disk_of: PathBuf,
}

/// Where cgroups are made, or why none can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    V2(PathBuf),
    Missing(String),
}

/// Which kind of cgroups a host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 2: the controllers that it offers, and whether this user may make groups.
    V2 { controllers: Vec<String>, is_writable: bool },
    /// Version 1; hybrid hosts have an empty version 2 beside it.
    V1 { is_hybrid: bool },
    /// None, and why.
    Missing(String),
}

/// Looks which cgroups there are; changes nothing.
pub fn hierarchy() -> Hierarchy {
    let is_v2 = |path: &str| statfs(path).map(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
    match is_v2(ROOT) {
        Ok(true) => Hierarchy::V2 {
            controllers: fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            is_writable: access(ROOT, AccessFlags::W_OK).is_ok(),
        },
        Ok(false) => Hierarchy::V1 { is_hybrid: is_v2("/sys/fs/cgroup/unified") == Ok(true) },
        Err(errno) => Hierarchy::Missing(format!("{ROOT}: {errno}")),
    }
}

/// Looks what this host offers and prepares the parent group.
pub fn detect() -> Support {
    match hierarchy() {
        Hierarchy::V2 { .. } => {}
        Hierarchy::V1 { .. } => return Support::Missing(format!("{ROOT} is not a cgroup v2 hierarchy")),
        Hierarchy::Missing(why) => return Support::Missing(why),
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let delegated = delegated(&own, is_marked);
    let parent = delegated.clone().unwrap_or_else(|| Path::new(ROOT).join(PARENT));
    let prepared = match &delegated {
        Some(group) => move_down(group).and_then(|()| pass_on_controllers(group)),
        None => pass_on_controllers(Path::new(ROOT)).and_then(|()| prepare(&parent)),
    };
    match prepared {
        Ok(()) => Support::V2(parent),
        Err(error) => Support::Missing(format!("{}: {error}", parent.display())),
    }
}

/// The group that was delegated to this process, of which `/proc/self/cgroup` says `own`; it may have moved down already.
fn delegated(own: &str, is_marked: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = Path::new(ROOT).join(path);
    let above = group.parent().filter(|_| group.ends_with(OWN)).map(Path::to_owned);
    [Some(group), above].into_iter().flatten().find(|group| group != Path::new(ROOT) && is_marked(group))
}

fn is_marked(group: &Path) -> bool {
    let Ok(directory) = fs::File::open(group) else { return false };
    DELEGATED.iter().any(|name| xattr::get(&directory, name, 8).as_deref() == Some(b"1"))
}

fn move_down(delegated: &Path) -> io::Result<()> {
    let own = delegated.join(OWN);
    fs::create_dir_all(&own)?;
    fs::write(own.join("cgroup.procs"), "0")
}

/// Makes a group whose children can have limits.
fn prepare(group: &Path) -> io::Result<()> {
    fs::create_dir_all(group)?;
    pass_on_controllers(group)
}

fn pass_on_controllers(group: &Path) -> io::Result<()> {
    let control = group.join("cgroup.subtree_control");
    fs::write(&control, "+memory +cpu +pids")?;
    // Where there is none, limits on IO are refused when they are asked for.
    drop(fs::write(&control, format!("+{IO_CONTROLLER}")));
    Ok(())
}

impl Support {
    /// The same one level down, in a group of this name: whatever is in it belongs to whoever has the name.
    pub fn within(self, name: &str) -> Self {
        let Self::V2(parent) = self else { return self };
        let own = parent.join(name);
        match prepare(&own) {
            Ok(()) => Self::V2(own),
            Err(error) => Self::Missing(format!("{}: {error}", own.display())),
        }
    }

    /// The names of the groups that there are.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let Self::V2(parent) = self else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }
}

/// The group of one VM. Removed by [`Cgroup::remove`], not by dropping: removal must be verified.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the group with its limits.
    pub fn create(parent: &Path, name: &str, limits: &Limits) -> io::Result<Self> {
        let path = parent.join(name);
        fs::create_dir(&path)?;
        let group = Self { path };
        group.write("memory.max", &limits.memory.to_string())?;
        // What is left of a monitor that lost a thread to the lack of memory is of no use.
        group.write("memory.oom.group", "1")?;
        // A guest that swaps would take the host's disk from all others. Kernels without swap have no such file.
        if group.path.join("memory.swap.max").exists() {
            group.write("memory.swap.max", "0")?;
        }
        group.write("pids.max", &MAX_TASKS.to_string())?;
        // One CPU's worth above the guest's own, for the monitor's IO.
        group.write("cpu.max", &format!("{} 100000", (u64::from(limits.vcpus) + 1) * 100_000))?;
        if limits.io != IoLimits::default() {
            group.write("io.max", &io_line(&device_of(&limits.on_disk_of)?, limits.io))?;
        }
        Ok(group)
    }

    /// The group with this name, if there is one.
    pub fn existing(parent: &Path, name: &str) -> Option<Self> {
        Some(parent.join(name)).filter(|path| path.is_dir()).map(|path| Self { path })
    }

    /// Moves a process in.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The list of its processes, by which one can enter.
    pub fn entrance(&self) -> io::Result<fs::File> {
        let path = self.path.join("cgroup.procs");
        let opened = fs::File::options().write(true).open(&path);
        opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Holds everything inside still, whatever it does about that.
    pub fn freeze(&self) -> io::Result<()> {
        self.write("cgroup.freeze", "1")
    }

    /// Lets it go on.
    pub fn thaw(&self) -> io::Result<()> {
        self.write("cgroup.freeze", "0")
    }

    /// Kills whatever is left inside and removes the group.
    pub async fn remove(&self, deadline: Duration) -> io::Result<()> {
        // Older kernels have no cgroup.kill; then the removal below fails while a process is left, and says so.
        drop(self.write("cgroup.kill", "1"));
        let limit = tokio::time::Instant::now() + deadline;
        loop {
            match fs::remove_dir(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if tokio::time::Instant::now() > limit => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.path.join(file);
        let written = fs::File::options().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
        written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

/// The line of `io.max` that holds for one device.
fn io_line(device: &str, limits: IoLimits) -> String {
    let value = |limit: Option<u64>| limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
    let (bytes, operations) = (value(limits.bandwidth), value(limits.operations));
    format!("{device} rbps={bytes} wbps={bytes} riops={operations} wiops={operations}")
}

/// The number of the whole disk that a file is on, as `8:0`; limits hold for disks, not for their partitions.
fn device_of(file: &Path) -> io::Result<String> {
    let device = fs::metadata(file)?.dev();
    let own = format!("{}:{}", major(device), minor(device));
    let place = fs::canonicalize(format!("/sys/dev/block/{own}"))
        .map_err(|_| io::Error::other(format!("`{}` is on no disk whose IO could be limited", file.display())))?;
    match place.parent().filter(|_| place.join("partition").exists()) {
        Some(whole) => fs::read_to_string(whole.join("dev")).map(|number| number.trim().to_owned()),
        None => Ok(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_set_is_the_kernels_word_for_none() {
        let limits = IoLimits { bandwidth: Some(100 << 20), operations: None };
        assert_eq!(io_line("8:0", limits), "8:0 rbps=104857600 wbps=104857600 riops=max wiops=max");
    }

    #[test]
    fn groups_are_made_in_what_was_delegated() {
        let of = |own: &str, marked: &str| {
            delegated(own, |group| group == Path::new(ROOT).join(marked)).map(|group| group.display().to_string())
        };
        let unit = "system.slice/dayfly.service";
        let there = Some(format!("{ROOT}/{unit}"));
        assert_eq!(of("0::/system.slice/dayfly.service\n", unit), there);
        assert_eq!(of("0::/system.slice/dayfly.service/service\n", unit), there);
        assert_eq!(of("1:name=systemd:/x\n0::/system.slice/dayfly.service\n", unit), there);
        assert_eq!(of("0::/system.slice/dayfly.service/other\n", unit), None);
        assert_eq!(of("0::/user.slice/session-1.scope\n", unit), None);
        assert_eq!(of("0::/\n", ""), None);
        assert_eq!(of("0::/service\n", ""), None);
        assert_eq!(of("", unit), None);
    }

    #[test]
    fn what_is_on_no_disk_has_no_limits() {
        let error = device_of(Path::new("/proc/self/status")).map_err(|error| error.to_string());
        assert_eq!(error, Err("`/proc/self/status` is on no disk whose IO could be limited".to_owned()));
    }
}

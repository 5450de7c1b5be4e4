//! Where state and images are: whether one can write there, how much room there is, and what kind of file system it is.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::finding::Finding;
use super::subject::Subject;
use crate::host::probe;
use crate::vm::home::require_short_paths;

const GIB: u64 = 1 << 30;
/// With less, a running job may fill the disk.
const LOW: u64 = 2 * GIB;
/// A disk is also low with less than a tenth of it free, unless that is still more than this.
const PLENTY: u64 = 20 * GIB;
/// With less, nothing starts.
const FULL: u64 = 64 << 20;

/// Names of file systems by the number that the kernel has for them.
const NAMES: [(u32, &str); 14] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0x794C_7630, "overlayfs"),
    (0x0102_1994, "tmpfs"),
    (0x858A_5B9D, "ramfs"),
    (0x6969, "nfs"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
];
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];
const REMOTE: [&str; 5] = ["nfs", "cifs", "smb", "9p", "fuse"];

/// One of the two directories, as an operator knows it.
#[derive(Debug, Clone, Copy)]
struct Role {
    area: &'static str,
    name: &'static str,
    key: &'static str,
}

const STATE: Role = Role { area: "state", name: "state directory", key: "state_dir" };
const IMAGES: Role = Role { area: "images", name: "image directory", key: "images_dir" };

#[derive(Debug, Clone)]
struct Facts {
    path: PathBuf,
    /// The directory itself, or the nearest one above it that exists.
    existing: PathBuf,
    place: Result<Place, String>,
}

/// The file system of a directory.
#[derive(Debug, Clone)]
struct Place {
    device: u64,
    kind: String,
    total: u64,
    free: u64,
    /// Whether a file could be made, or why not.
    written: Result<(), String>,
    reflink: Option<bool>,
    /// Why no VM's sockets could be below the directory.
    too_long: Option<String>,
    /// Mount options that keep a root file system from being unpacked and run there.
    hindering: Vec<&'static str>,
}

pub(super) fn examine(subject: &Subject) -> Vec<Finding> {
    let (state, images) = (observe(&subject.state_dir), observe(&subject.images_dir));
    let is_elsewhere = device(&state) != device(&images);
    let mut findings = judge(STATE, &state);
    // A second look at the same disk would say everything twice.
    findings
        .extend(judge(IMAGES, &images).into_iter().filter(|finding| is_elsewhere || finding.id == "images.directory"));
    findings
}

fn device(facts: &Facts) -> Option<u64> {
    facts.place.as_ref().ok().map(|place| place.device)
}

fn observe(path: &Path) -> Facts {
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/")).to_owned();
    let too_long = require_short_paths(path).err().map(|error| error.to_string());
    let place = look(&existing).map(|place| Place { too_long, ..place }).map_err(|error| error.to_string());
    Facts { path: path.to_owned(), existing, place }
}

fn look(directory: &Path) -> io::Result<Place> {
    let (kind, room) = (statfs(directory)?, statvfs(directory)?);
    let flags = room.flags();
    let hindering = [(FsFlags::ST_NOEXEC, "noexec"), (FsFlags::ST_NODEV, "nodev"), (FsFlags::ST_NOSUID, "nosuid")];
    Ok(Place {
        device: directory.metadata()?.dev(),
        kind: name_of(kind.filesystem_type()),
        total: room.blocks() * room.fragment_size(),
        free: room.blocks_available() * room.fragment_size(),
        written: tempfile::tempfile_in(directory).map(drop).map_err(|error| error.to_string()),
        reflink: probe::can_reflink(directory).ok(),
        too_long: None,
        hindering: hindering.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| name).collect(),
    })
}

fn name_of(kind: FsType) -> String {
    // The type's width differs from one architecture to the next; the numbers have 32 bits.
    let number = kind.0 as u32;
    let known = NAMES.iter().find(|(candidate, _)| *candidate == number);
    known.map_or_else(|| format!("file system {number:#x}"), |(_, name)| (*name).to_owned())
}

fn judge(role: Role, facts: &Facts) -> Vec<Finding> {
    let directory = directory(role, facts);
    match &facts.place {
        Ok(place) => vec![directory, space(role, facts, place), sharing(role, place)],
        Err(_) => vec![directory],
    }
}

fn directory(role: Role, facts: &Facts) -> Finding {
    let id = format!("{}.directory", role.area);
    let (shown, existing) = (facts.path.display(), facts.existing.display());
    let problem = |title: String| Finding::problem(id.as_str(), title);
    let finding = match &facts.place {
        Err(why) => problem(format!("the {} `{shown}` cannot be looked at", role.name)).detail(why.as_str()),
        Ok(Place { too_long: Some(why), .. }) if role.area == STATE.area => {
            problem(format!("the path of the {} is too long", role.name)).explained_by(why)
        }
        Ok(Place { written: Err(why), .. }) => {
            problem(format!("nothing can be written to the {} `{shown}`", role.name))
                .detail(format!("`{existing}`: {why}"))
                .hint(format!("run it as root, or use another `{}`", role.key))
        }
        Ok(place) if role.area == IMAGES.area && !place.hindering.is_empty() => {
            let options = place.hindering.join(", ");
            Finding::warning(id.as_str(), format!("the {} `{shown}` is mounted with {options}", role.name))
                .detail("a root file system cannot be unpacked and set up there: images cannot be built")
                .hint("mount it without these options, or use another `images_dir`")
        }
        Ok(_) if facts.path == facts.existing => Finding::ok(id.as_str(), format!("the {} is `{shown}`", role.name)),
        Ok(_) => Finding::ok(id.as_str(), format!("the {} will be `{shown}`", role.name)),
    };
    finding.data("path", facts.path.display().to_string()).data("exists", facts.path == facts.existing)
}

fn space(role: Role, facts: &Facts, place: &Place) -> Finding {
    let id = format!("{}.space", role.area);
    let Place { kind, total, free, .. } = place;
    let amount = format!("{} free of {} ({kind})", rounded(*free), rounded(*total));
    let is_low = *free < LOW || (*free < *total / 10 && *free < PLENTY);
    let finding = if *free < FULL {
        Finding::problem(id, format!("the disk is full: {amount}"))
            .hint(format!("free some space on the file system of `{}`", facts.existing.display()))
    } else if is_low {
        Finding::warning(id, format!("the disk is nearly full: {amount}"))
            .detail("jobs whose VMs find no room end with an error")
            .hint(format!("free some space on the file system of `{}`", facts.existing.display()))
    } else if IN_MEMORY.contains(&kind.as_str()) {
        Finding::warning(id, format!("this is memory, not a disk: {amount}"))
            .detail("images are built again, and everything else is lost, when the host restarts")
            .hint(format!("use a `{}` on a disk", role.key))
    } else if REMOTE.contains(&kind.as_str()) {
        Finding::warning(id, format!("this may be another machine's disk: {amount}"))
            .detail("locks and memory maps, on which VMs depend, are slow or unreliable there")
            .hint(format!("use a `{}` on a local disk", role.key))
    } else {
        Finding::ok(id, amount)
    };
    finding.data("file_system", kind.as_str()).data("free_bytes", *free).data("total_bytes", *total)
}

fn sharing(role: Role, place: &Place) -> Finding {
    let id = format!("{}.reflink", role.area);
    let finding = match place.reflink {
        Some(true) => Finding::ok(id, "files share blocks: copies cost nothing"),
        Some(false) => Finding::ok(id, "files cannot share blocks here: what a private disk holds is copied per VM")
            .detail("this is little: a snapshot's disk is nearly empty. btrfs, and xfs with reflinks, copy nothing"),
        None => Finding::skipped(id, "sharing blocks could not be tried"),
    };
    finding.data("reflink", place.reflink)
}

fn rounded(bytes: u64) -> String {
    if bytes < GIB { format!("{} MiB", bytes >> 20) } else { format!("{} GiB", bytes / GIB) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    fn facts(change: impl FnOnce(&mut Place)) -> Facts {
        let mut place = Place {
            device: 1,
            kind: "ext4".into(),
            total: 100 * GIB,
            free: 60 * GIB,
            written: Ok(()),
            reflink: Some(false),
            too_long: None,
            hindering: Vec::new(),
        };
        change(&mut place);
        Facts { path: "/var/lib/dayfly".into(), existing: "/var/lib/dayfly".into(), place: Ok(place) }
    }

    fn space_of(change: impl FnOnce(&mut Place)) -> Finding {
        let facts = facts(change);
        space(STATE, &facts, facts.place.as_ref().unwrap())
    }

    #[test]
    fn every_kind_of_disk_has_its_words() {
        insta::assert_snapshot!(sketch(&judge(STATE, &facts(|_| ()))), @"
        ok state.directory: the state directory is `/var/lib/dayfly`
        ok state.space: 60 GiB free of 100 GiB (ext4)
        ok state.reflink: files cannot share blocks here: what a private disk holds is copied per VM
            this is little: a snapshot's disk is nearly empty. btrfs, and xfs with reflinks, copy nothing
        ");
        insta::assert_snapshot!(sketch(&[
            space_of(|place| place.free = 30 << 20),
            space_of(|place| place.free = GIB),
            space_of(|place| place.free = 9 * GIB),
            space_of(|place| (place.free, place.total) = (50 * GIB, 2000 * GIB)),
            space_of(|place| place.kind = "tmpfs".into()),
            space_of(|place| place.kind = "nfs".into()),
            sharing(STATE, facts(|place| place.reflink = Some(true)).place.as_ref().unwrap()),
            sharing(STATE, facts(|place| place.reflink = None).place.as_ref().unwrap()),
        ]), @"
        problem state.space: the disk is full: 30 MiB free of 100 GiB (ext4)
            -> free some space on the file system of `/var/lib/dayfly`
        warning state.space: the disk is nearly full: 1 GiB free of 100 GiB (ext4)
            jobs whose VMs find no room end with an error
            -> free some space on the file system of `/var/lib/dayfly`
        warning state.space: the disk is nearly full: 9 GiB free of 100 GiB (ext4)
            jobs whose VMs find no room end with an error
            -> free some space on the file system of `/var/lib/dayfly`
        ok state.space: 50 GiB free of 2000 GiB (ext4)
        warning state.space: this is memory, not a disk: 60 GiB free of 100 GiB (tmpfs)
            images are built again, and everything else is lost, when the host restarts
            -> use a `state_dir` on a disk
        warning state.space: this may be another machine's disk: 60 GiB free of 100 GiB (nfs)
            locks and memory maps, on which VMs depend, are slow or unreliable there
            -> use a `state_dir` on a local disk
        ok state.reflink: files share blocks: copies cost nothing
        skipped state.reflink: sharing blocks could not be tried
        ");
    }

    #[test]
    fn directories_that_cannot_be_used_are_named() {
        let not_there = Facts { existing: "/var/lib".into(), ..facts(|_| ()) };
        let readonly = facts(|place| place.written = Err("Read-only file system (os error 30)".into()));
        let restricted = facts(|place| place.hindering = vec!["noexec", "nodev"]);
        let unreadable = Facts { place: Err("Permission denied (os error 13)".into()), ..facts(|_| ()) };
        let long = facts(|place| place.too_long = Some("it has more than 107 bytes\n  hint: use a shorter one".into()));
        insta::assert_snapshot!(sketch(&[
            directory(STATE, &not_there), directory(STATE, &readonly), directory(IMAGES, &restricted), directory(STATE, &unreadable), directory(STATE, &long),
        ]), @"
        ok state.directory: the state directory will be `/var/lib/dayfly`
        problem state.directory: nothing can be written to the state directory `/var/lib/dayfly`
            `/var/lib/dayfly`: Read-only file system (os error 30)
            -> run it as root, or use another `state_dir`
        warning images.directory: the image directory `/var/lib/dayfly` is mounted with noexec, nodev
            a root file system cannot be unpacked and set up there: images cannot be built
            -> mount it without these options, or use another `images_dir`
        problem state.directory: the state directory `/var/lib/dayfly` cannot be looked at
            Permission denied (os error 13)
        problem state.directory: the path of the state directory is too long
            it has more than 107 bytes
            -> use a shorter one
        ");
    }

    #[test]
    fn a_look_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let facts = observe(&directory.path().join("not/there"));
        assert_eq!(facts.existing, directory.path());
        assert_eq!(facts.place.unwrap().written, Ok(()));
        assert!(observe(&directory.path().join("x".repeat(100))).place.unwrap().too_long.is_some());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

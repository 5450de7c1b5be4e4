//! What a process does to confine itself before it becomes the program, as data.
//!
//! Between fork and exec of a program with threads nothing may be allocated and no lock be taken. So everything that the steps
//! need is made before, here, where it can be read and tested; what carries them out only makes system calls. Pure.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::resource::Resource;

use super::{Jail, Shown};

/// Descriptors that a program may have: disks, sockets, events, several for each thread.
const MAX_DESCRIPTORS: u64 = 1024;

/// One step. They are taken in the order of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Asks the kernel to end the process with the one that started it. Becoming another user takes that back.
    EndWithParent,
    EnterGroup,
    LeaveNamespaces,
    KeepMountsPrivate,
    MountRoot(CString),
    GoTo(CString),
    MakeDirectory(CString),
    MakeFile(CString),
    Show {
        from: CString,
        at: CString,
    },
    /// Nothing in the new root can be changed.
    SealRoot,
    /// The new root is all there is.
    SwitchRoot,
    Limit(Resource, u64),
    /// No huge pages. An emulated VM fills a fraction of one, and one is dear to clear and hard to come by: without them the last
    /// of many clones starts as fast as the first, and each takes less memory.
    KeepPagesSmall,
    DropCapabilities,
    Become(u32),
    RefusePrivileges,
    Filter,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndWithParent => out.write_str("ending with its parent"),
            Self::EnterGroup => out.write_str("entering its cgroup"),
            Self::LeaveNamespaces => out.write_str("making its namespaces"),
            Self::KeepMountsPrivate => out.write_str("making its mounts its own"),
            Self::MountRoot(at) => write!(out, "mounting its root at {at:?}"),
            Self::GoTo(directory) => write!(out, "going to {directory:?}"),
            Self::MakeDirectory(path) | Self::MakeFile(path) => write!(out, "making {path:?} in its root"),
            Self::Show { from, .. } => write!(out, "showing it {from:?}"),
            Self::SealRoot => out.write_str("making its root read-only"),
            Self::SwitchRoot => out.write_str("changing its root"),
            Self::Limit(resource, value) => write!(out, "limiting {resource:?} to {value}"),
            Self::KeepPagesSmall => out.write_str("keeping its pages small"),
            Self::DropCapabilities => out.write_str("dropping capabilities"),
            Self::Become(uid) => write!(out, "becoming user {uid}"),
            Self::RefusePrivileges => out.write_str("refusing new privileges"),
            Self::Filter => out.write_str("filtering its system calls"),
        }
    }
}

/// The steps into `jail`.
///
/// # Errors
/// When a path has a NUL byte in it or is not absolute.
pub(super) fn steps(jail: &Jail<'_>) -> io::Result<Vec<Step>> {
    let mut steps = vec![Step::EndWithParent];
    if jail.group.is_some() {
        steps.push(Step::EnterGroup);
    }
    steps.extend([Step::LeaveNamespaces, Step::KeepMountsPrivate]);
    let root = text(jail.root)?;
    steps.extend([Step::MountRoot(root.clone()), Step::GoTo(root)]);
    steps.extend(furnish(jail.shown)?);
    steps.extend([Step::SealRoot, Step::SwitchRoot]);
    steps.extend(limits(jail).map(|(resource, value)| Step::Limit(resource, value)));
    steps.extend([Step::KeepPagesSmall, Step::DropCapabilities, Step::Become(jail.uid), Step::RefusePrivileges]);
    if jail.ends_with_us {
        steps.push(Step::EndWithParent);
    }
    steps.push(Step::Filter);
    Ok(steps)
}

/// The limits that hold on hosts without cgroups, too. Processes count by user, and a jail has a user of its own.
fn limits(jail: &Jail<'_>) -> [(Resource, u64); 6] {
    [
        (Resource::RLIMIT_NOFILE, MAX_DESCRIPTORS),
        (Resource::RLIMIT_NPROC, jail.tasks),
        (Resource::RLIMIT_FSIZE, jail.file_size),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ]
}

/// A place for everything that is shown, relative to the new root, and then each thing in its place.
fn furnish(shown: &[Shown]) -> io::Result<Vec<Step>> {
    let mut directories = BTreeSet::new();
    for one in shown {
        let at = inside(&one.at)?;
        directories.extend(at.ancestors().skip(usize::from(!one.is_directory)).map(Path::to_owned));
    }
    directories.remove(Path::new(""));
    let mut steps = Vec::new();
    for directory in directories {
        steps.push(Step::MakeDirectory(text(&directory)?));
    }
    for one in shown {
        let at = text(inside(&one.at)?)?;
        if !one.is_directory {
            steps.push(Step::MakeFile(at.clone()));
        }
        steps.push(Step::Show { from: text(&one.from)?, at });
    }
    Ok(steps)
}

fn inside(path: &Path) -> io::Result<&Path> {
    path.strip_prefix("/").map_err(|_| io::Error::other(format!("`{}` is not absolute", path.display())))
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(shown: &[Shown], ends_with_us: bool) -> String {
        let root = Path::new("/state/vms/vm-1/root");
        let jail = Jail { uid: 900_000, root, shown, group: None, file_size: 1 << 30, tasks: 256, ends_with_us };
        let steps = steps(&jail).unwrap();
        steps.iter().map(Step::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_jail_is_furnished_before_it_is_sealed_and_rights_go_last() {
        let shown = [
            Shown { from: "/usr/bin/qemu".into(), at: "/usr/bin/qemu".into(), is_directory: false },
            Shown { from: "/usr/share/qemu".into(), at: "/usr/share/qemu".into(), is_directory: true },
            Shown { from: "/state/images/kernel".into(), at: "/kernel".into(), is_directory: false },
        ];
        insta::assert_snapshot!(plan(&shown, true), @r#"
        ending with its parent
        making its namespaces
        making its mounts its own
        mounting its root at "/state/vms/vm-1/root"
        going to "/state/vms/vm-1/root"
        making "usr" in its root
        making "usr/bin" in its root
        making "usr/share" in its root
        making "usr/share/qemu" in its root
        making "usr/bin/qemu" in its root
        showing it "/usr/bin/qemu"
        showing it "/usr/share/qemu"
        making "kernel" in its root
        showing it "/state/images/kernel"
        making its root read-only
        changing its root
        limiting RLIMIT_NOFILE to 1024
        limiting RLIMIT_NPROC to 256
        limiting RLIMIT_FSIZE to 1073741824
        limiting RLIMIT_CORE to 0
        limiting RLIMIT_MEMLOCK to 0
        limiting RLIMIT_MSGQUEUE to 0
        keeping its pages small
        dropping capabilities
        becoming user 900000
        refusing new privileges
        ending with its parent
        filtering its system calls
        "#);
    }

    #[test]
    fn what_outlives_us_is_not_told_to_end_with_us() {
        let with = plan(&[], true);
        let without = plan(&[], false);
        assert_eq!(with.matches("ending with its parent").count(), 2);
        assert!(
            without.starts_with("ending with its parent"),
            "until it is another user it does, however short that is"
        );
        assert_eq!(without.matches("ending with its parent").count(), 1);
    }

    #[test]
    fn a_place_outside_is_refused() {
        let shown = [Shown { from: "/a".into(), at: "a".into(), is_directory: false }];
        assert!(furnish(&shown).is_err());
    }
}

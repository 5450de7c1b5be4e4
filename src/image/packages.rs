//! Debian packages: a root file system of them, the guest's kernel from among them, and what is installed.
//!
//! The same packages give the same bytes: whatever depends on this host or on the moment is cleared away.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::recipe::Packages;
use super::source::Root;
use super::{ImageError, Progress};
use crate::host::command;

/// How long the package step may take: an archive may be slow.
const PACKAGES_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The kernel of the guests: small, made for virtual machines, in every Debian archive.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// What `unshare` is told. The package step mounts the host's devices below the new root: in a mount namespace of its own no
/// mount outlives it, and in a process namespace of its own none of its processes does, however it ends.
pub const ISOLATION: [&str; 7] = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"];

/// Documentation is of no use in a job's machine.
const EXCLUDED: [&str; 4] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*"];

/// The time that packages take for now, in seconds since the epoch: the beginning of 2024.
const EPOCH: &str = "1704067200";

/// Directories whose files tell of the installation and not of what is installed.
const EMPTIED: [&str; 6] = ["var/log", "var/cache/apt", "var/cache/ldconfig", "var/lib/apt/lists", "tmp", "run"];
/// Files that are this host's, or another time's.
const REMOVED: [&str; 6] = [
    "etc/hostname",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/diversions-old",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
];
/// Files that programs look for, and that each machine fills itself.
const EMPTY: [&str; 2] = ["etc/machine-id", "etc/resolv.conf"];

/// Bytes of dpkg's list of packages.
const MAX_STATUS: u64 = 64 << 20;

/// Installs packages into `directory/root`; with `with_kernel` the archive's newest kernel is laid beside it, as a package.
pub(super) async fn install(
    packages: &Packages, with_kernel: bool, directory: &Path, progress: &dyn Progress,
) -> Result<(), ImageError> {
    let include = format!("--include={}", packages.packages.join(","));
    let excludes: Vec<String> = EXCLUDED.iter().map(|path| format!("--dpkgopt=path-exclude={path}")).collect();
    let hook = fetch_kernel_hook(directory);
    let root = directory.join("root").display().to_string();
    let mut arguments = vec!["--variant=minbase", "--format=directory"];
    if !packages.packages.is_empty() {
        arguments.push(&include);
    }
    arguments.extend(excludes.iter().map(String::as_str));
    if with_kernel {
        arguments.push(&hook);
    }
    arguments.extend(["--", packages.suite.as_str(), root.as_str()]);
    arguments.extend(packages.mirror.as_deref());
    run(&arguments, directory, progress).await
}

/// Lays the newest kernel of a release beside the root file system, as a package.
pub(super) async fn fetch_kernel(
    suite: &str, mirror: Option<&str>, directory: &Path, progress: &dyn Progress,
) -> Result<(), ImageError> {
    let hook = fetch_kernel_hook(directory);
    // Nothing is installed, and the directory is not kept.
    let mut arguments = vec!["--variant=custom", "--format=null", &hook, "--", suite, "-"];
    arguments.extend(mirror);
    run(&arguments, directory, progress).await
}

/// The kernel is fetched with the settings of that archive, and not installed: guests boot it from outside.
fn fetch_kernel_hook(directory: &Path) -> String {
    format!(
        "--customize-hook=cd '{}' && export APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" && apt-get download -qq \
         -o APT::Sandbox::User=root $(apt-cache depends {KERNEL_PACKAGE} | sed -n 's/^ *Depends: \\(linux-image-[^ ]*\\)$/\\1/p')",
        directory.display()
    )
}

async fn run(arguments: &[&str], directory: &Path, progress: &dyn Progress) -> Result<(), ImageError> {
    command::require("mmdebstrap")?;
    let mut unshare = tokio::process::Command::new("unshare");
    unshare.args(ISOLATION).args(["mmdebstrap", "--mode=root", "--aptopt=Acquire::Languages \"none\""]).args(arguments);
    // What is left of it there when it is broken off goes with the directory.
    unshare.env("TMPDIR", directory).env("SOURCE_DATE_EPOCH", EPOCH);
    command::run_prepared(unshare, Vec::new(), PACKAGES_LIMIT, |line| progress.detail(line)).await?;
    Ok(())
}

/// Clears away what differs from one installation of the same packages to the next. Blocks the thread.
pub(super) fn make_reproducible(root: &mut Root) -> Result<(), ImageError> {
    let mut clear = || -> std::io::Result<()> {
        EMPTIED.iter().try_for_each(|path| root.empty(path.as_bytes(), |_| false))?;
        REMOVED.iter().try_for_each(|path| root.remove(path.as_bytes()))?;
        EMPTY.iter().try_for_each(|path| root.write(path.as_bytes(), &mut std::io::empty(), 0o644))
    };
    clear().map_err(ImageError::io("clearing the root file system"))
}

/// `name=version` of what dpkg says is installed; nothing where it was never used. Blocks the thread.
pub(super) fn installed(root: &Root) -> Result<Vec<String>, ImageError> {
    let mut status = String::new();
    match root.read(b"var/lib/dpkg/status") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.and_then(|file| file.take(MAX_STATUS).read_to_string(&mut status)),
    }
    .map_err(ImageError::io("the list of packages"))?;
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    let packages = status
        .split("\n\n")
        .filter_map(|paragraph| Some(format!("{}={}", field(paragraph, "Package:")?, field(paragraph, "Version:")?)));
    let mut packages: Vec<String> = packages.collect();
    packages.sort();
    Ok(packages)
}

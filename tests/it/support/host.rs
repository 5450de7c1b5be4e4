//! What these tests need of the host, and the images that they share.

use std::path::{Path, PathBuf};
use std::process::Command;

use dayfly::host::process::find_program;
use nix::unistd::geteuid;

/// Set where a skipped test would be a lie.
const REQUIRE: &str = "DAYFLY_REQUIRE_VMS";

/// Programs that building an image and running it takes.
const PROGRAMS: [&str; 5] = ["qemu-system-x86_64", "mmdebstrap", "mkfs.erofs", "mkfs.ext4", "dpkg-deb"];

/// Whether VMs can be run here. Where they cannot, the caller returns, and the reason is printed.
///
/// # Panics
/// Where they cannot although `DAYFLY_REQUIRE_VMS=1` says that they must.
pub(crate) fn can_run_vms() -> bool {
    let lacking = if geteuid().is_root() {
        PROGRAMS.iter().find(|program| find_program(program).is_none()).map(|program| format!("`{program}` is missing"))
    } else {
        Some("building an image takes root".to_owned())
    };
    lacking.is_none_or(|why| skipped(&why))
}

/// Says that a test does not run here; gives `false`.
///
/// # Panics
/// When `DAYFLY_REQUIRE_VMS=1` forbids that.
pub(crate) fn skipped(why: &str) -> bool {
    assert!(std::env::var_os(REQUIRE).is_none_or(|value| value != "1"), "{REQUIRE}=1, but {why}");
    eprintln!("SKIPPED: {why}");
    false
}

/// Where the images of all tests are: building one takes a minute, so it is done once. The product serialises builders.
pub(crate) fn shared_images() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dayfly-images");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// What is being built or baked among the shared images, or was left so.
pub(crate) fn unfinished_images() -> Vec<String> {
    let below = Command::new("find").arg(shared_images()).args(["-name", ".building-*"]).output().unwrap();
    String::from_utf8(below.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A copy of the shared images that shares their files, for tests that remove some.
pub(crate) fn copy_images(to: &Path) {
    let copied = Command::new("cp").arg("-al").arg(shared_images()).arg(to).status().unwrap();
    assert!(copied.success(), "the images could not be copied");
}

/// A directory with a path that is short enough for Unix sockets below it.
pub(crate) fn short_directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("dayfly-").tempdir_in("/tmp").unwrap()
}

/// Whether file systems can be mounted in a mount namespace of one's own; if not, the caller returns.
pub(crate) fn can_mount() -> bool {
    let mounted =
        on_small_disk(Path::new("/tmp"), "1m", Path::new("true")).output().is_ok_and(|out| out.status.success());
    mounted || skipped("file systems cannot be mounted here")
}

/// A command that runs `program` where `directory` is a file system of this size, in memory, that nobody else sees. The
/// process is the program itself.
pub(crate) fn on_small_disk(directory: &Path, size: &str, program: &Path) -> Command {
    let script = "mount -t tmpfs -o size=\"$1\" tmpfs \"$2\"; shift 2; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh", size]).arg(directory).arg(program);
    command
}

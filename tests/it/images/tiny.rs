//! An image that is built within a second and without a network: a few programs of this host, with the kernel of the images that
//! all tests share.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::command::{self, Outcome, dayfly};
use crate::support::host;

/// What the image has.
const PROGRAMS: [&str; 7] =
    ["/bin/sh", "/bin/true", "/bin/cat", "/bin/date", "/bin/sleep", "/bin/head", "/bin/setpriv"];

/// Only what VMs of the smallest shape take.
pub(super) const SHAPE: [&str; 4] = ["--memory", "256MiB", "--disk", "1GiB"];

/// A state directory and a directory with the recipe `tiny`.
pub(super) struct Tiny {
    pub(super) state: tempfile::TempDir,
    pub(super) recipes: tempfile::TempDir,
}

impl Tiny {
    /// Lines of the recipe beside its source, for example `[bake]`. `None` where VMs cannot be run.
    pub(super) fn new(lines: &str) -> Option<Self> {
        if !host::can_run_vms() {
            return None;
        }
        // Has the shared images built.
        let shared = host::short_directory();
        std::os::unix::fs::symlink(host::shared_images(), shared.path().join("images")).unwrap();
        let ready: Outcome = command::exec(shared.path()).args(["--", "true"]).output().unwrap().into();
        assert_eq!(ready.code, Some(0), "{}", ready.stderr);
        let tiny = Self { state: host::short_directory(), recipes: host::short_directory() };
        tiny.make_kernel_package();
        tiny.write_root("one");
        tiny.write_recipe(lines);
        Some(tiny)
    }

    pub(super) fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// A file of the recipe.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.recipes.path().join("tiny").join(name)
    }

    pub(super) fn write_recipe(&self, lines: &str) {
        let text = format!(
            "description = 'Tiny'\n[source]\nrootfs = 'root.tar.gz'\n[kernel]\npackage = 'linux-image-tiny.deb'\n\
             [user]\nname = 'root'\nuid = 0\ngid = 0\n[environment]\nPATH = '/bin'\n{lines}"
        );
        fs::write(self.file("image.toml"), text).unwrap();
    }

    /// The root file system, with a file `/version` of this content.
    pub(super) fn write_root(&self, version: &str) {
        let root = self.recipes.path().join("root");
        for program in PROGRAMS {
            let libraries = Command::new("ldd").arg(program).output().unwrap();
            let libraries = String::from_utf8(libraries.stdout).unwrap();
            let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
            for path in paths.chain([program]) {
                let place = root.join(path.trim_start_matches('/'));
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::copy(path, place).unwrap();
            }
        }
        // Where its account is at home.
        fs::create_dir_all(root.join("root")).unwrap();
        fs::write(root.join("version"), version).unwrap();
        self.pack_root();
    }

    /// A file or directory of the root file system, which [`Tiny::pack_root`] makes the image's.
    pub(super) fn in_root(&self, path: &str) -> PathBuf {
        self.recipes.path().join("root").join(path)
    }

    pub(super) fn pack_root(&self) {
        let mut tar = Command::new("tar");
        tar.args(["--xattrs", "--xattrs-include=*", "-C"]).arg(self.in_root(""));
        run(tar.arg("-czf").arg(self.file("root.tar.gz")).arg("."));
    }

    /// A package with the kernel and the drivers of the shared image.
    fn make_kernel_package(&self) {
        let image = host::shared_images().join("base/current");
        let described: Value = serde_json::from_slice(&fs::read(image.join("image.json")).unwrap()).unwrap();
        let version = described["kernel"].as_str().unwrap();
        let tree = self.recipes.path().join("package");
        let modules = tree.join("lib/modules").join(version).join("kernel");
        for directory in [&modules, &tree.join("boot"), &tree.join("DEBIAN"), &self.file("")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::copy(image.join("kernel"), tree.join("boot").join(format!("vmlinuz-{version}"))).unwrap();
        for module in fs::read_dir(image.join("modules")).unwrap() {
            let module = module.unwrap();
            // Without the number that tells its turn.
            let name = module.file_name().into_string().unwrap().split_off(3);
            fs::copy(module.path(), modules.join(name)).unwrap();
        }
        let control = "Package: linux-image-tiny\nVersion: 1\nArchitecture: amd64\nMaintainer: test@example.org\nDescription: x\n";
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        // Quickly rather than small.
        let mut build = Command::new("dpkg-deb");
        run(build.args(["-Znone", "--build"]).arg(&tree).arg(self.file("linux-image-tiny.deb")));
    }

    /// A command of the program on these directories; more arguments may follow.
    pub(super) fn dayfly(&self, arguments: &[&str]) -> Command {
        let mut command = dayfly();
        command.args(arguments).arg("--state-dir").arg(self.state_dir()).args(["--backend", "qemu-tcg"]);
        command.arg("--recipes").arg(self.recipes.path());
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Outcome {
        self.dayfly(arguments).output().unwrap().into()
    }

    pub(super) fn bake(&self) -> Outcome {
        self.run(&[&["image", "bake", "tiny"], &SHAPE[..]].concat())
    }

    /// Runs a script in a fresh VM.
    pub(super) fn exec(&self, script: &str) -> Outcome {
        self.exec_command(script).output().unwrap().into()
    }

    fn exec_command(&self, script: &str) -> Command {
        let mut command = self.dayfly(&[&["exec", "--image", "tiny"], &SHAPE[..]].concat());
        command.args(["--", "sh", "-c", script]);
        command
    }

    /// Starts a script that goes on when it is told to.
    pub(super) fn start(&self, script: &str) -> Child {
        let mut command = self.dayfly(&[&["exec", "--image", "tiny", "--stdin"], &SHAPE[..]].concat());
        command.args(["--", "sh", "-c", &format!("echo ready; read go; {script}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The images as `image list --json` tells them.
    pub(super) fn listed(&self) -> Vec<Value> {
        let listed = self.run(&["image", "list", "--json"]);
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        serde_json::from_str(&listed.stdout).unwrap()
    }

    /// The directories of the current image's snapshots.
    pub(super) fn snapshots(&self) -> Vec<PathBuf> {
        let bakes = self.state_dir().join("images/tiny/current/bakes");
        fs::read_dir(bakes).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// The directory of the one snapshot of the current image.
    pub(super) fn snapshot(&self) -> PathBuf {
        let mut found = self.snapshots();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// What builders left.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let mut find = Command::new("find");
        find.arg(self.state_dir().join("images")).args(["-name", ".building-*", "-o", "-name", ".replaced-*"]);
        let found = find.output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Tells a script that it may go on, and waits for its end.
pub(super) fn go_on(mut child: Child) -> Outcome {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    child.wait_with_output().unwrap().into()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

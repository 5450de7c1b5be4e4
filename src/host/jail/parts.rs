//! What of the host a program needs to run in a root of its own: itself, its libraries, and what QEMU reads at its start.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Shown;
use crate::host::command;
use crate::host::process::find_program;

/// How long a program may take to list something.
const LIST_LIMIT: Duration = Duration::from_secs(10);

/// Where programs look for libraries that are not in the places that the loader knows by itself.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// The devices that any program may expect.
const DEVICES: [&str; 2] = ["/dev/null", "/dev/urandom"];

/// With which scripts begin.
const SCRIPT: &[u8] = b"#!";

/// Beside QEMU's libraries, the directory with what it loads when it is needed: its emulator among them.
const MODULES: &str = "qemu";

/// A program and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The same path outside and inside, without symbolic links.
    pub program: PathBuf,
    pub shown: Vec<Shown>,
}

impl Parts {
    /// The files among them: the program and its libraries.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.shown.iter().filter(|one| !one.is_directory).map(|one| one.from.clone())
    }
}

/// Finds what `program` needs. Starts it twice, unconfined, so that it says so; as often before, for its version.
///
/// # Errors
/// When there is no such program, or a library of it is missing; and for a script, which needs more than itself.
pub async fn parts_of(program: &str) -> io::Result<Parts> {
    let path = find_program(program).ok_or(io::ErrorKind::NotFound)?.canonicalize()?;
    if is_script(&path)? {
        const WHY: &str = "it is a script, and its confinement has no shell\n  hint: name the program that it starts";
        return Err(io::Error::other(WHY));
    }
    let (libraries, directories) = tokio::try_join!(libraries(&path), firmware(&path))?;
    // By both names that the directory has where `/lib` is a link.
    let modules = libraries.iter().filter_map(|library| Some(library.parent()?.join(MODULES)));
    let modules = modules.flat_map(|path| path.canonicalize().ok().into_iter().chain([path]));
    let devices = DEVICES.iter().map(PathBuf::from);
    let mut all: Vec<PathBuf> = modules.chain(directories).chain(devices).collect();
    all.extend(libraries.iter().cloned());
    all.extend([path.clone(), LOADER_CACHE.into()]);
    all.sort();
    all.dedup();
    // What is not there is needed by no program that works outside.
    let shown = all.into_iter().filter_map(|path| {
        let is_directory = path.metadata().ok()?.is_dir();
        Some(Shown { from: path.clone(), at: path, is_directory })
    });
    Ok(Parts { program: path, shown: shown.collect() })
}

fn is_script(path: &Path) -> io::Result<bool> {
    let mut first = Vec::new();
    File::open(path)?.take(SCRIPT.len() as u64).read_to_end(&mut first)?;
    Ok(first == SCRIPT)
}

/// The libraries of a program, by the paths under which it looks for them. None of one that needs none.
async fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let mut command = tokio::process::Command::new(program);
    // The loader lists what it would load, instead of starting the program; one without a loader tells its version.
    command.arg("--version").env("LD_TRACE_LOADED_OBJECTS", "1");
    let listed = command::run_prepared(command, Vec::new(), LIST_LIMIT, |_| {}).await;
    listed_libraries(&String::from_utf8_lossy(&listed.map_err(io::Error::other)?)).map_err(io::Error::other)
}

/// Lines are `name => path (address)`, or only `path (address)` for the loader itself.
fn listed_libraries(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut libraries = Vec::new();
    for line in text.lines() {
        if let Some(missing) = line.trim().strip_suffix(" => not found") {
            return Err(format!("its library `{missing}` is missing"));
        }
        let Some((path, _)) = line.split_once(" (0x") else { continue };
        let path = path.split_once(" => ").map_or(path, |(_, path)| path).trim();
        if path.starts_with('/') {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

/// The directories in which QEMU looks for firmware. Another program may have none.
async fn firmware(program: &Path) -> io::Result<Vec<PathBuf>> {
    let program = program.display().to_string();
    let listed = command::run(&program, &["-L", "help"], LIST_LIMIT, |_| {}).await.unwrap_or_default();
    let directories = String::from_utf8_lossy(&listed).lines().map(PathBuf::from).collect::<Vec<_>>();
    Ok(directories.into_iter().filter(|path| path.is_absolute()).filter_map(|path| path.canonicalize().ok()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_is_understood() {
        let list = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f21)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f22)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(listed_libraries(list), Ok(expected.to_vec()));
        assert_eq!(listed_libraries("QEMU emulator version 9.2.0\n"), Ok(Vec::new()));
        let missing = listed_libraries("\tlibx.so.1 => not found\n").unwrap_err();
        assert_eq!(missing, "its library `libx.so.1` is missing");
    }

    #[tokio::test]
    async fn a_script_is_no_program_for_a_jail() {
        let script = tempfile::NamedTempFile::with_suffix(".sh").unwrap();
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let refused = parts_of(script.path().to_str().unwrap()).await.unwrap_err().to_string();
        assert!(refused.starts_with("it is a script") && refused.contains("hint:"), "{refused}");
    }

    #[tokio::test]
    async fn a_program_has_its_libraries_and_itself() {
        let parts = parts_of("sh").await.unwrap();
        let is_shown = |name: &str| parts.shown.iter().any(|one| one.at.ends_with(name) && !one.is_directory);
        assert!(parts.program.is_absolute() && parts.shown.iter().any(|one| one.at == parts.program));
        assert!(is_shown("libc.so.6") && is_shown("ld-linux-x86-64.so.2"), "{parts:?}");
    }
}

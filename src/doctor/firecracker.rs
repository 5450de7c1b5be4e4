//! Firecracker and its jailer: whether they are there, fit each other, and find what they need. As bad as the configuration
//! needs them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Status};
use super::subject::Subject;
use crate::engine::Backend;
use crate::host::command;
use crate::host::process::find_program;
use crate::vm::firecracker::INSTALL_HINT;

/// How long a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// The most that is looked at of a program, in bytes. Firecracker has 4 MiB.
const MAX_PROGRAM: u64 = 64 << 20;

/// The loader of glibc, and where a program names the one that it needs.
const LOADER: &[u8] = b"ld-linux";
const HEADERS: usize = 4096;

/// The first version that describes its devices in a way that stock kernels of distributions understand.
const OLDEST: (u32, u32) = (1, 8);

/// What a program was built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    /// As the official ones are: with a filter of system calls.
    Musl,
    /// For glibc, in one piece: without a filter.
    StaticGnu,
    /// For glibc, with a loader that no jail has.
    DynamicGnu,
}

#[derive(Debug, Clone)]
struct Program {
    path: PathBuf,
    version: Option<String>,
    build: Build,
}

#[derive(Debug, Clone)]
struct Facts {
    backend: Backend,
    firecracker: Option<Program>,
    jailer: Option<Program>,
    is_root: bool,
    /// Whether images and VMs are on one file system; unknown where neither is there yet.
    one_file_system: Option<bool>,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let (firecracker, jailer) =
        (observe(&subject.firecracker.firecracker).await, observe(&subject.firecracker.jailer).await);
    let device = |path: &Path| path.ancestors().find_map(|path| Some(std::fs::metadata(path).ok()?.dev()));
    let facts = Facts {
        backend: subject.backend,
        firecracker,
        jailer,
        is_root: nix::unistd::geteuid().is_root(),
        one_file_system: device(&subject.state_dir)
            .zip(device(&subject.images_dir))
            .map(|(state, images)| state == images),
    };
    judge(&facts)
}

async fn observe(program: &str) -> Option<Program> {
    let path = find_program(program)?;
    let output = command::run(&path.display().to_string(), &["--version"], VERSION_LIMIT, |_| {}).await.ok();
    let version = output.and_then(|text| Some(String::from_utf8_lossy(&text).lines().next()?.to_owned()));
    let mut bytes = Vec::new();
    // One that cannot be read has no version either.
    drop(File::open(&path).map(|file| file.take(MAX_PROGRAM).read_to_end(&mut bytes)));
    Some(Program { path, version, build: build_of(&bytes) })
}

/// A program that needs a loader names it behind its headers. One that has glibc in itself names it too, elsewhere, and does
/// not need it.
fn build_of(program: &[u8]) -> Build {
    let names_loader = |bytes: &[u8]| bytes.windows(LOADER.len()).any(|window| window == LOADER);
    if names_loader(&program[..program.len().min(HEADERS)]) {
        Build::DynamicGnu
    } else if names_loader(program) {
        Build::StaticGnu
    } else {
        Build::Musl
    }
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let (Some(firecracker), Some(jailer)) = (&facts.firecracker, &facts.jailer) else {
        let found = [
            ("firecracker.program", "Firecracker", &facts.firecracker),
            ("firecracker.jailer", "its jailer", &facts.jailer),
        ];
        let absent = found.into_iter().filter(|(_, _, program)| program.is_none());
        return absent.map(|(id, name, _)| missing(facts, id, name)).collect();
    };
    vec![
        program(facts, firecracker),
        jail(facts, jailer, firecracker),
        filter(facts, firecracker),
        user(facts),
        files(facts),
    ]
}

/// What is wrong keeps jobs from running if they are to run in Firecracker.
fn wrong(facts: &Facts, id: &str, title: String) -> Finding {
    match facts.backend {
        Backend::Firecracker => Finding::problem(id, title),
        _ => Finding::skipped(id, title),
    }
}

fn missing(facts: &Facts, id: &str, name: &str) -> Finding {
    match facts.backend {
        Backend::Firecracker => Finding::problem(id, format!("{name} is not installed")).hint(INSTALL_HINT),
        _ => Finding::skipped(id, format!("{name} is not installed; the configured backend does without it")),
    }
}

fn program(facts: &Facts, program: &Program) -> Finding {
    const ID: &str = "firecracker.program";
    let version = program.version.as_deref().unwrap_or("of unknown version");
    let finding = match program.version.as_deref().and_then(number_of) {
        _ if program.build == Build::DynamicGnu => {
            wrong(facts, ID, format!("Firecracker cannot run in a jail ({version})"))
                .detail("it needs a loader and libraries, and its jail has none")
                .hint("take the official build, or one for `x86_64-unknown-linux-musl`")
        }
        None => wrong(facts, ID, format!("`{}` does not say its version", program.path.display()))
            .hint("`[vm.firecracker] binary` names the program"),
        Some(number) if number < OLDEST => {
            let (major, minor) = OLDEST;
            wrong(facts, ID, format!("Firecracker is too old ({version})"))
                .detail(format!("from {major}.{minor} on it describes its devices as stock kernels expect"))
        }
        Some(_) => Finding::ok(ID, format!("Firecracker is there ({version})")),
    };
    with_data(finding, program)
}

fn jail(facts: &Facts, jailer: &Program, firecracker: &Program) -> Finding {
    const ID: &str = "firecracker.jailer";
    let version = jailer.version.as_deref().unwrap_or("of unknown version");
    let numbers = [jailer, firecracker].map(|program| program.version.as_deref().and_then(number_of));
    let finding = match numbers {
        [None, _] => wrong(facts, ID, format!("`{}` does not say its version", jailer.path.display()))
            .hint("`[vm.firecracker] jailer` names the program"),
        [ours, theirs] if ours != theirs => {
            let finding = wrong(facts, ID, format!("the jailer is of another version than Firecracker ({version})"));
            finding.hint("take both of one release: each jailer is made for its own Firecracker")
        }
        _ => Finding::ok(ID, format!("its jailer is there ({version})")),
    };
    with_data(finding, jailer)
}

fn filter(facts: &Facts, firecracker: &Program) -> Finding {
    const ID: &str = "firecracker.filter";
    match (firecracker.build, facts.backend) {
        (Build::Musl, _) => Finding::ok(ID, "Firecracker has a filter of system calls"),
        (_, Backend::Firecracker) => Finding::warning(ID, "Firecracker has no filter of system calls")
            .detail("it is built for glibc; a guest that takes it over finds the jail, and nothing before it")
            .hint("take the official build, or one for `x86_64-unknown-linux-musl`"),
        _ => Finding::skipped(ID, "Firecracker is built for glibc, and so without a filter of system calls"),
    }
}

fn user(facts: &Facts) -> Finding {
    const ID: &str = "firecracker.user";
    if facts.is_root {
        Finding::ok(ID, "the jailer may make jails")
    } else {
        wrong(facts, ID, "the jailer cannot make jails: that takes root".to_owned()).hint("run it with sudo")
    }
}

fn files(facts: &Facts) -> Finding {
    const ID: &str = "firecracker.files";
    match facts.one_file_system {
        Some(true) => Finding::ok(ID, "images and VMs are on one file system"),
        Some(false) => wrong(facts, ID, "images and VMs are on two file systems".to_owned())
            .detail("a jail has links to the files of its image, and links do not lead to another file system")
            .hint("put `images_dir` where `state_dir` is"),
        None => Finding::new(Status::Skipped, ID, "nobody knows yet where images and VMs will be"),
    }
}

/// Major and minor number in a text like `Firecracker v1.13.0`.
fn number_of(version: &str) -> Option<(u32, u32)> {
    let (_, number) = version.split_once('v')?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn with_data(finding: Finding, program: &Program) -> Finding {
    let version = program.version.as_deref().unwrap_or_default();
    let is_static = program.build != Build::DynamicGnu;
    finding.data("path", program.path.display().to_string()).data("version", version).data("static", is_static)
}

#[cfg(test)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    fn program(name: &str, version: &str, build: Build) -> Option<Program> {
        Some(Program { path: format!("/usr/bin/{name}").into(), version: Some(version.to_owned()), build })
    }

    fn facts() -> Facts {
        Facts {
            backend: Backend::Firecracker,
            firecracker: program("firecracker", "Firecracker v1.13.0", Build::Musl),
            jailer: program("jailer", "Jailer v1.13.0", Build::Musl),
            is_root: true,
            one_file_system: Some(true),
        }
    }

    #[test]
    fn what_is_asked_for_counts() {
        let bare = Facts { firecracker: None, jailer: None, ..facts() };
        let homemade = Facts {
            firecracker: program("firecracker", "Firecracker v1.14.1", Build::StaticGnu),
            is_root: false,
            one_file_system: Some(false),
            ..facts()
        };
        let dynamic = Facts { firecracker: program("firecracker", "Firecracker v1.7.0", Build::DynamicGnu), ..facts() };
        let old = Facts {
            firecracker: program("firecracker", "Firecracker v1.7.0", Build::Musl),
            jailer: program("jailer", "usage: jailer", Build::Musl),
            ..facts()
        };
        let cases = [facts(), bare, homemade, dynamic, old].map(|facts| sketch(&judge(&facts)));
        insta::assert_snapshot!(cases.join("---\n"));
    }

    #[test]
    fn what_is_not_asked_for_never_counts() {
        let none = Facts { backend: Backend::Auto, firecracker: None, jailer: None, ..facts() };
        let unfit = Facts {
            backend: Backend::QemuTcg,
            firecracker: program("firecracker", "Firecracker v1.2.0", Build::StaticGnu),
            is_root: false,
            one_file_system: None,
            ..facts()
        };
        for facts in [none, unfit] {
            assert!(judge(&facts).iter().all(|finding| finding.status <= Status::Skipped), "{:?}", judge(&facts));
        }
    }

    #[test]
    fn builds_are_told_apart_by_what_is_in_them() {
        let mut program = b"..../lib64/ld-linux-x86-64.so.2....".to_vec();
        assert_eq!(build_of(&program), Build::DynamicGnu);
        program.splice(..0, vec![0; HEADERS]);
        assert_eq!(build_of(&program), Build::StaticGnu);
        assert_eq!(build_of(b"....musl...."), Build::Musl);
    }

    #[test]
    fn versions_have_two_numbers() {
        assert_eq!(number_of("Firecracker v1.17.0-dev"), Some((1, 17)));
        assert_eq!(number_of("Jailer v2.0.1"), Some((2, 0)));
        for other in ["", "Firecracker", "v1", "usage: jailer v"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}

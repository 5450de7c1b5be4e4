//! A frozen VM and its clones: what they have in common, what they must not, and what is refused.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dayfly::engine::{Backend, Engine, EngineSettings, Prepared};
use dayfly::host::checksum::{self, Checksums};
use dayfly::host::process::Lifetime;
use dayfly::ids::VmId;
use dayfly::image::Logged;
use dayfly::protocol::message::{Exec, ExitStatus, Output, Owner};
use dayfly::vm::VmError;
use dayfly::vm::machine::Machine;
use dayfly::vm::spec::Shape;

use crate::support::{eventually, host, leaks};

/// What every other test has baked.
const SHAPE: Shape = Shape { vcpus: 1, memory_mib: 256, disk_mib: 1024, card: false };

/// Leaves behind: a file written last of all, a program that writes on into a file that has no name any more, one that writes
/// on into a database, and a file in memory.
const BEFORE: &str = r#"
    cd /root
    echo here > /dev/shm/in-memory
    sqlite3 books.db 'pragma journal_mode=wal; create table book(name text); insert into book values ("the first");' >&2
    (while sleep 0.1; do echo "insert into book values ('one more');"; done) | sqlite3 books.db >/dev/null 2>&1 &
    sh -c 'exec 3> ticks; while sleep 0.1; do echo tick >&3; done' >/dev/null 2>&1 &
    echo $! > writer
    until test -s ticks && test "$(sqlite3 books.db 'select count(*) from book')" -gt 1; do sleep 0.05; done
    ln ticks /root/.ticks; rm ticks
    head -c 3000000 /dev/urandom > big; sha256sum < big > big.sum
    echo "written last" > last
"#;

/// What is the same in every clone.
const SAME: &str = r#"
    cd /root
    cat last /dev/shm/in-memory writer
    kill -0 $(cat writer) && readlink /proc/$(cat writer)/fd/3
    sha256sum < big | cmp - big.sum && echo "big is whole"
    sqlite3 books.db 'pragma integrity_check; select name from book limit 1'
"#;

/// What differs from clone to clone.
const OWN: &str = "hostname; cat /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1; uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid";

/// How far what goes on in the background has come.
const PROGRESS: &str = "wc -l < /root/.ticks; sqlite3 /root/books.db 'select count(*) from book'";

/// An engine of its own, with the images of all tests.
struct Scene {
    directory: tempfile::TempDir,
    engine: Engine,
    prepared: Prepared,
}

impl Scene {
    async fn new() -> Option<Self> {
        if !host::can_run_vms() {
            return None;
        }
        let directory = host::short_directory();
        let settings = EngineSettings {
            state_dir: directory.path().to_owned(),
            images_dir: host::shared_images(),
            recipes: Vec::new(),
            qemu: "qemu-system-x86_64".to_owned(),
            firecracker: Default::default(),
            backend: Backend::QemuTcg,
            lifetime: Lifetime::EndsWithUs,
            confinement: Default::default(),
        };
        let engine = Engine::open(settings).unwrap();
        let prepared = engine.prepare("base", SHAPE, &Logged).await.unwrap();
        Some(Self { directory, engine, prepared: (*prepared).clone() })
    }

    fn empty_directory(&self, name: &str) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    async fn parent(&self) -> Machine {
        let home = self.engine.home(VmId::random()).unwrap();
        self.engine.restore_freezable(home, &self.prepared, None).await.unwrap()
    }

    async fn clone_of(&self, frozen: &Prepared) -> Machine {
        self.engine.restore(self.engine.home(VmId::random()).unwrap(), frozen, None).await.unwrap()
    }

    fn assert_no_vms(&self) {
        leaks::assert_none(self.directory.path());
    }
}

/// Runs a script as root; gives what it printed.
async fn run(machine: &Machine, script: &str) -> String {
    let path = ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
    let argv = ["sh", "-ec", script].map(str::to_owned).to_vec();
    let exec = Exec { argv, env: vec![path], directory: "/".into(), owner: Owner::ROOT, stdin: false };
    let mut running = machine.guest().exec(exec).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match running.next().await.unwrap() {
            Output::Stdout(bytes) => stdout.extend(bytes),
            Output::Stderr(bytes) => stderr.extend(bytes),
            Output::Exited(exit) => {
                let stderr = String::from_utf8_lossy(&stderr);
                assert_eq!(exit.status, ExitStatus::Code(0), "{script}: {stderr}");
                return String::from_utf8(stdout).unwrap();
            }
        }
    }
}

fn checksums(directory: &Path) -> Checksums {
    checksum::of_files(directory, &["memory", "scratch", "state"]).unwrap()
}

async fn progress(machine: &Machine) -> Vec<u64> {
    run(machine, PROGRESS).await.lines().map(|line| line.trim().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_go_on_where_the_frozen_vm_stood_and_do_not_see_each_other() {
    let Some(scene) = Scene::new().await else { return };
    let parent = scene.parent().await;
    let parent_id = parent.id().clone();
    run(&parent, BEFORE).await;
    let into = scene.empty_directory("frozen");
    let frozen = scene.engine.freeze(parent, &scene.prepared, &into).await.unwrap();
    assert!(scene.engine.homes().is_absent(&parent_id).unwrap());
    let before = checksums(&into);

    let mut clones = [scene.clone_of(&frozen).await, scene.clone_of(&frozen).await];
    let mut own = HashSet::new();
    for (number, clone) in clones.iter().enumerate() {
        let same = run(clone, SAME).await;
        let lines: Vec<&str> = same.lines().collect();
        let [last, in_memory, _writer, open, big, integrity, first] = lines.as_slice() else { panic!("{same}") };
        assert_eq!([*last, *in_memory, *big], ["written last", "here", "big is whole"]);
        assert_eq!((*open, *integrity, *first), ("/root/ticks (deleted)", "ok", "the first"));
        let at_first = progress(clone).await;
        eventually("the background to go on", async || {
            progress(clone).await.iter().zip(&at_first).all(|(now, then)| now > then).then_some(())
        })
        .await;
        for line in run(clone, OWN).await.lines() {
            assert!(own.insert(line.to_owned()), "two clones have `{line}`");
        }
        let clock: i64 = run(clone, "date +%s").await.trim().parse().unwrap();
        let now = dayfly::clock::now_ms() / 1000;
        assert!((now - 30..=now + 1).contains(&clock), "its clock says {clock}, it is {now}");
        // What a clone writes, to a disk or to memory, stays with it.
        run(clone, &format!("echo {number} | tee /root/last > /dev/shm/in-memory; sync")).await;
    }
    assert_eq!(run(&clones[0], "cat /root/last /dev/shm/in-memory").await, "0\n0\n");
    for clone in &mut clones {
        clone.destroy().await.unwrap();
    }
    assert_eq!(checksums(&into), before, "a clone has changed what all of them start from");
    scene.assert_no_vms();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_used_after_a_rename_and_refused_once_it_has_changed() {
    let Some(scene) = Scene::new().await else { return };
    let parent = scene.parent().await;
    run(&parent, "echo kept > /root/kept").await;
    let (into, place) = (scene.empty_directory("new"), scene.directory.path().join("kept"));
    let info = scene.engine.freeze_to_keep(parent, &scene.prepared, &into).await.unwrap();
    assert_eq!((info.image.as_str(), info.bake.as_str()), ("base", scene.prepared.bake.key.as_str()));
    fs::rename(&into, &place).unwrap();
    // A clone of it can be frozen in its turn.
    let thawed = scene.engine.thaw(&place).await.unwrap();
    let home = scene.engine.home(VmId::random()).unwrap();
    let clone = scene.engine.restore_freezable(home, &thawed, None).await.unwrap();
    run(&clone, "echo twice >> /root/kept").await;
    let second = scene.engine.freeze(clone, &thawed, &scene.empty_directory("second")).await.unwrap();
    let mut grandchild = scene.clone_of(&second).await;
    assert_eq!(run(&grandchild, "cat /root/kept").await, "kept\ntwice\n");
    grandchild.destroy().await.unwrap();

    let refused = async |what: &str| {
        let error = scene.engine.thaw(&place).await.unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("hint: remove it"), "{error}");
    };
    for file in ["memory", "scratch", "state"] {
        let file_of_it = File::options().read(true).write(true).open(place.join(file)).unwrap();
        let (at, byte) = first_byte(&file_of_it);
        file_of_it.write_all_at(&[byte ^ 1], at).unwrap();
        refused(&format!("the content of `{file}` does not match")).await;
        file_of_it.write_all_at(&[byte], at).unwrap();
        let length = file_of_it.metadata().unwrap().len();
        file_of_it.set_len(length - 1).unwrap();
        refused(&format!("`{file}` has {} bytes instead of {length}", length - 1)).await;
        file_of_it.set_len(length).unwrap();
    }
    let description = fs::read_to_string(place.join("frozen.json")).unwrap();
    let other = description.replace(&info.bake, "000000000000000000000000");
    fs::write(place.join("frozen.json"), other).unwrap();
    refused("is another than the one that froze it").await;
    fs::write(place.join("frozen.json"), description.replace(&info.digest, "0000")).unwrap();
    refused("its image `base` 0000 is not there any more").await;
    fs::write(place.join("frozen.json"), &description[..description.len() / 2]).unwrap();
    refused("is damaged").await;
    scene.assert_no_vms();
}

/// A byte that is not 0, so that it is no hole, and its place.
fn first_byte(file: &File) -> (u64, u8) {
    let mut buffer = [0; 4096];
    let blocks = (0..file.metadata().unwrap().len()).step_by(buffer.len());
    blocks
        .into_iter()
        .find_map(|at| {
            let length = file.read_at(&mut buffer, at).unwrap();
            let found = buffer[..length].iter().position(|byte| *byte != 0)?;
            Some((at + found as u64, buffer[found]))
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_that_fails_leaves_no_vm() {
    let Some(scene) = Scene::new().await else { return };
    // A disk on which there is no room at all for the state.
    let full = scene.empty_directory("full");
    std::os::unix::fs::symlink("/dev/full", full.join("state")).unwrap();
    let error = scene.engine.freeze(scene.parent().await, &scene.prepared, &full).await.unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    scene.assert_no_vms();

    let borrowed = scene.clone_of(&scene.prepared).await;
    let error = scene.engine.freeze(borrowed, &scene.prepared, &scene.empty_directory("other")).await.unwrap_err();
    assert!(matches!(error, VmError::BorrowedMemory), "{error}");
    scene.assert_no_vms();
}

//! A workbench: an engine of the test's own process, and VMs that fill and use caches as the service would have them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dayfly::caches::{CacheError, CacheId, Generation, Producer, Producing, Published, Wish};
use dayfly::config::CacheMode;
use dayfly::engine::{Backend, Engine, EngineSettings, Prepared};
use dayfly::forge::RepoName;
use dayfly::host::process::Lifetime;
use dayfly::ids::VmId;
use dayfly::image::Logged;
use dayfly::protocol::message::{Exec, ExitStatus, Output, Owner};
use dayfly::vm::VmError;
use dayfly::vm::machine::Machine;
use dayfly::vm::spec::Shape;
use dayfly::vm::volume::CacheMount;

use crate::support::{host, leaks};

/// Where caches are in these guests.
pub(super) const TARGET: &str = "/deps";

/// Room for what these tests put into a volume.
pub(super) const LIMIT: u64 = 32 << 20;

/// An engine, and the one cache that it is used for.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) prepared: Arc<Prepared>,
    pub(super) cache: CacheId,
    state: PathBuf,
    /// Removed at the end, if it is the bench's own.
    own: Option<tempfile::TempDir>,
}

impl Bench {
    /// With a state directory of its own; `None` where no VMs can be run.
    pub(super) async fn open() -> Option<Self> {
        if !host::can_run_vms() {
            return None;
        }
        let state = host::short_directory();
        let mut bench = Self::beside(state.path(), id()).await;
        bench.own = Some(state);
        Some(bench)
    }

    /// In the state directory of a service.
    pub(super) async fn beside(state: &Path, cache: CacheId) -> Self {
        let (engine, prepared) = engine_in(state).await;
        Self { engine, prepared, cache, state: state.to_owned(), own: None }
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.state
    }

    pub(super) async fn begin(&self, key: &str, order: i64) -> Option<Producing> {
        self.engine.caches().begin(wish(&self.cache, &self.prepared, key, order)).await.unwrap()
    }

    /// A VM in which `script` runs as root; gives its exit code and what it printed.
    pub(super) async fn run(&self, cache: &CacheMount, script: &str) -> (Machine, i32, String) {
        let home = self.engine.home(VmId::random()).unwrap();
        let machine = self.engine.restore(home, &self.prepared, Some(cache)).await.unwrap();
        let (code, output) = sh(&machine, script, Owner::ROOT).await.unwrap();
        (machine, code, output)
    }

    /// Has a VM run `script` in a fresh volume, and ends it; the volume is as whole as the guest makes it.
    pub(super) async fn fill(&self, producing: &Producing, script: &str) -> Result<(), VmError> {
        let (mut machine, code, output) = self.run(&producing.mount(TARGET), script).await;
        assert_eq!(code, 0, "{output}");
        let sealed = machine.guest().seal_volume(TARGET).await;
        machine.destroy().await.unwrap();
        sealed
    }

    /// The whole way of one generation.
    pub(super) async fn produce(&self, key: &str, order: i64, script: &str) -> Result<Published, CacheError> {
        let producing = self.begin(key, order).await.expect("it is needed");
        self.fill(&producing, script).await?;
        self.engine.publish_cache(VmId::random(), producing, &self.prepared).await
    }

    /// What a job in a VM of its own sees; its script must succeed.
    pub(super) async fn use_it(&self, mode: CacheMode, script: &str) -> String {
        let held = self.engine.caches().current(&self.cache).unwrap().expect("there is a generation");
        let (mut machine, code, output) = self.run(&held.mount(mode, TARGET), script).await;
        machine.destroy().await.unwrap();
        assert_eq!(code, 0, "{output}");
        output
    }

    pub(super) fn generations(&self) -> Vec<Generation> {
        self.engine.caches().generations(&self.cache).unwrap()
    }

    /// Everything below the caches' directory, but for files of locks.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        collect(&self.state_dir().join("caches/named"), &mut left);
        left.sort();
        left
    }

    /// No VM is left.
    pub(super) fn finish(self) {
        leaks::assert_none(self.state_dir());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.own.is_some() {
            leaks::end_all(self.state_dir());
        }
    }
}

pub(super) async fn engine_in(state_dir: &Path) -> (Engine, Arc<Prepared>) {
    let engine = Engine::open(EngineSettings {
        state_dir: state_dir.to_owned(),
        images_dir: host::shared_images(),
        recipes: Vec::new(),
        qemu: "qemu-system-x86_64".into(),
        firecracker: Default::default(),
        backend: Backend::QemuTcg,
        lifetime: Lifetime::EndsWithUs,
        confinement: Default::default(),
    })
    .unwrap();
    let shape = Shape { vcpus: 1, memory_mib: 256, disk_mib: 1024, card: false };
    let prepared = engine.prepare("base", shape, &Logged).await.unwrap();
    (engine, prepared)
}

pub(super) fn id() -> CacheId {
    CacheId::new("git.example.org", &RepoName::parse("acme/site").unwrap(), "linux", "deps")
}

pub(super) fn wish(cache: &CacheId, prepared: &Prepared, key: &str, order: i64) -> Wish {
    Wish {
        cache: cache.clone(),
        key: key.into(),
        order,
        producer: Producer { sha: "a".repeat(40), job: format!("job of {key}") },
        limit: LIMIT,
        owner: prepared.info.user.owner(),
    }
}

/// Runs a shell script in a guest; gives its exit code and everything that it printed.
pub(super) async fn sh(machine: &Machine, script: &str, owner: Owner) -> Result<(i32, String), VmError> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let exec = Exec {
        argv: vec!["sh".into(), "-c".into(), script.into()],
        env: vec![("PATH".into(), path.into()), ("OWNER".into(), "runner".into())],
        directory: "/".into(),
        owner,
        stdin: false,
    };
    let mut running = machine.guest().exec(exec).await?;
    let mut printed = Vec::new();
    loop {
        match running.next().await? {
            Output::Stdout(bytes) | Output::Stderr(bytes) => printed.extend(bytes),
            Output::Exited(exit) => {
                let ExitStatus::Code(code) = exit.status else { panic!("{:?}", exit.status) };
                return Ok((code, String::from_utf8(printed).unwrap()));
            }
        }
    }
}

fn collect(directory: &Path, left: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), left);
        } else if entry.file_name() != "lease" {
            left.push(entry.path().file_name().unwrap().to_string_lossy().into_owned());
        }
    }
}

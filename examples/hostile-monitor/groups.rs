//! Jails with cgroups, their limits, and what happens to who exceeds them; in a machine that has cgroup v2.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dayfly::host::cgroup::{self, Cgroup, IoLimits, Limits, Support};
use dayfly::host::jail::{self, Jail, Shown, parts_of};
use dayfly::host::output::Output;
use dayfly::host::process::{Lifetime, Spawn};
use dayfly::host::xattr;
use std::os::fd::AsFd;
use tokio::process::Child;

/// A user that nobody else is.
const UID: u32 = 900_000;

/// The memory of each group, in bytes.
const MEMORY: u64 = 32 << 20;

/// How long anything may take, emulated and on a busy host.
const LIMIT: Duration = Duration::from_secs(60);

/// Does one thing after the other, and prints a line about each.
pub(super) fn run(directory: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(Trial::run(directory))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What runs inside.
pub(super) fn child(what: &str, more: &[&str]) -> ExitCode {
    match (what, more) {
        ("eat", []) => loop {
            // Never read and never given back.
            std::hint::black_box(Vec::leak(vec![1_u8; 1 << 20]));
        },
        ("threads", []) => {
            let started =
                (0..1000).map_while(|_| std::thread::Builder::new().stack_size(64 << 10).spawn(std::thread::park).ok());
            println!("{} threads", started.count());
            ExitCode::SUCCESS
        }
        ("read", [file]) => {
            let read = File::open(file).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
            println!("read {}", read.map_or_else(|error| error.to_string(), |bytes| bytes.to_string()));
            // Until it is killed: what it was charged is looked at meanwhile.
            loop {
                std::thread::park();
            }
        }
        _ => loop {
            std::thread::park();
        },
    }
}

/// What systemd does for a unit with `Delegate=yes`; and where groups are made then.
fn enter_unit() -> io::Result<PathBuf> {
    let unit = Path::new("/sys/fs/cgroup/dayfly-trial.service");
    fs::create_dir(unit)?;
    xattr::set(&File::open(unit)?, c"trusted.delegate", b"1")?;
    fs::write(unit.join("cgroup.procs"), "0")?;
    for _ in ["at its start", "and again, from where it is now"] {
        let found = cgroup::detect();
        if found != Support::V2(unit.to_owned()) {
            return Err(io::Error::other(format!("groups would be made in {found:?}")));
        }
    }
    Ok(unit.to_owned())
}

fn own_group() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/self/cgroup")?.trim().to_owned())
}

struct Trial {
    parent: PathBuf,
    directory: PathBuf,
    program: String,
    root: tempfile::TempDir,
}

/// A group, and what runs in it.
struct Running {
    group: Cgroup,
    path: PathBuf,
    child: Child,
    output: Output,
}

impl Trial {
    async fn run(directory: &Path) -> io::Result<()> {
        let Support::V2(parent) = cgroup::detect() else { return Err(io::Error::other("there is no cgroup v2")) };
        println!("by itself: groups in {}, this in {}", parent.display(), own_group()?);
        let parent = enter_unit()?;
        println!("in a unit: groups in {}, this in {}", parent.display(), own_group()?);
        let program = std::env::current_exe()?.display().to_string();
        let trial = Self { parent, directory: directory.to_owned(), program, root: tempfile::tempdir()? };
        trial.memory().await?;
        trial.tasks().await?;
        trial.stillness().await?;
        trial.end().await?;
        trial.pages().await
    }

    async fn start(&self, name: &str, arguments: &[&str], io: IoLimits) -> io::Result<Running> {
        let limits = Limits { memory: MEMORY, vcpus: 1, io, on_disk_of: self.directory.clone() };
        let group = Cgroup::create(&self.parent, name, &limits)?;
        let parts = parts_of(&self.program).await?;
        let data = Shown { from: self.directory.clone(), at: "/data".into(), is_directory: true };
        let shown = [parts.shown, vec![data]].concat();
        let entrance = group.entrance()?;
        let output = Output::new()?;
        let arguments: Vec<String> = ["child"].iter().chain(arguments).map(|&word| word.to_owned()).collect();
        let spawn = Spawn {
            program: &self.program,
            arguments: &arguments,
            directory: self.root.path(),
            inherited: &[],
            output: output.writer()?,
            lifetime: Lifetime::EndsWithUs,
        };
        let jail = Jail {
            uid: UID,
            root: self.root.path(),
            shown: &shown,
            group: Some(entrance.as_fd()),
            file_size: 1 << 30,
            tasks: 10_000,
            ends_with_us: true,
        };
        let (child, _) = jail::spawn(&spawn, &jail)?;
        Ok(Running { group, path: self.parent.join(name), child, output })
    }

    async fn memory(&self) -> io::Result<()> {
        let mut running = self.start("memory", &["eat"], IoLimits::default()).await?;
        let status = running.child.wait().await?;
        let events = fs::read_to_string(running.path.join("memory.events"))?;
        println!("memory: {status}, {}", line_of(&events, "oom_group_kill"));
        running.group.remove(LIMIT).await
    }

    async fn tasks(&self) -> io::Result<()> {
        let mut running = self.start("tasks", &["threads"], IoLimits::default()).await?;
        running.child.wait().await?;
        let events = fs::read_to_string(running.path.join("pids.events"))?;
        println!("tasks: {} of 1000, refused: {}", running.output.text()?.trim(), line_of(&events, "max") != "max 0");
        running.group.remove(LIMIT).await
    }

    async fn stillness(&self) -> io::Result<()> {
        let mut running = self.start("still", &["wait"], IoLimits::default()).await?;
        running.group.freeze()?;
        eventually(|| Ok(fs::read_to_string(running.path.join("cgroup.events"))?.contains("frozen 1"))).await?;
        running.group.thaw()?;
        eventually(|| Ok(fs::read_to_string(running.path.join("cgroup.events"))?.contains("frozen 0"))).await?;
        running.group.freeze()?;
        let (removed, status) = tokio::join!(running.group.remove(LIMIT), running.child.wait());
        removed?;
        println!("freeze: held, let go, held, {}, gone: {}", status?, !running.path.exists());
        Ok(())
    }

    /// Its limits on IO, and its end with all that is in it.
    async fn end(&self) -> io::Result<()> {
        let io = IoLimits { bandwidth: Some(8 << 20), operations: Some(500) };
        let mut running = self.start("io", &["wait"], io).await?;
        let limits = fs::read_to_string(running.path.join("io.max"))?;
        let limits = limits.split_once(' ').map_or("", |(_, limits)| limits).trim().to_owned();
        let (removed, status) = tokio::join!(running.group.remove(LIMIT), running.child.wait());
        removed?;
        println!("io: {limits}; {}, gone: {}", status?, !running.path.exists());
        Ok(())
    }

    /// Pages of a file are charged to who reads it first: the service, if it reads ahead.
    async fn pages(&self) -> io::Result<()> {
        for (name, is_ahead) in [("cold", false), ("warm", true)] {
            let file = self.directory.join(name);
            if is_ahead {
                dayfly::host::disk::read_ahead(&file)?;
            }
            let path = format!("/data/{name}");
            let mut running = self.start(name, &["read", &path], IoLimits::default()).await?;
            eventually(|| Ok(running.output.text()?.contains("read "))).await?;
            let stat = fs::read_to_string(running.path.join("memory.stat"))?;
            let bytes: u64 = line_of(&stat, "file").trim_start_matches("file ").parse().unwrap_or(0);
            let is_charged = bytes > file.metadata()?.len() / 2;
            println!("{name}: {}, charged to it: {is_charged}", running.output.text()?.trim());
            let (removed, status) = tokio::join!(running.group.remove(LIMIT), running.child.wait());
            removed?;
            status?;
        }
        Ok(())
    }
}

/// The line of a file of the kernel that begins with `key`.
fn line_of<'a>(text: &'a str, key: &str) -> &'a str {
    let is_meant = |line: &&str| line.split_once(' ').is_some_and(|(name, _)| name == key);
    text.lines().find(is_meant).unwrap_or("nothing")
}

async fn eventually(look: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let began = Instant::now();
    while !look()? {
        if began.elapsed() > LIMIT {
            return Err(io::Error::other("what was waited for does not happen"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

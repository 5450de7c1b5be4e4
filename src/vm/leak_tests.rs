//! Whether anything is left of VMs after many of them: each with a real process in a real jail, with a cgroup where the host has
//! them, a network card that is connected, and an end at another point of its life. Only the guest is missing.
//!
//! `make leaks` makes a thousand of them; without that there are a few.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use tokio::process::Child;

use super::confinement::Settings;
use super::home::{Home, Homes};
use super::spec::{Disks, Shape};
use crate::host::jail::{self, Jail};
use crate::host::netns::elsewhere;
use crate::host::output::Output;
use crate::host::process::{Lifetime, Spawn};
use crate::host::wire;
use crate::ids::VmId;
use crate::net::egress::nat::ruleset;
use crate::net::egress::policy::{Mode, Policy, Scope};

/// How many VMs.
const COUNT: &str = "DAYFLY_LEAK_VMS";
const FEW: usize = 8;

/// What a VM takes of its host.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    processes: usize,
    children: usize,
    links: usize,
    namespaces: usize,
    rules: usize,
    uids: usize,
    cgroups: usize,
    files: usize,
    descriptors: usize,
}

fn count(homes: &Homes, directory: &Path) -> Counts {
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
    let names = nix::net::if_::if_nameindex().unwrap();
    let output = |program: &str, arguments: &[&str]| Command::new(program).args(arguments).output().unwrap().stdout;
    // Others on this host have processes and namespaces of their own.
    let children = entries("/proc/self/task").filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let held = entries("/proc/self/fd").filter_map(|entry| fs::read_link(entry.path()).ok());
    Counts {
        processes: homes.processes().unwrap().len(),
        children: children.map(|pids| pids.split_whitespace().count()).sum(),
        links: names.iter().filter(|link| link.name().to_bytes().starts_with(wire::LINK_PREFIX.as_bytes())).count(),
        namespaces: held.filter(|link| link.to_string_lossy().starts_with("net:")).count(),
        rules: output("nft", &["list", "ruleset"]).split(|byte| *byte == b'\n').count(),
        uids: homes.confinement().uids_below(directory).unwrap(),
        cgroups: homes.confinement().groups().names().unwrap().len(),
        files: Command::new("find").arg(directory).output().unwrap().stdout.split(|byte| *byte == b'\n').count(),
        descriptors: entries("/proc/self/fd").count(),
    }
}

/// How a VM ends, or its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Orderly,
    /// Its monitor was killed.
    Killed,
    /// Nobody looks after it any more before it is connected, and after.
    AbandonedEarly,
    Abandoned,
}

const ENDS: [End; 4] = [End::Orderly, End::Killed, End::AbandonedEarly, End::Abandoned];

/// Starts what stands for a monitor.
async fn start(home: &Home, directory: &Path) -> Child {
    let scratch = directory.join("scratch");
    let disks = Disks { root: scratch.clone(), layer: None, scratch, cache: None, fill: None };
    let group = home.make_group(Shape { card: true, ..Shape::default() }, &disks).unwrap();
    let cell = home.make_cell("sleep").await.unwrap().unwrap();
    let tap = home.lay_wire().unwrap();
    let entrance = group.map(|group| group.entrance().unwrap());
    let output = Output::new().unwrap();
    let spawn = Spawn {
        program: cell.parts.program.to_str().unwrap(),
        arguments: &["3600".to_owned()],
        directory: home.path(),
        inherited: &[tap],
        output: output.writer().unwrap(),
        lifetime: Lifetime::EndsWithUs,
    };
    let jail = Jail {
        uid: cell.uid,
        root: &cell.root,
        shown: &cell.parts.shown,
        group: entrance.as_ref().map(std::os::fd::AsFd::as_fd),
        file_size: 1 << 20,
        tasks: 16,
        ends_with_us: true,
    };
    jail::spawn(&spawn, &jail).unwrap().0
}

async fn live(homes: &Homes, directory: &Path, end: End) {
    let mut home = homes.create(VmId::random()).unwrap();
    let mut monitor = start(&home, directory).await;
    if end != End::AbandonedEarly {
        let scope = Scope::of("it", Policy { mode: Mode::Nat, ..Policy::default() });
        let rules = ruleset::of_namespace(&scope, &[]);
        home.wire().unwrap().connect(&rules, &ruleset::of_host()).await.unwrap();
    }
    match end {
        End::Orderly => home.wire().unwrap().disconnect().await.unwrap(),
        End::Killed => monitor.start_kill().unwrap(),
        End::AbandonedEarly | End::Abandoned => {
            let id = home.id().clone();
            drop(home);
            let found = homes.abandoned().unwrap();
            home = found.into_iter().find(|found| *found.id() == id).unwrap();
        }
    }
    home.remove().await.unwrap();
    monitor.wait().await.unwrap();
    assert!(homes.is_absent(home.id()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_many_vms() {
    if !elsewhere::is_here("vm::leak_tests::nothing_is_left_of_many_vms") {
        return;
    }
    let vms = std::env::var(COUNT).map_or(FEW, |count| count.parse().unwrap());
    let directory = tempfile::Builder::new().prefix("leaks-").tempdir().unwrap();
    fs::write(directory.path().join("scratch"), "").unwrap();
    let homes = Homes::open(directory.path(), Settings::default()).unwrap();
    assert!(homes.confinement().has_jails(), "{:?}", homes.confinement().missing());
    // The first ones make what stays: the host's rules, threads of the runtime.
    for end in ENDS {
        live(&homes, directory.path(), end).await;
    }
    let before = count(&homes, directory.path());
    let began = std::time::Instant::now();
    for end in ENDS.into_iter().cycle().take(vms) {
        live(&homes, directory.path(), end).await;
    }
    let took = began.elapsed();
    let after = count(&homes, directory.path());
    eprintln!("leaks: {vms} VMs in {:.1} s; before and after: {before:?}", took.as_secs_f32());
    assert_eq!(after, before);
}

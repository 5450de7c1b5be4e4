//! Producers that are killed, and one whose disk is full. Each is a process of its own: this program, started again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dayfly::caches::Caches;
use dayfly::ids::VmId;
use dayfly::protocol::message::Owner;
use dayfly::vm::loss::Loss;

use super::bench::{Bench, TARGET, engine_in, id, sh, wish};
use crate::support::{host, leaks};

/// Tells the child its state directory; elsewhere it does nothing.
const STATE: &str = "DAYFLY_TEST_PRODUCER_STATE";

/// What a producer says when it is there, in this order.
const STAGES: [&str; 7] = ["begun", "vm", "filled", "sealed", "gone", "examined", "published"];

fn child(state: &Path, name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("caches::crashes::{name}"), "--exact", "--ignored", "--nocapture"]).env(STATE, state);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| line.split_once("stage: ").map(|(_, stage)| stage.to_owned()))
}

fn state() -> Option<std::path::PathBuf> {
    std::env::var_os(STATE).map(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by other tests, to be killed"]
async fn producer() {
    let Some(state) = state() else { return };
    let say = |stage: &str| println!("stage: {stage}");
    let (engine, prepared) = engine_in(&state).await;
    let producing = engine.caches().begin(wish(&id(), &prepared, "key", 1)).await.unwrap().unwrap();
    say("begun");
    let home = engine.home(VmId::random()).unwrap();
    let mut machine = engine.restore(home, &prepared, Some(&producing.mount(TARGET))).await.unwrap();
    say("vm");
    sh(&machine, "echo good >/deps/file", Owner::ROOT).await.unwrap();
    say("filled");
    machine.guest().seal_volume(TARGET).await.unwrap();
    say("sealed");
    machine.destroy().await.unwrap();
    say("gone");
    let home = engine.home(VmId::random()).unwrap();
    let examiner = engine.restore(home, &prepared, Some(&producing.mount_to_examine())).await.unwrap();
    let examined = producing.examine(examiner).await.unwrap();
    say("examined");
    examined.publish(engine.caches()).await.unwrap();
    say("published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_is_killed_leaves_nothing_or_a_generation() {
    let Some(bench) = Bench::open().await else { return };
    for stage in STAGES {
        let state = host::short_directory();
        let mut producer = child(state.path(), "producer").spawn().unwrap();
        let last = said(&mut producer).find(|said| said == stage);
        producer.kill().unwrap();
        producer.wait().unwrap();
        assert_eq!(last.as_deref(), Some(stage));

        // What the next one does at its start.
        let (engine, _) = engine_in(state.path()).await;
        engine.reap().await;
        engine.remove_unfinished().await.unwrap();
        leaks::assert_none(state.path());
        let caches = Caches::new(state.path());
        let found = caches.generations(&id()).unwrap();
        // It may have come further before it was killed.
        assert!(found.len() == 1 || stage != "published", "{stage}");
        assert!(found.is_empty() || ["examined", "published"].contains(&stage), "{stage}");
        for generation in &found {
            assert!(generation.is_whole().unwrap());
        }
        let shelves = std::fs::read_dir(state.path().join("caches/named")).unwrap();
        let inside = shelves.flat_map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap());
        let names = inside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().all(|name| !name.starts_with('.')), "{stage}");
    }
    bench.finish();
}

/// Of the state directory of the producer whose disk gets full.
const SMALL: &str = "24m";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by another test, on a small disk"]
async fn producer_on_a_small_disk() {
    let Some(state) = state() else { return };
    let (engine, prepared) = engine_in(&state).await;
    let producing = engine.caches().begin(wish(&id(), &prepared, "key", 1)).await.unwrap().unwrap();
    let home = engine.home(VmId::random()).unwrap();
    let mut machine = engine.restore(home, &prepared, Some(&producing.mount(TARGET))).await.unwrap();
    let lost = machine.lost();
    let loss = tokio::select! {
        loss = lost => loss,
        _ = sh(&machine, "head -c 28000000 /dev/urandom >/deps/data; sync", Owner::ROOT) => panic!("there is room"),
    };
    assert!(matches!(loss, Loss::HostDiskFull), "{loss}");
    machine.destroy().await.unwrap();
    drop(producing);
    // There is room again.
    let producing = engine.caches().begin(wish(&id(), &prepared, "key", 1)).await.unwrap().unwrap();
    let home = engine.home(VmId::random()).unwrap();
    let mut machine = engine.restore(home, &prepared, Some(&producing.mount(TARGET))).await.unwrap();
    sh(&machine, "echo good >/deps/file", Owner::ROOT).await.unwrap();
    machine.guest().seal_volume(TARGET).await.unwrap();
    machine.destroy().await.unwrap();
    engine.publish_cache(VmId::random(), producing, &prepared).await.unwrap();
    assert_eq!(engine.caches().generations(&id()).unwrap().len(), 1);
    println!("stage: done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_nothing_is_published() {
    if !host::can_run_vms() || !host::can_mount() {
        return;
    }
    let state = host::short_directory();
    let program = child(state.path(), "producer_on_a_small_disk");
    let mut small = host::on_small_disk(state.path(), SMALL, Path::new(program.get_program()));
    small.args(program.get_args()).env(STATE, state.path()).stdout(Stdio::piped());
    let mut producer = small.spawn().unwrap();
    assert_eq!(said(&mut producer).collect::<Vec<_>>(), ["done"]);
    assert!(producer.wait().unwrap().success());
}

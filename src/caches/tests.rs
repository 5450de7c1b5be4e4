//! Producers, users and removers of generations, without machines: what a guest would write is written here.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::produce::SMALLEST_VOLUME;
use super::*;
use crate::forge::RepoName;
use crate::host::lease::Lease;
use crate::protocol::message::Owner;

fn id() -> CacheId {
    CacheId::new("forge", &RepoName::parse("acme/site").unwrap(), "linux", "deps")
}

fn wish(key: &str, order: i64) -> Wish {
    Wish {
        cache: id(),
        key: key.into(),
        order,
        producer: Producer { sha: "a".repeat(40), job: "job-1".into() },
        limit: SMALLEST_VOLUME,
        owner: Owner { uid: 1001, gid: 1001 },
    }
}

struct Scene {
    caches: Caches,
    _state: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        Self { caches: Caches::new(state.path()), _state: state }
    }

    async fn begin(&self, key: &str, order: i64) -> Producing {
        self.caches.begin(wish(key, order)).await.unwrap().unwrap()
    }

    async fn publish(&self, key: &str, order: i64) -> Published {
        self.begin(key, order).await.believed().await.unwrap().publish(&self.caches).await.unwrap()
    }

    fn keys(&self) -> Vec<(u64, String)> {
        let generations = self.caches.generations(&id()).unwrap();
        generations.into_iter().map(|generation| (generation.info.number, generation.info.key)).collect()
    }

    /// What is in the cache's directory but for its lock and what can be seen as a generation.
    fn hidden(&self) -> Vec<String> {
        let below = fs::read_dir(self.caches.directory(&id())).into_iter().flatten();
        let names = below.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let seen: Vec<String> =
            self.caches.generations(&id()).unwrap().iter().map(|one| one.info.directory()).collect();
        names.filter(|name| name != "lease" && !seen.contains(name)).collect()
    }
}

fn limits(keep: u32) -> Retention {
    Retention { keep, max_size: u64::MAX, max_age: Duration::from_secs(1 << 30) }
}

#[tokio::test]
async fn generations_follow_one_another_and_old_ones_go() {
    let scene = Scene::new();
    assert!(scene.caches.current(&id()).unwrap().is_none());
    for (key, order) in [("one", 1), ("two", 2), ("three", 3)] {
        assert!(matches!(scene.publish(key, order).await, Published::Generation(_)));
    }
    let current = scene.caches.current(&id()).unwrap().unwrap();
    assert_eq!((current.generation.info.number, current.generation.info.key.as_str()), (3, "three"));
    assert!(current.generation.is_whole().unwrap());
    let gone = scene.caches.collect(limits(2)).await.unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!(scene.keys(), [(2, "two".into()), (3, "three".into())]);
    assert_eq!(scene.hidden(), [""; 0]);
}

#[tokio::test]
async fn what_is_not_needed_is_not_begun() {
    let scene = Scene::new();
    scene.publish("one", 5).await;
    assert!(scene.caches.begin(wish("one", 6)).await.unwrap().is_none(), "there is one with that key");
    assert!(scene.caches.begin(wish("two", 4)).await.unwrap().is_none(), "a later commit was faster");
    assert!(scene.caches.begin(wish("two", 5)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_clock_that_was_ahead_once_supersedes_nothing_for_ever() {
    let scene = Scene::new();
    let ahead = crate::clock::now_ms() + 1_000_000_000;
    scene.publish("ahead", ahead).await;
    scene.publish("two", 5).await;
    assert!(scene.caches.begin(wish("three", 4)).await.unwrap().is_none(), "a later commit was faster");
    assert_eq!(scene.keys(), [(1, "ahead".into()), (2, "two".into())]);
}

/// Two begin, and both orders of their ends are tried.
#[tokio::test]
async fn two_at_once_end_in_one_valid_generation() {
    for is_reversed in [false, true] {
        for (keys, orders, ends_with) in [(["same", "same"], [1, 1], [1, 1]), (["older", "newer"], [1, 2], [2, 1])] {
            let scene = Scene::new();
            let mut both = [scene.begin(keys[0], orders[0]).await, scene.begin(keys[1], orders[1]).await];
            if is_reversed {
                both.reverse();
            }
            for producing in both {
                producing.believed().await.unwrap().publish(&scene.caches).await.unwrap();
            }
            let found = scene.keys();
            assert_eq!(found.len(), ends_with[usize::from(is_reversed)], "{keys:?} {is_reversed}: {found:?}");
            assert_eq!(found.last().unwrap().1, keys[1], "the later commit wins");
            assert_eq!(scene.hidden(), [""; 0]);
        }
    }
}

#[tokio::test]
async fn what_is_dropped_leaves_nothing_and_what_is_at_work_is_left_alone() {
    let scene = Scene::new();
    let producing = scene.begin("one", 1).await;
    scene.caches.remove_unfinished().unwrap();
    assert_eq!(scene.hidden().len(), 1, "somebody is at it");
    drop(producing);
    assert_eq!(scene.hidden().len(), 0);
    drop(scene.begin("one", 1).await.believed().await.unwrap());
    assert_eq!((scene.hidden().len(), scene.keys().len()), (0, 0));
}

/// A process that is killed leaves what there is at that moment, and its locks are gone.
#[tokio::test]
async fn whatever_a_killed_process_leaves_is_none_or_whole() {
    let scene = Scene::new();
    scene.publish("one", 1).await;
    let shelf = scene.caches.directory(&id());
    let whole = scene.caches.generations(&id()).unwrap().pop().unwrap();
    let building = shelf.join(".building-a");
    let lay = |files: &[(&str, &[u8])], directory: &PathBuf| {
        fs::create_dir(directory).unwrap();
        files.iter().for_each(|(name, content)| fs::write(directory.join(name), content).unwrap());
    };
    let info = fs::read(whole.directory.join("generation.json")).unwrap();
    let stages: [&[(&str, &[u8])]; 5] = [
        &[],
        &[("lease", b"")],
        &[("lease", b""), ("volume", b"half")],
        &[("lease", b""), ("volume", b"whole"), ("generation.json", &info[..info.len() / 2])],
        &[("lease", b""), ("volume", b"whole"), ("generation.json", &info)],
    ];
    for files in stages {
        lay(files, &building);
        assert_eq!(scene.keys(), [(1, "one".into())], "{} files", files.len());
        scene.caches.remove_unfinished().unwrap();
        assert!(!building.exists(), "{} files", files.len());
    }
    // Of a removal that was broken off.
    lay(stages[4], &shelf.join(".gone-000000-a"));
    // What a disk lost is none, and does not hide the others.
    lay(stages[3], &shelf.join("000007-damaged"));
    assert_eq!(scene.keys(), [(1, "one".into())]);
    scene.caches.collect(limits(3)).await.unwrap();
    assert_eq!(scene.hidden().len(), 0);
    assert!(matches!(scene.publish("two", 2).await, Published::Generation(_)));
    assert_eq!(scene.keys().len(), 2);
}

#[tokio::test]
async fn what_is_in_use_stays_unless_it_is_forced() {
    let scene = Scene::new();
    scene.publish("one", 1).await;
    scene.publish("two", 2).await;
    let [one, two] = scene.caches.generations(&id()).unwrap().try_into().unwrap();
    let held = one.hold().unwrap();
    let mount = held.mount(crate::vm::volume::CacheMode::ReadOnly, "/cache");
    drop(held);
    assert!(one.is_in_use() && !two.is_in_use());
    assert!(scene.caches.collect(limits(1)).await.unwrap().is_empty());
    let refused = scene.caches.remove(&one, false).unwrap_err().to_string();
    assert_eq!(
        refused,
        "generation 1 of the cache `forge/acme/site:linux/deps` is in use\n  hint: wait for the job that uses it, or add `--force`"
    );
    drop(mount);
    scene.caches.remove(&one, false).unwrap();
    scene.caches.remove(&one, false).unwrap();
    assert!(one.hold().is_none());
    let _held = two.hold().unwrap();
    scene.caches.remove(&two, true).unwrap();
    assert_eq!(scene.keys().len(), 0);
}

#[tokio::test]
async fn a_flipped_bit_is_found() {
    use std::os::unix::fs::FileExt;
    let scene = Scene::new();
    let Published::Generation(generation) = scene.publish("one", 1).await else { panic!("it is the first") };
    let volume = fs::File::options().write(true).open(generation.volume()).unwrap();
    volume.write_all_at(&[1], (5 << 30) + 17).unwrap();
    assert!(!generation.is_whole().unwrap());
    volume.write_all_at(&[0], (5 << 30) + 17).unwrap();
    assert!(generation.is_whole().unwrap());
    volume.set_len(1 << 20).unwrap();
    assert!(!generation.is_whole().unwrap());
}

#[test]
fn repositories_profiles_and_names_share_nothing() {
    let id = |host: &str, repo: &str, profile: &str, name: &str| {
        CacheId::new(host, &RepoName::parse(repo).unwrap(), profile, name)
    };
    let all = [
        id("forge", "acme/site", "linux", "deps"),
        id("forge", "acme/site", "linux", "tools"),
        id("forge", "acme/site", "big", "deps"),
        id("forge", "acme/sit", "linux", "deps"),
        id("forge.example", "acme/site", "linux", "deps"),
        id("forge", "acme/sitel", "inux", "deps"),
    ];
    let directories: std::collections::BTreeSet<String> = all.iter().map(CacheId::directory).collect();
    assert_eq!(directories.len(), all.len());
    assert_eq!(id("Forge", "ACME/Site", "linux", "deps"), all[0], "forges do not tell them apart");
    assert_eq!(all[0].to_string(), "forge/acme/site:linux/deps");
}

/// The lock that users share keeps removers out, and the other way round.
#[test]
fn sharing_and_owning_exclude_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let shared = [Lease::try_share(directory.path()).unwrap(), Lease::try_share(directory.path()).unwrap()];
    assert!(shared.iter().all(Option::is_some));
    assert!(Lease::try_take(directory.path()).unwrap().is_none());
    drop(shared);
    let _owner = Lease::try_take(directory.path()).unwrap().unwrap();
    assert!(Lease::try_share(directory.path()).unwrap().is_none());
}

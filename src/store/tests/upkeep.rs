//! Wishes of default branches: the newest counts, and what it superseded changes nothing.

use super::super::{Findings, LONGEST_WAIT_MS, NewUpkeep, Upkeep, UpkeepKey, UpkeepKind, UpkeepState};
use super::{TestStore, access};
use crate::config::Prepare;
use crate::forge::CommitSha;
use crate::ids::JobId;

fn commit(digit: char) -> CommitSha {
    CommitSha::parse(&digit.to_string().repeat(40)).unwrap()
}

fn wish(profile: &str, hash: &str) -> NewUpkeep {
    let recipe = Prepare { key: vec!["a.lock".into()], run: "make deps".into() };
    NewUpkeep { kind: UpkeepKind::Prepare, profile: profile.into(), hash: hash.into(), recipe, is_made: false }
}

fn only(wishes: Vec<NewUpkeep>) -> Findings {
    Findings { wishes, ..Findings::default() }
}

fn key(profile: &str) -> UpkeepKey {
    UpkeepKey { forge: "github".into(), repo: access().repo, kind: UpkeepKind::Prepare, profile: profile.into() }
}

async fn look(store: &TestStore) -> Upkeep {
    let due = store.due_upkeep(i64::MAX).await.unwrap();
    due.into_iter().find(|upkeep| upkeep.key.kind == UpkeepKind::Look).unwrap()
}

async fn state(store: &TestStore, profile: &str) -> Option<(UpkeepState, String)> {
    store.upkeep(&key(profile)).await.unwrap().map(|upkeep| (upkeep.state, upkeep.hash))
}

#[tokio::test]
async fn the_newest_event_of_a_default_branch_counts_whatever_the_order() {
    let store = TestStore::new().await;
    for (sha, arrived_at) in [('a', 10), ('b', 30), ('c', 20), ('b', 30)] {
        store.want_look("github", &access(), &commit(sha), arrived_at, 1000).await.unwrap();
    }
    let found = look(&store).await;
    assert_eq!((found.sha.clone(), found.arrived_at, found.access.clone()), (commit('b'), 30, access()));
    assert!(store.finish_look(&found, only(Vec::new()), 40).await.unwrap());
    store.want_look("github", &access(), &commit('b'), 30, 1000).await.unwrap();
    assert_eq!(store.due_upkeep(i64::MAX).await.unwrap(), [], "the same event once more changes nothing");
    assert_eq!(store.next_upkeep_due().await.unwrap(), None);
}

#[tokio::test]
async fn a_look_leaves_exactly_what_its_commit_asks_for_unless_a_newer_one_came() {
    let store = TestStore::new().await;
    store.want_look("github", &access(), &commit('a'), 10, 1000).await.unwrap();
    let first = look(&store).await;
    assert!(store.finish_look(&first, only(vec![wish("linux", "one"), wish("big", "two")]), 11).await.unwrap());
    store.want_look("github", &access(), &commit('b'), 20, 1000).await.unwrap();
    assert!(!store.finish_look(&first, only(vec![wish("linux", "late")]), 21).await.unwrap());
    assert_eq!(state(&store, "linux").await, Some((UpkeepState::Wanted, "one".into())));
    let second = look(&store).await;
    let made = NewUpkeep { is_made: true, ..wish("linux", "one") };
    assert!(store.finish_look(&second, only(vec![made]), 22).await.unwrap());
    assert_eq!(state(&store, "linux").await, Some((UpkeepState::Done, "one".into())));
    assert_eq!(state(&store, "big").await, None);
}

#[tokio::test]
async fn a_look_leaves_alone_what_it_could_not_find_out() {
    let store = TestStore::new().await;
    store.want_look("github", &access(), &commit('a'), 10, 1000).await.unwrap();
    store.finish_look(&look(&store).await, only(vec![wish("linux", "one"), wish("big", "two")]), 11).await.unwrap();
    store.want_look("github", &access(), &commit('b'), 20, 1000).await.unwrap();
    let unknown = vec![(UpkeepKind::Prepare, "big".to_owned()), (UpkeepKind::Prepare, "new".to_owned())];
    let findings = Findings { wishes: vec![wish("linux", "three")], unknown, detail: "no image".into() };
    assert!(store.finish_look(&look(&store).await, findings, 21).await.unwrap());
    assert_eq!(state(&store, "linux").await, Some((UpkeepState::Wanted, "three".into())));
    assert_eq!(state(&store, "big").await, Some((UpkeepState::Wanted, "two".into())));
    assert_eq!(state(&store, "new").await, None);
}

#[tokio::test]
async fn only_a_look_that_is_not_wanted_already_is_news() {
    let store = TestStore::new().await;
    assert!(!store.look_again(&key("linux"), 5).await.unwrap(), "no default branch is known");
    store.want_look("github", &access(), &commit('a'), 10, 1000).await.unwrap();
    let under_way = look(&store).await;
    assert!(!store.look_again(&key("linux"), 11).await.unwrap());
    store.finish_look(&under_way, only(vec![]), 12).await.unwrap();
    assert!(store.look_again(&key("linux"), 13).await.unwrap());
    assert_eq!(look(&store).await.next_try_at, 13);
}

#[tokio::test]
async fn an_event_of_a_clock_that_was_ahead_hides_no_later_one() {
    let store = TestStore::new().await;
    store.want_look("github", &access(), &commit('a'), 5000, 5000).await.unwrap();
    store.want_look("github", &access(), &commit('b'), 10, 11).await.unwrap();
    let found = look(&store).await;
    assert_eq!((found.sha.clone(), found.arrived_at), (commit('b'), 10));
    store.want_look("github", &access(), &commit('a'), 9, 12).await.unwrap();
    assert_eq!(look(&store).await.sha, commit('b'), "from here on the order counts again");
    store.want_look("github", &access(), &commit('c'), 5000, 13).await.unwrap();
    assert_eq!(look(&store).await.next_try_at, 13, "it is not put off until the clock has caught up");
}

#[tokio::test]
async fn tries_count_from_their_beginning_and_a_superseded_one_ends_nothing() {
    let store = TestStore::new().await;
    store.want_look("github", &access(), &commit('a'), 10, 1000).await.unwrap();
    store.finish_look(&look(&store).await, only(vec![wish("linux", "one")]), 11).await.unwrap();
    let begun = store.upkeep(&key("linux")).await.unwrap().unwrap();
    let log = JobId::random();
    assert!(store.begin_upkeep(&begun, &log, 12).await.unwrap());
    let store = store.reopen().await;
    let after = store.upkeep(&key("linux")).await.unwrap().unwrap();
    assert_eq!((after.tries, after.log, after.state), (1, Some(log.clone()), UpkeepState::Wanted));
    store.postpone_upkeep(&begun, 1, "no room", 100).await.unwrap();
    assert_eq!(store.due_upkeep(99).await.unwrap(), []);
    assert_eq!(store.next_upkeep_due().await.unwrap(), Some(100));
    assert_eq!(store.due_upkeep(100 - LONGEST_WAIT_MS).await.unwrap(), []);
    let set_back = store.due_upkeep(99 - LONGEST_WAIT_MS).await.unwrap();
    assert_eq!(set_back.len(), 1, "nobody waits for a time that was of another clock");

    store.want_look("github", &access(), &commit('b'), 20, 1000).await.unwrap();
    store.finish_look(&look(&store).await, only(vec![wish("linux", "two")]), 21).await.unwrap();
    store.finish_upkeep(&begun, UpkeepState::Failed, "too late", 22).await.unwrap();
    assert!(!store.begin_upkeep(&begun, &log, 23).await.unwrap());
    let newer = store.upkeep(&key("linux")).await.unwrap().unwrap();
    assert_eq!((newer.state, newer.tries, newer.sha.clone()), (UpkeepState::Wanted, 0, commit('b')));
    store.finish_upkeep(&newer, UpkeepState::Failed, "npm ci failed", 24).await.unwrap();
    assert_eq!(store.due_upkeep(i64::MAX).await.unwrap(), []);
    store.want_all_looks(5).await.unwrap();
    assert_eq!(look(&store).await.arrived_at, 5, "a clock that was set back delays nothing");
}

#[tokio::test]
async fn hits_and_misses_are_counted_apart() {
    let store = TestStore::new().await;
    store.want_look("github", &access(), &commit('a'), 10, 1000).await.unwrap();
    store.finish_look(&look(&store).await, only(vec![wish("linux", "one")]), 11).await.unwrap();
    for (hash, at) in [(Some("one"), 20), (None, 30), (Some("one"), 40), (Some("old"), 50)] {
        store.count_prepared(&key("linux"), hash, at).await.unwrap();
    }
    assert_eq!(store.upkeep(&key("linux")).await.unwrap().unwrap().misses, 1);
    let mut uses: Vec<_> =
        store.prepared_uses().await.unwrap().into_iter().map(|of| (of.hash, of.hits, of.used_at)).collect();
    uses.sort();
    assert_eq!(uses, [("old".into(), 1, 50), ("one".into(), 2, 40)]);
    store.forget_prepared(&key("linux"), "old").await.unwrap();
    assert_eq!(store.prepared_uses().await.unwrap().len(), 1);
}

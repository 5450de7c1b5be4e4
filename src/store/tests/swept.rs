use super::*;
use crate::forge::{DEFAULT_BRANCH, HeadNews};
use crate::store::{Accepted, DeliveryCounts, FromPullRequest, HeadMemory, PullHead};

const FORGE: &str = "github";
const MAIN: &str = "refs/heads/main";

/// What a push to the default branch tells.
const PUSHED: Option<HeadNews> = Some(HeadNews { number: DEFAULT_BRANCH, as_of: i64::MIN });

fn head(number: u64) -> PullHead {
    PullHead { repo: access().repo, number, sha: sha() }
}

fn news(number: u64, as_of: i64) -> Option<HeadNews> {
    Some(HeadNews { number, as_of })
}

impl TestStore {
    /// Stores what the sweep found of pull request 3 as of second 50.
    async fn find(&self) {
        let found = NewDelivery { event: "pull_request".into(), ..new_delivery("found") };
        self.accept_found(found, head(3), Some(50), 100).await.unwrap();
    }

    /// Processes a delivery with runs of these files; gives how many were made.
    async fn process(&self, delivery: &str, news: Option<HeadNews>, files: &[&str]) -> usize {
        self.accept_delivery(new_delivery(delivery)).await.unwrap();
        let of_pull_request = |path: &&str| NewRun { event: "pull_request".into(), ..new_run(path, &["test"]) };
        let runs = files.iter().map(of_pull_request).collect();
        self.create_runs_of_news(&key(delivery), news, runs, 200).await.unwrap().len()
    }

    /// Stores what the sweep found of the default branch.
    async fn find_push(&self) {
        self.accept_found(new_delivery("found"), head(DEFAULT_BRANCH), Some(50), 100).await.unwrap();
    }

    /// Processes the delivery of a push; gives how many runs were made.
    async fn push(&self, delivery: &str, git_ref: &str, news: Option<HeadNews>) -> usize {
        self.accept_delivery(new_delivery(delivery)).await.unwrap();
        let run = NewRun { context: json!({ "ref": git_ref }), ..new_run("a.yml", &["test"]) };
        self.create_runs_of_news(&key(delivery), news, vec![run], 200).await.unwrap().len()
    }

    async fn memory(&self, number: u64) -> HeadMemory {
        self.head_memories(FORGE, &[head(number)], 0).await.unwrap()[0]
    }
}

#[tokio::test]
async fn an_event_that_comes_after_what_was_found_starts_nothing_again() {
    let store = TestStore::new().await;
    store.find().await;
    assert_eq!(store.process("found", news(3, 50), &["a.yml", "b.yml"]).await, 2);
    assert_eq!(store.process("late", news(3, 50), &["a.yml", "b.yml"]).await, 0);
    assert_eq!(store.process("late and more", news(3, 49), &["a.yml", "c.yml"]).await, 1, "a file that only it starts");
    let counts = store.delivery_counts().await.unwrap();
    assert_eq!(counts, DeliveryCounts { processed: 2, ignored: 1, ..DeliveryCounts::default() });
}

#[tokio::test]
async fn an_event_that_tells_more_than_what_was_found_starts_its_runs() {
    let store = TestStore::new().await;
    store.find().await;
    store.process("found", news(3, 50), &["a.yml"]).await;
    assert_eq!(store.process("reopened", news(3, 51), &["a.yml"]).await, 1);
    assert_eq!(store.process("labeled", None, &["a.yml"]).await, 1);
    assert_eq!(store.process("another pull request", news(4, 50), &["a.yml"]).await, 1);
}

#[tokio::test]
async fn what_is_found_after_the_event_starts_nothing_again() {
    let store = TestStore::new().await;
    store.find().await;
    assert_eq!(store.process("in time after all", news(3, 50), &["a.yml"]).await, 1);
    assert_eq!(store.process("found", news(3, 50), &["a.yml", "b.yml"]).await, 1, "only what the event did not start");
    assert_eq!(store.process("later", news(3, 51), &["a.yml"]).await, 1, "what came after both");
}

#[tokio::test]
async fn a_late_event_starts_nothing_that_followed_from_what_was_found() {
    let store = TestStore::new().await;
    store.find().await;
    store.process("found", news(3, 50), &["held"]).await;
    assert_eq!(store.process("approval", None, &["a.yml"]).await, 1);
    assert_eq!(store.process("late", news(3, 50), &["a.yml"]).await, 0);
}

#[tokio::test]
async fn another_pull_request_of_the_same_commit_hides_nothing() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("of a stranger")).await.unwrap();
    let mut run = NewRun { event: "pull_request".into(), ..new_run("a.yml", &[]) };
    run.origin.pull_request = Some(FromPullRequest { number: 4, is_fork: true });
    store.create_runs_of_news(&key("of a stranger"), None, vec![run], 100).await.unwrap();
    assert_eq!((store.memory(4).await, store.memory(3).await), (HeadMemory::HasRuns, HeadMemory::Unknown));
    store.find().await;
    assert_eq!(store.process("found", news(3, 50), &["a.yml"]).await, 1);
}

#[tokio::test]
async fn only_the_first_push_after_what_was_found_is_old_news() {
    let store = TestStore::new().await;
    store.find_push().await;
    assert_eq!(store.push("found", MAIN, PUSHED).await, 1);
    assert_eq!(store.push("late", MAIN, PUSHED).await, 0);
    assert_eq!(store.push("back again", MAIN, PUSHED).await, 1);

    let store = TestStore::new().await;
    store.find_push().await;
    assert_eq!(store.push("in time after all", MAIN, PUSHED).await, 1);
    assert_eq!(store.push("found", MAIN, PUSHED).await, 0);
    assert_eq!(store.push("back again", MAIN, PUSHED).await, 1);
}

#[tokio::test]
async fn a_push_of_the_same_commit_to_another_branch_hides_nothing() {
    let store = TestStore::new().await;
    assert_eq!(store.push("topic", "refs/heads/topic", None).await, 1);
    store.find_push().await;
    assert_eq!(store.push("found", MAIN, PUSHED).await, 1);
    assert_eq!(store.push("release", "refs/heads/release", None).await, 1);
    assert_eq!(store.push("late", MAIN, PUSHED).await, 0);
}

#[tokio::test]
async fn a_default_branch_is_known_once_it_was_seen_or_pushed_to() {
    let store = TestStore::new().await;
    let knows = async |name: &str| store.knows_default_branch(FORGE, &RepoName::parse(name).unwrap()).await.unwrap();
    store.process("event", None, &["a.yml"]).await;
    store.settle_heads(FORGE, vec![head(3)], 100).await.unwrap();
    assert!(!knows("demo/hello").await, "a pull request does not tell of it");
    store.settle_heads(FORGE, vec![head(DEFAULT_BRANCH)], 100).await.unwrap();
    assert!(knows("demo/hello").await && !knows("demo/other").await);
    let other = RepoAccess { repo: RepoName::parse("demo/other").unwrap(), installation: None };
    store.want_look(FORGE, &other, &sha(), 10, 1000).await.unwrap();
    assert!(knows("demo/other").await);
}

#[tokio::test]
async fn heads_are_remembered_over_restarts_until_they_are_not_seen_any_more() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let store = TestStore::new().await;
    assert_eq!(store.memory(3).await, HeadMemory::Unknown);
    store.process("event", None, &["a.yml"]).await;
    assert_eq!(store.memory(3).await, HeadMemory::HasRuns);
    store.settle_heads(FORGE, vec![head(3)], 100).await.unwrap();
    store.find().await;
    store.settle_heads(FORGE, vec![head(3)], 2 * DAY).await.unwrap();
    let store = store.reopen().await;
    assert_eq!(store.memory(3).await, HeadMemory::Settled { seen_at: 2 * DAY });
    assert_eq!(store.process("found", None, &["a.yml"]).await, 0, "it is still known as what was found");

    store.forget_swept(32 * DAY).await.unwrap();
    assert_eq!(store.memory(3).await, HeadMemory::Settled { seen_at: 2 * DAY });
    store.forget_swept(32 * DAY + 1).await.unwrap();
    assert_eq!(store.memory(3).await, HeadMemory::HasRuns);
}

#[tokio::test]
async fn what_is_found_twice_is_one_delivery() {
    let store = TestStore::new().await;
    let find = async || store.accept_found(new_delivery("found"), head(3), Some(50), 100).await.unwrap();
    assert_eq!((find().await, find().await), (Accepted::New, Accepted::Again));
    store.process("found", None, &["a.yml"]).await;
    assert_eq!(find().await, Accepted::Duplicate);
}

#[tokio::test]
async fn what_failed_to_be_processed_is_brought_again_after_an_hour() {
    const HOUR: i64 = 60 * 60 * 1000;
    let store = TestStore::new().await;
    store.find().await;
    let memory = async |now| store.head_memories(FORGE, &[head(3)], now).await.unwrap()[0];
    assert_eq!(memory(100 + 2 * HOUR).await, HeadMemory::Settled { seen_at: 100 });
    store.finish_delivery(&key("found"), DeliveryState::Failed, "refused", 110).await.unwrap();
    assert_eq!(memory(100 + HOUR).await, HeadMemory::Settled { seen_at: 100 });
    assert_eq!(memory(101 + HOUR).await, HeadMemory::Unknown);
    let found = NewDelivery { event: "pull_request".into(), ..new_delivery("found") };
    let now = 101 + HOUR;
    assert_eq!(store.accept_found(found, head(3), Some(60), now).await.unwrap(), Accepted::Again);
    assert_eq!(memory(now).await, HeadMemory::Settled { seen_at: now });
}

#[tokio::test]
async fn wishes_for_deliveries_are_counted() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("came")).await.unwrap();
    for now in [100, 200] {
        store.count_redelivery(FORGE, "lost", now - 90, now).await.unwrap();
    }
    let guids = ["came", "lost", "unknown"].map(str::to_owned);
    let known = store.delivery_memories(FORGE, &guids).await.unwrap();
    let told = guids.each_ref().map(|guid| (known[guid].is_stored, known[guid].asked, known[guid].asked_at));
    assert_eq!(told, [(true, 0, 0), (false, 2, 200), (false, 0, 0)]);
    store.forget_swept(i64::MAX).await.unwrap();
    assert_eq!(store.delivery_memories(FORGE, &guids).await.unwrap()["lost"].asked, 0);
}

#[tokio::test]
async fn what_was_asked_for_again_keeps_its_place_in_the_order_of_events() {
    let store = TestStore::new().await;
    for (id, tried_at, now) in [("lost", 5, 100), ("lost", 120, 200), ("clocks differ", 5_000, 100)] {
        store.count_redelivery(FORGE, id, tried_at, now).await.unwrap();
    }
    for id in ["lost", "clocks differ", "in time"] {
        let late = NewDelivery { received_at: 300, ..new_delivery(id) };
        store.accept_delivery(late).await.unwrap();
    }
    let due = store.due_deliveries(300, 9).await.unwrap();
    let told: Vec<_> = due.iter().map(|one| (one.key.id.as_str(), one.received_at, one.arrived_at)).collect();
    assert_eq!(told, [("clocks differ", 300, 300), ("in time", 300, 300), ("lost", 300, 5)]);
}

#[tokio::test]
async fn repositories_are_told_once_the_last_used_first() {
    let store = TestStore::new().await;
    for (delivery, name, now) in [("1", "demo/a", 10), ("2", "demo/b", 20), ("3", "demo/a", 30)] {
        store.accept_delivery(new_delivery(delivery)).await.unwrap();
        let mut run = new_run("ci.yml", &[]);
        run.access.repo = RepoName::parse(name).unwrap();
        store.create_runs(&key(delivery), vec![run], DeliveryState::Processed, now).await.unwrap();
    }
    let names = async |limit| -> Vec<String> {
        let used = store.used_repositories(FORGE, limit).await.unwrap();
        used.into_iter().map(|access| access.repo.to_string()).collect()
    };
    assert_eq!((names(9).await, names(1).await), (vec!["demo/a".into(), "demo/b".into()], vec!["demo/a".to_owned()]));
}

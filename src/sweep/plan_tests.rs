use super::*;
use crate::config::Given;
use crate::forge::{CommitSha, HookRef};

const MINUTE: Duration = Duration::from_secs(60);
const NOW: i64 = 1_700_000_000_000;

fn ago(duration: Duration) -> i64 {
    NOW - millis(duration)
}

fn repo(name: &str) -> RepoName {
    RepoName::parse(name).unwrap()
}

#[test]
fn a_head_is_brought_only_if_nothing_is_known_of_it_and_it_is_neither_old_nor_fresh() {
    let hours = |n| Some(ago(Duration::from_hours(n)));
    let seconds = |n| Some(ago(Duration::from_secs(n)));
    let settled = |hours| HeadMemory::Settled { seen_at: ago(Duration::from_hours(hours)) };
    let cases = [
        (HeadMemory::Unknown, hours(1), Look::Bring),
        (HeadMemory::Unknown, hours(72), Look::Bring),
        (HeadMemory::Unknown, hours(73), Look::Settle),
        (HeadMemory::Unknown, seconds(59), Look::Wait),
        (HeadMemory::Unknown, seconds(60), Look::Bring),
        (HeadMemory::Unknown, Some(NOW + 5000), Look::Wait),
        (HeadMemory::Unknown, None, Look::Bring),
        (HeadMemory::HasRuns, hours(1), Look::Settle),
        (HeadMemory::HasRuns, seconds(1), Look::Settle),
        (settled(1), hours(1), Look::Leave),
        (settled(25), hours(1), Look::Settle),
    ];
    for (memory, changed_at, expected) in cases {
        assert_eq!(look(changed_at, memory, NOW, MINUTE), expected, "{memory:?}, {changed_at:?}");
    }
    assert_eq!(look(seconds(0), HeadMemory::Unknown, NOW, Duration::ZERO), Look::Bring, "at the start");
}

#[test]
fn a_finding_has_one_id_which_a_delivery_may_have() {
    let head = |name, number, sha: &str| PullHead { repo: repo(name), number, sha: CommitSha::parse(sha).unwrap() };
    let (a, b) = ("a1".repeat(20), "b2".repeat(20));
    let ids =
        [head("o/n", 1, &a), head("o/n", 1, &b), head("o/n", 2, &a), head("o/m", 1, &a)].map(|head| delivery_id(&head));
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(ids[0], delivery_id(&head("o/n", 1, &a)));
    for id in ids {
        assert_eq!(id.len(), "sweep-".len() + 32);
        crate::webhook::DeliveryId::parse(&id).unwrap();
    }
}

fn failed(id: u64, event: &str) -> FailedDelivery {
    let delivered_at = NOW - i64::try_from(id).unwrap();
    FailedDelivery {
        id,
        guid: format!("guid-{id}"),
        event: event.to_owned(),
        delivered_at: Some(delivered_at),
        hook: None,
    }
}

#[test]
fn webhooks_are_asked_within_what_their_forge_takes_in_a_minute() {
    let owner = |name: &str| HookOwner::Group(name.to_owned());
    let of = |id, name: &str| FailedDelivery {
        hook: Some(HookRef { owner: owner(name), id: id % 2 }),
        ..failed(id, "push")
    };
    let all = (1..=20).map(|id| of(id, if id % 3 == 0 { "small" } else { "large" })).collect();
    let asked = redeliveries(all, &HashMap::new(), NOW, MINUTE);
    let count =
        |name: &str| asked.iter().filter(|one| one.hook.as_ref().is_some_and(|hook| hook.owner == owner(name))).count();
    assert_eq!((count("small"), count("large")), (RESENDS_PER_OWNER, RESENDS_PER_OWNER));
    let unknown = FailedDelivery { delivered_at: None, ..of(99, "x") };
    assert_eq!(redeliveries(vec![of(1, "x"), unknown], &HashMap::new(), NOW, MINUTE)[0].id, 99, "it may be the oldest");
}

#[test]
fn webhooks_of_a_project_and_of_its_groups_tell_of_it() {
    let access = |name: &str| RepoAccess { repo: RepoName::parse_path(name).unwrap(), installation: None };
    let owners = hook_owners(&[access("a/b/one"), access("a/two"), access("a/b/three")]);
    let shown: Vec<String> = owners.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a/b/one", "a/two", "a/b/three", "the group a", "the group a/b"]);
}

#[test]
fn only_webhooks_that_lead_here_are_ours() {
    let hooks = |urls: &[&str]| -> Vec<Hook> {
        let hook =
            |(id, url): (u64, &&str)| Hook { id, url: (*url).to_owned(), is_switched_off: false, lacks: Vec::new() };
        (1..).zip(urls).map(hook).collect()
    };
    let public = Url::parse("https://ci.example.org/").unwrap();
    let ours = |urls: &[&str], is_only| our_hooks(&hooks(urls), &public, "lab", is_only);
    let (named, short) = ("https://ci.example.org/webhooks/gitlab/lab", "https://ci.example.org/webhooks/gitlab/");
    let (internal, other) =
        ("http://10.0.0.7:8080/x/webhooks/gitlab/lab", "https://ci.example.org/webhooks/gitlab/else");
    assert_eq!(ours(&[other, named, internal, "https://chat.example.org/", "{masked}"], true), [2]);
    assert_eq!(ours(&[short], true), [1]);
    assert_eq!(ours(&[short, other], false), [] as [u64; 0]);
    assert_eq!(ours(&[other, internal], false), [2], "the service has another name within");
}

#[test]
fn a_delivery_is_asked_for_if_it_did_not_come_and_was_not_asked_for_too_often_or_just_now() {
    let memory = |is_stored, asked, age| DeliveryMemory { is_stored, asked, asked_at: ago(age) };
    let long_ago = Duration::from_hours(1);
    let cases = [
        (DeliveryMemory::default(), true),
        (memory(true, 0, long_ago), false),
        (memory(true, 1, long_ago), false),
        (memory(false, 1, long_ago), true),
        (memory(false, 1, Duration::from_secs(59)), false),
        (memory(false, MAX_REDELIVERIES - 1, long_ago), true),
        (memory(false, MAX_REDELIVERIES, long_ago), false),
    ];
    for (memory, expected) in cases {
        let known = HashMap::from([("guid-1".to_owned(), memory)]);
        let asked = redeliveries(vec![failed(1, "push")], &known, NOW, MINUTE);
        assert_eq!(!asked.is_empty(), expected, "{memory:?}");
    }
    for (event, expected) in [
        ("pull_request", true),
        ("issue_comment", true),
        ("ping", false),
        ("workflow_job", false),
        ("merge_request", true),
    ] {
        let asked = redeliveries(vec![failed(1, event)], &HashMap::new(), NOW, MINUTE);
        assert_eq!(!asked.is_empty(), expected, "{event}");
    }
}

#[test]
fn the_oldest_deliveries_come_first_and_not_all_at_once() {
    let all = (1..=200).map(|id| failed(id, "push")).collect();
    let asked: Vec<u64> = redeliveries(all, &HashMap::new(), NOW, MINUTE).iter().map(|one| one.id).collect();
    assert_eq!(asked, (141..=200).rev().collect::<Vec<_>>());
}

#[test]
fn a_fifth_of_a_budget_is_left_to_the_jobs() {
    let budgets: Vec<(String, Budget)> = [("low", 999), ("enough", 1000), ("empty", 0)]
        .map(|(name, remaining)| (name.to_owned(), Budget { limit: 5000, remaining, resets_at: NOW }))
        .into();
    let names = ["low", "enough", "empty", "unheard of"];
    assert_eq!(names.map(|name| may_ask(&budgets, name)), [false, true, false, true]);
}

#[test]
fn a_tokens_repositories_are_those_named_or_used() {
    let entry = |text: &str| Repository {
        pattern: RepositoryPattern::parse(text).unwrap(),
        workflows_dir: None,
        profiles: None,
        submodules: Vec::new(),
        forks: None,
        egress: None,
        given: Given::default(),
        environments: Vec::new(),
    };
    let used = ["o/Used", "o/named"].map(|name| RepoAccess { repo: repo(name), installation: Some(1) });
    let found = repositories_of_token(&[entry("o/*"), entry("O/Named"), entry("p/new")], used.into());
    let names: Vec<&str> = found.iter().map(|access| access.repo.as_str()).collect();
    assert_eq!(names, ["o/Used", "o/named", "p/new"]);
    assert!(found.iter().all(|access| access.installation.is_none()));
}

#[test]
fn every_repository_has_its_turn() {
    let all: Vec<RepoAccess> =
        (0..450).map(|n| RepoAccess { repo: repo(&format!("o/{n:03}")), installation: None }).collect();
    let (mut last, mut seen) = (None, Vec::new());
    for _ in 0..3 {
        let now = portion(all.clone(), last.as_ref());
        assert_eq!(now.len(), REPOSITORIES_PER_SWEEP);
        last = now.last().map(|access| access.repo.clone());
        seen.extend(now.into_iter().map(|access| access.repo));
    }
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 450);
    assert_eq!(seen[449..451], [repo("o/449"), repo("o/000")]);
    assert_eq!(portion(all, Some(&repo("zz/gone")))[0].repo, repo("o/000"), "around the end");
    assert_eq!(portion(Vec::new(), last.as_ref()), []);
}

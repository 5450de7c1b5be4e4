use std::collections::BTreeMap;
use std::time::Duration;

use super::super::finding::sketch;
use super::*;

fn repo(name: &str) -> RepoName {
    RepoName::parse(name).unwrap()
}

fn standing() -> ForgeStanding {
    let permissions = PERMISSIONS.map(|(name, level, ..)| (name.to_owned(), level.to_owned()));
    ForgeStanding {
        identity: "App `dayfly`".into(),
        permissions: permissions.into(),
        events: EVENTS.map(|(event, _)| event.to_owned()).into(),
        repositories: vec![RepoAccess { repo: repo("acme/site"), installation: Some(1) }],
        server_time: Some(1_000_000),
    }
}

fn facts(standing: Result<ForgeStanding, ForgeError>) -> Facts {
    Facts {
        address: Url::parse("https://api.example.org/").unwrap(),
        is_app: true,
        reached: Ok(Reached { status: 200, server_time: Some(1_000_000), took: Duration::from_millis(80) }),
        now: 1_001_500,
        known: Some(Known {
            standing,
            budgets: vec![("App".into(), Budget { limit: 5000, remaining: 4990, resets_at: 0 })],
            fetched: vec![(repo("acme/site"), Ok(()))],
            owners: vec!["Acme".into()],
        }),
        runners: Vec::new(),
    }
}

fn known(change: impl FnOnce(&mut Known)) -> Known {
    let mut known = facts(Ok(standing())).known.unwrap();
    change(&mut known);
    known
}

#[test]
fn a_forge_that_is_well_set_up() {
    insta::assert_snapshot!(sketch(&judge(&facts(Ok(standing())))), @"
    ok forge.reachable: `https://api.example.org/` answers (80 ms)
    ok forge.clock: the forge's clock and this host's agree
    ok forge.identity: the forge knows Dayfly as App `dayfly`
    ok forge.permissions: the App has all permissions that it needs
    ok forge.events: the App is told of all events that it needs
    ok forge.repositories: 2 configured entries can be fetched
    ok forge.budget: 4990 of 5000 calls are left (App)
    ");
}

#[test]
fn a_forge_that_does_not_answer_or_refuses() {
    let failed = Facts {
        reached: Ok(Reached { status: 502, server_time: None, took: Duration::ZERO }),
        ..facts(Ok(standing()))
    };
    let away = Facts { reached: Err("dns error: no such host".into()), known: None, ..facts(Ok(standing())) };
    let what = || "asking as which App Dayfly speaks".to_owned();
    let refused =
        ForgeError::Refused { what: what(), detail: "HTTP 401: Bad credentials\n  hint: the App needs much".into() };
    let slow = ForgeError::Transient { what: what(), detail: "no complete answer within 10000 ms".into() };
    insta::assert_snapshot!(sketch(&[judge(&away), vec![reachable(&failed)], judge(&facts(Err(refused))), judge(&facts(Err(slow)))].concat()), @"
    problem forge.reachable: `https://api.example.org/` does not answer
        dns error: no such host
        -> check `github.api_url`, the name service, the way out through a firewall, and `HTTPS_PROXY`
    warning forge.reachable: `https://api.example.org/` answers with an error of its own (HTTP 502)
        -> look at the forge's status page
    ok forge.reachable: `https://api.example.org/` answers (80 ms)
    ok forge.clock: the forge's clock and this host's agree
    problem forge.identity: the forge does not accept the credential
        asking as which App Dayfly speaks: the forge refused it: HTTP 401: Bad credentials
        -> for an App: do `id` and `private_key` belong together? for a token: has it expired?
    ok forge.budget: 4990 of 5000 calls are left (App)
    ok forge.reachable: `https://api.example.org/` answers (80 ms)
    ok forge.clock: the forge's clock and this host's agree
    warning forge.identity: as whom the forge knows Dayfly could not be asked
        asking as which App Dayfly speaks: the forge did not answer properly (no complete answer within 10000 ms)
    ok forge.budget: 4990 of 5000 calls are left (App)
    ");
}

#[test]
fn clocks_that_differ() {
    let at = |now, is_app| server_clock(&Facts { now, is_app, ..facts(Ok(standing())) }).unwrap();
    insta::assert_snapshot!(sketch(&[at(1_090_000, true), at(910_000, true), at(1_090_000, false), at(1_020_000, true)]), @"
    problem forge.clock: this host's clock is 90 s ahead of the forge's
        the forge refuses the App's signatures
        -> set the clock; `systemd-timesyncd` or `chrony` keeps it right
    problem forge.clock: this host's clock is 90 s behind the forge's
        the forge refuses the App's signatures
        -> set the clock; `systemd-timesyncd` or `chrony` keeps it right
    warning forge.clock: this host's clock is 90 s ahead of the forge's
        -> `systemd-timesyncd` or `chrony` keeps it right
    warning forge.clock: this host's clock is 20 s ahead of the forge's
        -> `systemd-timesyncd` or `chrony` keeps it right
    ");
}

#[test]
fn what_an_app_lacks_is_named_with_what_breaks() {
    let lacking = |names: &[&str]| {
        let mut standing = standing();
        standing.permissions.retain(|name, _| !names.contains(&name.as_str()));
        standing
    };
    let mut read_only = standing();
    read_only.permissions.insert("checks".into(), "read".into());
    let without_events = |events: &[&str]| {
        let mut standing = standing();
        standing.events.retain(|event| !events.contains(&event.as_str()));
        standing
    };
    insta::assert_snapshot!(sketch(&[
        permissions(true, &lacking(&["statuses", "contents", "metadata"])),
        permissions(true, &lacking(&["pull_requests"])),
        permissions(true, &read_only),
        events(true, &without_events(&["issue_comment"])),
        events(true, &without_events(&["push", "pull_request"])),
    ]), @r#"
    problem forge.permissions: the App lacks `contents: read`, `statuses: write`, `metadata: read`
        the forge gives Dayfly no token: nothing can be read or shown
        who may approve the pull request of a fork cannot be asked
        -> grant them in the App's settings under "Permissions & events"; each installation then has to accept them
    warning forge.permissions: the App lacks `pull_requests: read`
        pull requests of forks cannot be approved, nor lost events found again
        -> grant them in the App's settings under "Permissions & events"; each installation then has to accept them
    problem forge.permissions: the App lacks `checks: write`
        the forge gives Dayfly no token: nothing can be read or shown
        -> grant them in the App's settings under "Permissions & events"; each installation then has to accept them
    warning forge.events: the App is not told of `issue_comment`
        nobody can approve the pull request of a fork with a comment
        -> subscribe to them in the App's settings under "Permissions & events"
    problem forge.events: the App is not told of `pull_request`, `push`
        no pull request starts a workflow
        no push starts a workflow
        -> subscribe to them in the App's settings under "Permissions & events"
    "#);
}

#[test]
fn a_token_tells_less() {
    let scoped = |scopes: &[&str]| ForgeStanding {
        permissions: scopes.iter().map(|&scope| (scope.to_owned(), "granted".to_owned())).collect::<BTreeMap<_, _>>(),
        events: Vec::new(),
        ..standing()
    };
    insta::assert_snapshot!(sketch(&[
        permissions(false, &scoped(&[])), permissions(false, &scoped(&["repo"])), permissions(false, &scoped(&["gist"])),
        events(false, &scoped(&[])),
    ]), @"
    skipped forge.permissions: a fine-grained token does not tell what it may do
        it needs `Contents` to read and `Commit statuses` to write
    ok forge.permissions: the token's scopes suffice: `repo`
    problem forge.permissions: the token may not write commit statuses
        -> give it the scope `repo`
    skipped forge.events: with a token, events are chosen in each repository's webhook
        Dayfly wants `pull_request`, `push`, `issue_comment`
    ");
}

#[test]
fn repositories_that_cannot_be_fetched_are_named() {
    let judged = |change: fn(&mut Known)| {
        let known = known(change);
        repositories(true, &known, known.standing.as_ref().unwrap())
    };
    insta::assert_snapshot!(sketch(&[
        judged(|known| {
            known.fetched.clear();
            known.owners.clear();
        }),
        judged(|known| known.fetched.push((repo("acme/gone"), Err("finding it: not found at the forge".into())))),
        judged(|known| {
            known.fetched[0].1 = Err("HTTP 404 Not Found".into());
            known.owners = vec!["other".into()];
        }),
    ]), @"
    ok forge.repositories: no repositories are named: those of every signed webhook count
    warning forge.repositories: 1 of 3 configured entries cannot be fetched
        `acme/gone`: finding it: not found at the forge
        -> install the App there, or give the token access; names are `owner/name`
    problem forge.repositories: 2 of 2 configured entries cannot be fetched
        `acme/site`: HTTP 404 Not Found
        `other/*`: the App is installed in none
        -> install the App there, or give the token access; names are `owner/name`
    ");
}

#[test]
fn the_smallest_budget_is_shown() {
    let left = |remaining| Budget { limit: 5000, remaining, resets_at: 0 };
    let two = [("App".to_owned(), left(4000)), ("installation 1".to_owned(), left(900))];
    assert_eq!(budget(&[]), None);
    insta::assert_snapshot!(sketch(&[budget(&two).unwrap(), budget(&two[..1]).unwrap()]), @"
    warning forge.budget: 900 of 5000 calls are left (installation 1)
        when none is left, statuses and logs at the forge wait until the next hour
    ok forge.budget: 4000 of 5000 calls are left (App)
    ");
}

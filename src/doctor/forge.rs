//! The forge: whether it answers, as whom it knows Dayfly, and whether that is enough for what Dayfly does.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Map, Value};
use url::Url;

use super::finding::{Finding, Status};
use super::forge_runners::{self, Wanted};
use super::subject::{Configuration, Subject};
use super::{counted, listed};
use crate::clock;
use crate::config::{Credential, GitHub, GitHubSecrets, Repository, RepositoryPattern};
use crate::forge::{Budget, Forge, ForgeError, ForgeStanding, RepoAccess, RepoName};
use crate::net::git_proxy::{GitClient, Reached};

/// What an App needs, from which level on, and what is missing without it.
const PERMISSIONS: [(&str, &str, Status, &str); 5] = [
    ("checks", "write", Status::Problem, "the forge gives Dayfly no token: nothing can be read or shown"),
    ("contents", "read", Status::Problem, "the forge gives Dayfly no token: nothing can be read or shown"),
    ("statuses", "write", Status::Problem, "the forge gives Dayfly no token: nothing can be read or shown"),
    ("metadata", "read", Status::Warning, "who may approve the pull request of a fork cannot be asked"),
    (
        "pull_requests",
        "read",
        Status::Warning,
        "pull requests of forks cannot be approved, nor lost events found again",
    ),
];

/// The events that an App must be told of, and what does not happen without.
const EVENTS: [(&str, &str); 3] = [
    ("pull_request", "no pull request starts a workflow"),
    ("push", "no push starts a workflow"),
    ("issue_comment", "nobody can approve the pull request of a fork with a comment"),
];

/// Signatures of an App are good from a minute before the forge's time.
const CLOCK_WRONG_MS: i64 = 60_000;
/// A warning comes earlier. What is measured is exact to some seconds.
const CLOCK_DRIFTS_MS: i64 = 15_000;

/// Repositories from which a fetch is begun.
const MAX_FETCHED: usize = 10;

#[derive(Debug)]
struct Facts {
    address: Url,
    is_app: bool,
    reached: Result<Reached, String>,
    /// This host's clock when the answer was there, in milliseconds since the epoch.
    now: i64,
    /// The rest was asked if the forge answered.
    known: Option<Known>,
    /// What profiles with GitHub's own runner ask for.
    runners: Vec<Wanted>,
}

#[derive(Debug)]
struct Known {
    standing: Result<ForgeStanding, ForgeError>,
    budgets: Vec<(String, Budget)>,
    /// The names among the configured repositories, and whether a fetch could be begun.
    fetched: Vec<(RepoName, Result<(), String>)>,
    /// Owners whose repositories are configured as a whole.
    owners: Vec<String>,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    match &subject.configuration {
        Configuration::Valid { config, secrets: Ok((secrets, _)), .. } => {
            let Some((github, secrets)) = config.github.as_ref().zip(secrets.github.as_ref()) else {
                return Vec::new();
            };
            let observed = observe(github, secrets, forge_runners::wanted(config)).await;
            observed.map_or_else(|problem| vec![problem], |facts| judge(&facts))
        }
        Configuration::Valid { .. } => {
            vec![Finding::skipped("forge.reachable", "the forge was not asked: a secret is missing")]
        }
        Configuration::None | Configuration::Wrong { .. } => Vec::new(),
    }
}

/// The facts; or why no call could ever succeed.
async fn observe(github: &GitHub, secrets: &GitHubSecrets, runners: Vec<Wanted>) -> Result<Facts, Finding> {
    let impossible = |error: anyhow::Error| {
        Finding::problem("forge.reachable", "the forge cannot be asked").explained_by(&format!("{error:#}"))
    };
    let forge = crate::app::github_of(github, secrets).map_err(impossible)?;
    let client = GitClient::new().map_err(|error| impossible(error.into()))?;
    let address = github.api_url.clone();
    let reached = client.reach(&address).await;
    let now = clock::now_ms();
    let known = match reached {
        Ok(_) => Some(ask(forge.as_ref(), &client, &github.repositories).await),
        Err(_) => None,
    };
    let is_app = matches!(github.credential, Credential::App { .. });
    Ok(Facts { address, is_app, reached, now, known, runners })
}

async fn ask(forge: &dyn Forge, client: &GitClient, repositories: &[Repository]) -> Known {
    let standing = forge.standing().await;
    let mut known = Known { standing, budgets: Vec::new(), fetched: Vec::new(), owners: Vec::new() };
    let mut names = Vec::new();
    for repository in repositories {
        match &repository.pattern {
            RepositoryPattern::One(name) => names.push(name.clone()),
            RepositoryPattern::AllOf { owner } => known.owners.push(owner.clone()),
        }
    }
    if known.standing.is_ok() {
        names.truncate(MAX_FETCHED);
        known.fetched = join_all(names.into_iter().map(|name| fetch(forge, client, name))).await;
    }
    known.budgets = forge.budgets();
    known
}

async fn fetch(forge: &dyn Forge, client: &GitClient, repo: RepoName) -> (RepoName, Result<(), String>) {
    let access = RepoAccess { repo: repo.clone(), installation: None };
    let fetched = match forge.git_upstream(&access).await {
        Ok(upstream) => client.begin_fetch(&upstream).await,
        Err(error) => Err(error.to_string()),
    };
    (repo, fetched)
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(known) = &facts.known else { return vec![reachable(facts)] };
    let mut findings = vec![reachable(facts)];
    findings.extend(server_clock(facts));
    findings.push(identity(known));
    if let Ok(standing) = &known.standing {
        findings.push(permissions(facts.is_app, standing));
        findings.push(events(facts.is_app, standing));
        findings.extend(forge_runners::judge(facts.is_app, standing, &facts.runners));
        findings.push(repositories(facts.is_app, known, standing));
    }
    findings.extend(budget(&known.budgets));
    findings
}

fn reachable(facts: &Facts) -> Finding {
    const ID: &str = "forge.reachable";
    let address = &facts.address;
    let finding = match &facts.reached {
        Ok(Reached { status, took, .. }) if *status < 500 => {
            Finding::ok(ID, format!("`{address}` answers ({} ms)", took.as_millis()))
                .data("milliseconds", took.as_millis() as u64)
        }
        Ok(Reached { status, .. }) => {
            Finding::warning(ID, format!("`{address}` answers with an error of its own (HTTP {status})"))
                .hint("look at the forge's status page")
        }
        Err(why) => Finding::problem(ID, format!("`{address}` does not answer"))
            .detail(why.as_str())
            .hint("check `github.api_url`, the name service, the way out through a firewall, and `HTTPS_PROXY`"),
    };
    finding.data("address", address.as_str())
}

fn server_clock(facts: &Facts) -> Option<Finding> {
    const ID: &str = "forge.clock";
    let reached = facts.reached.as_ref().ok()?;
    let difference = facts.now - reached.server_time?;
    let seconds = difference.abs() / 1000;
    let direction = if difference > 0 { "ahead of" } else { "behind" };
    let finding = match difference.abs() {
        // A token is sent as it is; an App signs the time.
        CLOCK_WRONG_MS.. if facts.is_app => {
            Finding::problem(ID, format!("this host's clock is {seconds} s {direction} the forge's"))
                .detail("the forge refuses the App's signatures")
                .hint("set the clock; `systemd-timesyncd` or `chrony` keeps it right")
        }
        CLOCK_DRIFTS_MS.. => Finding::warning(ID, format!("this host's clock is {seconds} s {direction} the forge's"))
            .hint("`systemd-timesyncd` or `chrony` keeps it right"),
        _ => Finding::ok(ID, "the forge's clock and this host's agree"),
    };
    Some(finding.data("difference_ms", difference))
}

fn identity(known: &Known) -> Finding {
    const ID: &str = "forge.identity";
    match &known.standing {
        Ok(standing) => Finding::ok(ID, format!("the forge knows Dayfly as {}", standing.identity))
            .data("identity", standing.identity.as_str()),
        Err(error @ ForgeError::Refused { .. }) => Finding::problem(ID, "the forge does not accept the credential")
            .detail(error.to_string().split("\n  hint:").next().unwrap_or_default())
            .hint("for an App: do `id` and `private_key` belong together? for a token: has it expired?"),
        Err(error @ ForgeError::NotFound { .. }) => Finding::problem(ID, "the forge does not know the credential")
            .detail(error.to_string())
            .hint("for an App: is `id` the App ID of its settings? for an Enterprise Server: does `api_url` end in `/api/v3`?"),
        Err(error) => {
            let status = if error.is_retryable() { Status::Warning } else { Status::Problem };
            Finding::new(status, ID, "as whom the forge knows Dayfly could not be asked")
                .explained_by(&error.to_string())
        }
    }
}

fn permissions(is_app: bool, standing: &ForgeStanding) -> Finding {
    const ID: &str = "forge.permissions";
    let granted: Map<String, Value> =
        standing.permissions.iter().map(|(name, level)| (name.clone(), Value::from(level.as_str()))).collect();
    let finding = if is_app {
        app_permissions(standing)
    } else if standing.permissions.is_empty() {
        Finding::skipped(ID, "a fine-grained token does not tell what it may do")
            .detail("it needs `Contents` to read and `Commit statuses` to write")
    } else if ["repo", "repo:status"].iter().any(|scope| standing.permissions.contains_key(*scope)) {
        Finding::ok(
            ID,
            format!("the token's scopes suffice: {}", listed(standing.permissions.keys().map(String::as_str))),
        )
    } else {
        Finding::problem(ID, "the token may not write commit statuses").hint("give it the scope `repo`")
    };
    finding.data("granted", granted)
}

fn app_permissions(standing: &ForgeStanding) -> Finding {
    const ID: &str = "forge.permissions";
    let has = |name: &str, level: &str| match standing.permissions.get(name).map(String::as_str) {
        Some("write" | "admin") => true,
        Some(granted) => granted == level,
        None => false,
    };
    let missing: Vec<_> = PERMISSIONS.iter().filter(|(name, level, ..)| !has(name, level)).collect();
    let Some(worst) = missing.iter().map(|(_, _, status, _)| *status).max() else {
        return Finding::ok(ID, "the App has all permissions that it needs");
    };
    let names: Vec<String> = missing.iter().map(|(name, level, ..)| format!("`{name}: {level}`")).collect();
    let mut effects: Vec<&str> = missing.iter().map(|(.., effect)| *effect).collect();
    effects.dedup();
    Finding::new(worst, ID, format!("the App lacks {}", names.join(", "))).detail(effects.join("\n")).hint(
        "grant them in the App's settings under \"Permissions & events\"; each installation then has to accept them",
    )
}

fn events(is_app: bool, standing: &ForgeStanding) -> Finding {
    const ID: &str = "forge.events";
    if !is_app {
        return Finding::skipped(ID, "with a token, events are chosen in each repository's webhook")
            .detail(format!("Dayfly wants {}", listed(EVENTS.map(|(event, _)| event))));
    }
    let is_missing = |event: &str| standing.events.iter().all(|subscribed| subscribed != event);
    let missing: Vec<_> = EVENTS.iter().filter(|(event, _)| is_missing(event)).collect();
    let finding = if missing.is_empty() {
        Finding::ok(ID, "the App is told of all events that it needs")
    } else {
        let nothing_starts = is_missing("pull_request") && is_missing("push");
        let status = if nothing_starts { Status::Problem } else { Status::Warning };
        let effects: Vec<&str> = missing.iter().map(|(_, effect)| *effect).collect();
        Finding::new(status, ID, format!("the App is not told of {}", listed(missing.iter().map(|(event, _)| *event))))
            .detail(effects.join("\n"))
            .hint("subscribe to them in the App's settings under \"Permissions & events\"")
    };
    finding.data("subscribed", standing.events.clone())
}

fn repositories(is_app: bool, known: &Known, standing: &ForgeStanding) -> Finding {
    const ID: &str = "forge.repositories";
    let owns = |owner: &str| standing.repositories.iter().any(|access| access.repo.owner().eq_ignore_ascii_case(owner));
    let failed: Vec<String> = known
        .fetched
        .iter()
        .filter_map(|(repo, fetched)| Some(format!("`{repo}`: {}", fetched.as_ref().err()?.split('\n').next()?)))
        .chain(
            known
                .owners
                .iter()
                .filter(|owner| is_app && !owns(owner))
                .map(|owner| format!("`{owner}/*`: the App is installed in none")),
        )
        .collect();
    let total = known.fetched.len() + known.owners.len();
    let finding = if total == 0 {
        Finding::ok(ID, "no repositories are named: those of every signed webhook count")
    } else if failed.is_empty() {
        Finding::ok(ID, format!("{} can be fetched", counted(total, "configured entry", "configured entries")))
    } else {
        let status = if failed.len() == total { Status::Problem } else { Status::Warning };
        Finding::new(status, ID, format!("{} of {total} configured entries cannot be fetched", failed.len()))
            .detail(failed.join("\n"))
            .hint("install the App there, or give the token access; names are `owner/name`")
    };
    finding.data("installed", standing.repositories.iter().map(|access| access.repo.to_string()).collect::<Vec<_>>())
}

/// The budget of which the smallest share is left. Nothing is said of a forge that does not count.
fn budget(budgets: &[(String, Budget)]) -> Option<Finding> {
    const ID: &str = "forge.budget";
    let share = |budget: &Budget| budget.remaining * 100 / budget.limit.max(1);
    let (payer, least) = budgets.iter().min_by_key(|(_, budget)| share(budget))?;
    let title = format!("{} of {} calls are left ({payer})", least.remaining, least.limit);
    let finding = if share(least) < 20 {
        Finding::warning(ID, title).detail("when none is left, statuses and logs at the forge wait until the next hour")
    } else {
        Finding::ok(ID, title)
    };
    Some(finding.data("payer", payer.as_str()).data("remaining", least.remaining).data("limit", least.limit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "forge_tests.rs"]
mod tests;

//! Profiles with GitHub's own runner: whether the credential may register runners, and hears of the jobs that wait for them.

use super::finding::{Finding, Status};
use super::listed;
use crate::config::{Config, RunnerScope};
use crate::forge::ForgeStanding;

/// The event that tells of jobs.
const EVENT: &str = "workflow_job";

/// What a classic token needs to ask about jobs.
const TOKEN_OF_JOBS: &str = "repo";

/// A scope of runners that some profile has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) profile: String,
    pub(super) scope: RunnerScope,
}

/// Something that is missing, and what does not work without it.
struct Lack {
    status: Status,
    name: String,
    effect: String,
}

/// The scopes of all profiles with GitHub's own runner. No App serves an enterprise: the configuration refuses that.
pub(super) fn wanted(config: &Config) -> Vec<Wanted> {
    let of_runner = |profile: &crate::config::Profile| {
        let scope = profile.executor.actions_runner()?.scope.clone();
        Some(Wanted { profile: profile.name.clone(), scope })
    };
    config.profiles.iter().filter_map(of_runner).collect()
}

/// Says nothing where no profile has GitHub's runner.
pub(super) fn judge(is_app: bool, standing: &ForgeStanding, wanted: &[Wanted]) -> Option<Finding> {
    const ID: &str = "forge.runners";
    if wanted.is_empty() {
        return None;
    }
    if !is_app && standing.permissions.is_empty() {
        let finding = Finding::skipped(ID, "a fine-grained token does not tell whether it may register runners");
        return Some(finding.detail(
            "it needs `Actions` to read and `Administration` (of an organization: `Self-hosted runners`) to write; \
             the webhook must send `workflow_job`",
        ));
    }
    let lacks = if is_app { of_app(standing, wanted) } else { of_token(standing, wanted) };
    let Some(worst) = lacks.iter().map(|lack| lack.status).max() else {
        let finding = Finding::ok(ID, format!("runners can be registered for {}", profiles(wanted, |_| true)));
        let is_told = "with a token, the webhook of each repository or organization has to send `workflow_job`";
        return Some(if is_app { finding } else { finding.detail(is_told) });
    };
    let who = if is_app { "the App" } else { "the token" };
    let names = lacks.iter().map(|lack| lack.name.as_str()).collect::<Vec<_>>().join(", ");
    let effects: Vec<&str> = lacks.iter().map(|lack| lack.effect.as_str()).collect();
    let finding = Finding::new(worst, ID, format!("{who} lacks {names}, for GitHub's own jobs"));
    Some(finding.detail(effects.join("\n")).hint(hint(is_app)))
}

fn of_app(standing: &ForgeStanding, wanted: &[Wanted]) -> Vec<Lack> {
    let level = |name: &str| standing.permissions.get(name).map(String::as_str);
    let may_write = |name: &str| matches!(level(name), Some("write" | "admin"));
    let mut lacks = Vec::new();
    for (name, place, is_of) in PLACES {
        if wanted.iter().any(|one| is_of(&one.scope)) && !may_write(name) {
            let effect = format!("no runner can be registered with {place}: {}", profiles(wanted, is_of));
            lacks.push(Lack { status: Status::Problem, name: format!("`{name}: write`"), effect });
        }
    }
    if wanted.iter().any(|one| is_enterprise(&one.scope)) {
        let effect =
            format!("GitHub lets no App register runners with an enterprise: {}", profiles(wanted, is_enterprise));
        lacks.push(Lack { status: Status::Problem, name: "manage_runners:enterprise".to_owned(), effect });
    }
    if level("actions").is_none() {
        let effect = "jobs whose event was lost are not found, and a job of a fork cannot be told".to_owned();
        lacks.push(Lack { status: Status::Warning, name: "`actions: read`".to_owned(), effect });
    }
    if standing.events.iter().all(|event| event != EVENT) {
        let effect = "no event tells of jobs: each waits until the next `sweep` finds it".to_owned();
        lacks.push(Lack { status: Status::Warning, name: format!("the event `{EVENT}`"), effect });
    }
    lacks
}

fn of_token(standing: &ForgeStanding, wanted: &[Wanted]) -> Vec<Lack> {
    let has = |names: &[&str]| names.iter().any(|name| standing.permissions.contains_key(*name));
    let mut lacks = Vec::new();
    if !has(&[TOKEN_OF_JOBS]) {
        let effect = "jobs cannot be asked for, nor runners registered with a repository".to_owned();
        lacks.push(Lack { status: Status::Problem, name: format!("`{TOKEN_OF_JOBS}`"), effect });
    }
    for (names, place, is_of) in TOKENS {
        if wanted.iter().any(|one| is_of(&one.scope)) && !has(names) {
            let effect = format!("no runner can be registered with {place}: {}", profiles(wanted, is_of));
            lacks.push(Lack { status: Status::Problem, name: format!("`{}`", names[0]), effect });
        }
    }
    lacks
}

type IsOf = fn(&RunnerScope) -> bool;

/// What an App must be able to write for each scope, and with what runners are registered then.
const PLACES: [(&str, &str, IsOf); 2] = [
    ("administration", "a repository", |scope| matches!(scope, RunnerScope::Repository)),
    ("organization_self_hosted_runners", "an organization", is_organization),
];

/// The same for a classic token; any of the scopes will do. `repo` is asked for in any case.
const TOKENS: [(&[&str], &str, IsOf); 2] = [
    (&["admin:org"], "an organization", is_organization),
    (&["manage_runners:enterprise", "admin:enterprise"], "an enterprise", is_enterprise),
];

fn is_organization(scope: &RunnerScope) -> bool {
    matches!(scope, RunnerScope::Organization)
}

fn is_enterprise(scope: &RunnerScope) -> bool {
    matches!(scope, RunnerScope::Enterprise(_))
}

fn profiles(wanted: &[Wanted], is_of: impl Fn(&RunnerScope) -> bool) -> String {
    let names = wanted.iter().filter(|one| is_of(&one.scope)).map(|one| one.profile.as_str());
    format!("profile {}", listed(names))
}

fn hint(is_app: bool) -> &'static str {
    if is_app {
        "grant and subscribe to them in the App's settings under \"Permissions & events\"; each installation then has to \
         accept them"
    } else {
        "give it these scopes; docs/actions-runner.md has a table"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::finding::sketch;
    use super::*;

    fn standing(permissions: &[(&str, &str)], events: &[&str]) -> ForgeStanding {
        let permissions: BTreeMap<String, String> =
            permissions.iter().map(|(name, level)| ((*name).to_owned(), (*level).to_owned())).collect();
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        ForgeStanding { identity: "x".to_owned(), permissions, events, repositories: Vec::new(), server_time: None }
    }

    fn of(profile: &str, scope: RunnerScope) -> Wanted {
        Wanted { profile: profile.to_owned(), scope }
    }

    fn all(is_app: bool, standing: &ForgeStanding, wanted: &[Wanted]) -> String {
        sketch(&judge(is_app, standing, wanted).into_iter().collect::<Vec<_>>())
    }

    #[test]
    fn an_app_needs_what_the_profiles_scopes_need() {
        let (repository, organization) = (of("gh", RunnerScope::Repository), of("org", RunnerScope::Organization));
        let full = standing(
            &[("administration", "write"), ("organization_self_hosted_runners", "write"), ("actions", "read")],
            &["workflow_job"],
        );
        let both = [repository.clone(), organization];
        assert_eq!(all(true, &full, &[]), "");
        insta::assert_snapshot!(all(true, &full, &both), @"ok forge.runners: runners can be registered for profile `gh`, `org`");
        let weak = standing(&[("administration", "read")], &[]);
        insta::assert_snapshot!(all(true, &weak, &both), @r#"
        problem forge.runners: the App lacks `administration: write`, `organization_self_hosted_runners: write`, `actions: read`, the event `workflow_job`, for GitHub's own jobs
            no runner can be registered with a repository: profile `gh`
            no runner can be registered with an organization: profile `org`
            jobs whose event was lost are not found, and a job of a fork cannot be told
            no event tells of jobs: each waits until the next `sweep` finds it
            -> grant and subscribe to them in the App's settings under "Permissions & events"; each installation then has to accept them
        "#);
        let deaf = standing(&[("administration", "write"), ("actions", "read")], &["push"]);
        insta::assert_snapshot!(all(true, &deaf, &[repository]), @r#"
        warning forge.runners: the App lacks the event `workflow_job`, for GitHub's own jobs
            no event tells of jobs: each waits until the next `sweep` finds it
            -> grant and subscribe to them in the App's settings under "Permissions & events"; each installation then has to accept them
        "#);
    }

    #[test]
    fn a_token_needs_the_scopes_of_each_place() {
        let wanted = [
            of("gh", RunnerScope::Repository),
            of("org", RunnerScope::Organization),
            of("big", RunnerScope::Enterprise("acme".to_owned())),
        ];
        let granted = |names: &[&str]| standing(&names.iter().map(|name| (*name, "granted")).collect::<Vec<_>>(), &[]);
        insta::assert_snapshot!(all(false, &granted(&["repo", "admin:org", "admin:enterprise"]), &wanted), @"
        ok forge.runners: runners can be registered for profile `gh`, `org`, `big`
            with a token, the webhook of each repository or organization has to send `workflow_job`
        ");
        insta::assert_snapshot!(all(false, &granted(&["gist"]), &wanted), @"
        problem forge.runners: the token lacks `repo`, `admin:org`, `manage_runners:enterprise`, for GitHub's own jobs
            jobs cannot be asked for, nor runners registered with a repository
            no runner can be registered with an organization: profile `org`
            no runner can be registered with an enterprise: profile `big`
            -> give it these scopes; docs/actions-runner.md has a table
        ");
        insta::assert_snapshot!(all(false, &granted(&[]), &wanted), @"
        skipped forge.runners: a fine-grained token does not tell whether it may register runners
            it needs `Actions` to read and `Administration` (of an organization: `Self-hosted runners`) to write; the webhook must send `workflow_job`
        ");
    }
}

//! Each GitLab: whether it answers, as whom it knows Dayfly, and whether that is enough for what Dayfly does there.

use std::sync::Arc;

use futures::future::join_all;

use super::finding::{Finding, Status};
use super::subject::{Configuration, Subject};
use super::{counted, gitlab_hooks, listed};
use crate::config::{Config, GitLab, RepositoryPattern, Secrets};
use crate::forge::{Forge, ForgeError, ForgeStanding, RepoAccess, RepoName};
use crate::net::git_proxy::{GitClient, Reached};

/// What sets statuses and reads members.
const SCOPE: &str = "api";

/// Projects of one instance from which a fetch is begun.
const MAX_FETCHED: usize = 10;

#[derive(Debug)]
struct Facts {
    name: String,
    address: String,
    reached: Result<Reached, String>,
    /// The rest was asked if it answered, and has a token.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    standing: Result<ForgeStanding, ForgeError>,
    /// The projects that are configured by name, and whether a fetch could be begun.
    fetched: Vec<(RepoName, Result<(), String>)>,
    webhooks: Vec<gitlab_hooks::Fact>,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let Configuration::Valid { config, secrets: Ok((secrets, _)), .. } = &subject.configuration else {
        return Vec::new();
    };
    let all = observe(config, secrets).await;
    all.into_iter().flat_map(|observed| observed.map_or_else(|problem| vec![problem], |facts| judge(&facts))).collect()
}

async fn observe(config: &Config, secrets: &Secrets) -> Vec<Result<Facts, Finding>> {
    let impossible = |error: anyhow::Error| {
        Finding::problem("gitlab.reachable", "GitLab cannot be asked").explained_by(&format!("{error:#}"))
    };
    let client = match crate::app::git_client_of(config) {
        Ok(client) => client,
        Err(error) => return vec![Err(impossible(error))],
    };
    let instances = config.gitlab.iter().zip(&secrets.gitlab).map(|(gitlab, secrets)| {
        let (client, impossible) = (&client, &impossible);
        async move {
            let token = secrets.token.as_ref();
            let forge = token.map(|token| crate::app::gitlab_of(gitlab, token)).transpose().map_err(impossible)?;
            let reached = client.reach(&gitlab.url).await;
            let known = match forge.filter(|_| reached.is_ok()) {
                Some(forge) => Some(ask(forge.as_ref(), client, config, gitlab).await),
                None => None,
            };
            Ok(Facts { name: gitlab.name.clone(), address: gitlab.url.to_string(), reached, known })
        }
    });
    join_all(instances).await
}

async fn ask(forge: &dyn Forge, client: &GitClient, config: &Config, gitlab: &GitLab) -> Known {
    let standing = forge.standing().await;
    let named = gitlab.projects.iter().filter_map(|project| match &project.pattern {
        RepositoryPattern::One(name) => Some(name.clone()),
        RepositoryPattern::AllOf { .. } => None,
    });
    let names: Vec<RepoName> = named.take(if standing.is_ok() { MAX_FETCHED } else { 0 }).collect();
    let is_only = config.gitlab.iter().filter(|one| one.webhook_secret.is_some()).count() == 1;
    let asked = if gitlab.webhook_secret.is_some() { names.clone() } else { Vec::new() };
    let webhooks = gitlab_hooks::observe(forge, asked, &config.server.public_url, &gitlab.name, is_only).await;
    let fetched = names.into_iter().map(|repo| async move {
        let access = RepoAccess { repo: repo.clone(), installation: None };
        let fetched = match forge.git_upstream(&access).await {
            Ok(upstream) => client.begin_fetch(&upstream).await,
            Err(error) => Err(error.to_string()),
        };
        (repo, fetched)
    });
    Known { standing, fetched: join_all(fetched).await, webhooks }
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![reachable(facts)];
    if let Some(known) = &facts.known {
        findings.push(identity(&facts.name, known));
        if let Ok(standing) = &known.standing {
            findings.push(scopes(&facts.name, standing));
            findings.push(projects(&facts.name, known));
            findings.extend(gitlab_hooks::judge(&facts.name, &known.webhooks));
        }
    }
    findings
}

fn reachable(facts: &Facts) -> Finding {
    const ID: &str = "gitlab.reachable";
    let address = &facts.address;
    let finding = match &facts.reached {
        Ok(Reached { status, took, .. }) if *status < 500 => {
            Finding::ok(ID, format!("`{address}` answers ({} ms)", took.as_millis()))
                .data("milliseconds", took.as_millis() as u64)
        }
        Ok(Reached { status, .. }) => {
            Finding::warning(ID, format!("`{address}` answers with an error of its own (HTTP {status})"))
        }
        Err(why) => Finding::problem(ID, format!("`{address}` does not answer"))
            .detail(why.as_str())
            .hint("check `url` and `ca_bundle`, the name service, and the way out through a firewall"),
    };
    finding.data("address", address.as_str())
}

fn identity(name: &str, known: &Known) -> Finding {
    const ID: &str = "gitlab.identity";
    match &known.standing {
        Ok(standing) => Finding::ok(ID, format!("`{name}` knows Dayfly as {}", standing.identity)),
        Err(error @ ForgeError::Refused { .. }) => Finding::problem(ID, format!("`{name}` does not accept the token"))
            .detail(error.to_string().split("\n  hint:").next().unwrap_or_default())
            .hint("has it expired, or was it revoked?"),
        Err(error) => {
            let status = if error.is_retryable() { Status::Warning } else { Status::Problem };
            Finding::new(status, ID, format!("as whom `{name}` knows Dayfly could not be asked"))
                .explained_by(&error.to_string())
        }
    }
}

fn scopes(name: &str, standing: &ForgeStanding) -> Finding {
    const ID: &str = "gitlab.scopes";
    let granted = || listed(standing.permissions.keys().map(String::as_str));
    if standing.permissions.is_empty() {
        return Finding::skipped(ID, format!("the token of `{name}` does not tell its scopes; it needs `{SCOPE}`"));
    }
    if standing.permissions.contains_key(SCOPE) {
        return Finding::ok(ID, format!("the token's scopes suffice at `{name}`: {}", granted()));
    }
    Finding::problem(ID, format!("the token of `{name}` may set no commit statuses: its scopes are {}", granted()))
        .hint(format!("make one with the scope `{SCOPE}`"))
}

fn projects(name: &str, known: &Known) -> Finding {
    const ID: &str = "gitlab.projects";
    let total = known.fetched.len();
    let failed: Vec<String> = known
        .fetched
        .iter()
        .filter_map(|(repo, fetched)| Some(format!("`{repo}`: {}", fetched.as_ref().err()?.split('\n').next()?)))
        .collect();
    if total == 0 {
        return Finding::ok(ID, format!("no project of `{name}` is named alone: none was tried"));
    }
    if failed.is_empty() {
        let counted = counted(total, "configured project", "configured projects");
        return Finding::ok(ID, format!("{counted} of `{name}` can be fetched"));
    }
    let status = if failed.len() == total { Status::Problem } else { Status::Warning };
    Finding::new(status, ID, format!("{} of {total} configured projects of `{name}` cannot be fetched", failed.len()))
        .detail(failed.join("\n"))
        .hint("give the token's account the role Developer there; names are the paths of projects")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::super::finding::sketch;
    use super::*;

    fn facts(scopes: &[&str], fetched: Result<(), String>) -> Facts {
        let permissions = scopes.iter().map(|scope| ((*scope).to_owned(), "granted".to_owned())).collect();
        let standing = ForgeStanding {
            identity: "token of `bot` at `lab`".into(),
            permissions,
            events: Vec::new(),
            repositories: Vec::new(),
            server_time: None,
        };
        Facts {
            name: "lab".into(),
            address: "https://gitlab.example.org/".into(),
            reached: Ok(Reached { status: 200, server_time: None, took: Duration::from_millis(80) }),
            known: Some(Known {
                standing: Ok(standing),
                fetched: vec![(RepoName::parse_path("acme/tools/app").unwrap(), fetched)],
                webhooks: Vec::new(),
            }),
        }
    }

    #[test]
    fn a_gitlab_that_is_well_set_up_and_one_that_is_not() {
        insta::assert_snapshot!(sketch(&judge(&facts(&["api"], Ok(())))), @"
        ok gitlab.reachable: `https://gitlab.example.org/` answers (80 ms)
        ok gitlab.identity: `lab` knows Dayfly as token of `bot` at `lab`
        ok gitlab.scopes: the token's scopes suffice at `lab`: `api`
        ok gitlab.projects: 1 configured project of `lab` can be fetched
        ");
        insta::assert_snapshot!(sketch(&judge(&facts(&["read_api"], Err("HTTP 403".into())))), @"
        ok gitlab.reachable: `https://gitlab.example.org/` answers (80 ms)
        ok gitlab.identity: `lab` knows Dayfly as token of `bot` at `lab`
        problem gitlab.scopes: the token of `lab` may set no commit statuses: its scopes are `read_api`
            -> make one with the scope `api`
        problem gitlab.projects: 1 of 1 configured projects of `lab` cannot be fetched
            `acme/tools/app`: HTTP 403
            -> give the token's account the role Developer there; names are the paths of projects
        ");
    }

    #[test]
    fn what_does_not_answer_is_asked_no_more() {
        let silent = Facts { reached: Err("no route".into()), known: None, ..facts(&[], Ok(())) };
        insta::assert_snapshot!(sketch(&judge(&silent)), @"
        problem gitlab.reachable: `https://gitlab.example.org/` does not answer
            no route
            -> check `url` and `ca_bundle`, the name service, and the way out through a firewall
        ");
    }
}

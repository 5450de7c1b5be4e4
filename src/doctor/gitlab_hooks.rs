//! The webhooks of a GitLab's projects: whether there is one that leads here, once, and whether GitLab uses it.

use futures::future::join_all;

use super::finding::{Finding, Status};
use super::{counted, listed};
use crate::forge::{Forge, ForgeError, Hook, HookOwner, RepoName};
use crate::sweep::plan::our_hooks;

/// What a project's webhooks are; those that lead here.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) project: RepoName,
    pub(super) ours: Result<Vec<Hook>, ForgeError>,
}

/// Looks at the webhooks of these projects. `public_url` is where this service is reached, `name` what it calls the GitLab, and
/// `is_only` says that webhooks may leave that name out.
pub(super) async fn observe(
    forge: &dyn Forge, projects: Vec<RepoName>, public_url: &url::Url, name: &str, is_only: bool,
) -> Vec<Fact> {
    let Some(api) = forge.hook_api() else { return Vec::new() };
    let look = async |project: RepoName| {
        let ours = api.hooks(&HookOwner::Project(project.clone())).await.map(|mut hooks| {
            let ids = our_hooks(&hooks, public_url, name, is_only);
            hooks.retain(|hook| ids.contains(&hook.id));
            hooks
        });
        Fact { project, ours }
    };
    join_all(projects.into_iter().map(look)).await
}

/// Says nothing where no project is named alone.
pub(super) fn judge(name: &str, facts: &[Fact]) -> Option<Finding> {
    const ID: &str = "gitlab.webhooks";
    if facts.is_empty() {
        return None;
    }
    let read: Vec<(&RepoName, &[Hook])> =
        facts.iter().filter_map(|fact| Some((&fact.project, fact.ours.as_deref().ok()?))).collect();
    if read.is_empty() {
        let finding = Finding::skipped(ID, format!("the token may not look at the webhooks of `{name}`"));
        return Some(
            finding
                .detail("lost deliveries are not asked for again; merge requests and default branches are found all the same")
                .hint("with the role Maintainer in place of Developer it may"),
        );
    }
    let troubles: Vec<(Status, String)> = read.iter().flat_map(|(project, ours)| of_project(project, ours)).collect();
    let Some(worst) = troubles.iter().map(|(status, _)| *status).max() else {
        let counted = counted(read.len(), "project", "projects");
        return Some(Finding::ok(ID, format!("the webhooks of {counted} of `{name}` lead here")));
    };
    let lines: Vec<&str> = troubles.iter().map(|(_, line)| line.as_str()).collect();
    let finding = Finding::new(worst, ID, format!("webhooks of `{name}` do not bring all that Dayfly wants"));
    Some(
        finding
            .detail(lines.join("\n"))
            .hint("look at the project's settings under \"Webhooks\"; docs/gitlab.md says which one is wanted"),
    )
}

fn of_project(project: &RepoName, ours: &[Hook]) -> Vec<(Status, String)> {
    let mut found = Vec::new();
    let [hook, more @ ..] = ours else {
        let line = format!("`{project}`: no webhook of its own leads here; one of its group may");
        return vec![(Status::Warning, line)];
    };
    if !more.is_empty() {
        let line = format!("`{project}`: {} webhooks lead here, and each starts the workflows", ours.len());
        found.push((Status::Warning, line));
    }
    if ours.iter().any(|hook| hook.is_switched_off) {
        let line = format!("`{project}`: GitLab has switched the webhook off, after failures");
        found.push((Status::Problem, line));
    }
    if !hook.lacks.is_empty() {
        let kinds = listed(hook.lacks.iter().copied());
        found.push((Status::Warning, format!("`{project}`: the webhook is not told of {kinds}")));
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    fn fact(name: &str, ours: Result<Vec<Hook>, ForgeError>) -> Fact {
        Fact { project: RepoName::parse_path(name).unwrap(), ours }
    }

    fn hook(is_switched_off: bool, lacks: &[&'static str]) -> Hook {
        Hook {
            id: 3,
            url: "https://ci.example.org/webhooks/gitlab/lab".to_owned(),
            is_switched_off,
            lacks: lacks.to_vec(),
        }
    }

    #[test]
    fn each_trouble_of_a_webhook_is_told_with_its_project() {
        let refused = || Err(ForgeError::Refused { what: "listing".to_owned(), detail: "HTTP 403".to_owned() });
        let good = || fact("acme/good", Ok(vec![hook(false, &[])]));
        let told = |facts: &[Fact]| sketch(&judge("lab", facts).into_iter().collect::<Vec<_>>());
        assert_eq!(told(&[]), "");
        insta::assert_snapshot!(told(&[good(), fact("acme/closed", refused())]), @"ok gitlab.webhooks: the webhooks of 1 project of `lab` lead here");
        insta::assert_snapshot!(told(&[fact("acme/closed", refused())]), @"
        skipped gitlab.webhooks: the token may not look at the webhooks of `lab`
            lost deliveries are not asked for again; merge requests and default branches are found all the same
            -> with the role Maintainer in place of Developer it may
        ");
        let bad = [
            good(),
            fact("acme/none", Ok(Vec::new())),
            fact("acme/two", Ok(vec![hook(false, &[]), hook(false, &[])])),
            fact("acme/off", Ok(vec![hook(true, &["Tag push", "Comments"])])),
        ];
        insta::assert_snapshot!(told(&bad), @r#"
        problem gitlab.webhooks: webhooks of `lab` do not bring all that Dayfly wants
            `acme/none`: no webhook of its own leads here; one of its group may
            `acme/two`: 2 webhooks lead here, and each starts the workflows
            `acme/off`: GitLab has switched the webhook off, after failures
            `acme/off`: the webhook is not told of `Tag push`, `Comments`
            -> look at the project's settings under "Webhooks"; docs/gitlab.md says which one is wanted
        "#);
    }
}

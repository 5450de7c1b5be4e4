//! The GitLabs whose runner this service is: whether each of them takes each runner's token.

use std::sync::Arc;

use futures::future::join_all;
use secrecy::SecretString;

use super::finding::Finding;
use super::subject::{Configuration, Subject};
use crate::config::{Config, GitLab, GitLabRunner, Secrets};
use crate::gitlab::client::{Client, ClientError};
use crate::gitlab::{known_system_id, runner_info};

/// The name of a host on which the service never ran.
const UNKNOWN: &str = "s_000000000000";

/// What a GitLab said of one runner.
#[derive(Debug)]
struct Fact {
    /// The GitLab's name here, and the runner's.
    name: String,
    url: String,
    verified: Result<(), ClientError>,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    match &subject.configuration {
        Configuration::Valid { config, secrets: Ok((secrets, _)), .. } => observe(config, secrets).await,
        _ => Vec::new(),
    }
}

async fn observe(config: &Config, secrets: &Secrets) -> Vec<Finding> {
    // As the service that runs here: GitLab lists each name that a runner ever had.
    let system_id = known_system_id(&config.server.state_dir).ok().flatten().unwrap_or_else(|| UNKNOWN.to_owned());
    let system_id = &system_id;
    let asked = config.gitlab.iter().zip(&secrets.gitlab).map(async |(gitlab, secrets)| {
        let client = match Client::new(&gitlab.url, gitlab.ca_bundle.as_deref()) {
            Ok(client) => client,
            Err(error) => {
                let title = format!("the GitLab `{}` cannot be asked", gitlab.name);
                return vec![Finding::problem("gitlab.runner", title).detail(error.to_string())];
            }
        };
        let runners = gitlab.runners.iter().zip(&secrets.runners);
        join_all(runners.map(|(runner, token)| verify(&client, system_id, gitlab, runner, token))).await
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn verify(
    client: &Client, system_id: &str, gitlab: &GitLab, runner: &GitLabRunner, token: &SecretString,
) -> Finding {
    let verified = client.verify(token, system_id, &runner_info()).await.map(drop);
    let name = format!("{}/{}", gitlab.name, runner.name);
    judge(&Fact { name, url: gitlab.url.to_string(), verified })
}

fn judge(fact: &Fact) -> Finding {
    const ID: &str = "gitlab.runner";
    let Fact { name, url, verified } = fact;
    let finding = match verified {
        Ok(()) => Finding::ok(ID, format!("`{url}` knows the runner `{name}`")),
        Err(ClientError::Forbidden { .. }) => Finding::problem(ID, format!("`{url}` does not take the token of the runner `{name}`"))
            .hint("was the runner deleted? GitLab shows its token, which begins with `glrt-`, when the runner is created"),
        Err(error) if error.is_transient() => Finding::problem(ID, format!("`{url}` was not reached for the runner `{name}`"))
            .detail(error.to_string())
            .hint("check `url`, the name service, the way out through a firewall, `HTTPS_PROXY`, and `ca_bundle` for a certificate of your own"),
        Err(error) => Finding::problem(ID, format!("`{url}` does not speak GitLab's runner protocol to the runner `{name}`"))
            .detail(error.to_string())
            .hint("`url` is where people open GitLab, without `/api/v4`"),
    };
    finding.data("runner", name.as_str()).data("address", url.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_says_what_to_do() {
        let what = || "verifying the runner".to_owned();
        let facts = [
            Ok(()),
            Err(ClientError::Forbidden { what: what(), status: 403, detail: String::new() }),
            Err(ClientError::Transient { what: what(), detail: "no answer in time".to_owned(), retry_after: None }),
            Err(ClientError::Failed { what: what(), detail: "GitLab answers 404 Not Found".to_owned() }),
        ];
        let shown = facts.map(|verified| {
            let found = judge(&Fact { name: "gitlab/linux".into(), url: "https://g.example.org/".into(), verified });
            let title = format!("{:?}: {}", found.status, found.title);
            [Some(title), found.detail, found.hint].into_iter().flatten().collect::<Vec<_>>().join("\n  ")
        });
        insta::assert_snapshot!(shown.join("\n"), @r"
        Ok: `https://g.example.org/` knows the runner `gitlab/linux`
        Problem: `https://g.example.org/` does not take the token of the runner `gitlab/linux`
          was the runner deleted? GitLab shows its token, which begins with `glrt-`, when the runner is created
        Problem: `https://g.example.org/` was not reached for the runner `gitlab/linux`
          verifying the runner: no answer in time
          check `url`, the name service, the way out through a firewall, `HTTPS_PROXY`, and `ca_bundle` for a certificate of your own
        Problem: `https://g.example.org/` does not speak GitLab's runner protocol to the runner `gitlab/linux`
          verifying the runner: GitLab answers 404 Not Found
          `url` is where people open GitLab, without `/api/v4`
        ");
    }
}

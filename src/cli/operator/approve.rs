//! `dayfly approve`.

use clap::Args;
use serde_json::json;

use super::{EXIT_CODES, ServiceArgs};
use crate::cli::client::Query;
use crate::cli::say;
use crate::forge::{CommitSha, RepoName};

const HELP: &str = "\
The approval counts for this commit and nothing else. It is void when the pull request moves on, and the service looks whether it
has before anything runs. `dayfly why SHA` tells whether a commit is held.

Example:
  dayfly approve --repo example/website 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{HELP}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct ApproveArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The repository of the pull request; only needed if the commit is held in several
    #[arg(long, value_name = "OWNER/NAME", value_parser = RepoName::parse_path)]
    repo: Option<RepoName>,
    /// The forge, where several have the commit in a repository of that name
    #[arg(long, value_name = "NAME")]
    forge: Option<String>,
    /// The full id of the commit that is held: a shortened one could be made to mean another
    #[arg(value_parser = CommitSha::parse)]
    sha: CommitSha,
}

pub(super) async fn run(arguments: ApproveArgs) -> anyhow::Result<u8> {
    let ApproveArgs { service, repo, forge, sha } = arguments;
    let mut wish = json!({ "sha": sha });
    if let Some(repo) = repo {
        wish["repo"] = json!(repo);
    }
    if let Some(forge) = forge {
        wish["forge"] = json!(forge);
    }
    let answer = service.client()?.post(Query::of(&["approvals"]), Some(&wish)).await?;
    let delivery = answer["delivery"].as_str().unwrap_or_default();
    say(format!("{sha} is approved, as delivery {delivery}"))?;
    eprintln!("  hint: `dayfly why {}` tells what becomes of it", sha.short());
    Ok(0)
}

//! `dayfly dispatch`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::{EXIT_CODES, ServiceArgs, print_json};
use crate::cli::client::Query;
use crate::cli::say;
use crate::forge::RepoName;

const HELP: &str = "\
The workflow must name `workflow_dispatch` in its `on`. It is read at the ref, and what is given is checked, before anything is \
stored; the commit is pinned then.

Examples:
  dayfly dispatch example/website deploy --input target=staging
  dayfly dispatch example/website release.yml --ref v1.2.0";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{HELP}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct DispatchArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The repository
    #[arg(value_name = "OWNER/NAME", value_parser = RepoName::parse_path)]
    repo: RepoName,
    /// The forge, where several have a repository of that name
    #[arg(long, value_name = "NAME")]
    forge: Option<String>,
    /// The workflow's file, or its name without the ending
    workflow: String,
    /// A branch or a tag, or a full ref [default: the default branch]
    #[arg(long = "ref", value_name = "REF")]
    git_ref: Option<String>,
    /// A value for an input of `workflow_dispatch`; repeatable
    #[arg(long = "input", short = 'f', value_name = "NAME=VALUE", value_parser = pair)]
    inputs: Vec<(String, String)>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("it must have the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(arguments: DispatchArgs) -> anyhow::Result<u8> {
    let DispatchArgs { service, repo, forge, workflow, git_ref, inputs, json } = arguments;
    let inputs: BTreeMap<String, String> = inputs.into_iter().collect();
    let wish = json!({ "forge": forge, "repo": repo, "workflow": workflow, "ref": git_ref, "inputs": inputs });
    let answer = service.client()?.post(Query::of(&["dispatches"]), Some(&wish)).await?;
    if json {
        return print_json(&answer).map(|()| 0);
    }
    let text = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
    let (workflow, sha, delivery) = (text("workflow"), text("sha"), text("delivery"));
    say(format!("`{workflow}` starts at {sha}, as delivery {delivery}"))?;
    eprintln!("  hint: `dayfly jobs --sha {sha}` lists its jobs");
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::pair;

    #[test]
    fn a_value_may_be_empty_or_have_equals_signs_and_a_name_may_not() {
        let told = ["a=b", "a=", "a=b=c", "=b", "a"]
            .map(|text| pair(text).ok().map(|(name, value)| format!("{name}:{value}")));
        assert_eq!(told, [Some("a:b".to_owned()), Some("a:".to_owned()), Some("a:b=c".to_owned()), None, None]);
    }
}

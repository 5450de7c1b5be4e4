//! `dayfly why`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::Value;

use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::{Client, ClientError, Query};
use crate::cli::say;
use crate::cli::terminal::{Look, Style, one_line};
use crate::why::Answer;

/// Letters of a job's id, after its prefix, and digits of a commit that are enough to ask with.
const MIN_ID: usize = 4;
const MIN_SHA: usize = 7;

const EXAMPLES: &str = "\
Of a job that waits: what it waits for, and for how long already. Of one that runs: its step, and how much of its time it has
used. Of one that ended: what its outcome means and what to do. Of a commit: its runs, whether it is held, and why deliveries
that name it started nothing.

Examples:
  dayfly why job-3f8k0d
  dayfly why 4f2a91c                a commit, by at least 7 digits
  dayfly why 3f8k0d --json | jq -r .code";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct WhyArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// A job's id or a commit's; a beginning will do, of 4 letters or 7 digits, if nothing else begins so
    #[arg(value_name = "JOB|SHA", value_parser = NonEmptyStringValueParser::new())]
    what: String,
    /// Print the API's JSON: an object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: WhyArgs) -> anyhow::Result<u8> {
    let answer = ask(&arguments.service.client()?, &arguments.what).await?;
    if arguments.json {
        return print_json(&answer).map(|()| 0);
    }
    let subject = answer["job"].as_str().map(|job| format!("{job}: ")).unwrap_or_default();
    say(format!("{subject}{}", described(&read(answer)?, Look::of_stdout())))?;
    Ok(0)
}

/// About the job of that id; where there is none, about the commit, if it can be one.
async fn ask(client: &Client, what: &str) -> Result<Value, ClientError> {
    let about_job = client.get(Query::of(&["jobs", what, "why"])).await;
    let are_digits = what.bytes().all(|byte| byte.is_ascii_hexdigit());
    match about_job {
        Err(error) if error.is_not_found() && are_digits && what.len() >= MIN_SHA => {
            client.get(Query::of(&["commits", &what.to_ascii_lowercase(), "why"])).await
        }
        Err(ClientError::Refused { status, error, .. }) if are_digits => {
            let hint = format!("a job takes at least {MIN_ID} letters of its id, a commit at least {MIN_SHA} digits");
            Err(ClientError::Refused { status, error, hint: Some(hint) })
        }
        answer => answer,
    }
}

fn described(answer: &Answer, look: Look) -> String {
    let width = answer.facts.iter().map(|fact| fact.name.len()).max().unwrap_or(0);
    let mut text = look.paint(Style::BOLD, &one_line(&answer.headline));
    for fact in &answer.facts {
        text.push_str(&format!("\n  {:<width$}  {}", fact.name, one_line(&fact.text)));
    }
    if let Some(hint) = &answer.hint {
        text.push_str(&format!("\n  hint: {}", one_line(hint)));
    }
    text
}

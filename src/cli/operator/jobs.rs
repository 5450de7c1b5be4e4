//! `dayfly jobs`.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::views::{JobView, short_length, shortened};
use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::Query;
use crate::cli::say;
use crate::cli::table::Table;
use crate::cli::terminal::{Look, one_line};
use crate::clock::{ago, now_ms};
use crate::forge::RepoName;

const EXAMPLES: &str = "\
Examples:
  dayfly jobs --unfinished                what waits and runs
  dayfly jobs --conclusion failure --repo example/website
  dayfly jobs --sha 4f2a91c               the jobs of one commit
  dayfly jobs --json | jq -r '.[].log_url'";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct JobsArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Only jobs of this repository
    #[arg(long, value_name = "OWNER/NAME", value_parser = RepoName::parse, help_heading = "Filters")]
    repo: Option<RepoName>,
    /// Only jobs of this commit; its first 7 digits are enough
    #[arg(long, value_name = "SHA", help_heading = "Filters")]
    sha: Option<String>,
    /// Only jobs in this state
    #[arg(long, value_parser = ["waiting", "queued", "leased", "running", "finished"], help_heading = "Filters")]
    state: Option<String>,
    /// Only jobs that have not ended
    #[arg(long, conflicts_with_all = ["state", "conclusion"], help_heading = "Filters")]
    unfinished: bool,
    /// Only jobs that ended so
    #[arg(long, value_parser = conclusions(), help_heading = "Filters")]
    conclusion: Option<String>,
    /// Only jobs on this profile
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    profile: Option<String>,
    /// Only jobs of the workflow of this name
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    workflow: Option<String>,
    /// At most so many, the latest
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Print the API's JSON: an array
    #[arg(long)]
    json: bool,
}

fn conclusions() -> PossibleValuesParser {
    PossibleValuesParser::new(["success", "failure", "error", "timed_out", "cancelled", "skipped"])
}

pub(super) async fn run(arguments: JobsArgs) -> anyhow::Result<u8> {
    let of_commit = arguments.sha.clone();
    let query = Query::of(&["jobs"])
        .with_any("repo", arguments.repo)
        .with_any("sha", arguments.sha)
        .with_any("state", arguments.state)
        .with_any("unfinished", arguments.unfinished.then_some(true))
        .with_any("conclusion", arguments.conclusion)
        .with_any("profile", arguments.profile)
        .with_any("workflow", arguments.workflow)
        .with("limit", arguments.limit);
    let answer = arguments.service.client()?.get(query).await?;
    if arguments.json {
        return print_json(&answer).map(|()| 0);
    }
    let jobs: Vec<JobView> = read(answer)?;
    if jobs.is_empty() {
        eprintln!("no jobs");
        if let Some(sha) = of_commit {
            eprintln!("  hint: `dayfly why {}` tells what became of that commit", one_line(&sha));
        }
        return Ok(0);
    }
    say(table(&jobs, now_ms()).render(Look::of_stdout()))?;
    Ok(0)
}

fn table(jobs: &[JobView], now: i64) -> Table<7> {
    let length = short_length(jobs.iter().map(|job| job.id.as_str()));
    let mut table = Table::new(["ID", "STATE", "JOB", "REPOSITORY", "COMMIT", "CREATED", "RAN"], &[2, 3]);
    for job in jobs {
        table.row([
            shortened(&job.id, length).into(),
            job.standing_cell(),
            format!("{} / {}", job.workflow, job.name).into(),
            (&job.repo).into(),
            job.short_sha().into(),
            ago(now, job.created_at).into(),
            job.took(now).into(),
        ]);
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(id: &str, name: &str, state: &str, conclusion: Option<&str>) -> JobView {
        let job = json!({
            "id": id, "run": "run-0", "run_number": 12, "repo": "demo/hello", "sha": "4f2a91c0".repeat(5),
            "event": "pull_request", "workflow": "CI", "name": name, "profile": "linux", "state": state, "attempt": 1,
            "vm": null, "conclusion": conclusion, "reason": null, "detail": null, "log_url": "", "created_at": 0,
            "started_at": (state != "queued").then_some(2000), "finished_at": conclusion.map(|_| 65_000),
            "added_later": true,
        });
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn jobs_are_a_table() {
        let jobs = [
            job("job-0123456789bc", "test (stable)", "running", None),
            job("job-zzzzzzzzzzzz", "a name\x1b]0;x\x07 with \u{9b}2J\nodd things", "finished", Some("timed_out")),
            job("job-0123457zzzzz", "lint", "queued", None),
        ];
        let plain = Look { is_terminal: false, has_colours: false, width: None };
        insta::assert_snapshot!(table(&jobs, 200_000).render(plain), @"
        ID           STATE      JOB                              REPOSITORY  COMMIT    CREATED    RAN
        job-0123456  running    CI / test (stable)               demo/hello  4f2a91c0  3 min ago  3 min
        job-zzzzzzz  timed_out  CI / a name with �2J odd things  demo/hello  4f2a91c0  3 min ago  1 min
        job-0123457  queued     CI / lint                        demo/hello  4f2a91c0  3 min ago
        ");
        insta::assert_snapshot!(table(&jobs, 200_000).render(Look { width: Some(80), ..plain }), @"
        ID           STATE      JOB               REPOSITORY  COMMIT    CREATED    RAN
        job-0123456  running    CI / test (stab…  demo/hello  4f2a91c0  3 min ago  3 min
        job-zzzzzzz  timed_out  CI / a name wit…  demo/hello  4f2a91c0  3 min ago  1 min
        job-0123457  queued     CI / lint         demo/hello  4f2a91c0  3 min ago
        ");
    }
}

//! `dayfly job show`, `cancel` and `rerun`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::egress;
use super::views::{EgressView, JobView};
use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::{Client, ClientError, Query};
use crate::cli::say;
use crate::cli::terminal::{Look, Style, one_line};
use crate::clock::{ago, now_ms};
use crate::workflow::commands::Annotation;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum JobCommand {
    /// Show a job, how it stands, and the times of everything that happened to it
    Show(ShowArgs),
}

const SHOW_EXAMPLES: &str = "\
Examples:
  dayfly job show job-3f8k0d
  dayfly job show 3f8k0d --json | jq '.events'";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{SHOW_EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The job's id; any beginning of at least 4 letters that no other job has will do
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    job: String,
    /// Print the API's JSON: an object
    #[arg(long)]
    json: bool,
}

const CANCEL_HELP: &str = "\
A job that waits ends at once. The step of a job that runs is asked to end and gets the grace period of the configuration
(`limits.grace`); steps with `if: always()` get it too. Then the VM is destroyed. The forge is told `cancelled`.

Examples:
  dayfly cancel job-3f8k0d
  dayfly cancel $(dayfly jobs --unfinished --repo example/website --json | jq -r '.[].id')";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{CANCEL_HELP}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct CancelArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Ids of jobs, or beginnings of them
    #[arg(required = true, value_name = "JOB", value_parser = NonEmptyStringValueParser::new())]
    jobs: Vec<String>,
}

const RERUN_HELP: &str = "\
The job runs again at the same commit, with the jobs that need it, under the same names on the forge. Results of other jobs are
taken over. It gets a new id: `dayfly jobs --sha COMMIT` shows it.

Example:
  dayfly rerun job-3f8k0d";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{RERUN_HELP}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct RerunArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The job's id, or a beginning of it
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    job: String,
}

pub(super) async fn show(arguments: ShowArgs) -> anyhow::Result<u8> {
    let answer = arguments.service.client()?.get(Query::of(&["jobs", &arguments.job])).await?;
    if arguments.json {
        return print_json(&answer).map(|()| 0);
    }
    say(described(&read(answer)?, now_ms(), Look::of_stdout()))?;
    Ok(0)
}

/// Asks for the end of each, whatever becomes of the others.
pub(super) async fn cancel(arguments: CancelArgs) -> anyhow::Result<u8> {
    let client = arguments.service.client()?;
    let mut code = 0;
    for job in &arguments.jobs {
        match client.post(Query::of(&["jobs", job, "cancel"]), None).await {
            Ok(answer) => {
                let id = answer["job"].as_str().unwrap_or(job);
                say(format!("{id} is being cancelled"))?;
            }
            Err(error @ ClientError::Refused { .. }) => {
                eprintln!("error: {error}");
                code = error.exit_code();
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(code)
}

pub(super) async fn rerun(arguments: RerunArgs) -> anyhow::Result<u8> {
    let client = arguments.service.client()?;
    let job = find(&client, &arguments.job).await?;
    let answer = client.post(Query::of(&["jobs", &job.id, "rerun"]), None).await?;
    let delivery = answer["delivery"].as_str().unwrap_or_default();
    say(format!("{} is being run again, as delivery {delivery}", job.id))?;
    eprintln!("  hint: `dayfly jobs --sha {}` shows it", job.short_sha());
    Ok(0)
}

async fn find(client: &Client, id: &str) -> Result<JobView, ClientError> {
    read(client.get(Query::of(&["jobs", id])).await?)
}

fn described(job: &JobView, now: i64, look: Look) -> String {
    let detail = job.detail.as_deref().unwrap_or_default();
    let standing = look.paint(job.style(), job.standing());
    let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let facts = [
        ("state", format!("{standing}{reason}")),
        ("", detail.lines().map(one_line).collect::<Vec<_>>().join("\n            ")),
        ("repository", job.repo.clone()),
        ("commit", job.sha.clone()),
        ("run", format!("{} {} #{}, on {}", job.run, one_line(&job.workflow), job.run_number, job.event)),
        ("profile", job.profile.clone().unwrap_or_default()),
        ("attempt", job.attempt.to_string()),
        ("VM", job.vm.clone().unwrap_or_default()),
        ("created", when(job.created_at, now)),
        ("started", job.started_at.map_or_else(String::new, |at| when(at, now))),
        ("ended", job.finished_at.map_or_else(String::new, |at| when(at, now))),
        ("ran", job.took(now)),
        ("egress", job.egress.as_ref().map_or_else(String::new, reached)),
        ("log", job.log_url.clone()),
    ];
    let mut text = look.paint(Style::BOLD, &format!("{} {}", job.id, one_line(&job.name)));
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("\n{name:<10}  {value}"));
    }
    if !job.annotations.is_empty() {
        text.push_str(&format!("\n\n{}", look.paint(Style::BOLD, "What its steps said of the code")));
        text.extend(job.annotations.iter().map(annotation));
    }
    if !job.events.is_empty() {
        text.push_str(&format!("\n\n{}", look.paint(Style::BOLD, "What happened, in seconds since the first")));
    }
    text + &timeline(job)
}

/// What a job reached, in one line.
fn reached(egress: &EgressView) -> String {
    let counts = [
        (egress.allowed, "allowed"),
        (egress.audited, "would be refused"),
        (egress.refused, "refused"),
        (egress.failed, "failed"),
    ];
    let counted = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let bytes = format!("{} sent, {} received", egress::bytes(egress.sent), egress::bytes(egress.received));
    counted.chain([bytes]).collect::<Vec<_>>().join(", ")
}

fn when(at_ms: i64, now: i64) -> String {
    let shown = Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |time| format!("{time:.3}"));
    format!("{shown} ({})", ago(now, at_ms))
}

fn annotation(told: &Annotation) -> String {
    let place = match (&told.file, told.line) {
        (Some(file), Some(line)) => format!("{file}:{line}  "),
        (Some(file), None) => format!("{file}  "),
        (None, _) => String::new(),
    };
    let title = told.title.as_ref().map_or_else(String::new, |title| format!("{title}: "));
    format!("\n{:<8}  {}", told.level.as_str(), one_line(&format!("{place}{title}{}", told.message)))
}

/// One line per event.
fn timeline(job: &JobView) -> String {
    let begin = job.events.iter().map(|event| event.at_us).min().unwrap_or_default();
    let mut text = String::new();
    for event in &job.events {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a job's life are far below 2^53")]
        let seconds = ((event.at_us - begin) / 1000) as f64 / 1000.0;
        let attempt = if job.attempt > 1 { format!("attempt {}  ", event.attempt) } else { String::new() };
        let line = format!("\n{seconds:>10.3}  {attempt}{:<18} {}", event.kind, one_line(&event.detail));
        text.push_str(line.trim_end());
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_told_with_its_times() {
        let event = |at_us: i64, kind: &str, detail: &str| json!({ "attempt": 1, "at_us": at_us, "kind": kind, "detail": detail });
        let job = json!({
            "id": "job-0123456789bc", "run": "run-0", "run_number": 3, "repo": "demo/hello", "sha": "4f2a91c0".repeat(5),
            "event": "push", "workflow": "CI", "name": "te\x1b[2Jst", "profile": "linux", "state": "finished", "attempt": 1,
            "vm": "vm-0", "conclusion": "error", "reason": "image", "detail": "there is no image `x`\n  hint: build it",
            "log_url": "https://ci.example.org/logs/0", "created_at": 1000, "started_at": null, "finished_at": 4000,
            "egress": { "allowed": 12, "audited": 0, "refused": 2, "failed": 0, "sent": 900, "received": 7 << 20 },
            "events": [event(1_000_000, "delivery_accepted", "9d"), event(1_250_000, "job_queued", "")],
        });
        let look = Look { is_terminal: false, has_colours: false, width: None };
        insta::assert_snapshot!(described(&serde_json::from_value(job).unwrap(), 64_000, look), @"
        job-0123456789bc test
        state       error (image)
                    there is no image `x`
                    hint: build it
        repository  demo/hello
        commit      4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0
        run         run-0 CI #3, on push
        profile     linux
        attempt     1
        VM          vm-0
        created     1970-01-01T00:00:01.000Z (1 min ago)
        ended       1970-01-01T00:00:04.000Z (1 min ago)
        egress      12 allowed, 2 refused, 900 B sent, 7 MiB received
        log         https://ci.example.org/logs/0

        What happened, in seconds since the first
             0.000  delivery_accepted  9d
             0.250  job_queued
        ");
    }
}

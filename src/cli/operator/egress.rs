//! `dayfly egress`: what a job reached, and what it was refused.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Deserialize;

use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::Query;
use crate::cli::say;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Look, Style, one_line};
use crate::clock::span;
use crate::config::rough_size;
use crate::net::egress::log::{EgressLog, Entry, Verdict};

const EXAMPLES: &str = "\
Equal connections are one line. Bytes count from the guest (sent) and to it (received); why is the entry of the lists that
allowed it, or the reason against it.

Examples:
  dayfly egress job-3f8k0d
  dayfly egress 3f8k0d --refused
  dayfly egress 3f8k0d --json | jq '.[].entries[].target'";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct EgressArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The job's id; any beginning of at least 4 letters that no other job has will do
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    job: String,
    /// Leave out what was allowed
    #[arg(long, conflicts_with = "json")]
    refused: bool,
    /// Print the API's JSON: an array with an object for each attempt
    #[arg(long)]
    json: bool,
}

/// One attempt, as the API tells of it.
#[derive(Debug, Deserialize)]
struct AttemptView {
    attempt: u32,
    #[serde(flatten)]
    log: EgressLog,
}

pub(super) async fn run(arguments: EgressArgs) -> anyhow::Result<u8> {
    let answer = arguments.service.client()?.get(Query::of(&["jobs", &arguments.job, "egress"])).await?;
    if arguments.json {
        return print_json(&answer).map(|()| 0);
    }
    let attempts: Vec<AttemptView> = read(answer)?;
    if attempts.is_empty() {
        eprintln!("there were no connections, or the job has not ended");
        return Ok(0);
    }
    for attempt in &attempts {
        if attempts.len() > 1 {
            say(format!("attempt {}", attempt.attempt))?;
        }
        say(table(&attempt.log, arguments.refused).render(Look::of_stdout()))?;
        if attempt.log.left_out > 0 {
            eprintln!("{} more connections are not listed", attempt.log.left_out);
        }
    }
    Ok(0)
}

fn table(log: &EgressLog, only_refused: bool) -> Table<7> {
    let mut table = Table::new(["VERDICT", "TARGET", "TIMES", "SENT", "RECEIVED", "TOOK", "WHY"], &[1, 6]);
    for entry in log.entries.iter().filter(|entry| !only_refused || entry.verdict != Verdict::Allowed) {
        table.row([
            Cell::styled(entry.verdict.as_str(), style(entry.verdict)),
            (&entry.target).into(),
            entry.count.to_string().into(),
            rough_size(entry.sent).into(),
            rough_size(entry.received).into(),
            span(i64::try_from(entry.took_ms).unwrap_or(i64::MAX)).into(),
            why(entry).into(),
        ]);
    }
    table
}

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Allowed => Style::GREEN,
        Verdict::Audited => Style::YELLOW,
        Verdict::Refused | Verdict::Failed => Style::RED,
    }
}

/// The rule and the address that it led to, or the reason without its hint.
fn why(entry: &Entry) -> String {
    let first = entry.why.lines().next().map(one_line).unwrap_or_default();
    entry.address.as_ref().map_or_else(|| first.clone(), |address| format!("{first} ({address})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_a_table() {
        let entry = |verdict, target: &str, why: &str, address: Option<&str>| Entry {
            target: target.into(),
            verdict,
            why: why.into(),
            address: address.map(str::to_owned),
            count: 3,
            sent: 900,
            received: 5 << 20,
            took_ms: 1500,
            first_at: 0,
            last_at: 1,
        };
        let entries = vec![
            entry(Verdict::Allowed, "registry.example:443", "*.example", Some("192.0.2.7:443")),
            entry(
                Verdict::Refused,
                "evil.exa\x1b[2Jmple:443",
                "`evil.example:443` is not in `allow`\n  hint: ask",
                None,
            ),
        ];
        let log = EgressLog { entries, ..EgressLog::default() };
        let plain = Look { is_terminal: false, has_colours: false, width: None };
        insta::assert_snapshot!(table(&log, false).render(plain), @"
        VERDICT  TARGET                TIMES  SENT   RECEIVED  TOOK  WHY
        allowed  registry.example:443  3      900 B  5 MiB     1 s   *.example (192.0.2.7:443)
        refused  evil.example:443      3      900 B  5 MiB     1 s   `evil.example:443` is not in `allow`
        ");
        assert_eq!(table(&log, true).render(plain).lines().count(), 2);
    }
}

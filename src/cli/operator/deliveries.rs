//! `dayfly deliveries`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::views::{DeliveryView, RunView, shortened, telling_length};
use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::{Client, ClientError, Query};
use crate::cli::say;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Look, Style, one_line};
use crate::clock::{ago, now_ms, span};

/// Letters of an id that a table shows at least: those of GitHub begin with eight random digits.
const SHORTEST: usize = 12;

const EXAMPLES: &str = "\
A delivery is a webhook that was verified and stored. It is `received` until it is processed, then `processed` (it started runs),
`ignored` (nothing here reacts to it), `failed`, or `invalid` (signed, but not what the forge documents).

--redeliver has a stored delivery processed again, as if the forge had sent it again: one that failed or was ignored, after what
was in its way has been put right, or one that waits for its next try. One that started runs stays as it is; `dayfly rerun`
runs their jobs again.

Examples:
  dayfly deliveries --state failed
  dayfly deliveries 72d3162e              one, with the runs that it started
  dayfly deliveries --redeliver 72d3162e";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct DeliveriesArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Show this one: the forge's id or a beginning of it, or FORGE/ID
    #[arg(conflicts_with_all = ["state", "event", "redeliver"], value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// Only deliveries in this state
    #[arg(long, value_parser = ["received", "processed", "ignored", "failed", "invalid"], help_heading = "Filters")]
    state: Option<String>,
    /// Only deliveries of this event, such as push or pull_request
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    event: Option<String>,
    /// At most so many, the latest
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Have this delivery processed again
    #[arg(long, value_name = "ID", conflicts_with_all = ["state", "event"], value_parser = NonEmptyStringValueParser::new())]
    redeliver: Option<String>,
    /// Print the API's JSON: an array, or an object for one delivery
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: DeliveriesArgs) -> anyhow::Result<u8> {
    let client = arguments.service.client()?;
    if let Some(id) = &arguments.redeliver {
        return redeliver(&client, id, arguments.json).await;
    }
    let query = match &arguments.id {
        Some(id) => {
            let (forge, id) = find(&client, id).await?;
            Query::of(&["deliveries", &forge, &id])
        }
        None => Query::of(&["deliveries"])
            .with_any("state", arguments.state)
            .with_any("event", arguments.event)
            .with("limit", arguments.limit),
    };
    let answer = client.get(query).await?;
    if arguments.json {
        return print_json(&answer).map(|()| 0);
    }
    if arguments.id.is_some() {
        say(described(&read(answer)?, now_ms()))?;
        return Ok(0);
    }
    let deliveries: Vec<DeliveryView> = read(answer)?;
    if deliveries.is_empty() {
        eprintln!("no deliveries");
        return Ok(0);
    }
    say(table(&deliveries, now_ms()).render(Look::of_stdout()))?;
    Ok(0)
}

async fn redeliver(client: &Client, id: &str, json: bool) -> anyhow::Result<u8> {
    let (forge, id) = find(client, id).await?;
    let answer = client.post(Query::of(&["deliveries", &forge, &id, "redeliver"]), None).await?;
    if json {
        return print_json(&answer).map(|()| 0);
    }
    say(format!("{forge}/{id} is being processed again"))?;
    eprintln!("  hint: `dayfly deliveries {id}` shows what becomes of it");
    Ok(0)
}

/// The forge and the id of the delivery that a text means.
async fn find(client: &Client, text: &str) -> Result<(String, String), ClientError> {
    if let Some((forge, id)) = text.split_once('/') {
        return Ok((forge.to_owned(), id.to_owned()));
    }
    let query = Query::of(&["deliveries"]).with("id", text).with("limit", 2);
    let mut found: Vec<DeliveryView> = read(client.get(query).await?)?;
    let refused =
        |status, error: String, hint: &str| ClientError::Refused { status, error, hint: Some(hint.to_owned()) };
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok((only.forge, only.id)),
        (Some(one), Some(other)) => {
            let error = format!("`{text}` is ambiguous: `{}`, `{}`", other.id, one.id);
            Err(refused(axum::http::StatusCode::CONFLICT, error, "give more of it"))
        }
        (None, _) => {
            let error = format!("there is no delivery `{}`", one_line(text));
            Err(refused(axum::http::StatusCode::NOT_FOUND, error, "`dayfly deliveries` lists them"))
        }
    }
}

fn table(deliveries: &[DeliveryView], now: i64) -> Table<7> {
    let length = telling_length(deliveries.iter().map(|delivery| delivery.id.as_str()), SHORTEST);
    let headings = ["ID", "EVENT", "REPOSITORY", "REF", "STATE", "RECEIVED", "WHAT CAME OF IT"];
    let mut table = Table::new(headings, &[2, 3, 6]);
    for delivery in deliveries {
        table.row([
            shortened(&delivery.id, length).into(),
            (&delivery.event).into(),
            delivery.repo.as_deref().unwrap_or_default().into(),
            delivery.subject.as_deref().unwrap_or_default().into(),
            state(delivery),
            ago(now, delivery.received_at).into(),
            outcome(delivery, now).lines().next().unwrap_or_default().into(),
        ]);
    }
    table
}

fn state(delivery: &DeliveryView) -> Cell {
    let style = match delivery.state.as_str() {
        "processed" => Style::GREEN,
        "failed" | "invalid" => Style::RED,
        "received" => Style::YELLOW,
        _ => Style::DIM,
    };
    Cell::styled(&delivery.state, style)
}

/// What came of it, or why nothing did, as far as there is something to say.
fn outcome(delivery: &DeliveryView, now: i64) -> String {
    match (delivery.next_try_at, &delivery.outcome) {
        (Some(next), _) => format!("try {} in {}: {}", delivery.tries + 1, span(next - now), delivery.detail),
        (None, Some(outcome)) => outcome.clone(),
        (None, None) => delivery.detail.clone(),
    }
}

/// Where it happened, as far as that is known.
fn place(delivery: &DeliveryView) -> String {
    let known = [delivery.repo.as_deref(), delivery.subject.as_deref()];
    let known: Vec<String> = known.into_iter().flatten().filter(|text| !text.is_empty()).map(one_line).collect();
    if known.is_empty() { String::new() } else { format!(" of {}", known.join(" ")) }
}

fn described(delivery: &DeliveryView, now: i64) -> String {
    let mut text = format!(
        "{}/{} {}{}, received {}: {}",
        delivery.forge,
        delivery.id,
        delivery.event,
        place(delivery),
        ago(now, delivery.received_at),
        delivery.state
    );
    for line in outcome(delivery, now).lines() {
        text.push_str(&format!("\n  {}", one_line(line)));
    }
    for RunView { id, number, repo, sha, workflow } in &delivery.runs {
        text.push_str(&format!("\n  {id} {} #{number} of {repo} at {sha}", one_line(workflow)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_a_table_and_one_is_told_with_its_runs() {
        let delivery = |state: &str, detail: &str, next_try_at| DeliveryView {
            forge: "github".into(),
            id: "72d3162e-cc78".into(),
            event: "pull_request".into(),
            state: state.into(),
            repo: Some("demo/hello".into()),
            subject: Some("#7".into()),
            outcome: (state == "processed").then(|| "1 run, 2 jobs".into()),
            detail: detail.into(),
            tries: 2,
            received_at: 0,
            next_try_at,
            runs: Vec::new(),
        };
        let run = RunView {
            id: "run-0".into(),
            number: 7,
            repo: "demo/hello".into(),
            sha: "4f2a91c0".repeat(5),
            workflow: "CI".into(),
        };
        let failed = "commit 4f2a of demo/hello cannot be read\n  hint: the credential needs to read `contents`";
        let deliveries = [
            DeliveryView { runs: vec![run], ..delivery("processed", "", None) },
            delivery("received", "the forge did not answer", Some(90_000)),
            delivery("failed", failed, None),
        ];
        let plain = Look { is_terminal: false, has_colours: false, width: None };
        insta::assert_snapshot!(table(&deliveries, 60_000).render(plain), @"
        ID             EVENT         REPOSITORY  REF  STATE      RECEIVED   WHAT CAME OF IT
        72d3162e-cc78  pull_request  demo/hello  #7   processed  1 min ago  1 run, 2 jobs
        72d3162e-cc78  pull_request  demo/hello  #7   received   1 min ago  try 3 in 30 s: the forge did not answer
        72d3162e-cc78  pull_request  demo/hello  #7   failed     1 min ago  commit 4f2a of demo/hello cannot be read
        ");
        insta::assert_snapshot!(deliveries.map(|delivery| described(&delivery, 60_000)).join("\n"), @"
        github/72d3162e-cc78 pull_request of demo/hello #7, received 1 min ago: processed
          1 run, 2 jobs
          run-0 CI #7 of demo/hello at 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0
        github/72d3162e-cc78 pull_request of demo/hello #7, received 1 min ago: received
          try 3 in 30 s: the forge did not answer
        github/72d3162e-cc78 pull_request of demo/hello #7, received 1 min ago: failed
          commit 4f2a of demo/hello cannot be read
          hint: the credential needs to read `contents`
        ");
    }
}

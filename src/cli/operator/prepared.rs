//! `dayfly prepared`: what is installed once for many jobs.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use futures::TryStreamExt;
use serde::Deserialize;

use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::Query;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Look, Style, one_line};
use crate::cli::{say, say_bytes};
use crate::clock::{ago, now_ms};

/// Digits of a key that people are shown.
const SHORT: usize = 12;

const EXAMPLES: &str = "\
Jobs whose commits have the same key files start from the snapshot of that key; `dayfly why JOB` says from what one started.

Examples:
  dayfly prepared show 3f8c20aa1b9e --log      what its preparation wrote
  dayfly prepared gc --dry-run
  dayfly prepared list --json | jq '[.prepared[].bytes] | add'";

/// What is prepared for jobs: list, show, remove
#[derive(Debug, Subcommand)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) enum PreparedCommand {
    /// List prepared snapshots, and those that are to be made
    List(ListArgs),
    /// Show one, or the log of its preparation
    Show(ShowArgs),
    /// Remove one; it is made again after the next push to the default branch
    Rm(RmArgs),
    /// Remove what is too old or too much, as the service does each minute
    Gc(GcArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The key; any beginning of at least 4 digits that no other has will do
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    key: String,
    /// Print what the last try to make it wrote
    #[arg(long, conflicts_with = "json")]
    log: bool,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The key; any beginning of at least 4 digits that no other has will do
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    key: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GcArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct Listing {
    prepared: Vec<Prepared>,
    problems: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    repo: String,
    sha: String,
    detail: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Prepared {
    hash: String,
    kind: String,
    repo: String,
    profile: String,
    sha: String,
    state: String,
    is_current: bool,
    image: Option<String>,
    bytes: Option<u64>,
    made_at: Option<i64>,
    used_at: Option<i64>,
    hits: u64,
    all_hits: u64,
    all_misses: u64,
    wish: Option<Wish>,
}

#[derive(Debug, Clone, Deserialize)]
struct Wish {
    key: Vec<String>,
    run: String,
    tries: u32,
    detail: String,
    next_try_at: i64,
}

#[derive(Debug, Deserialize)]
struct Collected {
    removed: Vec<Gone>,
}

#[derive(Debug, Deserialize)]
struct Gone {
    hash: String,
    repo: String,
    profile: String,
    bytes: u64,
}

pub(super) async fn run(command: PreparedCommand) -> anyhow::Result<u8> {
    match command {
        PreparedCommand::List(arguments) => list(arguments).await?,
        PreparedCommand::Show(arguments) => show(arguments).await?,
        PreparedCommand::Rm(RmArgs { service, key }) => {
            service.client()?.post(Query::of(&["prepared", &key, "remove"]), None).await?;
            say(format!("{} is removed", one_line(&key)))?;
        }
        PreparedCommand::Gc(arguments) => gc(arguments).await?,
    }
    Ok(0)
}

async fn list(arguments: ListArgs) -> anyhow::Result<()> {
    let answer = arguments.service.client()?.get(Query::of(&["prepared"])).await?;
    if arguments.json {
        return print_json(&answer);
    }
    let Listing { prepared, problems } = read(answer)?;
    for Problem { repo, sha, detail } in &problems {
        eprintln!("warning: {} at {}: {}", one_line(repo), short(sha), harmless(detail));
    }
    if prepared.is_empty() {
        eprintln!("nothing is prepared; `prepare` in a profile or in a repository says what shall be");
        return Ok(());
    }
    Ok(say(table(&prepared, now_ms()).render(Look::of_stdout()))?)
}

fn table(prepared: &[Prepared], now: i64) -> Table<9> {
    let headings = ["KEY", "WHAT", "REPOSITORY", "PROFILE", "COMMIT", "STATE", "AGE", "SIZE", "HITS"];
    let mut table = Table::new(headings, &[2]);
    for one in prepared {
        table.row([
            short(&one.hash).into(),
            (&one.kind).into(),
            (&one.repo).into(),
            (&one.profile).into(),
            short(&one.sha).into(),
            state(one),
            one.made_at.map(|at| ago(now, at)).unwrap_or_default().into(),
            one.bytes.map(mib).unwrap_or_default().into(),
            hits(one).into(),
        ]);
    }
    table
}

/// Older ones may be of use to pull requests that began before the key files changed.
fn state(one: &Prepared) -> Cell {
    match one.state.as_str() {
        "ready" if one.is_current => Cell::styled("ready", Style::GREEN),
        "ready" => "older".into(),
        "failed" => Cell::styled("failed", Style::RED),
        other => other.into(),
    }
}

/// How often it was used, and the share of all jobs of the repository and profile that found something.
fn hits(one: &Prepared) -> String {
    match one.all_hits + one.all_misses {
        0 => String::new(),
        all => format!("{} ({} %)", one.hits, one.all_hits * 100 / all),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHORT)]
}

/// Text of others on several lines, without what a terminal would obey.
fn harmless(text: &str) -> String {
    text.lines().map(one_line).collect::<Vec<_>>().join("\n  ")
}

async fn show(arguments: ShowArgs) -> anyhow::Result<()> {
    let client = arguments.service.client()?;
    if arguments.log {
        let mut chunks = std::pin::pin!(client.stream(Query::of(&["prepared", &arguments.key, "log"])).await?);
        while let Some(chunk) = chunks.try_next().await? {
            say_bytes(&chunk)?;
        }
        return Ok(());
    }
    let answer = client.get(Query::of(&["prepared", &arguments.key])).await?;
    if arguments.json {
        return print_json(&answer);
    }
    Ok(say(described(&read(answer)?, now_ms()))?)
}

fn described(one: &Prepared, now: i64) -> String {
    let mut lines = vec![
        ("key", one.hash.clone()),
        ("what", one.kind.clone()),
        ("repository", one.repo.clone()),
        ("profile", one.profile.clone()),
        ("commit", one.sha.clone()),
        (
            "state",
            if one.state == "ready" && !one.is_current {
                "ready, of older key files".to_owned()
            } else {
                one.state.clone()
            },
        ),
    ];
    let mut add = |name, text: Option<String>| lines.extend(text.map(|text| (name, text)));
    add("image", one.image.clone());
    add("size", one.bytes.map(mib));
    add("made", one.made_at.map(|at| ago(now, at)));
    add("used", one.used_at.filter(|_| one.hits > 0).map(|at| ago(now, at)));
    add("hits", Some(hits(one)).filter(|text| !text.is_empty()));
    if let Some(wish) = &one.wish {
        add("key files", Some(wish.key.join(", ")));
        add("run", Some(wish.run.clone()));
        add("tries", (wish.tries > 0).then(|| wish.tries.to_string()));
        add("last try", Some(wish.detail.clone()).filter(|detail| !detail.is_empty()));
        let is_later = one.state == "wanted" && wish.next_try_at > now;
        add("next try", is_later.then(|| format!("in {}", crate::clock::span(wish.next_try_at - now))));
    }
    lines.iter().map(|(name, text)| format!("{name:<11} {}", harmless(text))).collect::<Vec<_>>().join("\n")
}

async fn gc(arguments: GcArgs) -> anyhow::Result<()> {
    let query = Query::of(&["prepared", "gc"]).with("dry_run", arguments.dry_run);
    let answer = arguments.service.client()?.post(query, None).await?;
    if arguments.json {
        return print_json(&answer);
    }
    let Collected { removed } = read(answer)?;
    let done = if arguments.dry_run { "would be removed" } else { "removed" };
    for Gone { hash, repo, profile, bytes } in &removed {
        say(format!("{} of {} on {}, {}, {done}", short(hash), one_line(repo), one_line(profile), mib(*bytes)))?;
    }
    let bytes = removed.iter().map(|gone| gone.bytes).sum();
    Ok(say(format!("{} {done}, {}", removed.len(), mib(bytes)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared() -> [Prepared; 3] {
        let ready = Prepared {
            hash: "3f8c20aa1b9e77d0".repeat(2),
            kind: "snapshot".into(),
            repo: "demo/hello".into(),
            profile: "linux".into(),
            sha: "a".repeat(40),
            state: "ready".into(),
            is_current: true,
            image: Some("base".into()),
            bytes: Some(300 << 20),
            made_at: Some(0),
            used_at: Some(50_000),
            hits: 6,
            all_hits: 8,
            all_misses: 2,
            wish: None,
        };
        let older = Prepared { hash: "b".repeat(32), is_current: false, hits: 2, ..ready.clone() };
        let wish = Wish {
            key: vec!["a.lock".into(), "web/b.lock".into()],
            run: "make deps\nmake \x1b[2Jmore".into(),
            tries: 2,
            detail: "Step 2 `Prepare`: the step ended with exit code 1".into(),
            next_try_at: 161_000,
        };
        let failed = Prepared {
            profile: "big".into(),
            state: "wanted".into(),
            image: None,
            bytes: None,
            made_at: None,
            used_at: None,
            hits: 0,
            all_hits: 0,
            all_misses: 0,
            wish: Some(wish),
            ..ready.clone()
        };
        [failed, ready, older]
    }

    #[test]
    fn prepared_snapshots_are_a_table() {
        let plain = Look { is_terminal: false, has_colours: false, width: None };
        insta::assert_snapshot!(table(&prepared(), 61_000).render(plain), @"
        KEY           WHAT      REPOSITORY  PROFILE  COMMIT        STATE   AGE        SIZE     HITS
        3f8c20aa1b9e  snapshot  demo/hello  big      aaaaaaaaaaaa  wanted
        3f8c20aa1b9e  snapshot  demo/hello  linux    aaaaaaaaaaaa  ready   1 min ago  300 MiB  6 (80 %)
        bbbbbbbbbbbb  snapshot  demo/hello  linux    aaaaaaaaaaaa  older   1 min ago  300 MiB  2 (80 %)
        ");
    }

    #[test]
    fn one_is_told_with_how_it_is_made() {
        insta::assert_snapshot!(described(&prepared()[0], 61_000), @"
        key         3f8c20aa1b9e77d03f8c20aa1b9e77d0
        what        snapshot
        repository  demo/hello
        profile     big
        commit      aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        state       wanted
        key files   a.lock, web/b.lock
        run         make deps
          make more
        tries       2
        last try    Step 2 `Prepare`: the step ended with exit code 1
        next try    in 1 min
        ");
        insta::assert_snapshot!(described(&prepared()[2], 61_000), @"
        key         bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
        what        snapshot
        repository  demo/hello
        profile     linux
        commit      aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        state       ready, of older key files
        image       base
        size        300 MiB
        made        1 min ago
        used        11 s ago
        hits        2 (80 %)
        ");
    }
}

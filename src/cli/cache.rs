//! `dayfly cache`: the generations of named caches.
//!
//! Works on the state directory, whether or not a service runs: who uses a generation holds a lock that every process sees.

mod choose;
mod views;

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};

use self::choose::chosen;
use super::{EXIT_REFUSED, EXIT_USAGE, parse_duration, say};
use crate::caches::{CacheError, CacheId, Caches, Generation, Retention};
use crate::config::{Config, DEFAULT_RETENTION, parse_size};

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 refused, because it is in use or damaged; 64 wrong usage or a `--config` that does not read; 69 there is no \
such cache, or something failed.";

const NAMES: &str = "\
A cache is called REPOSITORY:PROFILE/NAME, as `dayfly cache list` shows it. Any end of that will do which no other cache has: \
`linux/deps`, or `deps`.";

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// List generations: what each is for, what it takes, when it was used last
    #[command(after_long_help = EXIT_CODES)]
    List(ListArgs),
    /// Show the generations of one cache with their producers and digests
    #[command(after_long_help = format!("{NAMES}\n\n{EXIT_CODES}"))]
    Show(ShowArgs),
    /// Remove generations of one cache; a job that runs keeps what it has
    #[command(after_long_help = format!("{NAMES}\n\n{EXIT_CODES}"))]
    Rm(RmArgs),
    /// Remove what the configuration does not keep, and what was left half-way
    #[command(after_long_help = EXIT_CODES)]
    Gc(GcArgs),
}

/// Whose caches.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// The state directory
    #[arg(long, env = "DAYFLY_STATE_DIR", default_value = "/var/lib/dayfly")]
    state_dir: PathBuf,
    /// The configuration whose state directory and `[caches]` count, instead of --state-dir
    #[arg(long, short)]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON: an array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON: an array
    #[arg(long)]
    json: bool,
    /// Read each volume and compare it with its digest
    #[arg(long)]
    verify: bool,
    /// The cache
    cache: String,
}

#[derive(Debug, Args)]
pub(super) struct RmArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only this generation; may be given several times
    #[arg(long = "generation", value_name = "NUMBER")]
    generations: Vec<u64>,
    /// Also what a VM uses, or is just starting with
    #[arg(long)]
    force: bool,
    /// The cache
    cache: String,
}

#[derive(Debug, Args)]
pub(super) struct GcArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Generations to keep of each cache
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    keep: Option<u32>,
    /// What all of them may take (such as `20GiB`)
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    max_size: Option<u64>,
    /// How long one is kept that no job starts with (such as 14d)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_age: Option<std::time::Duration>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|complaint| complaint.to_string())
}

/// What the arguments of a command name.
struct Place {
    caches: Caches,
    retention: Retention,
}

impl PlaceArgs {
    /// `None` after the mistakes of a configuration were printed.
    fn open(&self) -> Option<Place> {
        let Some(file) = &self.config else {
            return Some(Place { caches: Caches::new(&self.state_dir), retention: DEFAULT_RETENTION });
        };
        match Config::load(file) {
            Ok((config, _)) => Some(Place { caches: Caches::new(&config.server.state_dir), retention: config.caches }),
            Err(errors) => {
                errors.iter().for_each(|error| eprintln!("error: {error}"));
                None
            }
        }
    }
}

pub(super) async fn run(command: CacheCommand) -> anyhow::Result<u8> {
    let place = match &command {
        CacheCommand::List(ListArgs { place, .. })
        | CacheCommand::Show(ShowArgs { place, .. })
        | CacheCommand::Rm(RmArgs { place, .. })
        | CacheCommand::Gc(GcArgs { place, .. }) => place.open(),
    };
    let Some(place) = place else { return Ok(EXIT_USAGE) };
    match command {
        CacheCommand::List(ListArgs { json, .. }) => list(&place, json),
        CacheCommand::Show(arguments) => show(&place, &arguments),
        CacheCommand::Rm(arguments) => remove(&place, &arguments),
        CacheCommand::Gc(arguments) => collect(&place, &arguments).await,
    }
}

fn list(place: &Place, json: bool) -> anyhow::Result<u8> {
    let all = place.caches.list()?;
    match () {
        () if json => say(views::json(&all)?)?,
        () if all.is_empty() => eprintln!("no caches"),
        () => say(views::table(&all))?,
    }
    Ok(0)
}

fn show(place: &Place, arguments: &ShowArgs) -> anyhow::Result<u8> {
    let (_, generations) = find(place, &arguments.cache)?;
    if arguments.json {
        say(views::json(&generations)?)?;
    } else {
        say(generations.iter().map(views::details).collect::<Vec<_>>().join("\n\n"))?;
    }
    if !arguments.verify {
        return Ok(0);
    }
    let mut code = 0;
    for generation in &generations {
        let number = generation.info.number;
        if generation.is_whole()? {
            eprintln!("generation {number} has its digest");
        } else {
            eprintln!(
                "error: generation {number} is damaged\n  hint: remove it with `dayfly cache rm --generation {number}`"
            );
            code = EXIT_REFUSED;
        }
    }
    Ok(code)
}

fn remove(place: &Place, arguments: &RmArgs) -> anyhow::Result<u8> {
    let (cache, mut generations) = find(place, &arguments.cache)?;
    for number in &arguments.generations {
        if !generations.iter().any(|generation| generation.info.number == *number) {
            bail!("the cache `{cache}` has no generation {number}\n  hint: `dayfly cache show {cache}` lists them");
        }
    }
    generations.retain(|one| arguments.generations.is_empty() || arguments.generations.contains(&one.info.number));
    let mut code = 0;
    for generation in &generations {
        match place.caches.remove(generation, arguments.force) {
            Ok(()) => say(format!("generation {} of `{cache}` is removed", generation.info.number))?,
            Err(error @ CacheError::InUse { .. }) => {
                eprintln!("error: {error}");
                code = EXIT_REFUSED;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(code)
}

async fn collect(place: &Place, arguments: &GcArgs) -> anyhow::Result<u8> {
    let retention = Retention {
        keep: arguments.keep.unwrap_or(place.retention.keep),
        max_size: arguments.max_size.unwrap_or(place.retention.max_size),
        max_age: arguments.max_age.unwrap_or(place.retention.max_age),
    };
    let gone =
        if arguments.dry_run { place.caches.superfluous(&retention)? } else { place.caches.collect(retention).await? };
    for generation in &gone {
        say(format!("generation {} of `{}`", generation.info.number, generation.info.cache))?;
    }
    let bytes: u64 = gone.iter().map(|generation| generation.info.bytes).sum();
    let verb = if arguments.dry_run { "would go" } else { "removed" };
    say(format!("{} {verb}, {}", views::counted(gone.len()), views::size(bytes)))?;
    Ok(0)
}

/// The one cache that `name` means, and its generations, the newest last.
fn find(place: &Place, name: &str) -> anyhow::Result<(CacheId, Vec<Generation>)> {
    let all = place.caches.list()?;
    let names: Vec<&CacheId> = all.iter().map(|generation| &generation.info.cache).collect();
    let cache = chosen(&names, name).map_err(|complaint| anyhow!(complaint))?.clone();
    let generations = all.into_iter().filter(|generation| generation.info.cache == cache).collect();
    Ok((cache, generations))
}

//! `dayfly artifact`: what the jobs of a run left for people.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use futures::TryStreamExt as _;
use serde::Deserialize;
use tempfile::NamedTempFile;

use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::{Client, Query};
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Look, one_line};
use crate::cli::{say, say_bytes};
use crate::clock::{ago, now_ms, span};
use crate::config::rough_size;
use crate::core::heavy;
use crate::depot::unpack;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ArtifactCommand {
    /// List the artifacts of a job's run
    List(ListArgs),
    /// Save an artifact, or unpack it
    Download(DownloadArgs),
    /// Remove artifacts of a job's run
    Rm(RemoveArgs),
}

const LIST_EXAMPLES: &str = "\
Artifacts belong to the run: any of its jobs will do, and a job that was run again still has those of before.

Examples:
  dayfly artifact list job-3f8k0d
  dayfly artifact list 3f8k0d --json | jq -r '.[].name'";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{LIST_EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The id of a job of the run; any beginning of at least 4 letters that no other job has will do
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    job: String,
    /// Print the API's JSON: an array of objects
    #[arg(long)]
    json: bool,
}

const DOWNLOAD_EXAMPLES: &str = "\
Without --extract the stored file is saved, usually a zip archive. Only whole files appear.

Examples:
  dayfly artifact download 3f8k0d dist
  dayfly artifact download 3f8k0d dist --extract ./dist
  dayfly artifact download 3f8k0d dist --output - | sha256sum";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{DOWNLOAD_EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct DownloadArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The id of a job of the run, or a beginning of it
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    job: String,
    /// The artifact's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Save it as this file; `-` is standard output [default: its name, here]
    #[arg(long, short, value_name = "FILE", conflicts_with = "extract")]
    output: Option<PathBuf>,
    /// Unpack it into this directory, which is made if it is absent; files of the same names are replaced
    #[arg(long, value_name = "DIR")]
    extract: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_long_help = format!("Example:\n  dayfly artifact rm 3f8k0d dist logs\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct RemoveArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The id of a job of the run, or a beginning of it
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    job: String,
    /// The artifacts' names
    #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    names: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ArtifactView {
    name: String,
    job: String,
    size: u64,
    sha256: String,
    file: String,
    is_archive: bool,
    created_at: i64,
    expires_at: i64,
}

pub(super) async fn run(command: ArtifactCommand) -> anyhow::Result<u8> {
    match command {
        ArtifactCommand::List(arguments) => list(arguments).await,
        ArtifactCommand::Download(arguments) => download(arguments).await,
        ArtifactCommand::Rm(arguments) => remove(arguments).await,
    }
}

async fn list(arguments: ListArgs) -> anyhow::Result<u8> {
    let answer = arguments.service.client()?.get(Query::of(&["jobs", &arguments.job, "artifacts"])).await?;
    if arguments.json {
        return print_json(&answer).map(|()| 0);
    }
    let artifacts: Vec<ArtifactView> = read(answer)?;
    if artifacts.is_empty() {
        eprintln!("this run has no artifacts");
        return Ok(0);
    }
    say(table(&artifacts, now_ms()).render(Look::of_stdout()))?;
    Ok(0)
}

fn table(artifacts: &[ArtifactView], now: i64) -> Table<6> {
    let mut table = Table::new(["NAME", "SIZE", "JOB", "CREATED", "EXPIRES", "SHA256"], &[0, 2]);
    for artifact in artifacts {
        table.row([
            Cell::from(one_line(&artifact.name)),
            rough_size(artifact.size).into(),
            one_line(&artifact.job).into(),
            ago(now, artifact.created_at).into(),
            format!("in {}", span(artifact.expires_at - now)).into(),
            artifact.sha256.chars().take(12).collect::<String>().into(),
        ]);
    }
    table
}

async fn download(arguments: DownloadArgs) -> anyhow::Result<u8> {
    let client = arguments.service.client()?;
    let (job, name) = (arguments.job.as_str(), arguments.name.as_str());
    if arguments.output.as_deref() == Some(Path::new("-")) {
        let mut content = Box::pin(client.stream(Query::of(&["jobs", job, "artifacts", name])).await?);
        while let Some(chunk) = content.try_next().await? {
            say_bytes(&chunk)?;
        }
        return Ok(0);
    }
    let listed: Vec<ArtifactView> = read(client.get(Query::of(&["jobs", job, "artifacts"])).await?)?;
    let known = listed.into_iter().find(|artifact| artifact.name == name);
    if let Some(into) = &arguments.extract {
        std::fs::create_dir_all(into).with_context(|| format!("the directory `{}`", into.display()))?;
        let saved = save(&client, job, name, into).await?;
        if !known.as_ref().is_none_or(|artifact| artifact.is_archive) {
            let file = into.join(known.map_or_else(|| name.to_owned(), |artifact| artifact.file));
            keep(saved, &file)?;
            return Ok(0);
        }
        let files = heavy(|| unpack::unpack(saved.reopen()?, into).map_err(anyhow::Error::from))
            .with_context(|| format!("the artifact `{name}`"))?;
        say(format!("{files} files in {}", into.display()))?;
        return Ok(0);
    }
    let file =
        arguments.output.unwrap_or_else(|| known.map_or_else(|| name.to_owned(), |artifact| artifact.file).into());
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    keep(save(&client, job, name, parent).await?, &file)?;
    Ok(0)
}

/// Saves the stored file beside where it will be.
async fn save(client: &Client, job: &str, name: &str, beside: &Path) -> anyhow::Result<NamedTempFile> {
    let mut content = Box::pin(client.stream(Query::of(&["jobs", job, "artifacts", name])).await?);
    let mut file = NamedTempFile::new_in(beside).with_context(|| format!("a file in `{}`", beside.display()))?;
    while let Some(chunk) = content.try_next().await? {
        file.write_all(&chunk).with_context(|| format!("a file in `{}`", beside.display()))?;
    }
    Ok(file)
}

fn keep(saved: NamedTempFile, file: &Path) -> anyhow::Result<()> {
    if file.is_dir() {
        bail!("`{}` is a directory\n  hint: --extract unpacks into one", file.display());
    }
    saved.persist(file).with_context(|| format!("the file `{}`", file.display()))?;
    Ok(say(file.display())?)
}

async fn remove(arguments: RemoveArgs) -> anyhow::Result<u8> {
    let client = arguments.service.client()?;
    for name in &arguments.names {
        client.post(Query::of(&["jobs", &arguments.job, "artifacts", name, "remove"]), None).await?;
        say(format!("{} is removed", one_line(name)))?;
    }
    Ok(0)
}

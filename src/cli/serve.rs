//! `dayfly serve`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tracing_subscriber::EnvFilter;

use super::EXIT_USAGE;
use crate::app::App;
use crate::config::{Config, LogFormat, Secrets};
use crate::document::Diagnostic;
use crate::lifecycle;
use crate::shutdown::Shutdown;

const HELP: &str = "\
The service runs until SIGTERM or SIGINT: then jobs that run get the time of `limits.drain` to end, and a second signal takes it
from them. What it needs to know is in the configuration; `dayfly config check` finds its mistakes. Its log goes to standard
error. `dayfly jobs` and the other commands of a running service look into it.

For tests, DAYFLY_FAULT=kill@STEP (or hold@, fail@) disturbs it at a step of a job's life: docs/starts-and-stops.md.

Exit codes: 0 stopped; 64 the configuration has mistakes; 69 something that it needs is missing.";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct ServeArgs {
    /// The configuration
    #[arg(long, short, default_value = "/etc/dayfly/dayfly.toml")]
    config: PathBuf,
}

pub(super) async fn run(arguments: ServeArgs) -> anyhow::Result<u8> {
    let (config, secrets, warnings) = match load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors {
                eprintln!("error: {error}");
            }
            return Ok(EXIT_USAGE);
        }
    };
    let fault = match lifecycle::from_environment() {
        Ok(fault) => fault,
        Err(error) => {
            eprintln!("error: {}: {error}", lifecycle::VARIABLE);
            return Ok(EXIT_USAGE);
        }
    };
    start_log(&config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let shutdown = Shutdown::on_signals().context("waiting for signals")?;
    let app = App::open(config, secrets, shutdown, fault).await?;
    if let Some(address) = app.metrics_address()? {
        tracing::info!(%address, "serving metrics");
    }
    tracing::info!(address = %app.address()?, "serving");
    app.run().await?;
    Ok(0)
}

fn load(path: &std::path::Path) -> Result<(Config, Secrets, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (config, mut warnings) = Config::load(path)?;
    let (secrets, more) = Secrets::resolve(&config, |name| std::env::var(name).ok())?;
    warnings.extend(more);
    Ok((config, secrets, warnings))
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log.filter).context("`log.filter`")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match config.log.format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

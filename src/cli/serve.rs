//! `dayfly serve`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::EXIT_USAGE;
use crate::app::App;
use crate::config::{Config, LogFormat, Secrets};
use crate::document::Diagnostic;

const HELP: &str = "\
The service runs until SIGTERM or SIGINT. What it needs to know is in the configuration; `dayfly config check` finds its mistakes.
Its log goes to standard error. `dayfly jobs` and the other commands of a running service look into it.

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
    start_log(&config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    let app = App::open(config, secrets).await?;
    tracing::info!(address = %app.address()?, "serving");
    app.run(stop).await?;
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

async fn stop_on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be waited for");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
}

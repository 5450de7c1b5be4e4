//! A small GitHub on this machine, to try Dayfly without an account.
//!
//! ```text
//! cargo run --example local-forge -- --repo demo/hello --webhook http://127.0.0.1:8080/webhooks/github --secret-file secret
//! ```
//!
//! It prints one line of JSON with its addresses and credentials, which is all that Dayfly's configuration needs. Then open
//! a pull request:
//!
//! ```text
//! curl -d '{"files": {".dayfly/workflows/ci.yml": "…"}}' -H 'content-type: application/json' URL/_control/pull-requests
//! ```
//!
//! `control.rs` has the other things that people do: comment, push, close, press "Re-run". With `"lost": true` the webhook does
//! not arrive.

mod control;
mod forge;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use forge::{APP_PRIVATE_KEY, Forge, Options, Webhook};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(name = "local-forge", about = "A small GitHub on this machine, to try Dayfly without an account")]
struct Arguments {
    /// Where to listen; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The repository to create, with one commit on `main`
    #[arg(long, default_value = "demo/hello")]
    repo: String,
    /// Where deliveries go
    #[arg(long)]
    webhook: String,
    /// A file with the secret that signs deliveries
    #[arg(long)]
    secret_file: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let secret = std::fs::read_to_string(&arguments.secret_file)
        .with_context(|| format!("reading the secret from `{}`", arguments.secret_file.display()))?;
    let options = Options { listen: arguments.listen, ..Options::default() };
    let repository = arguments.repo.clone();
    let forge = Forge::start_with(options, |forge| control::router(forge.clone(), repository))
        .await
        .with_context(|| format!("listening on `{}`", arguments.listen))?;
    forge.set_webhook(Webhook { url: arguments.webhook, secret: secret.trim_end().to_owned() });
    forge.create_repository(&arguments.repo).await?;
    forge.commit(&arguments.repo, "main", &[("README.md", "# Hello\n")], "Begin").await?;

    let credentials = tempfile::Builder::new().prefix("local-forge-credentials-").tempdir()?;
    let token_file = private_file(credentials.path(), "token", &forge.plain_token())?;
    let app_key_file = private_file(credentials.path(), "app.pem", APP_PRIVATE_KEY)?;
    let introduction = json!({
        "url": forge.url(), "api_url": forge.api_url(), "repository": arguments.repo, "token_file": token_file,
        "app_id": forge.app_id(), "installation": forge.installation(), "app_key_file": app_key_file,
    });
    writeln!(io::stdout(), "{introduction}")?;
    // The temporary directories go with the end of this function, so a signal has to arrive here.
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Writes a file that only its owner may read.
fn private_file(directory: &Path, name: &str, content: &str) -> io::Result<PathBuf> {
    let path = directory.join(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(content.as_bytes())?;
    Ok(path)
}

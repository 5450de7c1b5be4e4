//! The commands that ask a running service, over its control socket.

mod approve;
mod artifact;
mod deliveries;
mod dispatch;
mod egress;
mod job;
mod jobs;
mod logs;
mod prepared;
mod runners;
mod views;
mod vms;
mod why;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::{EXIT_USAGE, say};
use crate::config::Config;

/// Where the service listens for these commands, unless it is said.
const DEFAULT_SOCKET: &str = "/var/lib/dayfly/control.sock";

/// How every command of a running service ends; each one's `--help` shows it.
const EXIT_CODES: &str = "Exit codes: 0 done; 1 the service refused it (no such job, ambiguous, already ended); 64 wrong usage; \
                          69 no service answers; 77 the socket may not be opened.";

#[derive(Debug, Subcommand)]
pub(super) enum OperatorCommand {
    /// List jobs, latest first
    Jobs(jobs::JobsArgs),
    /// Show one job with everything that happened to it
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Print a job's log, or follow it
    Logs(logs::LogsArgs),
    /// Tell why a job does not run, what it is at, or why it ended so
    Why(why::WhyArgs),
    /// Show what a job reached of other hosts, and what it was refused
    Egress(egress::EgressArgs),
    /// Artifacts of a run: list, download, remove
    #[command(subcommand)]
    Artifact(artifact::ArtifactCommand),
    /// List the VMs of running jobs
    Vms(vms::VmsArgs),
    /// List GitHub's own jobs that wait, and the VMs with GitHub's runner
    Runners(runners::RunnersArgs),
    /// List received webhooks, or process one again
    Deliveries(deliveries::DeliveriesArgs),
    /// What is prepared for jobs: list, show, remove
    #[command(subcommand)]
    Prepared(prepared::PreparedCommand),
    /// End jobs
    Cancel(job::CancelArgs),
    /// Run a job again
    Rerun(job::RerunArgs),
    /// Run a commit of a fork's pull request that is held
    Approve(approve::ApproveArgs),
    /// Start a workflow by hand, with inputs
    Dispatch(dispatch::DispatchArgs),
}

/// Which service.
#[derive(Debug, Args)]
struct ServiceArgs {
    /// The service's control socket
    #[arg(long, env = "DAYFLY_SOCKET", value_name = "PATH", default_value = DEFAULT_SOCKET, help_heading = "Which service")]
    socket: PathBuf,
    /// The service's configuration: its socket is in the `state_dir` of this file, whatever --socket says
    #[arg(long, value_name = "FILE", help_heading = "Which service")]
    config: Option<PathBuf>,
}

/// The configuration that should say where the socket is cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadConfig(String);

impl ServiceArgs {
    fn client(&self) -> Result<Client, BadConfig> {
        let Some(file) = &self.config else { return Ok(Client::new(&self.socket)) };
        match Config::load(file) {
            Ok((config, _)) => Ok(Client::new(&config.server.control_socket())),
            Err(errors) => {
                let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Err(BadConfig(lines.join("\nerror: ")))
            }
        }
    }
}

pub(super) async fn run(command: OperatorCommand) -> anyhow::Result<u8> {
    let done = match command {
        OperatorCommand::Jobs(arguments) => jobs::run(arguments).await,
        OperatorCommand::Job(job::JobCommand::Show(arguments)) => job::show(arguments).await,
        OperatorCommand::Logs(arguments) => logs::run(arguments).await,
        OperatorCommand::Why(arguments) => why::run(arguments).await,
        OperatorCommand::Egress(arguments) => egress::run(arguments).await,
        OperatorCommand::Artifact(command) => artifact::run(command).await,
        OperatorCommand::Vms(arguments) => vms::run(arguments).await,
        OperatorCommand::Runners(arguments) => runners::run(arguments).await,
        OperatorCommand::Deliveries(arguments) => deliveries::run(arguments).await,
        OperatorCommand::Prepared(command) => prepared::run(command).await,
        OperatorCommand::Cancel(arguments) => job::cancel(arguments).await,
        OperatorCommand::Rerun(arguments) => job::rerun(arguments).await,
        OperatorCommand::Approve(arguments) => approve::run(arguments).await,
        OperatorCommand::Dispatch(arguments) => dispatch::run(arguments).await,
    };
    let Err(error) = done else { return done };
    let code = match (error.downcast_ref::<ClientError>(), error.downcast_ref::<BadConfig>()) {
        (Some(refused), _) => refused.exit_code(),
        (None, Some(_)) => EXIT_USAGE,
        (None, None) => return Err(error),
    };
    eprintln!("error: {error}");
    Ok(code)
}

/// An answer in the form that this program knows.
fn read<T: DeserializeOwned>(answer: Value) -> Result<T, ClientError> {
    serde_json::from_value(answer).map_err(|error| ClientError::Unreadable(error.to_string()))
}

/// Prints an answer as it came. Control characters that JSON allows in texts are escaped, for the sake of terminals.
fn print_json(answer: &Value) -> anyhow::Result<()> {
    let mut text = String::new();
    for c in serde_json::to_string_pretty(answer)?.chars() {
        match c {
            '\n' => text.push('\n'),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    Ok(say(text)?)
}

//! `dayfly runners`.

use clap::Args;

use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::Query;
use crate::cli::say;
use crate::cli::table::Table;
use crate::cli::terminal::Look;
use crate::clock::{ago, now_ms};
use crate::runners::view::{MachineView, RunnersView, WaitingView};

const EXAMPLES: &str = "\
First the jobs of GitHub's own workflows that wait for a runner of this service, then the VMs with GitHub's runner. GitHub gives a
job to any runner that has its labels, so no VM is for a certain job. WHY says what keeps a job from having a VM.

Example:
  dayfly runners --json | jq '.machines | map(select(.state == \"idle\")) | length'";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct RunnersArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Print the API's JSON: an object with `jobs` and `machines`
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: RunnersArgs) -> anyhow::Result<u8> {
    let answer = arguments.service.client()?.get(Query::of(&["runners"])).await?;
    if arguments.json {
        return print_json(&answer).map(|()| 0);
    }
    let RunnersView { jobs, machines } = read(answer)?;
    if jobs.is_empty() && machines.is_empty() {
        eprintln!("no job of GitHub's waits, and there is no runner");
        return Ok(0);
    }
    let now = now_ms();
    if !jobs.is_empty() {
        say(waiting(&jobs, now).render(Look::of_stdout()))?;
    }
    if !jobs.is_empty() && !machines.is_empty() {
        say("")?;
    }
    if !machines.is_empty() {
        say(there(&machines, now).render(Look::of_stdout()))?;
    }
    Ok(0)
}

fn waiting(jobs: &[WaitingView], now: i64) -> Table<6> {
    let mut table = Table::new(["WAITS", "NAME", "REPOSITORY", "PROFILE", "SINCE", "WHY"], &[1, 5]);
    for job in jobs {
        table.row([
            job.id.to_string().into(),
            (&job.name).into(),
            (&job.repo).into(),
            (&job.profile).into(),
            ago(now, job.seen_at).into(),
            job.why.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

fn there(machines: &[MachineView], now: i64) -> Table<6> {
    let mut table = Table::new(["RUNNER", "STATE", "JOB", "PROFILE", "PLACE", "SINCE"], &[0, 4]);
    for machine in machines {
        table.row([
            machine.runner.as_deref().unwrap_or("-").into(),
            (&machine.state).into(),
            (&machine.job).into(),
            (&machine.profile).into(),
            (&machine.place).into(),
            ago(now, machine.created_at).into(),
        ]);
    }
    table
}

//! `dayfly vms`.

use clap::Args;

use super::views::{VmView, short_length, shortened};
use super::{EXIT_CODES, ServiceArgs, print_json, read};
use crate::cli::client::Query;
use crate::cli::say;
use crate::cli::table::Table;
use crate::cli::terminal::Look;
use crate::clock::{ago, now_ms};

const EXAMPLES: &str = "\
A VM is listed until its absence is verified: process, cgroup, sockets and files. VMs of standalone commands (`dayfly exec`,
`dayfly run`) belong to those and are not listed.

Example:
  dayfly vms --json | jq 'map(.memory_mib) | add'";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct VmsArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Print the API's JSON: an array
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: VmsArgs) -> anyhow::Result<u8> {
    let answer = arguments.service.client()?.get(Query::of(&["vms"])).await?;
    if arguments.json {
        return print_json(&answer).map(|()| 0);
    }
    let vms: Vec<VmView> = read(answer)?;
    if vms.is_empty() {
        eprintln!("no VMs");
        return Ok(0);
    }
    say(table(&vms, now_ms()).render(Look::of_stdout()))?;
    Ok(0)
}

fn table(vms: &[VmView], now: i64) -> Table<8> {
    let length = short_length(vms.iter().map(|vm| vm.job.as_str()));
    let mut table = Table::new(["VM", "STATE", "JOB", "NAME", "REPOSITORY", "PROFILE", "SIZE", "CREATED"], &[3, 4]);
    for vm in vms {
        let attempt = if vm.attempt > 1 { format!(" ({})", vm.attempt) } else { String::new() };
        let size = vm.vcpus.zip(vm.memory_mib).map(|(vcpus, memory)| format!("{vcpus} vCPU, {memory} MiB"));
        table.row([
            (&vm.id).into(),
            (&vm.state).into(),
            format!("{}{attempt}", shortened(&vm.job, length)).into(),
            vm.job_name.as_deref().unwrap_or_default().into(),
            vm.repo.as_deref().unwrap_or_default().into(),
            vm.profile.as_deref().unwrap_or_default().into(),
            size.unwrap_or_default().into(),
            ago(now, vm.created_at).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vms_are_a_table() {
        let vm = |attempt, profile: Option<&str>| VmView {
            id: "vm-0123456789bc".into(),
            state: "running".into(),
            job: "job-0123456789bc".into(),
            job_name: profile.map(|_| "test".into()),
            repo: profile.map(|_| "demo/hello".into()),
            attempt,
            profile: profile.map(str::to_owned),
            vcpus: profile.map(|_| 2),
            memory_mib: profile.map(|_| 512),
            created_at: 0,
        };
        let plain = Look { is_terminal: false, has_colours: false, width: None };
        insta::assert_snapshot!(table(&[vm(1, Some("linux")), vm(2, None)], 61_000).render(plain), @"
        VM               STATE    JOB                   NAME  REPOSITORY  PROFILE  SIZE             CREATED
        vm-0123456789bc  running  job-0123456789bc      test  demo/hello  linux    2 vCPU, 512 MiB  1 min ago
        vm-0123456789bc  running  job-0123456789bc (2)                                              1 min ago
        ");
    }
}

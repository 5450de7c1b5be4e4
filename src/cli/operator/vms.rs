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
A VM is listed until its absence is verified: process, cgroup, sockets and files. KIND says for what it is there: a job, a pool in
which it waits for one, or the upkeep of what later jobs start from. VMs of standalone commands (`dayfly exec`, `dayfly run`) belong to those and are not listed.

OWN is the memory of the host that nobody else has. VMs of one image share most of the rest: the line at the end counts that once.

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
    if let Some(line) = all_memory(&vms) {
        eprintln!("{line}");
    }
    Ok(0)
}

fn table(vms: &[VmView], now: i64) -> Table<10> {
    let length = short_length(vms.iter().filter_map(|vm| vm.job.as_deref()));
    let heading = ["VM", "KIND", "STATE", "JOB", "NAME", "REPOSITORY", "PROFILE", "SIZE", "OWN", "CREATED"];
    let mut table = Table::new(heading, &[4, 5]);
    for vm in vms {
        let attempt = vm.attempt.filter(|attempt| *attempt > 1).map(|attempt| format!(" ({attempt})"));
        let job = vm.job.as_deref().map(|job| format!("{}{}", shortened(job, length), attempt.unwrap_or_default()));
        let size = vm.vcpus.zip(vm.memory_mib).map(|(vcpus, memory)| format!("{vcpus} vCPU, {memory} MiB"));
        table.row([
            (&vm.id).into(),
            (&vm.kind).into(),
            (&vm.state).into(),
            job.unwrap_or_default().into(),
            vm.job_name.as_deref().unwrap_or_default().into(),
            vm.repo.as_deref().unwrap_or_default().into(),
            vm.profile.as_deref().unwrap_or_default().into(),
            size.unwrap_or_default().into(),
            vm.private_bytes.map(mib).unwrap_or_default().into(),
            ago(now, vm.created_at).into(),
        ]);
    }
    table
}

/// What all take together, if it is known of any.
fn all_memory(vms: &[VmView]) -> Option<String> {
    let sum = |of: fn(&VmView) -> Option<u64>| vms.iter().filter_map(of).reduce(u64::saturating_add);
    let (private, all) = (sum(|vm| vm.private_bytes)?, sum(|vm| vm.proportional_bytes)?);
    let promised: u64 = vms.iter().filter_map(|vm| vm.memory_mib).sum();
    let shared = mib(all.saturating_sub(private));
    Some(format!("memory: {} of {promised} MiB that they may have; {shared} of it are shared", mib(all)))
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vms_are_a_table() {
        let vm = |attempt, profile: Option<&str>| VmView {
            id: "vm-0123456789bc".into(),
            kind: "job".into(),
            state: "running".into(),
            job: Some("job-0123456789bc".into()),
            job_name: profile.map(|_| "test".into()),
            repo: profile.map(|_| "demo/hello".into()),
            attempt: Some(attempt),
            profile: profile.map(str::to_owned),
            vcpus: profile.map(|_| 2),
            memory_mib: profile.map(|_| 512),
            private_bytes: profile.map(|_| 31 << 20),
            proportional_bytes: profile.map(|_| 60 << 20),
            created_at: 0,
        };
        let of_none = |kind: &str, state: &str| VmView {
            kind: kind.into(),
            state: state.into(),
            job: None,
            job_name: None,
            attempt: None,
            ..vm(1, Some("linux"))
        };
        let idle = VmView { repo: None, ..of_none("pool", "pool_ready") };
        let vms = [vm(1, Some("linux")), vm(2, None), idle, of_none("upkeep", "preparing")];
        let plain = Look { is_terminal: false, has_colours: false, width: None };
        let told = format!("{}\n{}", table(&vms, 61_000).render(plain), all_memory(&vms).unwrap_or_default());
        insta::assert_snapshot!(told);
        assert_eq!(all_memory(&[vm(1, None)]), None);
    }
}

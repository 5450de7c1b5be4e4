//! The real Firecracker, through its jailer: where `DAYFLY_FIRECRACKER` names it, its jailer lies beside it, and there is a KVM,
//! whatever that can run. A machine is booted, saved while its kernel begins, and loaded again up to where it runs.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::command::{Outcome, dayfly, exec};
use crate::support::{host, leaks};

/// Names the program.
const PROGRAM: &str = "DAYFLY_FIRECRACKER";

/// The program; `None` where the real one cannot be tried, with the reason printed.
fn real_one() -> Option<PathBuf> {
    let Some(program) = std::env::var_os(PROGRAM) else {
        eprintln!("SKIPPED: {PROGRAM} names no Firecracker; it is in no package registry");
        return None;
    };
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        eprintln!("SKIPPED: `/dev/kvm` cannot be opened: {error}");
        return None;
    }
    host::can_run_vms().then(|| program.into())
}

/// Processes of Firecrackers that Dayfly started.
fn firecrackers() -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains("firecracker\0--id\0dayfly-")).collect()
}

#[test]
fn a_machine_is_made_saved_and_resumed_in_jails_and_nothing_is_left() {
    let Some(program) = real_one() else { return };
    let directory = host::short_directory();
    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    symlink(host::shared_images(), state.join("images")).unwrap();
    // Has the image built where it is not there: Firecracker may not be able to run its set-up on this host.
    let built: Outcome = exec(&state).args(["--", "true"]).output().unwrap().into();
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let mut bench = dayfly();
    bench.args(["bench", "create", "--stage", "resumed", "--baseline", "--json", "-n", "5", "--memory", "256MiB"]);
    bench.args(["--backend", "firecracker", "--firecracker"]).arg(program).arg("--state-dir").arg(&state);
    let measured: Outcome = bench.output().unwrap().into();
    assert_eq!(measured.code, Some(0), "{}", measured.stderr);
    let report: Value = serde_json::from_str(&measured.stdout).unwrap();
    for figure in ["create", "baseline", "destroy"] {
        assert_eq!(report["results"][figure]["n"], 5, "{report:#}");
    }
    eprintln!("create over baseline: {}", report["ratios"]["create_over_baseline"]);
    leaks::assert_none(&state);
    assert_eq!(firecrackers(), [""; 0], "Firecrackers are left");
    let left = fs::read_dir(&state)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("bench-"));
    assert_eq!(left.count(), 0, "the benchmark's snapshot is left");
}

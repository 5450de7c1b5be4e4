//! Modules that decide must not act: what they may not import is looked for in their text.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Files and directories of pure modules, below `src`.
const PURE: &[&str] = &[
    "artifact/name.rs",
    "artifact/tar.rs",
    "depot/evict.rs",
    "depot/scope.rs",
    "net/results/token.rs",
    "net/egress/addresses.rs",
    "net/egress/connect.rs",
    "net/egress/environment.rs",
    "net/egress/hello.rs",
    "net/egress/host.rs",
    "net/egress/log.rs",
    "net/egress/nat/counted.rs",
    "net/egress/nat/dns.rs",
    "net/egress/nat/ruleset.rs",
    "net/egress/policy.rs",
    "net/egress/rate.rs",
    "net/egress/rules.rs",
    "net/egress/socks.rs",
    "gitlab/job",
    "local/choose.rs",
    "local/event.rs",
    "local/variables.rs",
    "report",
    "protocol",
    "forge/github/moved.rs",
    "forge/gitlab/presentation.rs",
    "gitlab/ending.rs",
    "gitlab/outcome.rs",
    "gitlab/polling.rs",
    "gitlab/ranges.rs",
    "gitlab/remote.rs",
    "host/jail/filter.rs",
    "host/jail/plan.rs",
    "ids.rs",
    "image/recipe/archive.rs",
    "image/recipe/description.rs",
    "image/source/xattrs.rs",
    "pool/plan.rs",
    "pool/plan_tests.rs",
    "workflow",
    "policy.rs",
    "scheduler/plan.rs",
    "scheduler/plan",
    "document",
    "caches/retention.rs",
    "cli/cache/choose.rs",
    "gitlab/wire.rs",
    "image/lz4.rs",
    "vm/firecracker/api.rs",
    "vm/firecracker/argv.rs",
    "vm/firecracker/files.rs",
    "vm/firecracker/schema.rs",
    "vm/loss.rs",
    "vm/qemu/argv.rs",
    "vm/qemu/message.rs",
    "job/action/container/argv.rs",
    "job/container/argv.rs",
    "job/container/mounts.rs",
    "job/container/state.rs",
    "job/container/variables.rs",
    "job/gitlab/argv.rs",
    "job/toolkit.rs",
    "job/actions_runner/words.rs",
    "job/verdict.rs",
    "runners/plan.rs",
    "runners/plan_tests.rs",
    "net/git_proxy/admission.rs",
    "net/git_proxy/lfs/batch.rs",
    "net/git_proxy/lfs/kept.rs",
    "net/git_proxy/lfs/range.rs",
    "net/registry/admission.rs",
    "net/registry/cargo.rs",
    "net/registry/rewrite.rs",
    "webhook",
    "store/transitions.rs",
    "sweep/plan.rs",
    "upkeep/evict.rs",
    "upkeep/key.rs",
    "upkeep/retry.rs",
    "why",
];

/// Test code among them that reads files or starts programs.
const EXCEPT: [&str; 2] = ["workflow/expression/conformance.rs", "gitlab/job/script_tests.rs"];

/// Tasks, files, processes, sockets, threads, the environment.
const FORBIDDEN: [&str; 6] = ["tokio", "std::fs", "std::process", "std::net", "std::thread", "std::env::"];

fn source_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let files = entries.flat_map(|entry| source_files(&entry.unwrap().path()));
    files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Names behind a brace: `use std::{fs, io}` becomes `std::fs` and `std::io`.
fn unfolded(text: &str) -> String {
    let mut unfolded = text.to_owned();
    for part in text.split("use std::{").skip(1) {
        let names = part.split('}').next().unwrap();
        unfolded.extend(names.split(',').map(|name| format!("\nstd::{}", name.trim())));
    }
    unfolded
}

#[test]
fn what_decides_does_not_act() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for file in PURE.iter().flat_map(|pure| source_files(&root.join(pure))) {
        if EXCEPT.iter().any(|except| file.ends_with(except)) {
            continue;
        }
        seen += 1;
        let text = unfolded(&fs::read_to_string(&file).unwrap());
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let found = FORBIDDEN.iter().find(|forbidden| line.contains(**forbidden));
            assert_eq!(found, None, "{}:{}: {line}", file.display(), number + 1);
        }
    }
    assert!(seen > 30, "only {seen} files were looked at");
}

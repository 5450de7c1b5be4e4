//! Builds the guest agent for the service to embed.
//!
//! The agent is a second binary of this package, but a static one with other features and a profile of its own, so it needs
//! a build of its own: static linking wants an explicit target, or procedural macros break. The build directory is shared
//! by all profiles of the service, so the agent is built once.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const AGENT_SOURCES: [&str; 7] =
    ["src/agent", "src/protocol", "src/ids.rs", "src/bin/dayfly-agent.rs", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    if env::var_os("CARGO_FEATURE_SERVICE").is_none() {
        return; // This is the agent's own build.
    }
    for source in AGENT_SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    // The store embeds them, which cargo does not see.
    println!("cargo::rerun-if-changed=migrations");
    let agent = build_agent();
    println!("cargo::rustc-env=DAYFLY_AGENT_BINARY={}", agent.display());
}

fn build_agent() -> PathBuf {
    let out = PathBuf::from(required("OUT_DIR"));
    let target = required("TARGET");
    // OUT_DIR is TARGET_DIR/PROFILE/build/dayfly-HASH/out.
    let build_dir = out.ancestors().nth(4).unwrap_or(&out).join("dayfly-agent");
    let mut cargo = Command::new(required("CARGO"));
    cargo
        .current_dir(required("CARGO_MANIFEST_DIR"))
        .args(["build", "--locked", "--bin", "dayfly-agent", "--profile", "agent", "--no-default-features"])
        .args(["--features", "agent", "--target", &target, "--target-dir"])
        .arg(&build_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    // What this build was given must not leak into the agent's: lints of clippy, coverage flags, this package's features.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let inherited = ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_ENCODED_", "RUSTC_"];
        if inherited.iter().any(|prefix| name.starts_with(prefix)) || name == "CARGO_TARGET_DIR" {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo runs: it runs this script");
    assert!(status.success(), "the build of dayfly-agent failed ({status})");
    copy_beside(&build_dir.join(target).join("agent/dayfly-agent"), &out)
}

/// A copy of its own, so that a later build of another profile cannot change what this one embeds.
fn copy_beside(agent: &Path, out: &Path) -> PathBuf {
    let copy = out.join("dayfly-agent");
    std::fs::copy(agent, &copy).expect("the agent was just built");
    copy
}

fn required(name: &str) -> String {
    env::var(name).expect("cargo sets it for build scripts")
}

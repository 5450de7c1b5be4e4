//! Actions for Node.js in VMs of the image that has it: `DAYFLY_TEST_IMAGES=node`.
//!
//! With `DAYFLY_NODE_MODULES` naming a `node_modules` that has `@actions/cache`, `@actions/artifact` and `esbuild`, the real
//! packages are clients of the host from inside of a VM, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::state;
use crate::support::command::{self, Outcome};
use crate::support::repository::Repository;
use crate::support::{has_test_image, leaks};

const WORKFLOW: &str = r#"on: push
jobs:
  a:
    runs-on: node
    steps:
      - uses: actions/checkout@v4
      - uses: ./.github/actions/client
      - { id: a, uses: actions/setup-node@v4 }
      - { id: b, uses: actions/setup-node@v4, with: { node-version: 20.x, cache: npm } }
      - { uses: actions/setup-node@v4, with: { cache: pnpm } }
      - { uses: actions/setup-node@v4, with: { cache: npm, cache-dependency-path: none.json }, continue-on-error: true }
      - run: mkdir -p ~/.npm && echo fetched > ~/.npm/one
      - { id: c, uses: actions/setup-node@v4, with: { node-version-file: .nvmrc } }
      - run: echo "versions ${{ steps.a.outputs.node-version == steps.b.outputs.node-version && steps.c.outputs.node-version }} $(node --version)"
      - { id: d, uses: actions/setup-node@v4, with: { node-version: 18 }, continue-on-error: true }
      - run: echo "wrong=${{ steps.d.outcome }}"
"#;

/// What the client is made of, in one file, which needs `require` for what its packages load.
fn bundle() -> Option<String> {
    let modules = PathBuf::from(std::env::var_os("DAYFLY_NODE_MODULES")?);
    let esbuild = modules.join(".bin/esbuild");
    let has_packages = ["@actions/cache", "@actions/artifact"].iter().all(|name| modules.join(name).is_dir());
    if !has_packages || !esbuild.exists() {
        return None;
    }
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/results/client.mjs");
    let banner = "--banner:js=import{createRequire}from'module';const require=createRequire(import.meta.url);";
    let bundled = Command::new(esbuild)
        .arg(client)
        .args(["--bundle", "--platform=node", "--format=esm", "--minify", banner])
        .env("NODE_PATH", &modules)
        .output()
        .unwrap();
    assert!(bundled.status.success(), "{}", String::from_utf8_lossy(&bundled.stderr));
    Some(String::from_utf8(bundled.stdout).unwrap())
}

#[test]
fn the_real_packages_and_what_sets_node_up_work_in_a_vm() {
    if !has_test_image("node") {
        return;
    }
    let Some(state) = state() else { return };
    let client = bundle().unwrap_or_else(|| {
        eprintln!("SKIPPED in part: DAYFLY_NODE_MODULES names no node_modules with the packages and esbuild");
        "console.log('all is well')\n".to_owned()
    });
    let repository = Repository::new(&[
        (".dayfly/workflows/ci.yml", WORKFLOW),
        (".nvmrc", "v20\n"),
        ("package-lock.json", "{}\n"),
        (".github/actions/client/action.yml", "runs: { using: node20, main: index.mjs }\n"),
        (".github/actions/client/index.mjs", &client),
    ]);
    let mut command = command::dayfly();
    command.current_dir(repository.path()).args([
        "run",
        "--backend",
        "qemu-tcg",
        "--image",
        "node",
        "--egress",
        "none",
    ]);
    command.args(["--memory", "1GiB", "--disk", "2GiB"]).arg("--state-dir").arg(state.path());
    let done: Outcome = command.output().unwrap().into();
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let says = |text: &str| assert!(done.stdout.contains(text), "`{text}` is not in:\n{}", done.stdout);
    says("all is well");
    says("versions v20.");
    says("no cache for node-cache-Linux-x64-npm-");
    says("note: `cache: pnpm` is passed over");
    says("error: `cache` needs a file that says what is installed, and `none.json` matches none in the workspace");
    says("cache saved: node-cache-Linux-x64-npm-");
    says("error: the image `node` has Node.js 20.");
    says("wrong=failure");
    leaks::assert_none(state.path());
}

//! A registry that wants a token, read by jobs that never have it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::local_forge::{NewPullRequest, PullRequest, Pushed};
use crate::support::npm::{NpmRegistry, PACKAGE, TOKEN, TOKEN_PATTERN};
use crate::support::tls::{self, TlsServer};
use crate::support::{Ended, REPOSITORY, Scene, Settings, WORKFLOW, eventually, has_test_image};

/// What the default branch installs before any job.
const PREPARE: &str = "mkdir deps; curl -sf $npm_config_registry@acme/box/-/box-1.0.0.tgz | tar -xz -C deps";

fn settings(registry: &NpmRegistry, server: &TlsServer) -> Settings {
    let prepare = format!("prepare = {{ key = [\"deps.lock\"], run = \"\"\"{PREPARE}\"\"\" }}");
    let egress = format!(
        "egress = {{ ca_bundle = \"ca.pem\", ports = [{}], allow_addresses = [\"{}\"] }}",
        server.port,
        tls::HOST
    );
    let section = format!(
        "[[registry]]\nname = \"company\"\nkind = \"npm\"\nurl = \"{}\"\nscopes = [\"@acme\"]\n\
         others = \"https://others.example/npm/\"\n\
         token = {{ file = \"registry-token\" }}\n",
        registry.url()
    );
    let settings = Settings::new()
        .with_profile_lines(&prepare)
        .with_profile_lines(&egress)
        .with_github("forks = \"run\"\n")
        .with_plain_token();
    settings.with_section(&section).with_secret("registry-token", TOKEN).with_secret("ca.pem", &server.authority)
}

/// A workflow whose one job says what it finds, and looks everywhere for the token.
fn look(server: &TlsServer) -> String {
    let url = format!("https://{}:{}/", tls::HOST, server.port);
    format!(
        r#"name: CI
on: pull_request
jobs:
  test:
    runs-on: linux
    steps:
      - uses: actions/checkout@v4
      - run: |
          status() {{ curl -s -o /dev/null -w '%{{http_code}}' --path-as-is "$@"; }}
          at=http://127.0.0.1:3129/company
          echo "prepared=$(cat deps/package/index.js)"
          echo "named=$npm_config_registry $DAYFLY_REGISTRY_COMPANY"
          echo "metadata=$(curl -s "$at/@acme%2fbox" | jq -r '.versions["1.0.0"].dist.tarball')"
          echo "tarball=$(curl -s "$at/@acme/box/-/box-1.0.0.tgz" | tar -xzO package/index.js)"
          echo "put=$(status -X PUT --data x "$at/@acme%2fbox")"
          echo "above=$(status "$at/../../admin") $(status "$at/@acme/..%2f..%2fadmin")"
          echo "unscoped=$(curl -s -o /dev/null -w '%{{http_code}} %{{redirect_url}}' "$at/left-pad")"
          echo "unknown=$(status http://127.0.0.1:3129/other/x)"
          echo "tls=$(curl -s {url}), $(sudo curl -s {url}), $(curl -s --cacert /dev/null {url} || echo refused)"
          echo "certificates=$(grep -c BEGIN /usr/local/share/ca-certificates/dayfly.crt)"
          echo "found=$(sudo grep -rlaE '{TOKEN_PATTERN}' /etc /home /root /run /tmp /.cargo 2>/dev/null | wc -l)"
          echo "environments=$(sudo sh -c 'cat /proc/[0-9]*/environ' | grep -acE '{TOKEN_PATTERN}')"
"#
    )
}

async fn run(scene: &Scene, server: &TlsServer, is_of_fork: bool) -> Ended {
    let (branch, author) = if is_of_fork { ("theirs", "stranger") } else { ("ours", "octocat") };
    let workflow = look(server);
    // With a file of its own each: else they would be the same commit.
    let files = [(WORKFLOW, workflow.as_str()), (branch, "")];
    let new = NewPullRequest { files: &files, branch, from_fork: is_of_fork, author, ..NewPullRequest::default() };
    let pull: PullRequest = scene.forge.open_pull_request(REPOSITORY, new).await.unwrap();
    assert_eq!(scene.deliver_opened(&pull).await.status, 202);
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("success", ""), "{}", ended.log);
    ended
}

fn assert_has_no_token(directory: &Path) {
    let found = Command::new("grep").args(["-r", "-l", "-a", "-F", TOKEN]).arg(directory).output().unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stdout));
}

/// Commits to the default branch, and waits until what its lock file asks for is prepared.
async fn prepare(scene: &Scene, files: &[(&str, &str)]) {
    let sha = scene.forge.commit(REPOSITORY, "main", files, "Move on").await.unwrap();
    let pushed = Pushed { branch: "main", before: None, after: Some(&sha), changed: &[] };
    drop(scene.forge.deliver("push", &scene.forge.push_payload(REPOSITORY, pushed)).await);
    eventually("what is prepared", async || {
        let all = scene.ask_json(&["prepared", "list"]);
        let all = all["prepared"].as_array().unwrap();
        let failed = all.iter().find(|one| one["wish"]["tries"].as_u64() > Some(2) || one["state"] == "failed");
        assert_eq!(failed, None);
        all.iter().any(|one| one["state"] == "ready" && one["sha"] == sha.as_str()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_read_a_registry_whose_credential_never_is_in_them() {
    let (registry, server) = (NpmRegistry::start().await, TlsServer::start().await);
    let Some(scene) = Scene::start(settings(&registry, &server)).await else { return };
    prepare(&scene, &[("deps.lock", "one\n"), (".gitignore", "deps/\n")]).await;
    assert_eq!(registry.take_requests(), ["GET /@acme/box/-/box-1.0.0.tgz"]);

    let ours = run(&scene, &server, false).await;
    assert_eq!(ours.said("prepared"), "module.exports = 'it is in the box';");
    assert_eq!(ours.said("tarball"), ours.said("prepared"));
    let at = "http://127.0.0.1:3129/company/";
    assert_eq!(ours.said("named"), format!("{at} {at}"));
    assert_eq!(ours.said("metadata"), format!("{at}@acme/box/-/box-1.0.0.tgz"));
    assert_eq!((ours.said("put"), ours.said("above"), ours.said("unknown")), ("405", "403 403", "404"));
    assert_eq!(ours.said("unscoped"), "307 https://others.example/npm/left-pad");
    let answer = tls::ANSWER;
    assert_eq!(ours.said("tls"), format!("{answer}, {answer}, refused"));
    assert_eq!(ours.said("certificates"), "1");
    assert_eq!((ours.said("found"), ours.said("environments")), ("0", "0"));
    assert!(ours.log.contains("note: registry: refused: `PUT /company/@acme%2fbox`"), "{}", ours.log);
    assert_eq!(registry.take_requests(), ["GET /@acme%2fbox", "GET /@acme/box/-/box-1.0.0.tgz"]);

    // What was read with the credential is no fork's to see, nor is the machine that it was prepared in.
    let theirs = run(&scene, &server, true).await;
    assert_eq!((theirs.said("prepared"), theirs.said("named").trim(), theirs.said("tarball")), ("", "", ""));
    assert!(theirs.log.contains("starts from the image"), "{}", theirs.log);
    assert_eq!(registry.take_requests(), Vec::<String>::new());
    assert_has_no_token(scene.state_dir());
    scene.finish().await;
}

const NPM_JOB: &str = r#"name: CI
on: pull_request
jobs:
  test:
    runs-on: node
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo "box=$(node -p 'require("@acme/box")')"
          echo "again=$(npm ci --no-progress 2>&1 | grep -m 1 added)"
          echo "installed=$(cd /tmp && npm install --no-progress --prefix other @acme/box 2>&1 | grep -c added)"
"#;

/// The lock file names the registry's own address, as it does where people work.
#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_private_packages_before_any_job() {
    if has_test_image("node") {
        npm_installs_private_packages().await;
    }
}

async fn npm_installs_private_packages() {
    let (registry, server) = (NpmRegistry::start().await, TlsServer::start().await);
    let lines = "image = \"node\"\nmemory = \"1 GiB\"\ndisk = \"2 GiB\"\n\
                 prepare = { key = [\"package-lock.json\"], run = \"npm ci\" }";
    let Some(scene) = Scene::start(settings(&registry, &server).with_profile("node", lines)).await else { return };
    let dependencies = json!({ PACKAGE: "^1.0.0" });
    let locked = json!({ "version": "1.0.0", "resolved": registry.resolved(), "integrity": registry.integrity() });
    let manifest = json!({ "name": "site", "version": "1.0.0", "dependencies": dependencies });
    let lock = json!({
        "name": "site", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
        "packages": { "": manifest, format!("node_modules/{PACKAGE}"): locked },
    });
    let (manifest, lock) = (manifest.to_string(), lock.to_string());
    let files = [("package.json", &*manifest), ("package-lock.json", &*lock), (".gitignore", "node_modules/\n")];
    prepare(&scene, &files).await;
    assert_eq!(registry.take_requests(), ["GET /@acme/box/-/box-1.0.0.tgz"]);
    let pull = scene.pull_request(NPM_JOB).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("success", ""), "{}", ended.log);
    assert_eq!(ended.said("box"), "it is in the box", "{}", ended.log);
    assert!(ended.said("again").contains("added 1 package"), "{}", ended.log);
    assert_eq!(ended.said("installed"), "1", "{}", ended.log);
    assert_has_no_token(scene.state_dir());
    scene.finish().await;
}

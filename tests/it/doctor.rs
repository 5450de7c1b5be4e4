//! `dayfly doctor`, as a person and as a program ask it. Nothing here needs an image.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::local_forge::{Forge, Options};
use crate::support::command::{Outcome, dayfly, run};
use crate::support::lab::Lab;
use crate::support::{REPOSITORY, Scene, Settings, host};

#[derive(Debug, Deserialize)]
struct Report {
    findings: Vec<Finding>,
    verdict: String,
}

#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    status: String,
    title: String,
    detail: Option<String>,
    hint: Option<String>,
    data: BTreeMap<String, serde_json::Value>,
}

/// What `dayfly doctor --json` says, and its exit code, which must agree.
fn doctor(arguments: &[&str]) -> Report {
    let outcome = run(&[&["doctor", "--json"], arguments].concat());
    assert_eq!(outcome.stderr, "");
    let report: Report = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(outcome.code, Some(i32::from(report.verdict == "problem")), "{}", outcome.stdout);
    report
}

/// The same about a configuration. Without a QEMU, which takes longer than everything else.
fn doctor_of(config: &Path) -> Report {
    doctor(&["--qemu", "/nowhere/qemu", "--config", config.to_str().unwrap()])
}

impl Report {
    fn finding(&self, id: &str) -> &Finding {
        let found = self.findings.iter().find(|finding| finding.id == id);
        found.unwrap_or_else(|| panic!("no `{id}` among {:#?}", self.findings))
    }

    fn status(&self, id: &str) -> &str {
        &self.finding(id).status
    }
}

impl Finding {
    fn text(&self) -> String {
        [Some(self.title.as_str()), self.detail.as_deref(), self.hint.as_deref()]
            .map(Option::unwrap_or_default)
            .join("\n")
    }
}

/// A configuration for the forge, with changes.
fn configured(directory: &Path, forge: &Forge, settings: &Settings, change: impl Fn(String) -> String) -> PathBuf {
    let file = settings.write(directory, forge);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, change(text)).unwrap();
    file
}

fn with_repositories(text: String) -> String {
    text + "\n[[github.repository]]\nname = \"demo/hello\"\n[[github.repository]]\nname = \"demo/*\"\n"
}

async fn forge_with(lacks: &'static [&'static str]) -> Forge {
    let forge = Forge::start(Options { lacks, ..Options::default() }).await.unwrap();
    forge.create_repository(REPOSITORY).await.unwrap();
    forge.commit(REPOSITORY, "main", &[("README.md", "# Hello\n")], "Begin").await.unwrap();
    forge
}

#[test]
fn a_host_is_examined_without_a_configuration_and_left_as_it_was() {
    let directory = host::short_directory();
    let state_dir = directory.path().join("state");
    let state = state_dir.to_str().unwrap();
    let report = doctor(&["--state-dir", state]);
    let ids: Vec<&str> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
    // Programs rely on these: add, but do not rename.
    let expected = [
        "host.machine",
        "host.kernel",
        "host.user",
        "host.descriptors",
        "host.tasks",
        "host.cgroups",
        "memory.room",
        "memory.accounting",
        "clock.synchronised",
        "clock.counter",
        "qemu.program",
        "qemu.parts",
        "qemu.starts",
        "kvm.device",
        "kvm.instructions",
        "kvm.boots",
        "firecracker.program",
        "firecracker.jailer",
        "confinement.jail",
        "confinement.users",
        "confinement.qemu",
        "egress.nat",
        "state.directory",
        "state.space",
        "state.reflink",
        "images.directory",
        "images.tools",
        "images.base",
        "profiles.default",
    ];
    let beginning: Vec<&str> = ids.iter().copied().filter(|id| !id.starts_with("config.")).collect();
    assert!(expected.iter().all(|id| beginning.contains(id)), "{ids:?}");
    for kvm in ["kvm.device", "kvm.instructions", "kvm.boots"] {
        assert_ne!(report.status(kvm), "problem", "VMs run without KVM, too: {:?}", report.finding(kvm));
    }
    if host::can_run_vms() {
        assert_ne!(report.verdict, "problem", "{:#?}", report.findings);
        assert_eq!(report.status("qemu.starts"), "ok");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn words_stand_in_pipes_and_the_last_line_is_the_verdict() {
    let directory = host::short_directory();
    let outcome = run(&["doctor", "--qemu", "/nowhere/qemu", "--state-dir", directory.path().to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""));
    assert!(!outcome.stdout.contains('\u{1b}'), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("  problem  `/nowhere/qemu` is not installed\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.lines().last().unwrap().starts_with("Jobs cannot run here: "), "{}", outcome.stdout);
}

#[test]
fn a_missing_qemu_is_named_with_its_package_wherever_it_is_needed() {
    let directory = host::short_directory();
    let state = directory.path().to_str().unwrap();
    let report = doctor(&["--state-dir", state, "--qemu", "/nowhere/qemu"]);
    let missing = report.finding("qemu.program");
    assert_eq!((missing.status.as_str(), missing.data["program"].as_str()), ("problem", Some("/nowhere/qemu")));
    assert!(missing.text().contains("apt-get install qemu-system-x86"), "{missing:?}");
    for skipped in ["qemu.parts", "qemu.starts", "kvm.boots"] {
        assert_eq!(report.status(skipped), "skipped");
    }
    // The same by the name alone, where nothing is installed.
    let without_path = |arguments: &[&str]| -> Outcome {
        dayfly().args(arguments).args(["--state-dir", state]).env("PATH", "/nowhere").output().unwrap().into()
    };
    assert!(without_path(&["doctor"]).stdout.contains("`qemu-system-x86_64` is not installed"));
    let commands: [&[&str]; 2] = [&["image", "bake", "base"], &["image", "build", "base"]];
    for command in commands {
        let outcome = without_path(command);
        assert_eq!(outcome.code, Some(69), "{outcome:?}");
        assert!(outcome.stderr.contains("`qemu-system-x86_64` is not installed"), "{outcome:?}");
        assert!(outcome.stderr.contains("apt-get install qemu-system-x86"), "{outcome:?}");
    }
    let exec = dayfly().args(["exec", "--state-dir", state, "--qemu", "/nowhere/qemu", "--", "true"]).output().unwrap();
    let exec = Outcome::from(exec);
    assert_eq!(exec.code, Some(69));
    assert!(exec.stderr.contains("correct the path") && exec.stderr.contains("qemu-system-x86"), "{}", exec.stderr);
}

#[test]
fn a_wrong_configuration_is_told_whole_and_the_host_is_examined_all_the_same() {
    let directory = host::short_directory();
    let file = directory.path().join("dayfly.toml");
    fs::write(&file, "[server]\nlissten = 1\n[profile.linux]\nlabels = ['x']\nmemory = 512 MiB\nvcpus = 99\n").unwrap();
    let report = doctor_of(&file);
    let found = report.finding("config.file");
    assert_eq!(found.status, "problem");
    for part in ["did you mean `listen`?", ":5:10: expected a value", "`99` is not between", "webhook_secret"] {
        assert!(found.text().contains(part), "no `{part}` in {}", found.text());
    }
    assert!(found.data["errors"].as_array().unwrap().len() >= 4);
    assert_eq!(report.status("host.machine"), "ok");
    assert!(report.findings.iter().all(|finding| !finding.id.starts_with("forge.")), "nobody knows which forge");

    let absent = doctor_of(Path::new("/nowhere/dayfly.toml"));
    assert!(absent.finding("config.file").text().contains("does not exist"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_is_set_up_well_is_found_so() {
    let (forge, directory) = (forge_with(&[]).await, host::short_directory());
    let file = configured(directory.path(), &forge, &Settings::without_vms(), with_repositories);
    let report = doctor_of(&file);
    let questions = ["reachable", "clock", "identity", "permissions", "events", "repositories", "budget"];
    for question in questions {
        let finding = report.finding(&format!("forge.{question}"));
        assert_eq!(finding.status, "ok", "{finding:?}");
    }
    assert_eq!(report.status("config.secrets"), "ok");
    // The profile's image has no recipe.
    assert_eq!(report.status("images.absent"), "problem");
    assert_eq!(report.status("service.listen"), "ok");
    assert_eq!(report.status("service.webhooks"), "skipped");
    assert!(report.findings.iter().all(|finding| !finding.text().contains(&forge.plain_token())));

    let token = Settings::without_vms().with_plain_token();
    let file = configured(directory.path(), &forge, &token, with_repositories);
    let report = doctor_of(&file);
    assert_eq!(report.status("forge.identity"), "ok");
    assert_eq!(report.status("forge.repositories"), "ok");
    assert_eq!(report.status("forge.events"), "skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_lacks_is_named_with_what_breaks() {
    let directory = host::short_directory();
    let forge = forge_with(&["pull_requests", "issue_comment"]).await;
    let file = configured(directory.path(), &forge, &Settings::without_vms(), with_repositories);
    let report = doctor_of(&file);
    let (permissions, events) = (report.finding("forge.permissions"), report.finding("forge.events"));
    assert_eq!((permissions.status.as_str(), events.status.as_str()), ("warning", "warning"));
    assert!(permissions.text().contains("`pull_requests: read`"), "{permissions:?}");
    assert!(events.text().contains("`issue_comment`"), "{events:?}");

    let forge = forge_with(&["checks"]).await;
    let file = configured(directory.path(), &forge, &Settings::without_vms(), with_repositories);
    let report = doctor_of(&file);
    assert_eq!(report.status("forge.permissions"), "problem");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_githubs_own_jobs_need_is_asked_where_a_profile_serves_them() {
    let directory = host::short_directory();
    let runner = |scope: &str| {
        let lines = format!(
            "executor = \"actions-runner\"\nrunner = {{ path = \"/opt/actions-runner\", scope = \"{scope}\" }}"
        );
        Settings::without_vms().with_profile("gh", &lines)
    };
    let forge = forge_with(&[]).await;
    let file = configured(directory.path(), &forge, &runner("repository"), with_repositories);
    assert_eq!(doctor_of(&file).status("forge.runners"), "ok");
    let forge = forge_with(&["organization_self_hosted_runners", "workflow_job"]).await;
    let file = configured(directory.path(), &forge, &runner("organization"), with_repositories);
    let report = doctor_of(&file);
    let found = report.finding("forge.runners");
    assert_eq!(found.status, "problem");
    for part in ["`organization_self_hosted_runners: write`", "`workflow_job`", "profile `gh`", "Permissions & events"]
    {
        assert!(found.text().contains(part), "no `{part}` in {}", found.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_is_asked_whether_its_webhooks_lead_here() {
    let Some(lab) = Lab::start("sweep = \"off\"\n[[gitlab.project]]\nname = \"acme/app\"", false).await else { return };
    let report = doctor_of(&lab.config);
    for question in ["reachable", "identity", "scopes", "projects", "webhooks"] {
        assert_eq!(report.status(&format!("gitlab.{question}")), "ok", "{:#?}", report.findings);
    }
    lab.api.move_webhook("https://chat.example.org/hooks");
    let report = doctor_of(&lab.config);
    assert_eq!(report.status("gitlab.webhooks"), "warning");
    assert!(report.finding("gitlab.webhooks").text().contains("`acme/app`: no webhook of its own leads here"));
    lab.api.hide_webhooks();
    assert_eq!(doctor_of(&lab.config).status("gitlab.webhooks"), "skipped");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_is_away_or_refuses_is_told_apart() {
    let (forge, directory) = (forge_with(&[]).await, host::short_directory());
    let away = |text: String| text.replace(&forge.api_url(), "http://127.0.0.1:1/api/v3");
    let file = configured(directory.path(), &forge, &Settings::without_vms(), away);
    let report = doctor_of(&file);
    assert_eq!(report.status("forge.reachable"), "problem");
    assert!(report.findings.iter().all(|finding| finding.id != "forge.identity"), "nothing more is asked");

    let stranger = |text: String| text.replace(&format!("id = {}", forge.app_id()), "id = 1");
    let file = configured(directory.path(), &forge, &Settings::without_vms(), stranger);
    let report = doctor_of(&file);
    assert_eq!((report.status("forge.reachable"), report.status("forge.identity")), ("ok", "problem"));
    assert!(report.finding("forge.identity").text().contains("private_key"));

    let gone = |text: String| with_repositories(text) + "[[github.repository]]\nname = \"demo/gone\"\n";
    let file = configured(directory.path(), &forge, &Settings::without_vms(), gone);
    let report = doctor_of(&file);
    let repositories = report.finding("forge.repositories");
    assert_eq!(repositories.status, "warning");
    assert!(repositories.text().contains("`demo/gone`"), "{repositories:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_and_its_webhooks_are_seen() {
    let Some(mut scene) = Scene::start(Settings::without_vms()).await else { return };
    let state_dir = scene.state_dir().to_owned();
    let config = state_dir.parent().unwrap().join("dayfly.toml");
    let look = || doctor_of(&config);
    let files = || {
        let entries = fs::read_dir(&state_dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = look();
    assert_eq!(before.finding("service.control").data["running"], true);
    assert_eq!(before.status("service.webhooks"), "skipped");
    let pull = scene.open_pull_request(&[("README.md", "# Changed\n")]).await;
    assert_eq!(scene.deliver_opened(&pull).await.status, 202);
    let names = files();
    assert_eq!(look().status("service.webhooks"), "ok");
    assert_eq!(files(), names, "nothing was left, nothing is gone");
    assert!(scene.service.stop().await.success());
    let names = files();
    let stopped = look();
    assert_eq!(stopped.finding("service.control").data["running"], false);
    assert_eq!(stopped.status("service.webhooks"), "ok");
    assert_eq!(files(), names);
}

//! Jobs of GitLab's in real VMs, given away by a strict small GitLab.
#![allow(clippy::unwrap_used)]

mod containers;
mod ends;
mod git;
mod keeping;
mod sources;

use std::io::Read as _;
use std::time::Duration;

use dayfly::depot::zip::{Limits, Reader};
use serde_json::{Value, json};

use crate::local_gitlab::{Artifact, GitLab, Job, JobState, Options};
use crate::support::repository::Repository;
use crate::support::tls::TlsServer;
use crate::support::{Scene, Settings};

/// A job in an emulated machine, while others build. Only a failure takes it.
const LIMIT: Duration = Duration::from_secs(180);

/// A GitLab with the project `demo/hello`, and a service that runs its jobs.
struct Hall {
    gitlab: GitLab,
    scene: Scene,
    /// The commit that jobs are of.
    sha: String,
    /// Bare repositories.
    _root: tempfile::TempDir,
}

impl Hall {
    /// `None` where VMs cannot be run.
    async fn open(files: &[(&str, &str)]) -> Option<Self> {
        Self::open_with(files, Settings::new(), "linux", false).await
    }

    /// The same where the GitLab has a certificate of an authority of its own.
    async fn open_with_tls(files: &[(&str, &str)]) -> Option<Self> {
        Self::open_with(files, Settings::new(), "linux", true).await
    }

    async fn open_with(files: &[(&str, &str)], settings: Settings, profile: &str, has_tls: bool) -> Option<Self> {
        let repository = Repository::new(files);
        let other = Repository::new(&[("README.md", "# Other\n")]);
        let commit = other.commit(&[("part", "of another project\n")]);
        repository.add_submodule("vendor/other", "../other.git", &commit);
        let sha = repository.commit(&[("second", "commit\n")]);
        repository.tag("v1");
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("demo")).unwrap();
        repository.copy_bare(&root.path().join("demo/hello.git"));
        other.copy_bare(&root.path().join("demo/other.git"));
        let place = root.path().to_owned();
        let gitlab = GitLab::start_with(Options::default(), |gitlab| git::routes(place, gitlab.clone())).await.unwrap();
        let (mut url, mut more, mut settings) = (gitlab.url(), "", settings);
        if has_tls {
            let server = TlsServer::before(url.trim_start_matches("http://").parse().unwrap()).await;
            (url, more) = (server.url(), "ca_bundle = \"gitlab-ca.pem\"\n");
            settings = settings.with_secret("gitlab-ca.pem", &server.authority);
        }
        let section = format!(
            "[[gitlab]]\nurl = \"{url}\"\n{more}[[gitlab.runner]]\ntoken = {{ file = \"runner-token\" }}\nprofile = \"{profile}\"\n"
        );
        let settings = settings.with_section(&section).with_secret("runner-token", &gitlab.add_runner());
        let scene = Scene::start(settings).await?;
        Some(Self { gitlab, scene, sha, _root: root })
    }

    /// Plans a job of the commit; gives its number.
    fn plan(&self, mut description: Value) -> u64 {
        if description["git_info"].is_null() {
            description["git_info"] = json!({});
        }
        description["git_info"]["sha"] = json!(self.sha);
        self.gitlab.add_job(description)
    }

    async fn ended(&self, id: u64) -> Job {
        self.gitlab.wait_for_job(id, |job| job.state.is_final(), LIMIT).await.unwrap()
    }

    async fn run(&self, description: Value) -> Job {
        self.ended(self.plan(description)).await
    }

    /// Stops everything and fails if anything is left, or GitLab saw something that a runner never does.
    async fn close(self) {
        assert_eq!(self.gitlab.violations(), [""; 0]);
        self.scene.finish().await;
    }
}

/// Steps of these names with these commands.
fn steps(list: &[(&str, &[&str])]) -> Value {
    list.iter().map(|(name, script)| json!({"name": name, "script": script, "when": "on_success"})).collect()
}

/// A variable, with what is special about it.
fn variable(key: &str, value: &str, more: Value) -> Value {
    let mut variable = json!({"key": key, "value": value, "public": true});
    variable.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    variable
}

/// The trace without colours and marks of sections.
fn plain(job: &Job) -> String {
    let trace = job.text();
    let mut text = String::new();
    for piece in trace.split("\r\x1b[0K") {
        let shown = piece.rfind("section_start:").or_else(|| piece.rfind("section_end:"));
        let mut rest = shown.map_or(piece, |at| &piece[..at]);
        while let Some(at) = rest.find("\x1b[") {
            text.push_str(&rest[..at]);
            rest = rest[at..].split_once('m').map_or("", |(_, rest)| rest);
        }
        text.push_str(rest);
    }
    text
}

/// The artifact of that kind.
fn artifact<'j>(job: &'j Job, kind: &str) -> &'j Artifact {
    let found = job.artifacts.iter().find(|artifact| artifact.kind == kind);
    found.unwrap_or_else(|| panic!("no artifact `{kind}` in\n{}", job.text()))
}

/// The files of an archive with their contents; links as `-> target`, directories with nothing.
fn unpacked(archive: &Artifact) -> Vec<(String, String)> {
    let limits = Limits { files: 100, bytes: 1 << 20 };
    let mut archive = Reader::open(std::io::Cursor::new(archive.content.clone()), limits).unwrap();
    let directories: Vec<_> = archive.directories().iter().map(|name| (format!("{name}/"), String::new())).collect();
    let mut files: Vec<(String, String)> = archive
        .entries()
        .into_iter()
        .map(|entry| {
            let mut text = String::new();
            archive.content(&entry).unwrap().read_to_string(&mut text).unwrap();
            let mark = if entry.is_link() {
                "-> "
            } else if entry.mode().is_some_and(|mode| mode & 0o100 != 0) {
                "x "
            } else {
                ""
            };
            (entry.name, format!("{mark}{text}"))
        })
        .collect();
    files.extend(directories);
    files.sort();
    files
}

/// What a job's trace is judged by: state, reason and code.
fn verdict(job: &Job) -> (JobState, Option<&str>, Option<i64>) {
    (job.state, job.failure_reason.as_deref(), job.exit_code)
}

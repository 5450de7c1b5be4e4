//! A forge with one repository, and a service that serves it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::settings::PUBLIC_URL;
use super::{DEADLINE, Service, Settings, WEBHOOK_SECRET, command, eventually, host, http, leaks};
use crate::local_forge::{CheckRun, DeliveryAnswer, Forge, NewPullRequest, Options, PullRequest, Status, Webhook};

pub(crate) const REPOSITORY: &str = "demo/hello";

/// Where the one workflow is in most tests.
pub(crate) const WORKFLOW: &str = ".dayfly/workflows/ci.yml";

/// A forge and the service. [`Scene::finish`] stops the service and looks for leaks.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) forge: Forge,
    pub(crate) service: Service,
    settings: Settings,
    directory: tempfile::TempDir,
}

/// A job as the control socket tells of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) workflow: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) attempt: u32,
    pub(crate) vm: Option<String>,
    pub(crate) conclusion: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) log_url: String,
    #[serde(default)]
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    pub(crate) attempt: u32,
    pub(crate) at_us: i64,
    pub(crate) kind: String,
    pub(crate) detail: String,
}

/// A job that has ended, with everything that is left of it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) job: Job,
    pub(crate) log: String,
    pub(crate) status: Status,
    /// Absent with a plain token.
    pub(crate) check: Option<CheckRun>,
}

impl Job {
    /// What the forge calls it.
    pub(crate) fn context(&self) -> String {
        let Self { workflow, name, event, .. } = self;
        let suffix = if event == "pull_request" { String::new() } else { format!(" ({event})") };
        format!("dayfly/{workflow}/{name}{suffix}")
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.state == "finished"
    }

    /// Conclusion and reason, for comparison.
    pub(crate) fn verdict(&self) -> (&str, &str) {
        (self.conclusion.as_deref().unwrap_or_default(), self.reason.as_deref().unwrap_or_default())
    }
}

impl Ended {
    /// What stands in the log after `key=`, on the first line that begins so.
    pub(crate) fn said(&self, key: &str) -> &str {
        let said = self.log.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        said.unwrap_or_else(|| panic!("`{key}=` is not in the log:\n{}", self.log))
    }

    /// The title of the check run.
    pub(crate) fn title(&self) -> &str {
        self.check.as_ref().unwrap().output["title"].as_str().unwrap()
    }

    /// The summary of the check run.
    pub(crate) fn summary(&self) -> &str {
        self.check.as_ref().unwrap().output["summary"].as_str().unwrap()
    }
}

impl Scene {
    /// Starts everything; `None` where VMs are needed and cannot be run.
    pub(crate) async fn start(settings: Settings) -> Option<Self> {
        if settings.runs_vms() && !host::can_run_vms() {
            return None;
        }
        let forge = Forge::start(Options::default()).await.unwrap();
        forge.create_repository(REPOSITORY).await.unwrap();
        forge.commit(REPOSITORY, "main", &[("README.md", "# Hello\n")], "Begin").await.unwrap();
        let directory = host::short_directory();
        let service = Service::start(&settings.write(directory.path(), &forge), settings.disk()).await;
        let scene = Self { forge, service, settings, directory };
        scene.point_webhook();
        if scene.settings.runs_vms() {
            scene.service.prepared(scene.settings.profile_count()).await;
        }
        Some(scene)
    }

    fn point_webhook(&self) {
        let url = self.service.url("/webhooks/github");
        self.forge.set_webhook(Webhook { url, secret: WEBHOOK_SECRET.to_owned() });
    }

    /// Starts the service again, after it was killed or stopped.
    pub(crate) async fn restart(&mut self) {
        assert!(self.restart_with(None).await, "the service ended at once");
    }

    /// The same with a fault, and whether the service could be reached before that ended it.
    pub(crate) async fn restart_with(&mut self, fault: Option<&str>) -> bool {
        let config = self.settings.write(self.directory.path(), &self.forge);
        let Ok(service) = Service::start_with(&config, self.settings.disk(), fault).await else { return false };
        self.service = service;
        self.point_webhook();
        true
    }

    /// Starts the service again with other settings.
    pub(crate) async fn restart_as(&mut self, settings: Settings) {
        self.settings = settings;
        self.restart().await;
    }

    pub(crate) fn state_dir(&self) -> &Path {
        self.service.state_dir()
    }

    /// Opens a pull request with these files and delivers its event.
    pub(crate) async fn pull_request_with(&self, files: &[(&str, &str)]) -> PullRequest {
        let pull = self.open_pull_request(files).await;
        assert_eq!(self.deliver_opened(&pull).await.status, 202);
        pull
    }

    /// The same with one workflow.
    pub(crate) async fn pull_request(&self, workflow: &str) -> PullRequest {
        self.pull_request_with(&[(WORKFLOW, workflow)]).await
    }

    /// Opens a pull request of which nobody is told yet.
    pub(crate) async fn open_pull_request(&self, files: &[(&str, &str)]) -> PullRequest {
        let branch = format!("change-{}", self.forge.writes().len());
        let new = NewPullRequest { files, branch: &branch, ..NewPullRequest::default() };
        self.forge.open_pull_request(REPOSITORY, new).await.unwrap()
    }

    pub(crate) async fn deliver_opened(&self, pull: &PullRequest) -> DeliveryAnswer {
        let payload = self.forge.pull_request_payload(pull, "opened");
        self.forge.deliver("pull_request", &payload).await.unwrap()
    }

    /// Delivers the same event again, or for the first time, under an id of its own; gives whether it was taken.
    pub(crate) async fn redeliver_opened(&self, pull: &PullRequest, id: &str) -> bool {
        let payload = self.forge.pull_request_payload(pull, "opened");
        let answer = self.forge.redeliver("pull_request", &payload, id).await;
        answer.is_ok_and(|answer| matches!(answer.status, 200 | 202))
    }

    /// The jobs of a commit.
    pub(crate) async fn jobs(&self, sha: &str) -> Vec<Job> {
        let path = format!("/v1/jobs?sha={sha}");
        http::get_from_socket(&self.service.control_socket(), &path).await.expect("the control socket answers")
    }

    /// A job with its events, once `is_wanted` holds.
    pub(crate) async fn job(&self, sha: &str, name: &str, is_wanted: impl Fn(&Job) -> bool) -> Job {
        eventually(&format!("the job `{name}` of {sha}"), async || {
            let listed = self.jobs(sha).await.into_iter().find(|job| job.name == name)?;
            let path = format!("/v1/jobs/{}", listed.id);
            http::get_from_socket(&self.service.control_socket(), &path).await.filter(&is_wanted)
        })
        .await
    }

    /// Waits until a job has ended, its VM is gone, and the forge knows.
    pub(crate) async fn ended(&self, sha: &str, name: &str) -> Ended {
        let job = self.job(sha, name, is_over).await;
        let context = job.context();
        let is_final = |status: &Status| status.state != "pending";
        let status = self.forge.wait_for_status(sha, &context, is_final, DEADLINE).await.unwrap();
        let is_ours = |run: &CheckRun| run.name == context && run.head_sha == sha;
        let check = match self.forge.check_runs().iter().any(is_ours) {
            true => Some(
                self.forge.wait_for_check_run(|run| is_ours(run) && run.status == "completed", DEADLINE).await.unwrap(),
            ),
            false => None,
        };
        let log = self.log(&job).await;
        Ended { job, log, status, check }
    }

    /// Runs a command that asks this service.
    pub(crate) fn command(&self, arguments: &[&str]) -> command::Outcome {
        let socket = self.service.control_socket();
        command::run(&[arguments, &["--socket", socket.to_str().unwrap()]].concat())
    }

    /// What such a command prints; fails unless it succeeds.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let outcome = self.command(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
        outcome.stdout
    }

    /// The same as JSON.
    pub(crate) fn ask_json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ask(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// The log of a job as plain text.
    pub(crate) async fn log(&self, job: &Job) -> String {
        let url = format!("{}.txt", self.reachable(&job.log_url));
        let (status, text) = http::get(&url).await.unwrap();
        assert_eq!(status, 200, "{text}");
        text
    }

    /// A link on the forge, as an address that leads to this service.
    pub(crate) fn reachable(&self, link: &str) -> String {
        let path = link.strip_prefix(PUBLIC_URL).unwrap_or_else(|| panic!("`{link}` leads elsewhere"));
        self.service.url(path)
    }

    /// Lets jobs go on that wait at a [`gate`].
    pub(crate) async fn open_gate(&self, name: &str) {
        self.forge.commit(REPOSITORY, name, &[("open", "")], "Open").await.unwrap();
    }

    /// States of the statuses of a context, oldest first.
    pub(crate) fn states(&self, sha: &str, context: &str) -> Vec<String> {
        self.forge.statuses(sha).into_iter().filter(|status| status.context == context).map(|s| s.state).collect()
    }

    /// Stops the service and fails if anything is left of it.
    pub(crate) async fn finish(mut self) {
        let status = self.service.stop().await;
        assert!(status.success(), "the service ended with {status}");
        leaks::assert_none(self.state_dir());
        leaks::assert_tidy(self.state_dir());
        assert!(!self.state_dir().join("control.sock").exists(), "the control socket is left");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        leaks::end_all(self.state_dir());
    }
}

/// Whether nothing more happens to a job.
fn is_over(job: &Job) -> bool {
    let has_lost_vm = job.events.iter().any(|event| event.kind == "vm_destroyed" && event.attempt == job.attempt);
    job.is_finished() && (job.vm.is_none() || has_lost_vm)
}

/// The VMs that wait, once there are so many.
pub(crate) async fn waiting(scene: &Scene, count: usize) -> BTreeSet<String> {
    eventually(&format!("{count} VMs to wait"), async || {
        let vms: Vec<Value> = http::get_from_socket(&scene.service.control_socket(), "/v1/vms").await?;
        let ready = vms.iter().filter(|vm| vm["state"] == "pool_ready");
        let ids: BTreeSet<String> = ready.map(|vm| vm["id"].as_str().unwrap().to_owned()).collect();
        (ids.len() == count).then_some(ids)
    })
    .await
}

/// Shell that waits until [`Scene::open_gate`] is called with this name: a job's only way to hear from a test is git.
pub(crate) fn gate(name: &str) -> String {
    format!(
        "until git ls-remote --exit-code http://127.0.0.1:9418/{REPOSITORY} refs/heads/{name} > /dev/null; do sleep 0.2; done"
    )
}

/// A workflow with one job `test` on the profile, whose one step runs this script.
pub(crate) fn job_of(profile: &str, script: &str) -> String {
    let script = script.lines().map(|line| format!("          {line}\n")).collect::<String>();
    format!("name: CI\non: pull_request\njobs:\n  test:\n    runs-on: {profile}\n    steps:\n      - run: |\n{script}")
}

//! A GitLab with one project, and a service that runs its workflows.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::settings::{PUBLIC_URL, WEBHOOK_SECRET};
use super::{DEADLINE, Job, Service, host, http, leaks};
use crate::gitlab_api::{Api, MergeRequest, NewMergeRequest, Proof, Status, Webhook};

/// The project, in a group.
pub(crate) const PROJECT: &str = "acme/app";

/// A GitLab and the service. [`Lab::finish`] stops the service and looks for leaks.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) api: Api,
    pub(crate) service: Service,
    pub(crate) config: std::path::PathBuf,
    /// Holds everything of the service until this is dropped.
    _directory: tempfile::TempDir,
}

impl Lab {
    /// Starts everything, with more lines of `[[gitlab]]`, and a profile's; `None` where VMs are needed and cannot be run.
    pub(crate) async fn start(gitlab: &str, runs_vms: bool) -> Option<Self> {
        Self::start_with(gitlab, runs_vms, Proof::Token(WEBHOOK_SECRET.to_owned())).await
    }

    /// The same with another secret, or another kind of it.
    pub(crate) async fn start_with(gitlab: &str, runs_vms: bool, proof: Proof) -> Option<Self> {
        if runs_vms && !host::can_run_vms() {
            return None;
        }
        let api = Api::start().await.unwrap();
        api.create_project(PROJECT).await.unwrap();
        api.commit(PROJECT, "main", &[("README.md", "# Hello\n")]).await.unwrap();
        let directory = host::short_directory();
        let (Proof::Token(secret) | Proof::Key(secret)) = &proof;
        for (name, text) in [("webhook-secret", secret), ("token", &api.token())] {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let image = if runs_vms { "memory = \"256 MiB\"\ndisk = \"1 GiB\"" } else { "image = \"absent\"" };
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{PUBLIC_URL}\"\nstate_dir = \"state\"\n[[gitlab]]\nname = \"lab\"\n\
             url = \"{}\"\nwebhook_secret = {{ file = \"webhook-secret\" }}\ntoken = {{ file = \"token\" }}\n{gitlab}\n\
             [profile.linux]\nlabels = [\"linux\", \"x64\"]\n{image}\n[limits]\ngrace = \"1s\"\ndrain = \"0s\"\n\
             [vm]\nbackend = \"qemu-tcg\"\nimages_dir = \"{}\"\n[log]\nformat = \"json\"\n",
            api.url(),
            host::shared_images().display(),
        );
        let config = directory.path().join("dayfly.toml");
        std::fs::write(&config, text).unwrap();
        let service = Service::start(&config, None).await;
        let url = service.url("/webhooks/gitlab/lab");
        api.set_webhook(Webhook { url, proof });
        if runs_vms {
            service.prepared(1).await;
        }
        Some(Self { api, service, config, _directory: directory })
    }

    /// Starts the service again, which has ended; webhooks go to its new address.
    pub(crate) async fn restart(&mut self) {
        self.service = Service::start(&self.config, None).await;
        self.api.move_webhook(&self.service.url("/webhooks/gitlab/lab"));
    }

    /// Opens a merge request with these files of which nobody is told yet.
    pub(crate) async fn unannounced(&self, files: &[(&str, &str)], is_fork: bool, author: &str) -> MergeRequest {
        let new = NewMergeRequest { branch: "topic", files, is_fork, author };
        self.api.open_merge_request(PROJECT, new).await.unwrap()
    }

    /// The same, and delivers its event.
    pub(crate) async fn merge_request(&self, files: &[(&str, &str)], is_fork: bool, author: &str) -> MergeRequest {
        let request = self.unannounced(files, is_fork, author).await;
        let payload = self.api.merge_request_payload(&request, "open", None);
        assert_eq!(self.api.deliver("Merge Request Hook", &payload).await.unwrap(), 202);
        request
    }

    /// The status of that name at a commit, once it is in this state.
    pub(crate) async fn status(&self, sha: &str, name: &str, state: &str) -> Status {
        let what = format!("`{name}` to be {state}");
        let found = self.api.wait_for(&what, DEADLINE, |api| {
            api.statuses(sha).into_iter().rev().find(|status| status.name == name && status.state() == state)
        });
        found.await.unwrap_or_else(|error| panic!("{error}; there are {:#?}", self.api.statuses(sha)))
    }

    /// The jobs of a commit.
    pub(crate) async fn jobs(&self, sha: &str) -> Vec<Job> {
        let path = format!("/v1/jobs?sha={sha}");
        http::get_from_socket(&self.service.control_socket(), &path).await.expect("the control socket answers")
    }

    /// What became of the deliveries, newest first.
    pub(crate) async fn deliveries(&self) -> Vec<Value> {
        http::get_from_socket(&self.service.control_socket(), "/v1/deliveries")
            .await
            .expect("the control socket answers")
    }

    /// The log page's text.
    pub(crate) async fn log(&self, status: &Status) -> String {
        let link = status.target_url.as_ref().unwrap();
        let path = link.strip_prefix(PUBLIC_URL).unwrap();
        let (code, text) = http::get(&format!("{}.txt", self.service.url(path))).await.unwrap();
        assert_eq!(code, 200, "{text}");
        text
    }

    /// Stops the service and fails if anything is left of it.
    pub(crate) async fn finish(mut self) {
        let status = self.service.stop().await;
        assert!(status.success(), "the service ended with {status}");
        leaks::assert_none(self.service.state_dir());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        leaks::end_all(self.service.state_dir());
    }
}

//! Tests of the store against real files.

#![allow(clippy::unwrap_used)]

mod approvals;
mod attempts;
mod deliveries;
mod foreign;
mod inbox;
mod jobs;
mod lifetime;
mod lookups;
mod model;
mod reports;
mod swept;
mod unfold;
mod upkeep;
mod workflow_jobs;

use serde_json::json;
use tempfile::TempDir;

use super::{DeliveryKey, DeliveryState, NewDelivery, NewJob, NewRun, Origin, Outcome, Store, Telling};
use crate::forge::{CommitSha, Conclusion, RepoAccess, RepoName, Report, ReportState};
use crate::ids::{JobId, LogToken, ReportId, RunId};

/// A store in a directory that vanishes with it.
struct TestStore {
    store: Store,
    directory: TempDir,
}

impl std::ops::Deref for TestStore {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

impl TestStore {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("dayfly.db")).await.unwrap();
        Self { store, directory }
    }

    /// The same file, opened again by a store that knows nothing of the first.
    async fn reopen(self) -> Self {
        let Self { store, directory } = self;
        drop(store);
        let store = Store::open(&directory.path().join("dayfly.db")).await.unwrap();
        Self { store, directory }
    }

    /// Accepts a delivery and creates one run with one job per key.
    async fn add_run(&self, delivery: &str, keys: &[&str]) -> NewRun {
        self.accept_delivery(new_delivery(delivery)).await.unwrap();
        let run = new_run("ci.yml", keys);
        self.create_runs(&key(delivery), vec![run.clone()], DeliveryState::Processed, 100).await.unwrap();
        run
    }
}

fn key(id: &str) -> DeliveryKey {
    DeliveryKey { forge: "github".into(), id: id.into() }
}

fn new_delivery(id: &str) -> NewDelivery {
    NewDelivery { key: key(id), event: "push".into(), received_at: 10, payload: b"{}".to_vec() }
}

fn sha() -> CommitSha {
    CommitSha::parse(&"a1".repeat(20)).unwrap()
}

fn access() -> RepoAccess {
    RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: Some(7) }
}

fn new_report(context: &str) -> Report {
    Report {
        id: ReportId::random(),
        access: access(),
        sha: sha(),
        context: context.into(),
        state: ReportState::Queued,
        title: "Queued".into(),
        summary: String::new(),
        log: "this is never stored".into(),
        annotations: Vec::new(),
        coverage: None,
        place: crate::forge::ReportPlace::default(),
        details_url: None,
        started_at: None,
        finished_at: None,
    }
}

fn new_job(key: &str) -> NewJob {
    NewJob {
        id: JobId::random(),
        key: key.into(),
        name: key.to_uppercase(),
        spec: json!({ "steps": [key] }),
        needs: vec![],
        profile: Some("linux".into()),
        log_token: LogToken::random(),
        report: new_report(&format!("dayfly/ci/{key}")),
        telling: Telling::AtOnce,
        outcome: None,
    }
}

fn new_run(path: &str, keys: &[&str]) -> NewRun {
    NewRun {
        id: RunId::random(),
        forge: "github".into(),
        access: access(),
        event: "push".into(),
        sha: sha(),
        workflow_path: path.into(),
        workflow_name: "ci".into(),
        context: json!({ "actor": "octocat" }),
        origin: Origin::default(),
        report: None,
        called: Vec::new(),
        jobs: keys.iter().map(|key| new_job(key)).collect(),
    }
}

fn outcome(conclusion: Conclusion) -> Outcome {
    Outcome { conclusion, reason: None, detail: String::new() }
}

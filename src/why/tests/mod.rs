//! What people are told, in every situation.

#![allow(clippy::unwrap_used)]

mod commits;
mod jobs;

use serde_json::{Value, json};

use super::*;
use crate::forge::{CommitSha, Conclusion, ExternalIds, RepoAccess, RepoName, Report};
use crate::ids::{JobId, LogToken, ReportId, RunId, VmId};
use crate::scheduler::plan::{self, Disk, Gate, Limits, Reserve, Size, Snapshot, Stage};
use crate::store::{Delivery, DeliveryKey, DeliveryState, GroupPlace, Origin, Outcome, Reason};

const NOW: i64 = 10_000_000;

fn ago_min(minutes: i64) -> i64 {
    NOW - minutes * 60_000
}

fn id(letter: char) -> JobId {
    format!("job-{}", letter.to_string().repeat(12)).parse().unwrap()
}

fn run_id() -> RunId {
    format!("run-{}", "r".repeat(12)).parse().unwrap()
}

fn sha() -> CommitSha {
    CommitSha::parse(&"4f2a91c0".repeat(5)).unwrap()
}

fn access() -> RepoAccess {
    RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: None }
}

fn run() -> Run {
    Run {
        id: run_id(),
        forge: "github".into(),
        delivery: DeliveryKey { forge: "github".into(), id: "d".into() },
        access: access(),
        event: "pull_request".into(),
        sha: sha(),
        workflow_path: ".dayfly/workflows/ci.yml".into(),
        workflow_name: "CI".into(),
        context: Value::Null,
        origin: Origin::default(),
        number: 12,
        created_at: ago_min(9),
    }
}

fn job(letter: char, key: &str, state: JobState) -> Job {
    Job {
        id: id(letter),
        run: run_id(),
        key: key.into(),
        name: key.into(),
        spec: Value::Null,
        needs: Vec::new(),
        profile: Some("linux".into()),
        state,
        attempt: 1,
        vm: matches!(state, JobState::Leased | JobState::Running).then(|| "vm-000000000000".parse().unwrap()),
        outcome: None,
        outputs: Value::Null,
        log_token: LogToken::random(),
        report: ReportId::random(),
        created_at: ago_min(9),
        queued_at: Some(ago_min(8)),
        started_at: (state == JobState::Running).then(|| ago_min(5)),
        finished_at: None,
        cancel_requested: false,
        cancel_why: None,
    }
}

fn finished(letter: char, key: &str, conclusion: Conclusion, reason: Option<Reason>, detail: &str) -> Job {
    let outcome = Some(Outcome { conclusion, reason, detail: detail.to_owned() });
    let (started_at, finished_at) = (Some(ago_min(5)), Some(ago_min(2)));
    Job { outcome, started_at, finished_at, ..job(letter, key, JobState::Finished) }
}

fn profile() -> Profile {
    Profile {
        name: "linux".into(),
        labels: vec!["linux".into()],
        image: "base".into(),
        vcpus: 2,
        memory: 512 << 20,
        disk: 1 << 30,
        timeout: Duration::from_secs(3600),
        log_limit: 1 << 20,
        cache: None,
        matrix_fork: crate::config::MatrixFork::Off,
        pool: None,
        prepare: None,
        egress: Default::default(),
        reports: Vec::new(),
        executor: crate::config::Executor::Native,
    }
}

fn report(state: ReportState, title: &str) -> StoredReport {
    let desired = Report {
        id: ReportId::random(),
        access: access(),
        sha: sha(),
        context: "dayfly/CI/test".into(),
        state,
        title: title.into(),
        summary: String::new(),
        log: String::new(),
        annotations: Vec::new(),
        coverage: None,
        place: crate::forge::ReportPlace::default(),
        details_url: None,
        started_at: None,
        finished_at: None,
    };
    StoredReport {
        desired,
        forge: "github".into(),
        run: run_id(),
        job: None,
        version: 3,
        sent_version: 3,
        external: ExternalIds::default(),
        uncertain: false,
        tries: 0,
        next_try_at: 0,
        abandoned: None,
    }
}

/// The answer as a terminal shows it.
fn shown(answer: &Answer) -> String {
    let mut text = format!("[{}] {}", answer.code, answer.headline);
    for fact in &answer.facts {
        text.push_str(&format!("\n    {}: {}", fact.name, fact.text));
    }
    text + &answer.hint.as_ref().map_or_else(String::new, |hint| format!("\n    hint: {hint}"))
}

/// A question about a job of which nothing special is known.
struct Asked {
    job: Job,
    siblings: Vec<Job>,
    events: Vec<JobEvent>,
    report: Option<StoredReport>,
    image: Readiness,
    own_limit: Option<Duration>,
    has_profile: bool,
    snapshot: Option<Snapshot>,
}

impl Asked {
    fn about(job: Job) -> Self {
        let (siblings, events) = (Vec::new(), Vec::new());
        let image = Readiness::Ready;
        Self { job, siblings, events, report: None, image, own_limit: None, has_profile: true, snapshot: None }
    }

    fn answer(&self) -> String {
        let (run, profile) = (run(), profile());
        let outlook = self
            .snapshot
            .as_ref()
            .and_then(|snapshot| Outlook::of(&self.job.id, snapshot, &plan::plan(snapshot, |_, _| Gate::Run)));
        let answer = about_job(&JobQuestion {
            now: NOW,
            job: &self.job,
            run: &run,
            siblings: &self.siblings,
            outlook,
            profile: self.has_profile.then_some(&profile),
            image: self.image,
            own_limit: self.own_limit,
            events: &self.events,
            report: self.report.as_ref(),
            attempts: 3,
        });
        shown(&answer)
    }
}

fn planned(letter: char, repo: &str, stage: Stage, memory_mib: u64) -> plan::Job {
    plan::Job {
        id: id(letter),
        run: RunId::random(),
        repo: RepoName::parse(repo).unwrap(),
        key: letter.to_string(),
        needs: Vec::new(),
        stage,
        profile: Some("linux".into()),
        size: Size { memory_mib, vcpus: 2 },
        group: None,
        own_group: None,
        is_entered: false,
        starts_from: None,
        matrix: None,
        has_failed: false,
        is_ending: false,
    }
}

fn queued(letter: char, repo: &str, minutes: i64, memory_mib: u64) -> plan::Job {
    planned(letter, repo, Stage::Queued { since: ago_min(minutes) }, memory_mib)
}

/// One VM of another repository runs; `b`, and perhaps others, are queued.
fn snapshot(limits: Limits, jobs: &[plan::Job]) -> Snapshot {
    let busy = planned('q', "demo/other", Stage::Occupying, 512);
    Snapshot { now: NOW, limits, disk: None, reserve: Vec::new(), jobs: [&[busy][..], jobs].concat() }
}

fn event(kind: &str, minutes: i64, detail: &str) -> JobEvent {
    JobEvent { attempt: 1, at_us: ago_min(minutes) * 1000, kind: kind.into(), detail: detail.into() }
}

//! What people are told, in every situation.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::forge::{CommitSha, Conclusion, ExternalIds, RepoAccess, RepoName, Report};
use crate::ids::{JobId, LogToken, ReportId, RunId};
use crate::scheduler::plan::{self, Gate, Limits, Size, Snapshot, Stage};
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
        size: Size { memory_mib, vcpus: 2 },
        group: None,
    }
}

fn queued(letter: char, repo: &str, minutes: i64, memory_mib: u64) -> plan::Job {
    planned(letter, repo, Stage::Queued { since: ago_min(minutes) }, memory_mib)
}

/// One VM of another repository runs; `b`, and perhaps others, are queued.
fn snapshot(limits: Limits, jobs: &[plan::Job]) -> Snapshot {
    let busy = planned('q', "demo/other", Stage::Occupying, 512);
    Snapshot { now: NOW, limits, jobs: [&[busy][..], jobs].concat() }
}

#[test]
fn a_job_that_waits_for_others_names_them() {
    let mut waiting = job('b', "deploy", JobState::Waiting);
    waiting.needs = vec!["test".into(), "lint".into()];
    let siblings = vec![
        job('c', "test", JobState::Running),
        finished('d', "lint", Conclusion::Success, None, ""),
        waiting.clone(),
    ];
    let run = RunId::random();
    let member = |letter, key: &str, stage, needs: &[&str]| plan::Job {
        run: run.clone(),
        key: key.into(),
        needs: needs.iter().map(ToString::to_string).collect(),
        ..planned(letter, "demo/hello", stage, 512)
    };
    let limits = Limits { max_vms: 2, memory_mib: 4096, vcpus: 8 };
    let jobs = [
        member('b', "deploy", Stage::Waiting, &["test", "lint"]),
        member('c', "test", Stage::Occupying, &[]),
        member('d', "lint", Stage::Finished(Conclusion::Success), &[]),
    ];
    let mut asked = Asked { siblings, snapshot: Some(snapshot(limits, &jobs)), ..Asked::about(waiting) };
    insta::assert_snapshot!(asked.answer(), @"
    [waiting_for_needs] It waits for `test` to end
        needs: `test` (job-cccccccccccc): running for 5 min
        created: 9 min ago
        hint: `dayfly why job-cccccccccccc` tells what that one is at
    ");
    let place = |order| {
        Some(GroupPlace {
            group: "deploy".into(),
            order: (order, 0),
            root: RunId::random(),
            label: "run #11 of CI".into(),
        })
    };
    let grouped = [
        plan::Job { group: place(2), ..planned('b', "demo/hello", Stage::Waiting, 512) },
        plan::Job { group: place(1), ..planned('c', "demo/hello", Stage::Occupying, 512) },
    ];
    asked.snapshot = Some(snapshot(limits, &grouped));
    insta::assert_snapshot!(asked.answer(), @"
    [waiting_for_group] It waits for its turn in the concurrency group `deploy`: run #11 of CI is not over
        created: 9 min ago
        hint: `concurrency` in the workflow says so; with `cancel-in-progress` the newer run ends the older one
    ");
    asked.snapshot = None;
    insta::assert_snapshot!(asked.answer(), @"
    [deciding] All that it needs has ended: it is decided on at once
        created: 9 min ago
    ");
}

#[test]
fn a_queued_job_says_what_it_lacks() {
    let ample = Limits { max_vms: 4, memory_mib: 4096, vcpus: 8 };
    let own = || queued('b', "demo/hello", 3, 512);
    let situations = [
        ("nothing", snapshot(ample, &[own()])),
        (
            "VMs",
            snapshot(
                Limits { max_vms: 1, ..ample },
                &[
                    own(),
                    queued('c', "demo/hello", 5, 512),
                    queued('d', "demo/other", 9, 512),
                    queued('f', "demo/x", 1, 1),
                ],
            ),
        ),
        ("memory", snapshot(Limits { memory_mib: 900, ..ample }, &[own()])),
        ("vCPUs", snapshot(Limits { vcpus: 3, ..ample }, &[own()])),
        ("kept", snapshot(Limits { memory_mib: 1100, ..ample }, &[own(), queued('c', "demo/hello", 5, 1000)])),
    ];
    let answers = situations.map(|(name, snapshot)| {
        let asked = Asked { snapshot: Some(snapshot), ..Asked::about(job('b', "test", JobState::Queued)) };
        format!("-- {name}\n{}", asked.answer())
    });
    insta::assert_snapshot!(answers.join("\n"), @"
    -- nothing
    [starting] Its turn has come: it gets its VM at once
        queued: 8 min ago
        queue: no other job was queued before it
        VMs: 1 of 4 are busy
    -- VMs
    [waiting_for_vm] It waits for a VM: 1 of 1 are busy
        queued: 8 min ago
        queue: 2 other jobs queued before it, 1 of demo/hello
        VMs: 1 of 1 are busy
        hint: `dayfly vms` shows who has them; `limits.max_vms` is how many there may be
    -- memory
    [waiting_for_memory] It waits for memory: it takes 512 MiB, 388 MiB are free
        queued: 8 min ago
        queue: no other job was queued before it
        VMs: 1 of 4 are busy
        hint: `dayfly vms` shows who has it; `memory` of the profile `linux` is what it takes
    -- vCPUs
    [waiting_for_vcpus] It waits for processors: it takes 2 vCPUs, 1 are free
        queued: 8 min ago
        queue: no other job was queued before it
        VMs: 1 of 4 are busy
        hint: `dayfly vms` shows who has them; `vcpus` of the profile `linux` is what it takes
    -- kept
    [waiting_behind] It waits behind `job-cccccccccccc`, which has waited longer and needs more room
        queued: 8 min ago
        queue: 1 other job queued before it, 1 of demo/hello
        VMs: 1 of 4 are busy
        hint: `dayfly why job-cccccccccccc` tells what that one waits for
    ");
}

fn event(kind: &str, minutes: i64, detail: &str) -> JobEvent {
    JobEvent { attempt: 1, at_us: ago_min(minutes) * 1000, kind: kind.into(), detail: detail.into() }
}

#[test]
fn a_job_with_a_vm_says_what_it_is_at() {
    let leased =
        || Asked { events: vec![event("vm_requested", 2, "vm-0")], ..Asked::about(job('b', "test", JobState::Leased)) };
    let running =
        |events: &[JobEvent]| Asked { events: events.to_vec(), ..Asked::about(job('b', "test", JobState::Running)) };
    let started = event("step_started", 3, "2 Run make test");
    let mut cancelled = running(std::slice::from_ref(&started));
    cancelled.job.cancel_requested = true;
    let mut second = running(&[event("job_queued", 8, ""), started.clone()]);
    second.job.attempt = 2;
    second.events.push(JobEvent { attempt: 2, ..event("job_queued", 6, "the service restarted while it ran") });
    let asked = [
        ("image", Asked { image: Readiness::BeingMade, ..leased() }),
        ("restore", leased()),
        ("first", running(&[])),
        ("step", running(&[event("step_finished", 4, "1 success"), started.clone()])),
        ("own limit", Asked { own_limit: Some(Duration::from_secs(600)), ..running(std::slice::from_ref(&started)) }),
        ("between", running(&[started.clone(), event("step_finished", 1, "2 success")])),
        ("ending", running(&[started, event("vm_paused", 0, "")])),
        ("cancelled", cancelled),
        ("second attempt", second),
    ];
    let answers = asked.map(|(name, asked)| format!("-- {name}\n{}", asked.answer()));
    insta::assert_snapshot!(answers.join("\n"), @"
    -- image
    [image_being_made] Its image `base` is being built or baked
        VM: vm-000000000000
        requested: 2 min ago
        hint: the first job after a change of the image or the profile waits for this, minutes at most; `dayfly image bake` does it before
    -- restore
    [vm_being_made] Its VM is being restored
        VM: vm-000000000000
        requested: 2 min ago
    -- first
    [preparing] It has its VM: its first step begins at once
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- step
    [running] It has been at step 2 `Run make test` for 3 min
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- own limit
    [running] It has been at step 2 `Run make test` for 3 min
        time: 5 min of at most 10m (its `timeout-minutes`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- between
    [running] It is between steps: step 2 has ended
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- ending
    [ending] Its steps have ended: its VM is being destroyed
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- cancelled
    [running] It has been at step 2 `Run make test` for 3 min
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        cancelled: somebody asked for its end; its steps have the grace period to clean up
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- second attempt
    [preparing] It has its VM: its first step begins at once
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        attempt: 2 of 3; before that, the service restarted while it ran
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    ");
}

#[test]
fn every_end_has_its_meaning_and_its_remedy() {
    use Conclusion::{Cancelled, Error, Failure, Skipped, Success, TimedOut};
    let ends = [
        (Success, None, "3 steps succeeded"),
        (Failure, None, "Step 2 `make test`: the step ended with exit code 2"),
        (TimedOut, Some(Reason::Timeout), "The job took longer than its limit of 1h"),
        (Error, Some(Reason::OutOfMemory), "Step 1 `make`: out of memory; the step ended with exit code 137"),
        (Error, Some(Reason::VmLost), "The VM was lost: the guest powered itself off"),
        (Cancelled, Some(Reason::Cancelled), "Cancelled"),
        (Error, Some(Reason::NoProfile), "no profile has `gpu`\n  hint: the labels here are `linux`"),
        (Error, Some(Reason::Workflow), "it needs `a`, which its run does not have"),
        (Error, Some(Reason::Image), "there is no image `x`"),
        (Error, Some(Reason::DiskFull), "could not begin a log: no space left"),
        (Error, Some(Reason::Internal), "No attempt left after 3: its progress could not be stored"),
        (Error, Some(Reason::ServiceRestarted), "No attempt left after 3: the service restarted while it ran"),
        (Skipped, Some(Reason::Skipped), "Skipped: its condition is not met, or a job that it needs did not succeed"),
    ];
    let answers = ends.map(|(conclusion, reason, detail)| {
        let mut asked = Asked::about(finished('b', "test", conclusion, reason, detail));
        asked.job.needs = vec!["build".into()];
        asked.siblings = vec![finished('c', "build", Failure, None, "")];
        asked.answer()
    });
    insta::assert_snapshot!(answers.join("\n"), @"
    [success] It succeeded: 3 steps succeeded
        ended: 2 min ago, after 3 min
    [failure] It failed: Step 2 `make test`: the step ended with exit code 2
        ended: 2 min ago, after 3 min
        hint: `dayfly logs job-bbbbbbbbbbbb` shows what its steps wrote
    [timeout] It timed out: The job took longer than its limit of 1h
        reason: it ran longer than it may
        ended: 2 min ago, after 3 min
        hint: `timeout` of the profile `linux` and the job's `timeout-minutes` say how long it may take
    [out_of_memory] It ended with an error: Step 1 `make`: out of memory; the step ended with exit code 137
        reason: its VM had no memory left, and the guest's kernel killed a process of the step
        ended: 2 min ago, after 3 min
        hint: give the profile `linux` more `memory` than 512 MiB
    [vm_lost] It ended with an error: The VM was lost: the guest powered itself off
        reason: its VM ended by itself or stopped answering
        ended: 2 min ago, after 3 min
        hint: its log ends with the machine's console: `dayfly logs job-bbbbbbbbbbbb`; `dayfly rerun job-bbbbbbbbbbbb` tries again
    [cancelled] Cancelled
        reason: somebody, or a newer run, asked for its end
        ended: 2 min ago, after 3 min
        hint: `dayfly rerun job-bbbbbbbbbbbb` runs it again
    [no_profile] It ended with an error: no profile has `gpu`
        reason: no profile that it may have offers all labels of its `runs-on`
        ended: 2 min ago, after 3 min
        hint: the labels here are `linux`
    [workflow] It ended with an error: it needs `a`, which its run does not have
        reason: its workflow cannot be evaluated
        ended: 2 min ago, after 3 min
        hint: mend `.dayfly/workflows/ci.yml` and push
    [image] It ended with an error: there is no image `x`
        reason: the image that its VM is made from is missing or does not start
        ended: 2 min ago, after 3 min
        hint: `dayfly image build base` shows what is wrong; then `dayfly rerun job-bbbbbbbbbbbb`
    [disk_full] It ended with an error: could not begin a log: no space left
        reason: a disk of the host was full
        ended: 2 min ago, after 3 min
        hint: free some space where `state_dir` is, then `dayfly rerun job-bbbbbbbbbbbb`
    [internal] It ended with an error: No attempt left after 3: its progress could not be stored
        reason: a fault of Dayfly, not of the job
        ended: 2 min ago, after 3 min
        hint: the service's log tells more; `dayfly rerun job-bbbbbbbbbbbb` tries again
    [service_restarted] It ended with an error: No attempt left after 3: the service restarted while it ran
        reason: the service restarted while it ran, and it had no attempt left
        ended: 2 min ago, after 3 min
        hint: `dayfly rerun job-bbbbbbbbbbbb` runs it again; `limits.attempts` says how often that happens by itself
    [skipped] Skipped: its condition is not met, or a job that it needs did not succeed
        reason: its `if` says so, or a job that it needs did not succeed
        needs: `build` (job-cccccccccccc): failed
        ended: 2 min ago, after 3 min
    ");
    let gone = Asked { has_profile: false, ..Asked::about(finished('b', "test", Error, Some(Reason::Image), "x")) };
    assert!(
        gone.answer().ends_with("hint: put the image right, then `dayfly rerun job-bbbbbbbbbbbb`"),
        "{}",
        gone.answer()
    );
}

#[test]
fn a_report_that_did_not_arrive_is_told() {
    let told = |change: fn(&mut StoredReport)| {
        let mut report = report(ReportState::Finished(Conclusion::Success), "");
        change(&mut report);
        let asked = Asked {
            report: Some(report),
            ..Asked::about(finished('b', "test", Conclusion::Success, None, "1 step succeeded"))
        };
        asked.answer().split_once("forge: ").unwrap().1.to_owned()
    };
    let lines = [
        told(|_| {}),
        told(|report| report.version = 4),
        told(|report| (report.version, report.tries, report.next_try_at) = (4, 1, NOW + 90_000)),
        told(|report| (report.version, report.tries) = (4, 5)),
        told(|report| (report.version, report.abandoned) = (4, Some("the commit is gone (422)\nmore".into()))),
    ];
    insta::assert_snapshot!(lines.join("\n"), @"
    github shows this
    not told yet; it is being sent
    not told yet: one try failed; the next is in 1 min
    not told yet: 5 tries failed; it is being sent
    github does not take its report: the commit is gone (422)
        hint: put right what the forge says; a restart of the service sends the report once more
    ");
}

fn delivery(state: DeliveryState, detail: &str, tries: u32) -> Delivery {
    Delivery {
        key: DeliveryKey { forge: "github".into(), id: "72d3162e".into() },
        event: "pull_request".into(),
        received_at: ago_min(4),
        state,
        detail: detail.into(),
        tries,
        denials: 0,
        next_try_at: NOW + 30_000,
    }
}

fn about(runs: &[RunFacts], deliveries: &[Delivery]) -> String {
    let sha = sha();
    shown(&about_commit(&CommitQuestion { now: NOW, sha: sha.as_str(), runs, deliveries }))
}

#[test]
fn a_commit_tells_its_runs_and_what_was_ignored() {
    let of = |jobs: Vec<Job>, report: Option<StoredReport>| RunFacts { run: run(), jobs, report };
    let held = of(vec![], Some(report(ReportState::Held, "Held: the pull request comes from a fork")));
    let mut unsent = report(ReportState::Finished(Conclusion::Error), "ci.yml:3: `job` is not known here");
    (unsent.version, unsent.abandoned) = (4, Some("403".into()));
    let good = finished('b', "test", Conclusion::Success, None, "");
    let ended = vec![good.clone(), finished('c', "lint", Conclusion::Failure, None, "")];
    let situations = [
        ("held", about(std::slice::from_ref(&held), &[])),
        ("running", about(&[of(vec![good, job('d', "deploy", JobState::Queued)], None), held], &[])),
        ("ended", about(&[of(ended, None), of(vec![], Some(unsent))], &[])),
        (
            "ignored",
            about(&[], &[delivery(DeliveryState::Ignored, "no workflow of the commit asks for this event", 0)]),
        ),
        ("failed", about(&[], &[delivery(DeliveryState::Failed, "the commit cannot be read\n  hint: x", 2)])),
        ("late", about(&[], &[delivery(DeliveryState::Received, "the forge did not answer", 3)])),
        ("new", about(&[], &[delivery(DeliveryState::Received, "", 0)])),
        ("unknown", about(&[], &[])),
    ];
    let situations = situations.map(|(name, answer)| format!("-- {name}\n{answer}"));
    insta::assert_snapshot!(situations.join("\n"), @"
    -- held
    [held] Commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0 is held: nothing of it runs until somebody approves it
        run: run-rrrrrrrrrrrr CI #12 of demo/hello, on pull_request, 9 min ago: Held: the pull request comes from a fork
        hint: `dayfly approve --repo demo/hello 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0` runs it
    -- running
    [held] Commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0 is held: nothing of it runs until somebody approves it
        run: run-rrrrrrrrrrrr CI #12 of demo/hello, on pull_request, 9 min ago: 2 jobs: 1 succeeded, 1 not ended
        run: run-rrrrrrrrrrrr CI #12 of demo/hello, on pull_request, 9 min ago: Held: the pull request comes from a fork
        hint: `dayfly approve --repo demo/hello 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0` runs it
    -- ended
    [ended] Commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0 has 2 runs, all ended
        run: run-rrrrrrrrrrrr CI #12 of demo/hello, on pull_request, 9 min ago: 2 jobs: 1 succeeded, 1 did not succeed
        run: run-rrrrrrrrrrrr CI #12 of demo/hello, on pull_request, 9 min ago: ended with an error: ci.yml:3: `job` is not known here
        forge: github does not take its report: 403
        hint: put right what the forge says; a restart of the service sends the report once more
    -- ignored
    [ignored] Commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0 has started nothing
        delivery: github/72d3162e pull_request, 4 min ago: ignored: no workflow of the commit asks for this event
        hint: each delivery below says why; `dayfly deliveries --redeliver ID` looks at one again
    -- failed
    [failed] An event about commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0 has arrived and could not be processed
        delivery: github/72d3162e pull_request, 4 min ago: failed: the commit cannot be read
        hint: put right what it says, then `dayfly deliveries --redeliver ID`
    -- late
    [not_processed] An event about commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0 has arrived and is not processed yet
        delivery: github/72d3162e pull_request, 4 min ago: 3 tries failed, the next is in 30 s: the forge did not answer
    -- new
    [not_processed] An event about commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0 has arrived and is not processed yet
        delivery: github/72d3162e pull_request, 4 min ago: about to be processed
    -- unknown
    [unknown] Nothing that arrived here names commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0
        hint: look at the webhook's recent deliveries on the forge; `dayfly deliveries` lists what arrived
    ");
}

#[test]
fn an_answer_survives_the_socket() {
    let answer = Answer::new("held", "It is held").fact("run", "one").hint("approve it");
    let text = json!(answer).to_string();
    assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    insta::assert_snapshot!(text, @r#"{"code":"held","headline":"It is held","facts":[{"name":"run","text":"one"}],"hint":"approve it"}"#);
}

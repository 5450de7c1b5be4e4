#![allow(clippy::unwrap_used)]

use super::*;
use crate::forge::{CommitSha, Conclusion, RepoAccess, RepoName};
use crate::ids::{LogToken, ReportId, RunId};
use crate::store::{DeliveryKey, Origin, Outcome, Rerun};
use crate::workflow::parse;
use crate::workflow::plan::{PlanInput, plan};

const WORKFLOW: &str = "
on: push
jobs:
  build: {runs-on: x, strategy: {matrix: {os: [a, b]}}, steps: [run: x]}
  lint: {runs-on: x, steps: [run: x]}
  test: {needs: build, runs-on: x, steps: [run: x]}
  deploy: {needs: [test, lint], runs-on: x, steps: [run: x]}
";

type Attempts = Vec<(Run, Vec<Job>)>;

fn run(attempts: &Attempts, carried: serde_json::Value) -> Run {
    let root = attempts.first().map(|(run, _)| run.id.clone());
    let rerun = root.map(|root| Rerun { root, attempt: attempts.len() as u32 + 1, number: 1, carried });
    Run {
        id: RunId::random(),
        forge: "github".to_owned(),
        delivery: DeliveryKey { forge: "github".to_owned(), id: "a".to_owned() },
        access: RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: None },
        event: "push".to_owned(),
        sha: CommitSha::parse(&"a1".repeat(20)).unwrap(),
        workflow_path: "ci.yml".to_owned(),
        workflow_name: "ci".to_owned(),
        context: serde_json::Value::Null,
        origin: Origin { rerun, ..Origin::default() },
        number: 1,
        created_at: 0,
    }
}

/// Adds an attempt with these jobs of the workflow, all of which ended like that.
fn attempt(attempts: &mut Attempts, names: &[&str], conclusion: Conclusion) {
    let added = run(attempts, serde_json::json!({}));
    let planned = plan(&parse("ci.yml", WORKFLOW).unwrap(), &PlanInput::default()).unwrap();
    let chosen = planned.into_iter().filter(|job| names.is_empty() || names.contains(&job.name.as_str()));
    let jobs = chosen.map(|planned| finished(&added, planned, conclusion)).collect();
    attempts.push((added, jobs));
}

fn finished(run: &Run, planned: PlannedJob, conclusion: Conclusion) -> Job {
    Job {
        id: JobId::random(),
        run: run.id.clone(),
        key: planned.key,
        name: planned.name,
        spec: serde_json::to_value(&planned.spec).unwrap(),
        needs: planned.needs,
        profile: None,
        state: JobState::Finished,
        attempt: 1,
        vm: None,
        outcome: Some(Outcome { conclusion, reason: None, detail: String::new() }),
        outputs: serde_json::Value::Null,
        log_token: LogToken::random(),
        report: ReportId::random(),
        created_at: 0,
        queued_at: None,
        started_at: None,
        finished_at: Some(1),
        cancel_requested: false,
        cancel_why: None,
    }
}

fn job<'a>(attempts: &'a Attempts, attempt: usize, name: &str) -> &'a Job {
    attempts[attempt].1.iter().find(|job| job.name == name).unwrap()
}

/// Makes a job of the first attempt a finished or a running one.
fn set(attempts: &mut Attempts, name: &str, conclusion: Option<Conclusion>) {
    let job = attempts[0].1.iter_mut().find(|job| job.name == name).unwrap();
    job.state = if conclusion.is_some() { JobState::Finished } else { JobState::Running };
    job.outcome = conclusion.map(|conclusion| Outcome { conclusion, reason: None, detail: String::new() });
}

/// The jobs, each with its needs and the attempt that it is made from; then what is carried.
fn told(attempts: &Attempts, chosen: Option<&JobId>) -> String {
    let repeat = match select(attempts, chosen) {
        Ok(repeat) => repeat,
        Err(why) => return why,
    };
    let from = |job: &Job| attempts.iter().position(|(run, _)| run.id == job.run).unwrap() + 1;
    let jobs = repeat.jobs.iter().map(|Repeated { job, needs, anew }| {
        let anew = anew.as_ref().map_or_else(String::new, |anew| format!(" as {}", anew.name));
        format!("{}@{} {needs:?}{anew}", job.name, from(job))
    });
    let carried = repeat.carried.iter().map(|(key, result)| format!("{key}={}", result.result.as_str()));
    jobs.chain(carried).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_job_is_repeated_with_all_that_come_after_it() {
    let mut attempts = Attempts::new();
    attempt(&mut attempts, &[], Conclusion::Success);
    insta::assert_snapshot!(told(&attempts, None), @r#"
    build (a)@1 []
    build (b)@1 []
    lint@1 []
    test@1 ["build"]
    deploy@1 ["test", "lint"]
    "#);
    insta::assert_snapshot!(told(&attempts, Some(&job(&attempts, 0, "lint").id)), @r#"
    lint@1 []
    deploy@1 ["lint"]
    build=success
    test=success
    "#);
    // One cell of a matrix: the other one's result still counts.
    insta::assert_snapshot!(told(&attempts, Some(&job(&attempts, 0, "build (b)").id)), @r#"
    build (b)@1 []
    test@1 ["build"]
    deploy@1 ["test"]
    build=success
    lint=success
    "#);
    assert_eq!(told(&attempts, Some(&JobId::random())), "the job is not one of the run");
}

#[test]
fn what_counts_of_a_job_is_its_newest_attempt() {
    let mut attempts = Attempts::new();
    attempt(&mut attempts, &[], Conclusion::Failure);
    attempt(&mut attempts, &["lint", "deploy"], Conclusion::Success);
    insta::assert_snapshot!(told(&attempts, Some(&job(&attempts, 0, "test").id)), @r#"
    test@1 []
    deploy@2 ["test"]
    build=failure
    lint=success
    "#);
    // Asked for by its first attempt.
    insta::assert_snapshot!(told(&attempts, Some(&job(&attempts, 0, "deploy").id)), @r"
    deploy@2 []
    build=failure
    lint=success
    test=failure
    ");
}

#[test]
fn what_was_carried_is_carried_on_when_the_first_attempts_are_forgotten() {
    let mut attempts = Attempts::new();
    attempt(&mut attempts, &[], Conclusion::Success);
    let carried = serde_json::json!({"build": {"result": "failure", "outputs": {"a": "b"}}});
    let second = run(&attempts, carried);
    attempt(&mut attempts, &["test", "deploy"], Conclusion::Success);
    attempts[1].0 = second;
    attempts.remove(0);
    let repeat = select(&attempts, Some(&job(&attempts, 0, "deploy").id)).unwrap();
    assert_eq!(repeat.carried["build"].outputs["a"], "b");
    assert_eq!(repeat.carried.keys().collect::<Vec<_>>(), ["build", "test"]);
}

#[test]
fn nothing_is_repeated_that_has_not_finished() {
    let mut attempts = Attempts::new();
    attempt(&mut attempts, &[], Conclusion::Success);
    set(&mut attempts, "deploy", None);
    for name in ["build (a)", "lint", "test", "deploy"] {
        assert_eq!(told(&attempts, Some(&job(&attempts, 0, name).id)), "the job `deploy` has not finished", "{name}");
    }
    // Cancelled before its turn, while what it needs goes on.
    set(&mut attempts, "deploy", Some(Conclusion::Cancelled));
    set(&mut attempts, "test", None);
    for name in ["lint", "deploy"] {
        assert_eq!(told(&attempts, Some(&job(&attempts, 0, name).id)), "the job `test` has not finished", "{name}");
    }
}

#[test]
fn what_is_being_repeated_is_known_by_its_newest_job() {
    let mut attempts = Attempts::new();
    attempt(&mut attempts, &[], Conclusion::Failure);
    let first = job(&attempts, 0, "lint").id.clone();
    assert_eq!(unfinished_repetition(&attempts, &first), None);
    attempt(&mut attempts, &["lint"], Conclusion::Failure);
    assert_eq!(unfinished_repetition(&attempts, &first), None, "it has ended as well");
    attempts[1].1[0].state = JobState::Running;
    let second = job(&attempts, 1, "lint").id.clone();
    assert_eq!(unfinished_repetition(&attempts, &first), Some(&second));
    assert_eq!(unfinished_repetition(&attempts, &second), None, "it is no repetition of itself");
    assert_eq!(unfinished_repetition(&attempts, &job(&attempts, 0, "test").id.clone()), None);
    assert_eq!(unfinished_repetition(&attempts, &JobId::random()), None);
}

#[test]
fn a_job_that_became_others_in_a_later_attempt_is_those() {
    let mut attempts = Attempts::new();
    attempt(&mut attempts, &["lint"], Conclusion::Failure);
    // What `build` was as long as its needs had not ended.
    let cell = attempts[0].1[0].clone();
    let waiting = Job { id: JobId::random(), key: "build".into(), name: "build".into(), ..cell };
    let waiting = Job { spec: serde_json::json!({ "unexpanded": true }), ..waiting };
    attempts[0].1.push(waiting);
    attempt(&mut attempts, &["build (a)", "build (b)", "lint"], Conclusion::Success);
    let names: Vec<&str> = newest_by_name(&attempts).into_iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["lint", "build (a)", "build (b)"]);
    attempts.truncate(1);
    assert_eq!(newest_by_name(&attempts).len(), 2);
}

const COMPUTED: &str = "
on: push
jobs:
  list: {runs-on: x, outputs: {all: x}, steps: [run: x]}
  test: {needs: list, runs-on: x, strategy: {matrix: {n: '${{ fromJSON(needs.list.outputs.all) }}'}}, steps: [run: x]}
  after: {needs: test, runs-on: x, steps: [run: x]}
";

/// Adds an attempt whose matrix has these cells, or is not computed yet.
fn computed(attempts: &mut Attempts, cells: Option<&str>, names: &[&str], carried: serde_json::Value) {
    let added = run(attempts, carried);
    let planned = plan(&parse("ci.yml", COMPUTED).unwrap(), &PlanInput::default()).unwrap();
    let mut jobs = Vec::new();
    for planned in planned {
        let needs = || {
            let outputs = [("all".to_owned(), cells.unwrap_or_default().to_owned())].into();
            let list = NeedResult { result: crate::workflow::contexts::Outcome::Success, outputs };
            crate::workflow::gate::NeedsResults { jobs: [("list".to_owned(), list)].into(), cancelled: false }
        };
        match planned.spec.unexpanded && cells.is_some() {
            true => {
                let github = crate::workflow::expression::Value::Null;
                jobs.extend(
                    crate::workflow::plan::expand(&planned.spec, &github, &needs(), Default::default()).unwrap(),
                );
            }
            false => jobs.push(planned),
        }
    }
    let chosen = jobs.into_iter().filter(|job| names.is_empty() || names.contains(&job.name.as_str()));
    let jobs = chosen.map(|planned| finished(&added, planned, Conclusion::Success)).collect();
    attempts.push((added, jobs));
}

#[test]
fn what_was_computed_from_jobs_that_run_again_is_computed_anew() {
    let none = serde_json::json!({});
    let mut attempts = Attempts::new();
    computed(&mut attempts, Some("[1, 2]"), &[], none.clone());
    insta::assert_snapshot!(told(&attempts, None), @r#"
    list@1 []
    test (1)@1 ["list"] as test
    after@1 ["test"]
    "#);
    let list = job(&attempts, 0, "list").id.clone();
    assert_eq!(told(&attempts, Some(&list)), told(&attempts, None), "the matrix may become another");
    let one = job(&attempts, 0, "test (2)").id.clone();
    insta::assert_snapshot!(told(&attempts, Some(&one)), @r#"
    test (2)@1 []
    after@1 ["test"]
    list=success
    test=success
    "#);
    // The second attempt had another cell; that of the first is no more.
    computed(&mut attempts, Some("[2, 3]"), &[], none.clone());
    let one = job(&attempts, 1, "test (3)").id.clone();
    insta::assert_snapshot!(told(&attempts, Some(&one)), @r#"
    after@2 ["test"]
    test (3)@2 []
    list=success
    test=success
    "#);
    // One cell alone leaves the others what they are.
    let carried =
        serde_json::json!({"list": {"result": "success", "outputs": {}}, "test": {"result": "success", "outputs": {}}});
    computed(&mut attempts, Some("[2, 3]"), &["test (3)", "after"], carried);
    insta::assert_snapshot!(told(&attempts, Some(&one)), @r#"
    after@3 ["test"]
    test (3)@3 []
    list=success
    test=success
    "#);
    computed(&mut attempts, None, &[], none);
    insta::assert_snapshot!(told(&attempts, None), @r#"
    list@4 []
    after@4 ["test"]
    test@4 ["list"]
    "#);
}

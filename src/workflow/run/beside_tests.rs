#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{job, script};
use super::*;

/// Stands in for the driver: each step ends with the code that its script ends in, whenever `choices` say so.
struct Driver {
    run: JobRun,
    running: Vec<(Box<StepPlan>, Box<JobRun>)>,
    ended_by_step: BTreeSet<usize>,
    choices: Vec<usize>,
    most: usize,
    /// What the steps that are not in the background saw, and how each step ended.
    seen: Vec<String>,
    ends: Vec<String>,
}

fn result(plan: &StepPlan, is_cancelled: bool) -> StepResult {
    let code = script(plan).0.rsplit(' ').next().and_then(|code| code.parse().ok()).unwrap_or_default();
    let file = |name: &str| format!("{name}_{}={}\n", plan.index, plan.index).into_bytes();
    StepResult {
        env: file("ENV"),
        output: b"said=words\n".to_vec(),
        path: format!("/bin/{}\n", plan.index).into_bytes(),
        summary: format!("# {}\n", plan.index).into_bytes(),
        ..StepResult::new(if is_cancelled { StepEnd::Cancelled } else { StepEnd::Exited(code) })
    }
}

impl Driver {
    fn new(steps: &str, choices: &[usize]) -> Self {
        let run = job("", &format!("    steps:\n{steps}"));
        let (running, seen, ends) = (Vec::new(), Vec::new(), Vec::new());
        Self { run, running, ended_by_step: BTreeSet::new(), choices: choices.to_vec(), most: 0, seen, ends }
    }

    fn choose(&mut self, of: usize) -> usize {
        let choice = self.choices.pop().unwrap_or_default();
        self.choices.insert(0, choice);
        choice % of
    }

    fn start(&mut self) {
        while let Some(ready) = self.run.ready() {
            match ready {
                Ready::Start(plan, run) => self.running.push((plan, run)),
                Ready::GivenUp(report) => self.ends.push(format!("{} {:?}", report.index, report.conclusion)),
            }
        }
        self.most = self.most.max(self.running.len());
    }

    fn end_one(&mut self, is_cancelled: bool) {
        let chosen = self.choose(self.running.len());
        let (plan, mut run) = self.running.swap_remove(chosen);
        let by_step = self.ended_by_step.contains(&plan.index);
        let report = run.finish_step(result(&plan, is_cancelled || by_step)).unwrap();
        self.ends.push(format!("{} {:?}", report.index, report.conclusion));
        self.run.take_back(*run, &report);
        self.start();
    }

    /// Runs the job; cancels it before what comes at this place, if it gets there.
    fn all(mut self, cancelled_at: usize) -> (Self, JobEnd) {
        for turn in 0.. {
            assert!(turn < 1000, "the job does not end");
            let is_cancelled = turn >= cancelled_at;
            if is_cancelled {
                self.run.cancel();
                self.start();
            }
            match self.run.next_step() {
                Next::Done => break,
                Next::Aside => self.start(),
                Next::Wait(plan) => {
                    self.run.begin_wait(&plan);
                    if plan.cancels {
                        self.ended_by_step.extend(&plan.steps);
                    }
                    self.start();
                    while !self.run.is_met(&plan) {
                        self.end_one(is_cancelled);
                    }
                    if let Some(report) = self.run.finish_wait(&plan) {
                        self.ends.push(format!("{} {:?} {:?}", report.index, report.conclusion, report.errors));
                    }
                }
                Next::Run(plan) => {
                    let mut apart = self.run.apart();
                    let beside = self.choose(4).min(self.running.len());
                    (0..beside).for_each(|_| {
                        if !self.running.is_empty() {
                            self.end_one(is_cancelled)
                        }
                    });
                    let mut env = plan.env.clone();
                    env.retain(|name, _| name.starts_with("ENV_"));
                    self.seen.push(format!("{} {env:?} {:?}", script(&plan).0, plan.path_additions));
                    let report = apart.finish_step(result(&plan, false)).unwrap();
                    self.ends.push(format!("{} {:?}", report.index, report.conclusion));
                    self.run.go_on_as(apart);
                }
                Next::Skipped(report) | Next::Failed(report) => {
                    self.ends.push(format!("{} {:?}", report.index, report.conclusion));
                }
                Next::HashFiles(_) => panic!("nothing is hashed"),
            }
        }
        assert!(self.running.is_empty(), "steps are left behind");
        self.ends.sort();
        let end = self.run.clone().finish();
        (self, end)
    }
}

#[test]
fn what_a_step_in_the_background_said_counts_once_it_was_waited_for() {
    let (driver, end) = Driver::new(
        "    - {id: a, run: x 0, background: true}
    - run: before ${{ steps.a.outputs.said }} ${{ env.ENV_0 }} 0
    - wait: a
    - run: after ${{ steps.a.outputs.said }} ${{ env.ENV_0 }} 0
",
        &[3],
    )
    .all(usize::MAX);
    insta::assert_snapshot!(driver.seen.join("\n"), @r#"
    before   0 {} []
    after words 0 0 {"ENV_0": "0", "ENV_1": "1"} ["/bin/0", "/bin/1"]
    "#);
    assert_eq!((end.outcome, end.summary.as_str()), (Outcome::Success, "# 1\n# 0\n# 3\n"));
}

#[test]
fn a_failure_counts_where_it_is_met_and_in_the_end_whatever_tolerated_it_there() {
    for (steps, seen, outcome) in [
        // It is met by the step that waits; the steps before that do not know.
        ("{id: a, run: 1, background: true}|run: 0|wait: a|run: 0", vec!["0"], Outcome::Failure),
        ("{id: a, run: 1, background: true}|{wait: a, continue-on-error: true}|run: 0", vec!["0"], Outcome::Failure),
        ("{id: a, run: 1, background: true, continue-on-error: true}|wait: a|run: 0", vec!["0"], Outcome::Success),
        ("{id: a, run: 1, background: true}|run: 0", vec!["0"], Outcome::Failure),
        ("{run: 1, background: true}|wait-all:|{run: 2, if: failure()}|run: 0", vec!["2"], Outcome::Failure),
        ("parallel: [{run: 0}, {run: 1}]|run: 0", vec![], Outcome::Failure),
        ("parallel: [{run: 0}, {run: 0}]|run: 0", vec!["0"], Outcome::Success),
        // A wait comes whatever came before it.
        (
            "{id: a, run: 0, background: true}|run: 1|wait: a|{run: 0, if: steps.a.outcome == 'success' && always()}",
            vec!["1", "0"],
            Outcome::Failure,
        ),
        // One that ended before it was cancelled has ended so.
        ("{id: a, run: 1, background: true}|run: 0|cancel: a|run: 0", vec!["0", "0"], Outcome::Failure),
        (
            "{id: a, run: 1, background: true}|cancel: a|{run: 0, if: steps.a.outcome == 'cancelled'}|wait: a",
            vec!["0"],
            Outcome::Success,
        ),
        // Passed over, or not in the background: there is nothing to wait for.
        ("{id: a, run: 1, background: true, if: false}|wait: a|cancel: a|run: 0", vec!["0"], Outcome::Success),
        ("{id: a, run: 0}|wait: [a]|wait-all: true|run: 0", vec!["0", "0"], Outcome::Success),
    ] {
        let text: String = steps.split('|').map(|step| format!("    - {step}\n")).collect();
        // During the second step all that run in the background end, or none does.
        let (driver, end) = Driver::new(&text, &[3]).all(usize::MAX);
        let ran: Vec<&str> = driver.seen.iter().map(|seen| seen.split(' ').next().unwrap()).collect();
        assert_eq!((ran, end.outcome), (seen, outcome), "{steps}");
    }
}

#[test]
fn steps_in_line_begin_when_there_is_a_place_and_not_after_a_cancellation() {
    let steps: String = (0..15).map(|n| format!("    - {{id: s{n}, run: 0, background: true}}\n")).collect();
    let (driver, end) = Driver::new(&format!("{steps}    - cancel: s14\n    - run: 0\n"), &[1]).all(usize::MAX);
    assert_eq!((driver.most, end.outcome), (MAX_BESIDE, Outcome::Success));
    assert!(driver.ends.contains(&"14 Cancelled".to_owned()), "{:?}", driver.ends);
    let (driver, end) = Driver::new(&steps, &[1]).all(15);
    assert_eq!(driver.ends.iter().filter(|end| end.ends_with("Cancelled")).count(), 15);
    assert_eq!(end.outcome, Outcome::Cancelled);
    let always: String = (0..3).map(|_| "    - {run: 0, background: true, if: always()}\n".to_owned()).collect();
    let (driver, _) = Driver::new(&format!("{steps}{always}"), &[1]).all(15);
    assert_eq!(driver.ends.len(), 18, "what wants to run after a cancellation does");
}

/// A step, by numbers; `steps` are those before it that run in the background.
fn step(at: usize, kind: usize, pick: usize, background: &mut Vec<usize>) -> String {
    let code = usize::from(pick.is_multiple_of(4));
    let target = background.get(pick % background.len().max(1)).copied();
    match (kind % 8, target) {
        (0..=2, _) => {
            background.push(at);
            format!(
                "    - {{id: s{at}, run: x {code}, background: true, continue-on-error: {}}}\n",
                pick.is_multiple_of(3)
            )
        }
        (3, Some(target)) => format!("    - {{wait: s{target}, continue-on-error: {}}}\n", pick.is_multiple_of(2)),
        (4, _) => "    - wait-all:\n".to_owned(),
        (5, _) => format!("    - parallel: [{{run: x 0}}, {{run: x {code}}}]\n"),
        _ => format!("    - {{id: s{at}, run: 'y ${{{{ toJSON(steps) }}}} {code}', if: '!cancelled()'}}\n"),
    }
}

fn steps() -> impl Strategy<Value = String> {
    prop::collection::vec((any::<usize>(), any::<usize>()), 1..20).prop_map(|kinds| {
        let mut background = Vec::new();
        let steps = kinds.into_iter().enumerate().map(|(at, (kind, pick))| step(at, kind, pick, &mut background));
        steps.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_ends_makes_no_difference(
        steps in steps(), one in prop::collection::vec(0_usize..100, 1..8), other in prop::collection::vec(0_usize..100, 1..8),
    ) {
        let (first, first_end) = Driver::new(&steps, &one).all(usize::MAX);
        let (second, second_end) = Driver::new(&steps, &other).all(usize::MAX);
        prop_assert_eq!(&first.seen, &second.seen);
        prop_assert_eq!(&first.ends, &second.ends);
        prop_assert_eq!((first_end.outcome, first_end.summary), (second_end.outcome, second_end.summary));
        prop_assert!(first.most <= MAX_BESIDE && second.most <= MAX_BESIDE);
    }

    #[test]
    fn a_cancelled_job_ends_with_all_that_it_began(
        steps in steps(), choices in prop::collection::vec(0_usize..100, 1..8), at in 0_usize..20,
    ) {
        let (driver, end) = Driver::new(&steps, &choices).all(at);
        prop_assert!(driver.most <= MAX_BESIDE);
        prop_assert!(driver.ends.len() >= driver.run.step_count(), "a step has no end: {:?}", driver.ends);
        prop_assert!(end.outcome == Outcome::Cancelled || driver.ends.len() == driver.run.step_count());
    }
}

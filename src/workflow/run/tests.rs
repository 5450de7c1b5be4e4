#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::workflow::file_commands::MAX_FILE_BYTES;
use crate::workflow::parse;
use crate::workflow::plan::{PlanInput, plan};

fn place() -> JobPlace {
    JobPlace {
        github: GithubContext {
            event_name: "push".into(),
            event: json!({"number": 7}).into(),
            sha: "0123".into(),
            job: "a".into(),
            workspace: "/guest/repo".into(),
            ..GithubContext::default()
        },
        runner: RunnerContext {
            name: "vm".into(),
            os: "Linux".into(),
            arch: "X64".into(),
            temp: "/guest/temp".into(),
            tool_cache: "/opt/tools".into(),
        },
        values: Values::default(),
        needs: NeedsResults::default(),
        command_directory: "/guest/commands".into(),
    }
}

/// The job `a` of a workflow; `job` is what stands under `a:`, indented by four.
fn try_job(head: &str, job: &str) -> Result<JobRun, Diagnostic> {
    let text = format!("on: push\n{head}\njobs:\n  a:\n    runs-on: linux\n{job}");
    let workflow = parse("ci.yml", &text).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let place = place();
    let input = PlanInput { github: place.github.to_value(), ..PlanInput::default() };
    let spec = plan(&workflow, &input).unwrap().remove(0).spec;
    JobRun::new(spec, place)
}

pub(super) fn job(head: &str, job: &str) -> JobRun {
    try_job(head, job).unwrap()
}

pub(super) fn expect_run(run: &mut JobRun) -> StepPlan {
    match run.next_step() {
        Next::Run(plan) => *plan,
        other => panic!("a step runs, not {other:?}"),
    }
}

pub(super) fn script(plan: &StepPlan) -> (&str, String, &str) {
    match &plan.action {
        StepAction::Script { text, argv, working_directory, .. } => (text, argv.join(" "), working_directory),
        other => panic!("a script, not {other:?}"),
    }
}

pub(super) fn end(run: &mut JobRun, code: i32) -> StepReport {
    run.finish_step(StepResult::new(StepEnd::Exited(code))).unwrap()
}

/// Runs all steps; each ends with the code that its script is.
fn all(mut run: JobRun) -> (Vec<String>, JobEnd) {
    let mut lines = Vec::new();
    loop {
        let report = match run.next_step() {
            Next::Run(plan) => {
                let code = script(&plan).0.trim().parse().unwrap_or_default();
                end(&mut run, code)
            }
            Next::Skipped(report) | Next::Failed(report) => report,
            Next::HashFiles(patterns) => {
                run.answer_hash(patterns, Ok("digest".into()));
                continue;
            }
            Next::Aside | Next::Wait(_) => panic!("these steps come one after the other"),
            Next::Done => break,
        };
        let StepReport { name, outcome, conclusion, errors, .. } = report;
        lines.push(format!("{name}: {} {} {errors:?}", outcome.as_str(), conclusion.as_str()));
    }
    (lines, run.finish())
}

#[test]
fn shells_and_directories_follow_step_job_and_workflow() {
    let mut run = job(
        "defaults: {run: {working-directory: w, shell: sh}}",
        "    defaults: {run: {working-directory: ./j}}
    steps:
    - run: one
    - {run: two, shell: bash, working-directory: /abs}
    - {run: three, shell: python, working-directory: 'x/${{ github.sha }}'}
    - {run: four, shell: 'perl -w \"{0}\" \"a b\"'}
    - {run: five, shell: pwsh}
",
    );
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(format!("{:?}", script(&expect_run(&mut run))));
        end(&mut run, 0);
    }
    insta::assert_snapshot!(seen.join("\n"), @r#"
    ("one", "sh -e {0}", "/guest/repo/j")
    ("two", "bash --noprofile --norc -eo pipefail {0}", "/abs")
    ("three", "python3 {0}", "/guest/repo/x/0123")
    ("four", "perl -w {0} a b", "/guest/repo/j")
    ("$ErrorActionPreference = 'stop'\nfive\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }\n", "pwsh -command . '{0}'", "/guest/repo/j")
    "#);
    let mut plain = job("", "    steps: [{run: x, working-directory: '${{ github.none }}'}]\n");
    insta::assert_snapshot!(format!("{:?}", script(&expect_run(&mut plain))), @r#"("x", "bash -e {0}", "/guest/repo")"#);
}

#[test]
fn the_nearest_environment_wins_and_files_change_it() {
    let mut run = job(
        "env: {A: workflow, B: workflow, C: workflow, CI: custom, GITHUB_SHA: forged}",
        "    env: {B: job, C: job}
    steps:
    - {run: 'echo ${{ env.A }} ${{ env.C }}', env: {C: 'step over ${{ env.C }}'}}
    - {run: 'echo ${{ env.A }} ${{ env.C }}', env: {C: step}}
",
    );
    let first = expect_run(&mut run);
    assert_eq!(script(&first).0, "echo workflow step over job");
    assert_eq!([&first.env["A"], &first.env["B"], &first.env["C"]], ["workflow", "job", "step over job"]);
    assert_eq!([&first.env["CI"], &first.env["GITHUB_SHA"], &first.env["RUNNER_OS"]], ["custom", "0123", "Linux"]);
    assert_eq!(first.env["GITHUB_OUTPUT"], "/guest/commands/output_1");
    assert_eq!(first.path("/usr/bin"), "/usr/bin");
    let report = run.finish_step(StepResult {
        env: b"A=from step\nC=from step\n".to_vec(),
        path: b"/one\n/two\n".to_vec(),
        summary: b"# Done".to_vec(),
        ..StepResult::new(StepEnd::Exited(0))
    });
    assert_eq!(report.unwrap().conclusion, Outcome::Success);
    let second = expect_run(&mut run);
    assert_eq!(script(&second).0, "echo from step step");
    assert_eq!(second.path("/usr/bin"), "/two:/one:/usr/bin");
    end(&mut run, 0);
    assert_eq!(run.next_step(), Next::Done);
    assert_eq!(run.finish().summary, "# Done");
}

#[test]
fn steps_follow_the_status() {
    let run = job(
        "",
        "    steps:
    - {run: 0, name: good}
    - {run: 3, name: allowed, id: allowed, continue-on-error: true}
    - {run: 0, name: after allowed}
    - {run: 0, name: 'outcome ${{ steps.allowed.outcome }} ${{ steps.allowed.conclusion }}'}
    - {run: 1, name: bad}
    - {run: 0, name: not reached}
    - {run: 0, name: 'on failure, ${{ job.status }}', if: failure()}
    - {run: 0, name: on cancel, if: cancelled()}
    - {run: 0, if: always()}
    - {run: '${{ fromJSON(github.none) }}', if: always()}
",
    );
    let (lines, end) = all(run);
    insta::assert_snapshot!(lines.join("\n"), @r#"
    good: success success []
    allowed: failure success ["the step ended with exit code 3"]
    after allowed: success success []
    outcome failure success: success success []
    bad: failure failure ["the step ended with exit code 1"]
    not reached: skipped skipped []
    on failure, failure: success success []
    on cancel: skipped skipped []
    Run 0: success success []
    Run ${{ fromJSON(github.none) }}: failure failure ["in the expression `fromJSON(github.none)`: the text for `fromJSON` is not JSON: EOF while parsing a value at line 1 column 0 (character 1 of the expression)\n  hint: an output that was never set is empty, and empty text is not JSON"]
    "#);
    assert_eq!(end.outcome, Outcome::Failure);
}

#[test]
fn a_cancelled_job_runs_only_what_asks_for_it() {
    let mut run = job(
        "",
        "    steps:
    - {run: 0, name: first}
    - {run: 0, name: skipped}
    - {run: 0, name: clean up, if: cancelled()}
    - {run: 0, name: at last, if: always()}
",
    );
    expect_run(&mut run);
    run.cancel();
    let report = run.finish_step(StepResult::new(StepEnd::Cancelled)).unwrap();
    assert_eq!(report.conclusion, Outcome::Cancelled);
    let (lines, end) = all(run);
    insta::assert_snapshot!(lines.join("\n"), @r"
    skipped: skipped skipped []
    clean up: success success []
    at last: success success []
    ");
    assert_eq!(end.outcome, Outcome::Cancelled);
}

#[test]
fn outputs_reach_later_steps_and_the_job() {
    let mut run = job(
        "",
        "    outputs: {v: 'v${{ steps.s.outputs.Version }}', none: '${{ steps.s.outputs.none }}'}
    continue-on-error: true
    timeout-minutes: 0.01
    steps: [{id: s, run: x, timeout-minutes: 90}, {run: 'echo ${{ steps.s.outputs.version }}'}]
",
    );
    assert_eq!(run.timeout(), Some(Duration::from_secs(1)));
    assert_eq!(expect_run(&mut run).timeout, Some(Duration::from_secs(5400)));
    run.finish_step(StepResult { output: b"version<<E\n1\n2\nE\n".to_vec(), ..StepResult::new(StepEnd::Exited(0)) });
    assert_eq!(script(&expect_run(&mut run)).0, "echo 1\n2");
    end(&mut run, 1);
    let end = run.finish();
    assert_eq!(end.outputs, [("none".to_owned(), String::new()), ("v".to_owned(), "v1\n2".to_owned())].into());
    assert_eq!((end.outcome, end.need_result().result), (Outcome::Failure, Outcome::Success));
}

#[test]
fn bad_files_fail_the_step_but_not_the_other_files() {
    let mut run = job("", "    steps: [{id: s, run: x}, {run: '${{ steps.s.outputs.a }}', if: failure()}]\n");
    expect_run(&mut run);
    let report = run.finish_step(StepResult {
        env: b"no pair".to_vec(),
        output: b"a=kept\nno pair".to_vec(),
        path: vec![0],
        summary: vec![b'x'; MAX_FILE_BYTES + 1],
        ..StepResult::new(StepEnd::Exited(0))
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, Outcome::Failure);
    insta::assert_snapshot!(report.errors.join("\n"), @r"
    GITHUB_ENV: line 1: `no pair` is neither `NAME=VALUE` nor `NAME<<DELIMITER`
    GITHUB_PATH: line 1: a directory cannot contain a NUL character
    GITHUB_OUTPUT: line 2: `no pair` is neither `NAME=VALUE` nor `NAME<<DELIMITER`
    ");
    let told = "GITHUB_STEP_SUMMARY: the file has 1048577 bytes, at most 1048576 are read";
    assert_eq!(report.left_out, [told], "a summary is left out, and fails nothing");
    assert_eq!(script(&expect_run(&mut run)).0, "kept");
    assert!(run.finish_step(StepResult::new(StepEnd::TimedOut)).unwrap().errors[0].contains("timeout-minutes"));
    assert!(run.finish_step(StepResult::new(StepEnd::TimedOut)).is_none());
}

#[test]
fn what_steps_say_is_bounded_over_the_whole_job() {
    let steps: String = (0..40).map(|step| format!("    - {{id: s{step}, run: x, if: always()}}\n")).collect();
    let mut run = job("", &format!("    steps:\n{steps}"));
    let half = MAX_FILE_BYTES / 2;
    let (mut errors, mut annotations) = (Vec::new(), Vec::new());
    for step in 0..40 {
        let plan = expect_run(&mut run);
        let line = format!("NAME{}={}", plan.index, "x".repeat(half)).into_bytes();
        let report = run.finish_step(StepResult {
            env: line.clone(),
            output: line,
            summary: vec![b'x'; half + 1],
            ..StepResult::new(StepEnd::Exited(0))
        });
        let report = report.unwrap();
        assert_eq!(report.outcome == Outcome::Failure, !report.errors.is_empty());
        errors.extend(report.errors.iter().map(|error| format!("{step}: {error}")));
        let left_out = report.annotations.iter().filter(|note| !report.errors.contains(&note.message));
        annotations.extend(left_out.map(|note| format!("{step}: {}", note.message)));
    }
    let firsts = |lines: &[String], about: &str| lines.iter().find(|line| line.contains(about)).unwrap().clone();
    insta::assert_snapshot!(firsts(&errors, "GITHUB_ENV"), @"1: GITHUB_ENV: the variables have more than 1048576 bytes");
    insta::assert_snapshot!(firsts(&errors, "GITHUB_OUTPUT"), @"31: GITHUB_OUTPUT: the outputs of the job's steps have more than 16777216 bytes");
    insta::assert_snapshot!(annotations[0], @"7: GITHUB_STEP_SUMMARY: the job's summary has more than 4194304 bytes");
}

#[test]
fn variables_are_bounded_in_number() {
    let mut run = job("", "    steps: [{run: x}, {run: 'echo ${{ env.V1 }}', if: failure()}]\n");
    expect_run(&mut run);
    let many: String = (0..=MAX_ENV_VARIABLES).map(|number| format!("V{number}=1\n")).collect();
    let report = run.finish_step(StepResult { env: many.into_bytes(), ..StepResult::new(StepEnd::Exited(0)) });
    insta::assert_snapshot!(report.unwrap().errors.join("\n"), @"GITHUB_ENV: there are more than 4096 variables");
    // All or nothing.
    assert_eq!(script(&expect_run(&mut run)).0, "echo ");
}

#[test]
fn the_expressions_of_a_step_share_their_effort() {
    let searches: String =
        (0..200).map(|number| format!("        V{number}: ${{{{ contains(env.BIG, 'x') }}}}\n")).collect();
    let mut run = job("", &format!("    steps:\n    - run: x\n    - run: y\n      env:\n{searches}"));
    expect_run(&mut run);
    let big = format!("BIG={}", "é".repeat(400_000)).into_bytes();
    run.finish_step(StepResult { env: big, ..StepResult::new(StepEnd::Exited(0)) });
    let Next::Failed(report) = run.next_step() else { panic!("the step is refused") };
    assert!(report.errors[0].contains("more text than they may"), "{:?}", report.errors);
}

/// Drivers are tasks of an async runtime.
#[test]
fn a_run_can_move_between_threads() {
    fn moves<T: Send + Sync>() {}
    moves::<JobRun>();
    moves::<StepPlan>();
    moves::<JobSpec>();
}

#[test]
fn hashes_are_asked_of_the_driver() {
    let mut run = job(
        "",
        "    steps: [{run: 'echo ${{ hashFiles(''a'', github.sha) }} ${{ hashFiles(''b'') }}'}, {run: '${{ hashFiles(''b'') }}'}]\n",
    );
    let wanted = ["a".to_owned(), "0123".to_owned()];
    assert_eq!(run.next_step(), Next::HashFiles(wanted.to_vec()));
    assert_eq!(run.next_step(), Next::HashFiles(wanted.to_vec()));
    run.answer_hash(wanted.to_vec(), Ok("digest".into()));
    assert_eq!(run.next_step(), Next::HashFiles(vec!["b".into()]));
    run.answer_hash(vec!["b".into()], Ok(String::new()));
    assert_eq!(script(&expect_run(&mut run)).0, "echo digest ");
    end(&mut run, 0);
    // Files change from step to step.
    assert_eq!(run.next_step(), Next::HashFiles(vec!["b".into()]));
    run.answer_hash(vec!["b".into()], Err("the disk is gone".into()));
    let Next::Failed(report) = run.next_step() else { panic!("fails") };
    insta::assert_snapshot!(report.errors.join("\n"), @"in the expression `hashFiles('b')`: the disk is gone (character 1 of the expression)");
}

#[test]
fn a_checkout_stays_in_the_workspace() {
    let step =
        |path: &str| format!("    steps: [{{uses: actions/checkout@v4, with: {{path: '{path}', fetch-depth: 0}}}}]\n");
    let mut run = job("", &step("sub/${{ github.sha }}"));
    let plan = expect_run(&mut run);
    assert_eq!(plan.name, "Run actions/checkout@v4");
    insta::assert_debug_snapshot!(plan.action, @r#"
    Checkout(
        CheckoutPlan {
            repository: None,
            wanted: Pinned,
            filter: None,
            sparse: None,
            directory: "/guest/repo/sub/0123",
            fetch_depth: 0,
            fetch_tags: false,
            clean: true,
            submodules: None,
            lfs: false,
        },
    )
    "#);
    for path in ["${{ github.workspace }}/x", "a/../b", ".", "/guest/repo/./y/"] {
        let plan = expect_run(&mut job("", &step(path)));
        let StepAction::Checkout(checkout) = plan.action else { panic!("a checkout") };
        let expected = ["/guest/repo/x", "/guest/repo/b", "/guest/repo", "/guest/repo/y"];
        assert!(expected.contains(&checkout.directory.as_str()), "{}", checkout.directory);
    }
    assert!(matches!(job("", &step("/guest/repository")).next_step(), Next::Failed(_)));
    let mut outside = job("", &step("a/../../${{ github.sha }}"));
    let Next::Failed(report) = outside.next_step() else { panic!("fails") };
    insta::assert_snapshot!(report.errors.join("\n"), @"the checkout's path `a/../../0123` leaves the workspace");
}

#[test]
fn inputs_of_a_checkout_are_read_as_the_action_reads_them() {
    let with = |with: &str| {
        let plan = expect_run(&mut job("", &format!("    steps: [{{uses: actions/checkout@v4, with: {{{with}}}}}]\n")));
        let StepAction::Checkout(plan) = plan.action else { panic!("a checkout") };
        format!("{} {} {:?} {} {}", plan.fetch_depth, plan.clean, plan.submodules, plan.lfs, plan.fetch_tags)
    };
    insta::assert_snapshot!(with(""), @"1 true None false false");
    insta::assert_snapshot!(with("fetch-depth: '${{ github.none }}', clean: '${{ github.none }}', submodules: '', lfs: ''"), @"1 true None false false");
    insta::assert_snapshot!(with("Fetch-Depth: 0, CLEAN: false, submodules: Recursive, lfs: 'TRUE', fetch-tags: true"), @"0 false Recursive true true");
    insta::assert_snapshot!(with("fetch-depth: all, clean: maybe, submodules: '${{ true }}', new-input: 1"), @"0 false Direct false false");
}

#[test]
fn names_are_first_lines() {
    let run = job(
        "",
        "    steps:
    - run: |

          0
          second
    - {run: 0, name: '${{ github.none }}'}
    - {run: 0, name: '${{ fromJSON(github.none) }}', if: false}
    - {run: 0, name: '${{ fromJSON(github.none) }}'}
    - {run: '${{ matrix.none }} 0'}
",
    );
    insta::assert_snapshot!(all(run).0.join("\n"), @r"
    Run 0: success success []
    Run 0: success success []
    ${{ fromJSON(github.none) }}: skipped skipped []
    ${{ fromJSON(github.none) }}: success success []
    Run 0: success success []
    ");
}

#[test]
fn a_job_that_cannot_begin_names_the_place() {
    insta::assert_snapshot!(try_job("env: {A: '${{ fromJSON(github.none) }}'}", "    steps: [run: x]\n").unwrap_err(), @r"
    ci.yml:4:3: env: in the expression `fromJSON(github.none)`: the text for `fromJSON` is not JSON: EOF while parsing a value at line 1 column 0 (character 1 of the expression)
      hint: an output that was never set is empty, and empty text is not JSON
    ");
    insta::assert_snapshot!(try_job("", "    timeout-minutes: ${{ github.sha == 'x' }}\n    steps: [run: x]\n").unwrap_err(), @"ci.yml:4:3: jobs.a.timeout-minutes: in the expression `github.sha == 'x'`: expected a number, but the expression gives a boolean");
}

proptest! {
    #[test]
    fn any_answer_of_the_vm_leads_to_an_end(
        answers in prop::collection::vec((any::<Vec<u8>>(), "[A-Z<=\n]{0,20}", -1i32..3, any::<bool>()), 0..8)
    ) {
        let mut run = job("", "    steps: [{id: s, run: '${{ env.A }}', env: {B: '${{ steps.s.outputs.A }}'}}, {run: x, if: always()}, {run: y}]\n");
        for (bytes, text, code, cancel) in answers {
            if cancel {
                run.cancel();
            }
            match run.next_step() {
                Next::Done => break,
                Next::Run(_) => {
                    let end = if code < 0 { StepEnd::Cancelled } else { StepEnd::Exited(code) };
                    let text = text.into_bytes();
                    let (env, state) = (text.clone(), text.clone());
                    let (path, summary, said) = (bytes.clone(), bytes, Default::default());
                    let result = StepResult { end, env, output: text, path, summary, state, said };
                    prop_assert!(run.finish_step(result).is_some());
                }
                _ => {}
            }
        }
        run.finish();
    }
}

/// Of its steps the first three are the same in every cell.
const HALF_SHARED: &str = "
on: push
env: {W: x}
jobs:
  a:
    runs-on: linux
    strategy: {matrix: {n: [1, 2]}}
    outputs:
      o: ${{ steps.s.outputs.output_0 }}
      n: ${{ matrix.n }}
    steps:
      - id: s
        run: FIRST
      - run: echo $ENV_0 ${{ steps.s.outcome }}
      - if: always()
        run: echo
      - run: echo ${{ matrix.n }} ${{ env.ENV_0 }}
      - if: failure() || matrix.n == 2
        run: echo ${{ matrix.n }}
";

/// The steps of a cell, of which the first ones may have been run by another: what it is told, and how it ends.
fn cell(spec: &crate::workflow::plan::JobSpec, begun: Option<Progress>, until: usize) -> (JobRun, Vec<String>) {
    let mut run = JobRun::new(spec.clone(), place()).unwrap();
    if let Some(progress) = begun {
        run.resume(progress);
    }
    let mut told = Vec::new();
    while run.at() < until {
        match run.next_step() {
            Next::Run(plan) => {
                told.push(format!("{plan:?}"));
                let failing = script(&plan).0.contains("exit 1");
                let file = |text: &str| format!("{text}_{}=said by {}\n", plan.index, plan.index).into_bytes();
                run.finish_step(StepResult {
                    end: StepEnd::Exited(failing.into()),
                    env: file("ENV"),
                    output: file("output"),
                    path: format!("/tools/{}\n", plan.index).into_bytes(),
                    summary: format!("# Step {}\n", plan.index).into_bytes(),
                    state: file("state"),
                    said: Default::default(),
                });
            }
            Next::Skipped(report) | Next::Failed(report) => told.push(format!("{report:?}")),
            Next::HashFiles(patterns) => run.answer_hash(patterns, Ok("digest".into())),
            Next::Aside | Next::Wait(_) => panic!("what is shared has nothing in the background"),
            Next::Done => break,
        }
    }
    (run, told)
}

#[test]
fn a_cell_that_goes_on_from_another_ends_as_if_it_had_run_all_of_its_steps() {
    for first in ["true", "exit 1"] {
        let text = HALF_SHARED.replace("FIRST", first);
        let workflow = parse("ci.yml", &text).unwrap_or_else(|errors| panic!("{}", errors[0]));
        let planned =
            plan(&workflow, &PlanInput { github: place().github.to_value(), ..PlanInput::default() }).unwrap();
        let shared = crate::workflow::share::shared_steps(&planned[0].spec);
        assert_eq!(shared, 3);
        let (leader, common) = cell(&planned[0].spec, None, shared);
        for job in &planned {
            let (alone, told) = cell(&job.spec, None, usize::MAX);
            let (forked, own) = cell(&job.spec, Some(leader.progress()), usize::MAX);
            assert_eq!([&common[..], &own[..]].concat(), told, "{first}");
            assert_eq!(forked.finish(), alone.finish(), "{first}");
        }
    }
}

#[test]
fn a_private_repository_is_checked_out_only_with_the_permission_to_read_it() {
    let may = |head: &str, job: &str, private: &serde_json::Value| {
        let text =
            format!("on: push\n{head}\njobs:\n  a:\n    runs-on: linux\n{job}    steps: [uses: actions/checkout@v4]\n");
        let mut place = place();
        place.github.event = json!({"repository": {"private": private}}).into();
        let spec = plan(&parse("ci.yml", &text).unwrap(), &PlanInput::default()).unwrap().remove(0).spec;
        let begins_so = spec.begins_with_checkout();
        (JobRun::new(spec, place).unwrap().may_read_contents(), begins_so)
    };
    let (private, public) = (json!(true), json!(false));
    for (head, job, visibility, expected) in [
        ("", "", &private, (true, true)),
        ("permissions: {contents: read}", "", &private, (true, true)),
        ("permissions: {}", "    permissions: {contents: write}\n", &private, (true, true)),
        ("permissions: {}", "", &public, (true, false)),
        ("permissions: {}", "", &private, (false, false)),
        ("permissions: {}", "", &json!(null), (false, false)),
        ("permissions: write-all", "    permissions: {issues: read}\n", &private, (false, false)),
    ] {
        assert_eq!(may(head, job, visibility), expected, "{head} {job} {visibility}");
    }
}

#[test]
fn a_job_in_a_container_knows_it_and_has_its_shell() {
    let lines = "    container: {image: \"${{ 'alpine' }}\", credentials: {username: me, password: hush}}
    services: {db: postgres, none: {image: \"${{ '' }}\"}}
    steps:
      - run: one ${{ job.services.db.ports['5432'] }} ${{ job.container.id }} ${{ job.status }}
      - {run: two, shell: bash}
";
    let mut run = job("", lines);
    assert_eq!(run.containers().job.as_ref().map(|container| container.image.as_str()), Some("alpine"));
    assert_eq!(run.containers().services.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["db"]);
    assert_eq!(run.masked("a hush b"), "a *** b");
    assert_eq!(run.seen_workspace(), "/guest/repo");
    let ports = Value::from(json!({"services": {"db": {"ports": {"5432": "32768"}}}, "container": {"id": "c1"}}));
    let Value::Object(context) = ports else { panic!("it is one") };
    run.has_containers((*context).clone(), "/__w/repo".into());
    assert_eq!(run.seen_workspace(), "/__w/repo");
    assert_eq!(script(&expect_run(&mut run)), ("one 32768 c1 success", "sh -e {0}".into(), "/guest/repo"));
    end(&mut run, 0);
    let second = expect_run(&mut run);
    assert_eq!(script(&second).1, "bash --noprofile --norc -eo pipefail {0}");
    let error = try_job("", "    container: {image: x, options: \"${{ '--network host' }}\"}\n    steps: [run: x]\n");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("jobs.a.container: the option `--network` is the runner's"), "{error}");
    assert!(try_job("", "    container: ''\n    steps: [run: x]\n").unwrap().containers().is_empty());
}

#[test]
fn the_shell_of_a_job_can_be_computed() {
    let argv = |shell: &str, step: &str| {
        let text = format!(
            "    defaults: {{run: {{shell: '{shell}'}}}}\n    env: {{LOGIN: l}}\n    steps: [{{run: x{step}}}]\n"
        );
        let mut run = job("defaults: {run: {shell: sh}}", &text);
        match run.next_step() {
            Next::Run(plan) => script(&plan).1,
            Next::Failed(report) => report.errors.join("; "),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(argv("${{ github.job == ''a'' && ''python'' }}", ""), "python3 {0}");
    assert_eq!(argv("bash -${{ env.LOGIN }} {0}", ""), "bash -l {0}");
    assert_eq!(argv("${{ vars.NONE }}", ""), "sh -e {0}", "what is empty is not there");
    assert_eq!(argv("${{ ''python'' }}", ", shell: sh"), "sh -e {0}");
    assert!(argv("${{ ''fish'' }}", "").contains("the shell `fish` is not known"));
}

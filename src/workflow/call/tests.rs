#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::workflow::examine;
use crate::workflow::plan::{PlanInput, expand, plan};

fn read(file: &str, text: &str) -> Workflow {
    let reading = examine(file, text);
    reading.workflow.unwrap_or_else(|| panic!("{:?}", reading.findings))
}

fn calling(jobs: &str) -> Workflow {
    read(".github/workflows/ci.yml", &format!("on: push\njobs:\n{jobs}"))
}

const DEPLOY: &str = "
name: Deploy
on:
  workflow_call:
    inputs:
      place: {type: string, required: true}
      dry: {type: boolean, default: \"${{ github.event_name == 'push' }}\"}
      count: {type: number}
    secrets: {TOKEN: {required: true}, OTHER: }
    outputs:
      url: {value: \"${{ jobs.go.outputs.url }}/${{ inputs.place }}\"}
jobs:
  check: {runs-on: linux, steps: [run: x]}
  go:
    name: Go to ${{ inputs.place }}
    needs: check
    runs-on: ['${{ inputs.place }}']
    strategy: {matrix: {n: [1, 2]}}
    if: inputs.dry && needs.check.result == 'success'
    outputs: {url: '${{ steps.s.outputs.url }}'}
    steps: [{id: s, run: x}]
";

fn library(root: &Workflow, files: &[(&str, &str)]) -> Result<Library, String> {
    let files: Vec<(String, Workflow)> =
        files.iter().map(|(place, text)| ((*place).to_owned(), read(place.trim_start_matches("./"), text))).collect();
    let mut reads = Vec::new();
    let mut read = |target: &CallTarget| {
        let place = target.to_string();
        assert!(!reads.contains(&place), "{place} is read twice");
        reads.push(place.clone());
        let found = files.iter().find(|(known, _)| *known == place);
        found
            .map(|(_, workflow)| workflow.clone())
            .ok_or_else(|| vec![Complaint::new(format!("there is no file `{place}`")).at("ci.yml", None, "")])
    };
    Library::load(root, "acme", &mut read)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

const LOCAL: &str = "./.github/workflows/deploy.yml";

#[test]
fn a_target_names_a_file_of_workflows() {
    for good in [
        "./.github/workflows/a.yml",
        "./.dayfly/workflows/a.yaml",
        "o/r/.github/workflows/a.yml@v1",
        "o/r.x/.github/workflows/a.b.yml@refs/heads/x",
    ] {
        assert_eq!(CallTarget::parse(good).unwrap().to_string(), good);
    }
    for bad in [
        "",
        "./a.yml",
        "./.github/workflows/a.yml@v1",
        "./.github/workflows/../a.yml",
        "./.github/workflows/sub/a.yml",
        "./.github/workflows/.yml",
        "./.github/workflows/a.sh",
        "o/r/.github/workflows/a.yml",
        "o/r/.github/workflows/a.yml@",
        "o/../.github/workflows/a.yml@v1",
        "o/r/.github/workflows/a.yml@v 1",
        "docker://x",
    ] {
        assert!(CallTarget::parse(bad).is_err(), "{bad}");
    }
    insta::assert_snapshot!(CallTarget::parse("./x.yml").unwrap_err(), @"
    `./x.yml` names no workflow
      hint: write `./.github/workflows/NAME.yml`, or `OWNER/NAME/.github/workflows/NAME.yml@REF` for another repository
    ");
}

#[test]
fn a_call_becomes_the_jobs_of_the_called_workflow() {
    let root = calling(
        r#"  build: {runs-on: x, steps: [run: x]}
  deploy:
    needs: build
    uses: ./.github/workflows/deploy.yml
    with: {place: '${{ needs.build.outputs.place }}', count: "${{ fromJSON('3') }}"}
    secrets: inherit
  after: {needs: deploy, runs-on: x, if: "needs.deploy.outputs.url != ''", steps: [run: x]}
"#,
    );
    let library = library(&root, &[(LOCAL, DEPLOY)]).unwrap();
    let github = Value::from(json!({"event_name": "push"}));
    let planned = plan(&root, &PlanInput { github: github.clone(), ..PlanInput::default() }).unwrap();
    let caller = &planned[1].spec;
    assert!(caller.job.call.is_some() && caller.labels.is_empty());
    let build = NeedResult { result: Outcome::Success, outputs: [("place".into(), "prod".into())].into() };
    let needs = NeedsResults { jobs: [("build".to_owned(), build.clone())].into(), cancelled: false };
    let called = library.get(&[CallTarget::parse(LOCAL).unwrap()]).unwrap();
    let jobs = enter(caller, called, &github, &needs, BTreeSet::new()).unwrap();
    let told: Vec<String> = jobs
        .iter()
        .map(|job| {
            format!("{}: {} {:?} needs {:?} after {:?}", job.key, job.name, job.labels, job.needs, job.spec.ancestors)
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    deploy/check: deploy / check ["linux"] needs [] after []
    deploy/go: deploy / Go to prod ["prod"] needs ["deploy/check"] after ["deploy/check"]
    deploy/go: deploy / Go to prod #2 ["prod"] needs ["deploy/check"] after ["deploy/check"]
    "#);
    insta::assert_snapshot!(serde_json::to_string(&jobs[1].spec.inputs).unwrap(), @r#"{"place":"prod","dry":true,"count":3}"#);
    // Inside, a job is found by its id.
    let inside = NeedsResults { jobs: [("deploy/check".to_owned(), build)].into(), cancelled: false };
    assert_eq!(crate::workflow::gate::gate(&jobs[1].spec, &inside, &github), Ok(crate::workflow::gate::Gate::Run));
    let stored = serde_json::to_string(&jobs[1]).unwrap();
    assert_eq!(serde_json::from_str::<PlannedJob>(&stored).unwrap(), jobs[1]);

    let ended = |result, url: &str| NeedResult { result, outputs: [("url".into(), url.into())].into() };
    let results = [("check".to_owned(), ended(Outcome::Success, "")), ("go".to_owned(), ended(Outcome::Success, "u"))];
    let left = leave(caller, called, &github, &jobs[0].spec.inputs, &results.into()).unwrap();
    assert_eq!(left, ended(Outcome::Success, "u/prod"));
    let failed = [("check".to_owned(), ended(Outcome::Failure, "")), ("go".to_owned(), ended(Outcome::Skipped, ""))];
    assert_eq!(leave(caller, called, &github, &Value::Null, &failed.into()).unwrap().result, Outcome::Failure);
}

#[test]
fn cells_of_calls_keep_their_jobs_apart() {
    let root = calling(
        "  deploy:
    strategy: {matrix: {place: [a, b]}}
    uses: ./.github/workflows/deploy.yml
    with: {place: '${{ matrix.place }}', dry: true}
    secrets: {TOKEN: x}
",
    );
    let called = read("deploy.yml", DEPLOY);
    let planned = plan(&root, &PlanInput::default()).unwrap();
    let keys: Vec<String> = planned
        .iter()
        .flat_map(|call| enter(&call.spec, &called, &Value::Null, &NeedsResults::default(), BTreeSet::new()).unwrap())
        .map(|job| format!("{} = {} needs {:?}", job.key, job.name, job.needs))
        .collect();
    insta::assert_snapshot!(keys.join("\n"), @r#"
    deploy#1/check = deploy (a) / check needs []
    deploy#1/go = deploy (a) / Go to a needs ["deploy#1/check"]
    deploy#1/go = deploy (a) / Go to a #2 needs ["deploy#1/check"]
    deploy#2/check = deploy (b) / check needs []
    deploy#2/go = deploy (b) / Go to b needs ["deploy#2/check"]
    deploy#2/go = deploy (b) / Go to b #2 needs ["deploy#2/check"]
    "#);
}

#[test]
fn calls_are_checked_against_what_they_call() {
    let root = calling(
        "  a: {uses: ./.github/workflows/deploy.yml, with: {plac: x}, secrets: {TOKN: x}}
  b: {uses: ./.github/workflows/plain.yml}
  c: {uses: ./.github/workflows/missing.yml}
",
    );
    let plain = "on: push\njobs: {x: {runs-on: x, steps: [run: x]}}";
    insta::assert_snapshot!(library(&root, &[(LOCAL, DEPLOY), ("./.github/workflows/plain.yml", plain)]).unwrap_err(), @"
    .github/workflows/ci.yml:3:3: jobs.a.with.plac: the called workflow has no input `plac`
      hint: did you mean `place`?
    .github/workflows/ci.yml:3:3: jobs.a.with: the input `place` must be given
    .github/workflows/ci.yml:3:3: jobs.a.secrets.TOKN: the called workflow has no secret `TOKN`
      hint: did you mean `TOKEN`?
    .github/workflows/ci.yml:3:3: jobs.a.secrets: the secret `TOKEN` must be given
    .github/workflows/ci.yml:4:3: jobs.b.uses: `.github/workflows/plain.yml` cannot be called
      hint: its `on` must name `workflow_call`
    ci.yml: there is no file `./.github/workflows/missing.yml`
    ");
    let root = calling("  a: {uses: ./.github/workflows/deploy.yml, with: {place: x, dry: 'yes'}, secrets: inherit}\n");
    let called = read("deploy.yml", DEPLOY);
    let spec = &plan(&root, &PlanInput::default()).unwrap()[0].spec;
    insta::assert_snapshot!(enter(spec, &called, &Value::Null, &NeedsResults::default(), BTreeSet::new()).unwrap_err()[0], @".github/workflows/ci.yml:3:3: jobs.a.with.dry: expected a boolean, but the value is a string");
}

#[test]
fn what_is_expanded_inside_of_a_call_stays_there() {
    let text = "
on: workflow_call
jobs:
  list: {runs-on: x, steps: [run: x]}
  each: {needs: list, runs-on: x, strategy: {matrix: '${{ fromJSON(needs.list.outputs.m) }}'}, steps: [run: x]}
";
    let root = calling("  go: {uses: ./.github/workflows/each.yml}\n");
    let spec = &plan(&root, &PlanInput::default()).unwrap()[0].spec;
    let jobs = enter(spec, &read("each.yml", text), &Value::Null, &NeedsResults::default(), BTreeSet::new()).unwrap();
    let listed = NeedResult { result: Outcome::Success, outputs: [("m".into(), "{\"v\": [1, 2]}".into())].into() };
    let needs = NeedsResults { jobs: [("go/list".to_owned(), listed)].into(), cancelled: false };
    let cells = expand(&jobs[1].spec, &Value::Null, &needs, BTreeSet::new()).unwrap();
    let told: Vec<String> =
        cells.iter().map(|job| format!("{} = {} needs {:?}", job.key, job.name, job.needs)).collect();
    assert_eq!(told, [1, 2].map(|v| format!("go/each = go / each ({v}) needs [\"go/list\"]")));
}

/// A reusable workflow that calls these.
fn relay(targets: &[String]) -> String {
    let jobs: String =
        targets.iter().enumerate().map(|(id, target)| format!("  j{id}: {{uses: {target}}}\n")).collect();
    format!("on: workflow_call\njobs:\n{jobs}")
}

#[test]
fn calls_end() {
    let local = |name: &str| format!("./.github/workflows/{name}.yml");
    let own = relay(&[local("b")]);
    let back = relay(&[local("a")]);
    let root = calling("  x: {uses: ./.github/workflows/a.yml}\n");
    insta::assert_snapshot!(library(&root, &[(&local("a"), &own), (&local("b"), &back)]).unwrap_err(), @".github/workflows/b.yml:3:3: jobs.j0.uses: the workflow `./.github/workflows/a.yml` calls itself");

    let leaf = "on: workflow_call\njobs: {x: {runs-on: x, steps: [run: x]}}".to_owned();
    let chain = |levels: usize| -> Vec<(String, String)> {
        let text = |level| if level == levels { leaf.clone() } else { relay(&[local(&format!("l{}", level + 1))]) };
        (1..=levels).map(|level| (local(&format!("l{level}")), text(level))).collect()
    };
    let root = calling("  x: {uses: ./.github/workflows/l1.yml}\n");
    let load = |files: &[(String, String)]| {
        let files: Vec<(&str, &str)> = files.iter().map(|(place, text)| (place.as_str(), text.as_str())).collect();
        library(&root, &files)
    };
    assert!(load(&chain(MAX_LEVELS - 1)).is_ok());
    insta::assert_snapshot!(load(&chain(MAX_LEVELS)).unwrap_err(), @".github/workflows/l9.yml:3:3: jobs.j0.uses: workflows are nested deeper than 10 levels");

    let many: Vec<String> = (0..=MAX_WORKFLOWS).map(|id| local(&format!("m{id}"))).collect();
    let jobs: String = many.iter().enumerate().map(|(id, target)| format!("  j{id}: {{uses: {target}}}\n")).collect();
    let files: Vec<(&str, &str)> = many.iter().map(|place| (place.as_str(), leaf.as_str())).collect();
    insta::assert_snapshot!(library(&calling(&jobs), &files).unwrap_err(), @".github/workflows/ci.yml:53:3: jobs.j50.uses: a workflow calls at most 50 others");
}

#[test]
fn files_of_a_remote_workflow_are_remote() {
    let remote = "o/r/.github/workflows/a.yml@v1";
    let root = calling(&format!("  x: {{uses: {remote}}}\n"));
    let inner = relay(&["./.github/workflows/b.yml".to_owned()]);
    let leaf = "on: workflow_call\njobs: {x: {runs-on: x, steps: [run: x]}}";
    let library = library(&root, &[(remote, &inner), ("o/r/.github/workflows/b.yml@v1", leaf)]).unwrap();
    let way = [remote, "./.github/workflows/b.yml"].map(|target| CallTarget::parse(target).unwrap());
    assert_eq!(library.get(&way).unwrap().jobs[0].id, "x");
    assert!(library.get(&way[1..]).is_none());
}

#[test]
fn secrets_are_inherited_within_one_owner_only() {
    let leaf = "on: workflow_call\njobs: {x: {runs-on: x, steps: [run: x]}}";
    let inherit = |target: &str| format!("on: workflow_call\njobs: {{a: {{uses: {target}, secrets: inherit}}}}");
    let load = |target: &str, files: &[(&str, &str)]| {
        let root = calling(&format!("  a: {{uses: {target}, secrets: inherit}}\n"));
        library(&root, files).map(drop)
    };
    let (own, other, third) =
        ["ACME/ci", "other/ci", "third/ci"].map(|repo| format!("{repo}/.github/workflows/a.yml@v1")).into();
    assert_eq!(load(&own, &[(&own, leaf)]), Ok(()));
    insta::assert_snapshot!(load(&other, &[(&other, leaf)]).unwrap_err(), @"
    .github/workflows/ci.yml:3:3: jobs.a.secrets: `inherit` is for workflows of the same owner, and this one is of `other`
      hint: write the secrets that it gets one by one
    ");
    // What counts is who calls, not where it began.
    let root = calling(&format!("  a: {{uses: {other}, secrets: {{T: x}}}}\n"));
    let takes = |jobs: &str| leaf.replace("workflow_call", "{workflow_call: {secrets: {T: }}}") + jobs;
    let within = inherit("./.github/workflows/b.yml").replace("workflow_call", "{workflow_call: {secrets: {T: }}}");
    let beside = "other/ci/.github/workflows/b.yml@v1";
    assert!(library(&root, &[(&other, &within), (beside, &takes(""))]).is_ok());
    let further = inherit(&third).replace("workflow_call", "{workflow_call: {secrets: {T: }}}");
    let refused = library(&root, &[(&other, &further), (&third, leaf)]).unwrap_err();
    assert!(refused.contains("this one is of `third`"), "{refused}");
}

#[test]
fn a_called_workflow_may_do_no_more_than_its_caller() {
    let called = |permissions: &str, of_job: &str| {
        format!("on: workflow_call\n{permissions}\njobs: {{x: {{runs-on: x, {of_job} steps: [run: x]}}}}")
    };
    let told = |caller: &str, called: &str| {
        let root = calling(&format!("  a: {{{caller} uses: ./.github/workflows/b.yml}}\n"));
        let library = library(&root, &[("./.github/workflows/b.yml", called)]);
        let planned = plan(&root, &PlanInput::default()).unwrap();
        library.map(|library| {
            let called = library.get(&[CallTarget::parse("./.github/workflows/b.yml").unwrap()]).unwrap();
            let jobs =
                enter(&planned[0].spec, called, &Value::Null, &NeedsResults::default(), BTreeSet::new()).unwrap();
            ["contents", "issues"].map(|name| jobs[0].spec.permissions.access(name).as_str()).join(" ")
        })
    };
    for (caller, inner, expected) in [
        ("", called("", ""), "write write"),
        ("", called("permissions: read-all", ""), "read read"),
        ("permissions: {contents: read},", called("", ""), "read none"),
        ("permissions: {contents: write, issues: read},", called("permissions: {contents: read}", ""), "read none"),
        (
            "permissions: {contents: read},",
            called("permissions: write-all", "permissions: {contents: read},"),
            "read none",
        ),
        ("permissions: {},", called("", "permissions: {},"), "none none"),
    ] {
        assert_eq!(told(caller, &inner).as_deref(), Ok(expected), "{caller} {inner}");
    }
    insta::assert_snapshot!(told("permissions: {contents: read},", &called("", "permissions: {contents: write},")).unwrap_err(), @"
    .github/workflows/ci.yml:3:3: jobs.a.permissions: the called workflow asks for `contents: write`, but may have `contents: read` here
      hint: the `permissions` of the job that calls it must have what the called workflow asks for
    ");
    // However many calls are between them.
    let root = calling("  a: {permissions: {contents: read}, uses: ./.github/workflows/b.yml}\n");
    let between = relay(&["./.github/workflows/c.yml".to_owned()]);
    let deep = called("permissions: {issues: read}", "");
    let refused = library(&root, &[("./.github/workflows/b.yml", &between), ("./.github/workflows/c.yml", &deep)]);
    let refused = refused.unwrap_err();
    assert!(refused.starts_with(".github/workflows/b.yml:3:3: jobs.j0.permissions: "), "{refused}");
}

#[test]
fn a_call_is_in_the_group_of_what_it_calls() {
    use crate::workflow::concurrency::job_group;
    let text = "on: {workflow_call: {inputs: {place: {type: string, default: prod}}}}\n\
                concurrency: {group: 'deploy-${{ inputs.place }}-${{ github.ref }}', cancel-in-progress: true}\n\
                jobs: {x: {runs-on: x, steps: [run: x]}}";
    let root = calling(
        "  a: {uses: ./.github/workflows/b.yml}\n  b: {uses: ./.github/workflows/b.yml, with: {place: Test}}\n",
    );
    let library = library(&root, &[("./.github/workflows/b.yml", text)]).unwrap();
    let planned = plan(&library.equip(root, None), &PlanInput::default()).unwrap();
    let github = Value::from(json!({"ref": "main"}));
    let groups: Vec<String> = planned
        .iter()
        .map(|job| job_group(&job.spec, &github, &NeedsResults::default()).unwrap().unwrap())
        .map(|group| format!("{} {}", group.name, group.cancel_in_progress))
        .collect();
    assert_eq!(groups, ["deploy-prod-main true", "deploy-test-main true"]);
    let stored = serde_json::to_string(&planned[0]).unwrap();
    assert_eq!(serde_json::from_str::<PlannedJob>(&stored).unwrap(), planned[0]);
    let both = calling("  a: {concurrency: x, uses: ./.github/workflows/b.yml}\n");
    insta::assert_snapshot!(self::library(&both, &[("./.github/workflows/b.yml", text)]).unwrap_err(), @"
    .github/workflows/ci.yml:3:3: jobs.a.concurrency: it has `concurrency`, and `.github/workflows/b.yml` as well, which is not supported yet
      hint: keep one of the two
    ");
}

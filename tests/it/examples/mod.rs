//! The workflows of `examples/workflows`, each checked, and run as a person runs it.
#![allow(clippy::unwrap_used)]

mod expected;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use self::expected::Example;
use crate::support::command::{self, Outcome};
use crate::support::repository::Repository;
use crate::support::{host, leaks};

/// Examples that must run here, at least.
const FEWEST: usize = 25;

/// Tests that share the examples among them.
const SHARES: usize = 2;

#[test]
fn examples_are_valid_and_what_is_not_supported_is_known() {
    let examples = expected::all();
    let mut command = command::dayfly();
    command.args(["workflow", "check", "--json"]).args(examples.iter().map(|example| &example.path));
    let checked: Outcome = command.output().unwrap().into();
    let found: Vec<Json> = serde_json::from_str(&checked.stdout).unwrap();
    for example in &examples {
        let path = example.path.to_str().unwrap();
        let of_file = found.iter().filter(|entry| entry["file"] == path);
        let (unsupported, others): (Vec<&Json>, Vec<&Json>) = of_file
            .filter(|entry| entry["severity"] != "warning")
            .partition(|entry| entry["severity"] == "unsupported");
        assert_eq!(others, Vec::<&Json>::new(), "{path}");
        assert_eq!(unsupported.is_empty(), example.unsupported.is_empty(), "{path}: {unsupported:?}");
        for text in &example.unsupported {
            let is_told = unsupported.iter().any(|entry| entry["message"].as_str().unwrap().contains(text));
            assert!(is_told, "{path}: `{text}` is not in {unsupported:?}");
        }
        assert_ne!(example.is_called, !example.jobs.is_empty(), "{path}: its jobs are not listed");
    }
    let running = examples.iter().filter(|example| example.runs()).count();
    assert!(running >= FEWEST, "only {running} examples run");
}

#[test]
fn what_an_event_does_not_start_is_told() {
    let repository = repository(&expected::all());
    let directory = host::short_directory();
    for example in expected::all().iter().filter(|example| !example.starts_not.is_empty()) {
        let arguments: Vec<&str> = example.starts_not.iter().map(String::as_str).collect();
        let listed = run(directory.path(), &repository, &[&arguments[..], &["--list"]].concat());
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        assert!(!listed.stdout.contains(&format!("{}/", example.workflow)), "{}", listed.stdout);
        assert!(listed.stderr.contains(&format!("{}.yml` does not start", example.name)), "{}", listed.stderr);
    }
}

#[test]
fn real_vms_run_share_1() {
    run_share(0);
}

#[test]
fn real_vms_run_share_2() {
    run_share(1);
}

/// Runs every second example: those that a push starts at once, the others one by one.
fn run_share(share: usize) {
    if !host::can_run_vms() {
        return;
    }
    let state = host::short_directory();
    std::os::unix::fs::symlink(host::shared_images(), state.path().join("images")).unwrap();
    let examples: Vec<Example> = expected::all();
    let of_share = examples.iter().filter(|example| example.runs()).enumerate();
    let of_share = of_share.filter(|(at, _)| at % SHARES == share).map(|(_, example)| example);
    let (pushed, others): (Vec<&Example>, Vec<&Example>) = of_share.partition(|example| example.run.is_empty());
    let pushes = repository(pushed.iter().copied().chain(examples.iter().filter(|example| example.is_called)));
    let told = Told::of(&run(state.path(), &pushes, &["--json", "--event", "push"]));
    pushed.iter().for_each(|example| told.check(example));
    assert_eq!(told.ends.len(), pushed.iter().map(|example| example.jobs.len()).sum::<usize>(), "{:?}", told.ends);
    for example in others {
        let arguments: Vec<&str> = example.run.iter().map(String::as_str).collect();
        let repository = repository([example]);
        let told = Told::of(&run(state.path(), &repository, &[&arguments[..], &["--json"]].concat()));
        told.check(example);
        assert_eq!(told.ends.len(), example.jobs.len(), "{}: {:?}", example.name, told.ends);
    }
    leaks::assert_none(state.path());
}

/// A repository that has these examples as its workflows.
fn repository<'e>(examples: impl IntoIterator<Item = &'e Example>) -> Repository {
    let repository = Repository::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/repository"));
    let workflows: Vec<(String, String)> = examples
        .into_iter()
        .filter(|example| example.unsupported.is_empty())
        .map(|example| {
            (format!(".github/workflows/{}.yml", example.name), std::fs::read_to_string(&example.path).unwrap())
        })
        .collect();
    let files: Vec<(&str, &str)> = workflows.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    repository.commit(&files);
    repository
}

/// `dayfly run` in the repository, with the smallest machines, one at a time.
fn run(state: &Path, repository: &Repository, arguments: &[&str]) -> Outcome {
    let mut command = command::dayfly();
    command.current_dir(repository.path()).arg("run").args(arguments).arg("--state-dir").arg(state);
    command.args(["--backend", "qemu-tcg", "--memory", "256MiB", "--disk", "1GiB", "--parallel", "1"]);
    command.output().unwrap().into()
}

/// What a run told about its jobs, by their full names.
#[derive(Debug, Default)]
struct Told {
    ends: BTreeMap<String, String>,
    logs: BTreeMap<String, Vec<String>>,
}

impl Told {
    fn of(done: &Outcome) -> Self {
        let mut told = Self::default();
        for line in done.stdout.lines() {
            let event: Json = serde_json::from_str(line).unwrap_or_else(|_| panic!("no event: {line}"));
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            match event["event"].as_str().unwrap() {
                "log" => told.logs.entry(text("job")).or_default().push(text("text")),
                "job_finished" => _ = told.ends.insert(text("job"), text("conclusion")),
                _ => {}
            }
        }
        assert!(matches!(done.code, Some(0 | 1)), "{:?}: {}{}", done.code, done.stdout, done.stderr);
        told
    }

    fn check(&self, example: &Example) {
        let full = |name: &String| format!("{}/{name}", example.workflow);
        for (name, conclusion) in &example.jobs {
            let (log, end) = (self.logs.get(&full(name)), self.ends.get(&full(name)));
            assert_eq!(end, Some(conclusion), "{}: {name} of {:?}: {log:#?}", example.name, self.ends);
        }
        for (name, text) in &example.log {
            let log = self.logs.get(&full(name)).unwrap_or_else(|| panic!("{}: {name} has no log", example.name));
            assert!(log.iter().any(|line| line.contains(text)), "{}: `{text}` is not in {log:#?}", example.name);
        }
    }
}

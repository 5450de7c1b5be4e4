//! What the forge calls the jobs of one event. Pure.
//!
//! A forge keeps one status per commit and context, the later one over the earlier: two jobs that share a context could turn
//! red into green. So no two reports of an event share one.

use std::collections::{HashMap, HashSet};

use crate::store::NewRun;
use crate::workflow::Workflow;

/// What is added to the contexts of a workflow whose name another workflow of the same commit has too, whether or not the
/// event starts that one: both are shown at the commit, perhaps by different events.
pub(super) fn suffixes(workflows: &[(String, Workflow)]) -> HashMap<String, String> {
    let mut named: HashMap<String, usize> = HashMap::new();
    for (_, workflow) in workflows {
        *named.entry(folded(workflow.display_name())).or_default() += 1;
    }
    let shared = workflows.iter().filter(|(_, workflow)| named[&folded(workflow.display_name())] > 1);
    shared.map(|(path, _)| (path.clone(), format!(" [{}]", stem(path)))).collect()
}

/// Numbers what is still equal, in the order of the runs and their jobs.
pub(super) fn make_unique(runs: &mut [NewRun]) {
    let mut taken = HashSet::new();
    let reports =
        runs.iter_mut().flat_map(|run| run.report.iter_mut().chain(run.jobs.iter_mut().map(|job| &mut job.report)));
    for report in reports {
        let plain = report.context.clone();
        let mut number = 1;
        while !taken.insert(folded(&report.context)) {
            number += 1;
            report.context = format!("{plain} #{number}");
        }
    }
}

/// GitHub compares contexts without regard to case.
fn folded(context: &str) -> String {
    context.to_lowercase()
}

fn stem(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::{CommitSha, RepoAccess, RepoName, Report, ReportState};
    use crate::ids::{ReportId, RunId};
    use crate::store::Origin;
    use crate::workflow::parse;

    fn workflow(path: &str, name: &str) -> (String, Workflow) {
        let text =
            format!("name: {name}\non: push\njobs:\n  test:\n    runs-on: linux\n    steps:\n      - run: 'true'\n");
        (path.to_owned(), parse(path, &text).unwrap())
    }

    fn run(context: &str) -> NewRun {
        let access = RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: None };
        let sha = CommitSha::parse(&"a1".repeat(20)).unwrap();
        let report = Report {
            id: ReportId::random(),
            access: access.clone(),
            sha: sha.clone(),
            context: context.to_owned(),
            state: ReportState::Queued,
            title: String::new(),
            summary: String::new(),
            log: String::new(),
            annotations: Vec::new(),
            coverage: None,
            place: crate::forge::ReportPlace::default(),
            details_url: None,
            started_at: None,
            finished_at: None,
        };
        NewRun {
            id: RunId::random(),
            forge: "github".to_owned(),
            access,
            event: "push".to_owned(),
            sha,
            workflow_path: String::new(),
            workflow_name: String::new(),
            context: serde_json::Value::Null,
            origin: Origin::default(),
            report: Some(report),
            called: Vec::new(),
            jobs: Vec::new(),
        }
    }

    #[test]
    fn workflows_of_one_name_are_told_apart_by_their_files() {
        let suffixes =
            suffixes(&[workflow("w/ci.yml", "CI"), workflow("w/nightly.yml", "ci"), workflow("w/x.yml", "X")]);
        assert_eq!(suffixes.len(), 2);
        assert_eq!((suffixes["w/ci.yml"].as_str(), suffixes["w/nightly.yml"].as_str()), (" [ci]", " [nightly]"));
    }

    #[test]
    fn no_two_contexts_are_equal_in_any_case() {
        let mut runs = ["dayfly/a", "dayfly/A", "dayfly/a #2", "dayfly/b"].map(run);
        make_unique(&mut runs);
        let contexts = runs.map(|run| run.report.unwrap().context);
        assert_eq!(contexts, ["dayfly/a", "dayfly/A #2", "dayfly/a #2 #2", "dayfly/b"]);
    }
}

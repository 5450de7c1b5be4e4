//! What the forge shows of a fork's commit that does not run. Pure.

use std::time::Duration;

use super::jobs::new_report;
use super::runs::empty_run;
use crate::config::format_duration;
use crate::forge::{CommitSha, Conclusion, RepoName, Report, ReportState};
use crate::policy::Request;
use crate::store::NewRun;

/// The name of the run, and of its status at the forge.
const NAME: &str = "held";
const CONTEXT: &str = "dayfly";

/// Begins the answer to the last command in the summary of a held report.
const ANSWER: &str = "\n\n---\n\n**The last command did nothing.** ";

/// The run of an event that waits for an approval. Its one report says how to give it.
pub(super) fn held(request: &Request, workflows_dir: &str, arrived_at: i64) -> NewRun {
    let Request { access, sha, .. } = request;
    let mut report = new_report(access, sha, CONTEXT.to_owned(), held_title(sha));
    report.state = ReportState::Held;
    report.summary = held_summary(&access.repo, sha);
    standing_for(request, workflows_dir, arrived_at, report)
}

/// The run of an event that no approval lets run.
pub(super) fn denied(request: &Request, workflows_dir: &str, arrived_at: i64) -> NewRun {
    let Request { access, sha, .. } = request;
    let title = "Not run: this service denies pull requests from forks";
    let mut report = new_report(access, sha, CONTEXT.to_owned(), title.to_owned());
    report.state = ReportState::Finished(Conclusion::Skipped);
    report.finished_at = Some(arrived_at);
    report.summary = format!(
        "The code of a fork was written by somebody who may not write to `{}`. The operator of this service has it set \
         to `forks = \"deny\"`: nothing of commit `{sha}` was run, and no approval changes that.",
        access.repo
    );
    standing_for(request, workflows_dir, arrived_at, report)
}

fn standing_for(request: &Request, workflows_dir: &str, arrived_at: i64, report: Report) -> NewRun {
    let mut run = empty_run(request, arrived_at);
    run.origin.is_held = true;
    run.workflow_path = workflows_dir.to_owned();
    run.workflow_name = NAME.to_owned();
    run.report = Some(report);
    run
}

/// What becomes of the report of a commit that nobody approved within `age`.
pub(crate) fn expire(report: &mut Report, age: Duration, now: i64) {
    let age = format_duration(age);
    report.state = ReportState::Finished(Conclusion::Cancelled);
    report.finished_at = Some(now);
    report.title = format!("Not run: nobody approved it within {age}. Reopen the pull request to ask again");
    report.summary = format!(
        "Nothing of commit `{}` was run: it comes from a fork, and nobody approved it within {age}, for which this service \
         keeps things (`limits.log_retention`).\n\nReopening the pull request holds it again.",
        report.sha
    );
}

/// Short enough for a commit status, with either length of an id.
fn held_title(sha: &CommitSha) -> String {
    format!("Held: it comes from a fork. To run it, comment: /dayfly run {sha}")
}

fn held_summary(repo: &RepoName, sha: &CommitSha) -> String {
    format!(
        "The code of a fork was written by somebody who may not write to `{repo}`, so nothing of commit `{sha}` was \
         run.\n\nWhoever may write to `{repo}` can run it, after a look at the changes, by a comment on the pull request \
         with this line:\n\n```text\n/dayfly run {sha}\n```\n\nOr on the host of this \
         service:\n\n```sh\ndayfly approve --repo {repo} {sha}\n```\n\nThat counts for this commit only. The next push \
         is held again."
    )
}

/// The summary with an answer to the last command, in place of the answer to the one before.
pub(super) fn with_answer(summary: &str, answer: &str) -> String {
    let held = summary.split_once(ANSWER).map_or(summary, |(held, _)| held);
    format!("{held}{ANSWER}{answer}\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_held_commit_shows_the_exact_command() {
        for length in [40, 64] {
            let sha = CommitSha::parse(&"a".repeat(length)).unwrap();
            let title = held_title(&sha);
            assert!(title.ends_with(&format!("/dayfly run {sha}")) && title.len() <= 140, "{title}");
        }
        let sha = CommitSha::parse(&"a1".repeat(20)).unwrap();
        insta::assert_snapshot!(held_title(&sha), @"Held: it comes from a fork. To run it, comment: /dayfly run a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1");
        insta::assert_snapshot!(held_summary(&RepoName::parse("demo/hello").unwrap(), &sha), @r"
        The code of a fork was written by somebody who may not write to `demo/hello`, so nothing of commit `a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1` was run.

        Whoever may write to `demo/hello` can run it, after a look at the changes, by a comment on the pull request with this line:

        ```text
        /dayfly run a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
        ```

        Or on the host of this service:

        ```sh
        dayfly approve --repo demo/hello a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
        ```

        That counts for this commit only. The next push is held again.
        ");
    }

    #[test]
    fn what_nobody_approved_says_how_to_ask_again() {
        let access = crate::forge::RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: None };
        let sha = CommitSha::parse(&"a1".repeat(20)).unwrap();
        let mut report = new_report(&access, &sha, CONTEXT.to_owned(), held_title(&sha));
        expire(&mut report, Duration::from_hours(3650 * 24), 7);
        assert!(report.title.len() <= 140, "a commit status takes no more");
        insta::assert_snapshot!(format!("{}\n{}", report.title, report.summary), @r"
        Not run: nobody approved it within 3650d. Reopen the pull request to ask again
        Nothing of commit `a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1` was run: it comes from a fork, and nobody approved it within 3650d, for which this service keeps things (`limits.log_retention`).

        Reopening the pull request holds it again.
        ");
    }

    #[test]
    fn the_last_answer_replaces_the_one_before() {
        let once = with_answer("held", "No.");
        assert_eq!(with_answer(&once, "Never."), with_answer("held", "Never."));
        assert!(once.starts_with("held\n") && once.ends_with("No.\n"), "{once}");
    }
}

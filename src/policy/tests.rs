#![allow(clippy::unwrap_used)]

use super::*;
use crate::forge::RepoName;
use crate::webhook::{AuthorAssociation, CheckRunRerequested, CheckSuiteRerequested, Repository};

/// The last change of the pull request, in milliseconds since the epoch.
const CHANGED_AT: i64 = 1_700_000_000_000;

fn repository() -> Repository {
    let access = RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: Some(7) };
    Repository { forge: "github".to_owned(), access, id: 1, default_branch: "main".to_owned() }
}

fn sha(letter: char) -> CommitSha {
    CommitSha::parse(&letter.to_string().repeat(40)).unwrap()
}

fn pull_request(action: &str, is_fork: bool) -> Event {
    Event::PullRequest(PullRequest {
        action: PullRequestAction::from(action.to_owned()),
        repository: repository(),
        number: 3,
        title: "A change".to_owned(),
        head_sha: sha('b'),
        before: Some(sha('a')),
        changed_at: Some(CHANGED_AT),
        head_ref: "change".to_owned(),
        head_repo: None,
        base_sha: Some(sha('c')),
        base_ref: "main".to_owned(),
        is_fork,
        draft: false,
        merged: false,
        author: "stranger".to_owned(),
        author_association: AuthorAssociation::None,
        sender: "stranger".to_owned(),
        label: None,
    })
}

fn comment(action: IssueCommentAction, sender: &str, body: &str) -> IssueComment {
    IssueComment {
        action,
        repository: repository(),
        is_pull_request: true,
        number: 3,
        comment_id: 9,
        body: body.to_owned(),
        author: "octocat".to_owned(),
        author_association: AuthorAssociation::Owner,
        sender: sender.to_owned(),
    }
}

/// The verdict in a word, with the reason of one that ignores.
fn told(event: &Event, forks: Forks, is_approved: bool) -> String {
    told_with(event, Standing { forks, is_approved, sender_may_write: true })
}

fn told_with(event: &Event, standing: Standing) -> String {
    match judge(event, &standing) {
        Verdict::Ignore(why) => format!("ignore: {why}"),
        Verdict::Hold(request) => format!("hold {}", request.sha.short()),
        Verdict::Deny(request) => format!("deny {}", request.sha.short()),
        Verdict::Start(request) => format!("start {}", request.sha.short()),
        Verdict::Dispatch(asked) => format!("dispatch {} at {}", asked.event, asked.git_ref),
        Verdict::Approve(asked) => format!("approve {:?} for {}", asked.command, asked.person),
        Verdict::Rerun(asked) => format!("rerun {:?} for {}", asked.what, asked.person),
    }
}

#[test]
fn a_strangers_commit_runs_only_where_that_is_allowed() {
    let mut table = String::new();
    for (forks, is_approved) in [
        (Forks::Approve, false),
        (Forks::Approve, true),
        (Forks::Run, false),
        (Forks::Deny, false),
        (Forks::Deny, true),
    ] {
        for action in ["opened", "synchronize", "reopened", "ready_for_review", "labeled", "closed"] {
            let verdict = told(&pull_request(action, true), forks, is_approved);
            table.push_str(&format!("{forks:?} {is_approved} {action}: {verdict}\n"));
        }
    }
    insta::assert_snapshot!(table, @r"
    Approve false opened: hold bbbbbbbbbbbb
    Approve false synchronize: hold bbbbbbbbbbbb
    Approve false reopened: hold bbbbbbbbbbbb
    Approve false ready_for_review: hold bbbbbbbbbbbb
    Approve false labeled: ignore: the pull request of a fork is held since it was opened
    Approve false closed: ignore: the pull request of a fork is held since it was opened
    Approve true opened: ignore: the commit was approved, and run, before this event arrived
    Approve true synchronize: ignore: the commit was approved, and run, before this event arrived
    Approve true reopened: start bbbbbbbbbbbb
    Approve true ready_for_review: start bbbbbbbbbbbb
    Approve true labeled: start bbbbbbbbbbbb
    Approve true closed: start bbbbbbbbbbbb
    Run false opened: start bbbbbbbbbbbb
    Run false synchronize: start bbbbbbbbbbbb
    Run false reopened: start bbbbbbbbbbbb
    Run false ready_for_review: start bbbbbbbbbbbb
    Run false labeled: start bbbbbbbbbbbb
    Run false closed: start bbbbbbbbbbbb
    Deny false opened: deny bbbbbbbbbbbb
    Deny false synchronize: deny bbbbbbbbbbbb
    Deny false reopened: deny bbbbbbbbbbbb
    Deny false ready_for_review: deny bbbbbbbbbbbb
    Deny false labeled: ignore: forks are denied here
    Deny false closed: ignore: forks are denied here
    Deny true opened: deny bbbbbbbbbbbb
    Deny true synchronize: deny bbbbbbbbbbbb
    Deny true reopened: deny bbbbbbbbbbbb
    Deny true ready_for_review: deny bbbbbbbbbbbb
    Deny true labeled: ignore: forks are denied here
    Deny true closed: ignore: forks are denied here
    ");
    for forks in [Forks::Approve, Forks::Deny] {
        assert_eq!(told(&pull_request("opened", false), forks, false), "start bbbbbbbbbbbb");
    }
}

#[test]
fn an_approved_commit_runs_again_only_for_who_may_write() {
    let standing = Standing { forks: Forks::Approve, is_approved: true, sender_may_write: false };
    let again =
        "ignore: the commit is approved and was run; `@stranger` has no write access, and so cannot have it run again";
    for action in ["edited", "reopened", "ready_for_review", "labeled", "closed", "assigned", "anything_new"] {
        assert_eq!(told_with(&pull_request(action, true), standing), again, "{action}");
        let may_write = Standing { sender_may_write: true, ..standing };
        assert_eq!(told_with(&pull_request(action, true), may_write), "start bbbbbbbbbbbb", "{action}");
        assert_eq!(told_with(&pull_request(action, false), standing), "start bbbbbbbbbbbb", "{action}: no fork");
    }
}

#[test]
fn a_new_comment_of_its_author_is_a_command() {
    use IssueCommentAction::{Created, Deleted, Edited};
    let command = format!("/dayfly run {}", sha('b'));
    let on_issue = IssueComment { is_pull_request: false, ..comment(Created, "octocat", &command) };
    let table = [
        (comment(Created, "octocat", &command), Forks::Approve),
        (comment(Created, "octocat", "/dayfly run bbbb"), Forks::Approve),
        (comment(Created, "octocat", "Thank you!"), Forks::Approve),
        (comment(Edited, "octocat", &command), Forks::Approve),
        (comment(Deleted, "octocat", &command), Forks::Approve),
        (comment(Created, "stranger", &command), Forks::Approve),
        (on_issue, Forks::Approve),
        (comment(Created, "octocat", &command), Forks::Run),
        (comment(Created, "octocat", &command), Forks::Deny),
    ];
    let told = table.map(|(comment, forks)| told(&Event::IssueComment(comment), forks, false));
    insta::assert_snapshot!(told.join("\n"), @r#"
    approve Run(CommitSha("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")) for octocat
    approve RunUnclear("bbbb") for octocat
    ignore: the comment has no command
    ignore: only a new comment is a command
    ignore: only a new comment is a command
    ignore: the comment was not written by who sent it
    ignore: the comment is not on a pull request
    ignore: forks run without an approval here; reopen the pull request to run a commit that was held before that
    ignore: forks are denied here, and no approval changes that
    "#);
}

#[test]
fn only_our_check_runs_are_run_again() {
    let check = |external_id: Option<&str>| {
        Event::CheckRunRerequested(CheckRunRerequested {
            repository: repository(),
            check_run_id: 5,
            external_id: external_id.map(|id| id.parse().unwrap()),
            name: "dayfly/ci/test".to_owned(),
            head_sha: sha('b'),
            sender: "octocat".to_owned(),
        })
    };
    let suite = Event::CheckSuiteRerequested(CheckSuiteRerequested {
        repository: repository(),
        check_suite_id: 6,
        head_sha: sha('b'),
        head_branch: None,
        sender: "octocat".to_owned(),
    });
    let told = [check(Some("rep-222222222222")), check(None), suite].map(|event| told(&event, Forks::Approve, false));
    insta::assert_snapshot!(told.join("\n"), @r"
    rerun Check(rep-222222222222) for octocat
    ignore: the check run is not one of Dayfly's
    rerun Commit for octocat
    ");
}

#[test]
fn only_what_tells_of_a_head_and_no_more_is_news_of_it() {
    for action in ["opened", "synchronize", "reopened"] {
        let news = head_news(&pull_request(action, true));
        assert_eq!(news, Some(HeadNews { number: 3, as_of: CHANGED_AT }), "{action}");
    }
    for action in ["labeled", "ready_for_review", "edited", "closed", "auto_merge_enabled"] {
        assert_eq!(head_news(&pull_request(action, true)), None, "{action}");
    }
    let Event::PullRequest(pull) = pull_request("opened", false) else { unreachable!("it was just made") };
    assert_eq!(head_news(&Event::PullRequest(PullRequest { changed_at: None, ..pull })), None);
    assert_eq!(head_news(&Event::Ping), None);
}

#[test]
fn secrets_are_for_what_the_repositorys_own_people_bring() {
    for (is_of_fork, event, actor, may) in [
        (false, "push", "octo", true),
        (false, "pull_request", "octo", true),
        (true, "pull_request", "octo", false),
        (false, "pull_request", "dependabot[bot]", false),
        (false, "push", "Dependabot[bot]", false),
        (false, "schedule", "dependabot[bot]", true),
    ] {
        assert_eq!(may_have_secrets(is_of_fork, event, actor), may, "{is_of_fork} {event} {actor}");
    }
}

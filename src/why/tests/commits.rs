//! What the forge was told, and whole commits.

use super::*;

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
        arrived_at: ago_min(4),
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
    let mut broken = unsent.clone();
    broken.abandoned = None;
    broken.desired.summary =
        "`ci.yml` cannot be run.\n\n```text\nci.yml:3: `job` is not known here\n  hint: did you mean `jobs`?\n```\n"
            .into();
    let good = finished('b', "test", Conclusion::Success, None, "");
    let ended = vec![good.clone(), finished('c', "lint", Conclusion::Failure, None, "")];
    let situations = [
        ("held", about(std::slice::from_ref(&held), &[])),
        ("running", about(&[of(vec![good, job('d', "deploy", JobState::Queued)], None), held], &[])),
        ("ended", about(&[of(ended, None), of(vec![], Some(unsent))], &[])),
        ("broken", about(&[of(vec![], Some(broken))], &[])),
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
    -- broken
    [ended] Commit 4f2a91c04f2a91c04f2a91c04f2a91c04f2a91c0 has 1 run, which started no job
        run: run-rrrrrrrrrrrr CI #12 of demo/hello, on pull_request, 9 min ago: ended with an error
        error: `ci.yml` cannot be run.
        error: ci.yml:3: `job` is not known here
        hint: did you mean `jobs`?
        forge: not told yet; it is being sent
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

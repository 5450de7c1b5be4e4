//! What a stored delivery is about, and what came of it: for lists, from what is stored already.

use std::collections::HashMap;

use crate::core::Core;
use crate::forge::{RepoName, ReportState};
use crate::intake::internal::{FORGE, Wish};
use crate::store::{Delivery, DeliveryKey, DeliveryState, Started, StoreError};
use crate::webhook::{self, Event, EventName, PushTarget};

/// Larger payloads are not looked into for a list, in bytes.
const MAX_PAYLOAD: usize = 1 << 20;

/// Once so many bytes of payloads were read for one list, the rest are not.
const MAX_PAYLOADS: usize = 64 << 20;

/// Where something happened, as far as its payload tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) repo: Option<RepoName>,
    /// `#12` of a pull request, the name of a branch or tag, or a shortened commit.
    pub(super) subject: Option<String>,
}

impl About {
    fn of(repo: &RepoName, subject: String) -> Self {
        Self { repo: Some(repo.clone()), subject: Some(subject) }
    }
}

/// Looks into the payloads of these deliveries; into some of them only, where they are very large. One that cannot be read does
/// not hide the others.
pub(super) async fn abouts(core: &Core, deliveries: &[Delivery]) -> Result<Vec<About>, StoreError> {
    let mut read = 0;
    let mut abouts = Vec::new();
    for delivery in deliveries {
        if read >= MAX_PAYLOADS {
            abouts.push(About::default());
            continue;
        }
        let payload = core.store.delivery_payload(&delivery.key).await.unwrap_or_else(|error| {
            tracing::warn!(delivery = %delivery.key, %error, "a payload cannot be read");
            Vec::new()
        });
        read += payload.len();
        abouts.push(match delivery.key.forge == FORGE {
            _ if payload.len() > MAX_PAYLOAD => About::default(),
            true => of_wish(core, &payload).await?,
            false => of_event(&delivery.key.forge, &delivery.event, &payload),
        });
    }
    Ok(abouts)
}

async fn of_wish(core: &Core, payload: &[u8]) -> Result<About, StoreError> {
    Ok(match Wish::parse(payload) {
        Ok(Wish::Approval { pull_request, .. }) => {
            About::of(&pull_request.access.repo, format!("#{}", pull_request.number))
        }
        Ok(Wish::Rerun { run, .. }) => match core.store.run(&run).await? {
            Some(run) => About::of(&run.access.repo, run.sha.short().to_owned()),
            None => About::default(),
        },
        Ok(Wish::Start { asked, .. }) => About::of(&asked.repository.access.repo, asked.workflow.unwrap_or_default()),
        Err(_) => About::default(),
    })
}

fn of_event(forge: &str, name: &str, payload: &[u8]) -> About {
    let event = EventName::parse(name).ok().and_then(|name| webhook::parse(forge, &name, payload).ok());
    let Some((event, repository)) = event.as_ref().and_then(|event| Some((event, event.repository()?))) else {
        return About::default();
    };
    let subject = match event {
        Event::PullRequest(event) => format!("#{}", event.number),
        Event::IssueComment(event) => format!("#{}", event.number),
        Event::Push(event) => match &event.target {
            PushTarget::Branch(name) | PushTarget::Tag(name) => name.clone(),
            PushTarget::Other => event.ref_name.clone(),
        },
        Event::Dispatch(event) => event.git_ref.clone(),
        Event::MergeGroup(event) => event.base_ref.clone(),
        Event::CheckRunRerequested(event) => event.head_sha.short().to_owned(),
        Event::CheckSuiteRerequested(event) => event.head_sha.short().to_owned(),
        Event::WorkflowJob(event) => event.name.clone(),
        Event::Ping | Event::Other { .. } => String::new(),
    };
    About::of(&repository.access.repo, subject)
}

/// What each of these deliveries started.
pub(super) async fn started(core: &Core, deliveries: &[Delivery]) -> Result<HashMap<DeliveryKey, Started>, StoreError> {
    let processed = deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Processed);
    match processed.map(|delivery| delivery.received_at).min() {
        Some(oldest) => core.store.started_since(oldest).await,
        None => Ok(HashMap::new()),
    }
}

/// What came of a delivery, in a few words.
pub(super) fn outcome(started: &Started) -> String {
    let counted = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    match &started.report {
        Some(report) if report.state == ReportState::Held => "held: waits for approval".to_owned(),
        Some(report) if started.jobs == 0 => report.title.clone(),
        _ => format!("{}, {}", counted(started.runs, "run"), counted(started.jobs, "job")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::{CommitSha, Conclusion, RepoAccess, Report};
    use crate::ids::ReportId;

    #[test]
    fn the_payload_of_an_event_says_where_it_happened() {
        let sha = "4f2a91c0".repeat(5);
        let repository = r#""repository": {"id": 1, "full_name": "demo/hello", "default_branch": "main"}, "sender": {"login": "ann"}"#;
        let push = |reference: &str| {
            let zero = "0".repeat(40);
            format!(
                r#"{{"ref": "{reference}", "before": "{zero}", "after": "{sha}", "created": true, "deleted": false, "forced": false, "commits": [], {repository}}}"#
            )
        };
        let told = |name: &str, payload: &str| {
            let About { repo, subject } = of_event("github", name, payload.as_bytes());
            (repo.map(|repo| repo.to_string()).unwrap_or_default(), subject.unwrap_or_default())
        };
        let at = |subject: &str| ("demo/hello".to_owned(), subject.to_owned());
        assert_eq!(told("push", &push("refs/heads/main")), at("main"));
        assert_eq!(told("push", &push("refs/tags/v1")), at("v1"));
        assert_eq!(told("push", &push("refs/notes/x")), at("refs/notes/x"));
        assert_eq!(told("ping", "{}"), (String::new(), String::new()));
        assert_eq!(told("push", "{"), (String::new(), String::new()));
    }

    #[test]
    fn what_came_of_it_is_a_few_words() {
        let report = |state, title: &str| {
            let access = RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: None };
            Some(Report {
                id: ReportId::random(),
                access,
                sha: CommitSha::parse(&"a".repeat(40)).unwrap(),
                context: "dayfly".to_owned(),
                state,
                title: title.to_owned(),
                summary: String::new(),
                log: String::new(),
                annotations: Vec::new(),
                coverage: None,
                place: crate::forge::ReportPlace::default(),
                details_url: None,
                started_at: None,
                finished_at: None,
            })
        };
        let ended = |title| report(ReportState::Finished(Conclusion::Error), title);
        let told = [
            Started { runs: 2, jobs: 1, report: None },
            Started { runs: 1, jobs: 0, report: report(ReportState::Held, "Held: it comes from a fork") },
            Started { runs: 1, jobs: 0, report: ended("ci.yml:3:1: jobs: there is no job") },
            Started { runs: 2, jobs: 5, report: ended("ci.yml:3:1: jobs: there is no job") },
        ]
        .map(|started| outcome(&started));
        insta::assert_snapshot!(told.join("\n"), @"
        2 runs, 1 job
        held: waits for approval
        ci.yml:3:1: jobs: there is no job
        2 runs, 5 jobs
        ");
    }
}

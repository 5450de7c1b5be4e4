//! What a report looks like at GitLab. Pure.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::forge::{Conclusion, Report, ReportState};

/// Longest name, description and address of a commit status, in characters.
const MAX_TEXT: usize = 255;

/// The body of a commit status, without the pipeline that it belongs to.
pub(super) fn status(report: &Report) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    put("state", state(report.state).into());
    put("name", name(&report.context).into());
    put("description", cut(&report.title).into());
    if let Some(git_ref) = &report.place.git_ref {
        put("ref", git_ref.as_str().into());
    }
    // A link that was cut leads nowhere.
    if let Some(url) = report.details_url.as_ref().filter(|url| url.len() <= MAX_TEXT) {
        put("target_url", url.as_str().into());
    }
    if let (ReportState::Finished(_), Some(coverage)) = (report.state, report.coverage) {
        put("coverage", json!(f64::from(coverage) / 100.0));
    }
    body
}

/// GitLab has one word for red; the description says whose doing it was.
fn state(state: ReportState) -> &'static str {
    match state {
        // A pipeline that waits holds a merge request as a failed one does, and stays to be decided.
        ReportState::Queued | ReportState::Held => "pending",
        ReportState::Running => "running",
        ReportState::Finished(Conclusion::Success) => "success",
        ReportState::Finished(Conclusion::Skipped) => "skipped",
        ReportState::Finished(Conclusion::Cancelled) => "canceled",
        ReportState::Finished(Conclusion::Failure | Conclusion::Error | Conclusion::TimedOut) => "failed",
    }
}

/// What a note on the merge request says of a commit that is held, or was; nothing of any other.
pub(super) fn note(report: &Report, is_known: bool) -> Option<String> {
    match report.state {
        ReportState::Held => Some(report.summary.clone()),
        _ if is_known => Some(format!("{}\n\n{}", report.title, report.summary).trim().to_owned()),
        _ => None,
    }
}

/// The status's name. Two that begin alike must not become one when they are cut: the later would hide the earlier.
fn name(context: &str) -> String {
    if context.chars().count() <= MAX_TEXT {
        return context.to_owned();
    }
    let digest = hex::encode(&Sha256::digest(context)[..4]);
    let kept: String = context.chars().take(MAX_TEXT - digest.len() - 2).collect();
    format!("{kept}… {digest}")
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MAX_TEXT {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(MAX_TEXT - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::{CommitSha, RepoAccess, RepoName, ReportPlace};
    use crate::ids::ReportId;

    fn report(state: ReportState) -> Report {
        Report {
            id: ReportId::random(),
            access: RepoAccess { repo: RepoName::parse_path("acme/tools/app").unwrap(), installation: None },
            sha: CommitSha::parse(&"a1".repeat(20)).unwrap(),
            context: "dayfly/CI/test".to_owned(),
            state,
            title: "2 steps passed".to_owned(),
            summary: "All is well.".to_owned(),
            log: String::new(),
            annotations: Vec::new(),
            coverage: Some(8125),
            place: ReportPlace { git_ref: Some("feature".to_owned()), pull_request: Some(7) },
            details_url: Some("https://ci.example.org/logs/x".to_owned()),
            started_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn a_status_says_what_there_is_to_say() {
        let told = Value::Object(status(&report(ReportState::Finished(Conclusion::Success))));
        insta::assert_snapshot!(told, @r#"{"state":"success","name":"dayfly/CI/test","description":"2 steps passed","ref":"feature","target_url":"https://ci.example.org/logs/x","coverage":81.25}"#);
        let running = status(&report(ReportState::Running));
        assert!(!running.contains_key("coverage"), "not yet");
        let mut long = report(ReportState::Queued);
        long.title = "é".repeat(300);
        long.details_url = Some(format!("https://ci.example.org/{}", "x".repeat(300)));
        long.place.git_ref = None;
        let told = status(&long);
        assert_eq!(told["description"].as_str().unwrap().chars().count(), MAX_TEXT);
        assert!(!told.contains_key("target_url") && !told.contains_key("ref"));
    }

    #[test]
    fn names_that_begin_alike_stay_two() {
        let names = ["a", "b"].map(|end| name(&format!("dayfly/CI/{}{end}", "é".repeat(300))));
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.chars().count() == MAX_TEXT && name.starts_with("dayfly/CI/é")));
        assert_eq!(name("dayfly/CI/test"), "dayfly/CI/test");
    }

    #[test]
    fn every_state_has_a_word_of_gitlabs() {
        use Conclusion::{Cancelled, Error, Failure, Skipped, Success, TimedOut};
        let ended = [Success, Failure, Error, TimedOut, Cancelled, Skipped].map(|c| state(ReportState::Finished(c)));
        assert_eq!(ended, ["success", "failed", "failed", "failed", "canceled", "skipped"]);
        let others = [ReportState::Queued, ReportState::Held, ReportState::Running].map(state);
        assert_eq!(others, ["pending", "pending", "running"]);
    }

    #[test]
    fn only_what_is_held_is_told_in_a_note() {
        assert_eq!(note(&report(ReportState::Held), false).unwrap(), "All is well.");
        assert_eq!(note(&report(ReportState::Queued), false), None);
        assert_eq!(
            note(&report(ReportState::Finished(Conclusion::Success)), true).unwrap(),
            "2 steps passed\n\nAll is well."
        );
    }
}

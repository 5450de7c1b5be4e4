//! Deliveries that GitLab could not bring, of the webhooks of projects and groups. It keeps them for a week; versions before
//! 17.4 tell nothing of them, or do not repeat them.

use std::collections::BTreeSet;

use axum::http::Method;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::GitLab;
use super::client::Call;
use crate::forge::{FailedDelivery, ForgeError, Hook, HookOwner, HookRef};
use crate::webhook::kind_of;

/// Webhooks of one owner that are looked at, as many as GitLab gives in one page.
const MAX_HOOKS: &str = "100";
/// Events of one page, as many as GitLab gives, and pages that are read.
const PER_PAGE: usize = 20;
const MAX_PAGES: usize = 10;
/// Largest accepted page, in bytes. An event has its payload here.
const MAX_PAGE: usize = 40 * 1024 * 1024;
/// Largest accepted list of webhooks, and answer to the wish for another attempt, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// Longest id of a delivery, in bytes.
const MAX_KEY: usize = 256;

/// How GitLab calls those that failed: refused, and not answered or with an error. A list of both is newer than each.
const FAILURES: [&str; 2] = ["server_failure", "client_failure"];

#[derive(Deserialize)]
struct HookAnswer {
    id: u64,
    url: String,
    /// Of newer versions.
    #[serde(default)]
    alert_status: String,
    push_events: Option<bool>,
    tag_push_events: Option<bool>,
    merge_requests_events: Option<bool>,
    note_events: Option<bool>,
}

impl HookAnswer {
    fn read(self) -> Hook {
        let kinds = [
            ("Push", self.push_events),
            ("Tag push", self.tag_push_events),
            ("Merge request", self.merge_requests_events),
            ("Comments", self.note_events),
        ];
        let lacks = kinds.into_iter().filter(|(_, is_told)| *is_told == Some(false)).map(|(kind, _)| kind).collect();
        // Until when, if it is for a while, GitLab decides.
        let is_switched_off = matches!(self.alert_status.as_str(), "disabled" | "temporarily_disabled");
        Hook { id: self.id, url: self.url, is_switched_off, lacks }
    }
}

/// One attempt at a delivery.
#[derive(Debug, Deserialize)]
struct Event {
    id: u64,
    #[serde(default)]
    request_headers: Map<String, Value>,
    #[serde(default)]
    response_headers: Option<Map<String, Value>>,
    /// Of newer versions.
    #[serde(default)]
    created_at: Option<String>,
}

pub(super) async fn list(gitlab: &GitLab, owner: &HookOwner) -> Result<Vec<Hook>, ForgeError> {
    let mut url = url_of(gitlab, owner, &[]);
    url.query_pairs_mut().append_pair("per_page", MAX_HOOKS);
    let call = Call::get(format!("listing the webhooks of {owner}"), url, MAX_ANSWER);
    let hooks: Vec<HookAnswer> = gitlab.client.ask(&call).await?;
    Ok(hooks.into_iter().map(HookAnswer::read).collect())
}

pub(super) async fn failed(gitlab: &GitLab, hook: &HookRef, since: i64) -> Result<Vec<FailedDelivery>, ForgeError> {
    let mut events = Vec::new();
    for status in FAILURES {
        for page in 1..=MAX_PAGES {
            let mut url = url_of(gitlab, &hook.owner, &[&hook.id.to_string(), "events"]);
            url.query_pairs_mut()
                .append_pair("status", status)
                .append_pair("per_page", &PER_PAGE.to_string())
                .append_pair("page", &page.to_string());
            let what = format!("listing what webhook {} of {} could not bring", hook.id, hook.owner);
            let found: Vec<Event> = gitlab.client.ask(&Call::get(what, url, MAX_PAGE)).await?;
            let is_last = found.len() < PER_PAGE || found.iter().any(|event| time(event).is_some_and(|at| at < since));
            events.extend(found);
            if is_last {
                break;
            }
        }
    }
    Ok(deliveries(hook, events, since))
}

pub(super) async fn resend(gitlab: &GitLab, hook: &HookRef, id: u64) -> Result<(), ForgeError> {
    let call = Call {
        what: format!("asking for event {id} of webhook {} of {} again", hook.id, hook.owner),
        method: Method::POST,
        url: url_of(gitlab, &hook.owner, &[&hook.id.to_string(), "events", &id.to_string(), "resend"]),
        body: None,
        limit: MAX_ANSWER,
    };
    // How it went is in its next event, and here, if it came.
    gitlab.client.send(&call).await.map(|_| ())
}

fn url_of(gitlab: &GitLab, owner: &HookOwner, rest: &[&str]) -> Url {
    let owner = match owner {
        HookOwner::Project(name) => ["projects", name.as_str()],
        HookOwner::Group(path) => ["groups", path.as_str()],
    };
    gitlab.client.url(owner.into_iter().chain(["hooks"]).chain(rest.iter().copied()))
}

/// The newest attempt of each delivery. One without an id of its own cannot be told from others.
fn deliveries(hook: &HookRef, mut events: Vec<Event>, since: i64) -> Vec<FailedDelivery> {
    events.sort_by_key(|event| std::cmp::Reverse(event.id));
    let mut seen = BTreeSet::new();
    let read = |event: Event| {
        let guid = header(&event.request_headers, "idempotency-key")?.to_owned();
        let delivered_at = time(&event);
        if guid.len() > MAX_KEY || delivered_at.is_some_and(|at| at < since) || !seen.insert(guid.clone()) {
            return None;
        }
        let kind = kind_of(header(&event.request_headers, "x-gitlab-event").map(str::as_bytes));
        Some(FailedDelivery { id: event.id, guid, event: kind, delivered_at, hook: Some(hook.clone()) })
    };
    events.into_iter().filter_map(read).collect()
}

/// When it was tried. Older versions say so only by what answered.
fn time(event: &Event) -> Option<i64> {
    let told = event.created_at.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let answered = || {
        let date = header(event.response_headers.as_ref()?, "date")?;
        Some(rfc2822::parse(date).ok()?.timestamp())
    };
    told.or_else(answered).map(Timestamp::as_millisecond)
}

fn header<'h>(headers: &'h Map<String, Value>, name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?.1.as_str()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::forge::RepoName;

    fn event(id: u64, key: Value, kind: &str, more: Value) -> Event {
        let headers = json!({"Idempotency-Key": key, "X-Gitlab-Event": kind, "X-Gitlab-Token": "[REDACTED]"});
        let mut event = json!({"id": id, "request_headers": headers, "request_data": {}, "response_status": "500"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn each_delivery_is_told_once_with_its_newest_attempt() {
        let hook = HookRef { owner: HookOwner::Project(RepoName::parse_path("acme/tools/app").unwrap()), id: 3 };
        let events = vec![
            event(1, json!("a"), "Push Hook", json!({})),
            event(5, json!("a"), "Push Hook", json!({"response_headers": {"Date": "Wed, 01 May 2024 10:00:00 GMT"}})),
            event(4, json!("b"), "Merge Request Hook", json!({"created_at": "2024-05-01T10:00:00.000Z"})),
            event(3, json!("old"), "Push Hook", json!({"created_at": "2024-04-01T10:00:00.000Z"})),
            event(2, Value::Null, "Push Hook", json!({"created_at": "2024-05-01T10:00:00.000Z"})),
            event(6, json!("c"), "Tag Push Hook", json!({"created_at": "yesterday", "response_headers": null})),
        ];
        let at = "2024-05-01T10:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
        let found = deliveries(&hook, events, at - 1);
        let told: Vec<_> =
            found.iter().map(|one| (one.id, one.guid.as_str(), one.event.as_str(), one.delivered_at)).collect();
        let expected = [(6, "c", "tag_push", None), (5, "a", "push", Some(at)), (4, "b", "merge_request", Some(at))];
        assert_eq!(told, expected);
    }
}

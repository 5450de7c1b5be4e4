//! What an App's webhook could not bring. GitHub keeps its attempts for about three days and repeats none by itself.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, Method};
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::auth::send_as_app;
use super::client::{Call, JSON};
use super::{GitHub, parse};
use crate::forge::{FailedDelivery, ForgeError};

/// Attempts of one page, as many as GitHub gives.
const PER_PAGE: &str = "100";
/// Pages that are read: 5,000 attempts.
const MAX_PAGES: usize = 50;
/// Largest accepted page, in bytes. An attempt has no payload here.
const MAX_PAGE: usize = 1024 * 1024;
/// Largest accepted answer to the wish for another attempt, in bytes. It says nothing.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest cursor that is repeated, in bytes.
const MAX_CURSOR: usize = 256;

/// One attempt at a delivery.
#[derive(Debug, Deserialize)]
struct Attempt {
    id: u64,
    guid: String,
    event: String,
    delivered_at: String,
    /// 0 when nobody answered.
    #[serde(default)]
    status_code: u16,
}

pub(super) async fn failed(github: &GitHub, since: i64) -> Result<Vec<FailedDelivery>, ForgeError> {
    let Some(app) = github.credentials.app() else { return Ok(Vec::new()) };
    let what = "listing the deliveries of the App's webhook";
    let (mut attempts, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..MAX_PAGES {
        let mut url = github.client.url(["app", "hook", "deliveries"]);
        url.query_pairs_mut().append_pair("per_page", PER_PAGE);
        if let Some(cursor) = &cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        let call = Call { what: what.to_owned(), method: Method::GET, url, accept: JSON, body: None, limit: MAX_PAGE };
        let answer = send_as_app(app, &github.client, &call).await?;
        let page: Vec<Attempt> = parse(what, &answer.body)?;
        let reaches_back = page.iter().any(|attempt| time(attempt).is_some_and(|at| at < since));
        attempts.extend(page);
        cursor = next_cursor(&answer.headers);
        if reaches_back || cursor.is_none() {
            break;
        }
    }
    Ok(never_arrived(&attempts, since))
}

pub(super) async fn redeliver(github: &GitHub, id: u64) -> Result<(), ForgeError> {
    let what = format!("asking for delivery {id} again");
    let Some(app) = github.credentials.app() else {
        let detail = "only an App can ask for its deliveries".to_owned();
        return Err(ForgeError::Permanent { what, detail });
    };
    let url = github.client.url(["app", "hook", "deliveries", &id.to_string(), "attempts"]);
    let call = Call { what, method: Method::POST, url, accept: JSON, body: None, limit: MAX_ANSWER };
    send_as_app(app, &github.client, &call).await.map(|_| ())
}

/// Of attempts, newest first: the newest one of each delivery of which none succeeded.
fn never_arrived(attempts: &[Attempt], since: i64) -> Vec<FailedDelivery> {
    let arrived = |attempt: &&Attempt| (200..300).contains(&attempt.status_code);
    let mut settled: BTreeSet<&str> = attempts.iter().filter(arrived).map(|attempt| attempt.guid.as_str()).collect();
    let newest = attempts.iter().filter(|attempt| settled.insert(&attempt.guid));
    let failed = newest.filter_map(|attempt| {
        let delivered_at = time(attempt).filter(|at| *at >= since)?;
        let (guid, event) = (attempt.guid.clone(), attempt.event.clone());
        Some(FailedDelivery { id: attempt.id, guid, event, delivered_at: Some(delivered_at), hook: None })
    });
    failed.collect()
}

fn time(attempt: &Attempt) -> Option<i64> {
    attempt.delivered_at.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Where the next page begins. Only the cursor is taken from the answer, never the address: the credential goes there.
fn next_cursor(headers: &HeaderMap) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let address = next.split_once('<')?.1.split_once('>')?.0;
    let url = Url::parse(address).ok()?;
    let (_, cursor) = url.query_pairs().find(|(name, _)| name == "cursor")?;
    (cursor.len() <= MAX_CURSOR).then(|| cursor.into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn attempt(id: u64, guid: &str, minute: u64, status_code: u16) -> Attempt {
        let delivered_at = format!("2024-05-01T10:{minute:02}:00Z");
        Attempt { id, guid: guid.to_owned(), event: "push".to_owned(), delivered_at, status_code }
    }

    #[test]
    fn what_came_at_last_has_not_failed() {
        let attempts = [
            attempt(9, "b", 9, 202),
            attempt(8, "c", 8, 0),
            attempt(7, "a", 7, 500),
            attempt(6, "a", 6, 502),
            attempt(5, "b", 5, 503),
            attempt(4, "d", 4, 200),
            attempt(3, "e", 3, 401),
        ];
        let since = "2024-05-01T10:04:00Z".parse::<Timestamp>().unwrap().as_millisecond();
        let failed = never_arrived(&attempts, since);
        let failed: Vec<(u64, &str)> = failed.iter().map(|found| (found.id, found.guid.as_str())).collect();
        assert_eq!(failed, [(8, "c"), (7, "a")]);
    }

    #[test]
    fn a_time_that_does_not_read_is_left_out() {
        let odd = Attempt { delivered_at: "yesterday".to_owned(), ..attempt(1, "a", 1, 0) };
        assert_eq!(never_arrived(&[odd], 0), []);
    }

    #[test]
    fn the_cursor_alone_is_taken_from_a_link() {
        let cursor = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("link", link.parse().unwrap());
            next_cursor(&headers)
        };
        let good = r#"<https://x/app/hook/deliveries?per_page=1&cursor=v1%5F2>; rel="next", <https://x/?cursor=0>; rel="first""#;
        assert_eq!(cursor(good).as_deref(), Some("v1_2"));
        for bad in [r#"<https://x/?cursor=0>; rel="first""#, r#"<https://x/?page=2>; rel="next""#, "rel=\"next\"", "<"]
        {
            assert_eq!(cursor(bad), None, "{bad}");
        }
        assert_eq!(next_cursor(&HeaderMap::new()), None);
    }
}

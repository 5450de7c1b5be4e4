//! What a failed answer of GitHub means to callers: wait, give up, or ask for another credential.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::forge::ForgeError;

/// Bounds of a wait that GitHub asks for. The header is not trusted to stop Dayfly for days, or to make it spin.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// The wait when GitHub names none; its documentation asks for at least a minute after a secondary limit.
const UNNAMED_WAIT: Duration = Duration::from_secs(60);

/// How much of GitHub's explanation an error repeats, in characters.
const MAX_MESSAGE: usize = 300;

/// What to do about a refusal.
pub(super) const PERMISSIONS_HINT: &str = "the App needs `checks` and `statuses` to write, `contents` and `pull_requests` to \
     read, and the repository among those of its installation; a token needs the same without `checks`";

/// Classifies an answer that is not a success. `now` is in seconds since the epoch.
pub(super) fn classify(what: &str, status: StatusCode, headers: &HeaderMap, body: &[u8], now: u64) -> ForgeError {
    let what = what.to_owned();
    let message = message(body);
    let detail = if message.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {message}") };
    match status.as_u16() {
        403 | 429 if is_rate_limit(status, headers, &message) => {
            ForgeError::RateLimited { what, wait: wait(headers, now) }
        }
        401 | 403 => ForgeError::Refused { what, detail: format!("{detail}\n  hint: {PERMISSIONS_HINT}") },
        404 | 410 => ForgeError::NotFound { what },
        408 | 500..=599 => ForgeError::Transient { what, detail },
        300..=399 => ForgeError::Permanent {
            what,
            detail: format!(
                "{detail}\n  hint: the repository was renamed or moved; its new name comes with its next webhook"
            ),
        },
        _ => ForgeError::Permanent { what, detail },
    }
}

/// A 403 is a rate limit only where it says so: every answer carries `X-RateLimit-*` headers, refusals too.
fn is_rate_limit(status: StatusCode, headers: &HeaderMap, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    status == StatusCode::TOO_MANY_REQUESTS
        || headers.contains_key("retry-after")
        || number(headers, "x-ratelimit-remaining") == Some(0)
        || message.contains("rate limit")
        || message.contains("abuse detection")
}

fn wait(headers: &HeaderMap, now: u64) -> Duration {
    let until_reset = || {
        let is_used_up = number(headers, "x-ratelimit-remaining") == Some(0);
        number(headers, "x-ratelimit-reset").filter(|_| is_used_up).map(|reset| reset.saturating_sub(now))
    };
    number(headers, "retry-after")
        .or_else(until_reset)
        .map_or(UNNAMED_WAIT, Duration::from_secs)
        .clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

/// A header's value as a number.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// GitHub's explanation in one bounded line: `message`, then what `errors` adds.
fn message(body: &[u8]) -> String {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let explained = |error: &Value| match error.as_str().or(error["message"].as_str()) {
        Some(text) => Some(text.to_owned()),
        None => Some(format!("{} {}", error["field"].as_str()?, error["code"].as_str()?)),
    };
    let errors = answer["errors"].as_array().into_iter().flatten().take(3).filter_map(explained);
    let parts: Vec<String> = answer["message"].as_str().map(str::to_owned).into_iter().chain(errors).collect();
    parts.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn classified(status: u16, headers: &[(&str, &str)], body: &str) -> ForgeError {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect();
        classify("reading `x`", StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), NOW)
    }

    #[test]
    fn statuses_without_further_words() {
        let kind = |status| match classified(status, &[], "") {
            ForgeError::Transient { .. } => "transient",
            ForgeError::RateLimited { .. } => "rate limited",
            ForgeError::NotFound { .. } => "not found",
            ForgeError::Refused { .. } => "refused",
            ForgeError::Permanent { .. } => "permanent",
        };
        let expected = [
            (301, "permanent"),
            (400, "permanent"),
            (401, "refused"),
            (403, "refused"),
            (404, "not found"),
            (408, "transient"),
            (409, "permanent"),
            (410, "not found"),
            (422, "permanent"),
            (429, "rate limited"),
            (500, "transient"),
            (502, "transient"),
            (503, "transient"),
        ];
        for (status, word) in expected {
            assert_eq!(kind(status), word, "{status}");
        }
    }

    #[test]
    fn waits_come_from_the_headers_and_are_bounded() {
        let reset = |at: u64| at.to_string();
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(u16, Headers<'_>, &str, u64)] = &[
            (429, &[("retry-after", "7")], "", 7),
            (429, &[], "", 60),
            (429, &[("retry-after", "0")], "", 1),
            (429, &[("retry-after", "999999")], "", 3600),
            (429, &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], "", 60),
            (403, &[("retry-after", "30")], "", 30),
            (403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset(NOW + 90))], "", 90),
            (403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset(NOW - 90))], "", 1),
            (
                403,
                &[("x-ratelimit-remaining", "12"), ("x-ratelimit-reset", &reset(NOW + 90)), ("retry-after", "5")],
                "",
                5,
            ),
            (403, &[], r#"{"message":"You have exceeded a secondary rate limit."}"#, 60),
        ];
        for (status, headers, body, seconds) in cases {
            match classified(*status, headers, body) {
                ForgeError::RateLimited { wait, .. } => assert_eq!(wait.as_secs(), *seconds, "{headers:?}"),
                other => panic!("{headers:?}: {other}"),
            }
        }
    }

    #[test]
    fn a_refusal_with_ordinary_rate_headers_is_a_refusal() {
        let headers = [("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "1700003600")];
        let error = classified(403, &headers, r#"{"message":"Resource not accessible by integration"}"#);
        insta::assert_snapshot!(error, @"
        reading `x`: the forge refused it: HTTP 403 Forbidden: Resource not accessible by integration
          hint: the App needs `checks` and `statuses` to write, `contents` and `pull_requests` to read, and the repository among those of its installation; a token needs the same without `checks`
        ");
    }

    #[test]
    fn explanations_are_one_bounded_line() {
        let body = r#"{"message":"Validation Failed","errors":[{"resource":"Status","code":"custom","field":"description",
            "message":"description is too long\n(maximum is 140 characters)"},{"field":"sha","code":"missing"},"odd",{"x":1}]}"#;
        insta::assert_snapshot!(classified(422, &[], body), @"reading `x`: HTTP 422 Unprocessable Entity: Validation Failed; description is too long (maximum is 140 characters); sha missing; odd");
        let long = format!(r#"{{"message":"{}"}}"#, "y".repeat(5000));
        assert!(classified(422, &[], &long).to_string().len() < 400);
        insta::assert_snapshot!(classified(502, &[], "<html>"), @"reading `x`: the forge did not answer properly (HTTP 502 Bad Gateway)");
    }
}

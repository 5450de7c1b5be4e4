//! As whom Dayfly speaks to GitLab, and what its token may do.

use axum::http::HeaderMap;
use serde::Deserialize;

use super::GitLab;
use super::client::{Call, parse};
use crate::forge::{ForgeError, ForgeStanding};

/// Largest accepted answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    scopes: Vec<String>,
}

pub(super) async fn standing(gitlab: &GitLab) -> Result<ForgeStanding, ForgeError> {
    let call = Call::get("asking GitLab who we are", gitlab.client.url(["user"]), MAX_ANSWER);
    let answer = gitlab.client.send(&call).await?;
    let user: User = parse(&call.what, &answer.body)?;
    let url = gitlab.client.url(["personal_access_tokens", "self"]);
    // Not every kind of token may ask that.
    let token = match gitlab.client.ask::<Token>(&Call::get("asking what the token may do", url, MAX_ANSWER)).await {
        Err(error) if error.is_retryable() => return Err(error),
        answer => answer.unwrap_or(Token { scopes: Vec::new() }),
    };
    Ok(ForgeStanding {
        identity: format!("token of `{}` at `{}`", user.username, gitlab.name),
        permissions: token.scopes.into_iter().map(|scope| (scope, "granted".to_owned())).collect(),
        events: Vec::new(),
        repositories: Vec::new(),
        server_time: date(&answer.headers),
    })
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get("date")?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp().as_millisecond())
}

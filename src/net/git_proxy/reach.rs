//! The same way to the forge, asked whether it leads there: for those who look before a job does.

use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, DATE};
use jiff::fmt::rfc2822;
use secrecy::ExposeSecret;
use url::Url;

use super::GitClient;
use crate::forge::GitUpstream;

/// For connecting and the head of the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// An answer, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub status: u16,
    /// The other side's clock, in milliseconds since the epoch, exact to a second.
    pub server_time: Option<i64>,
    pub took: Duration,
}

impl GitClient {
    /// Asks for `url` without a credential. An error says why there was no answer: name, connection, TLS or time.
    pub async fn reach(&self, url: &Url) -> Result<Reached, String> {
        let began = Instant::now();
        let answer = self.to(url).get(url.clone()).timeout(LIMIT).send().await.map_err(causes)?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let server_time = date.and_then(|date| Some(rfc2822::parse(date).ok()?.timestamp().as_millisecond()));
        Ok(Reached { status: answer.status().as_u16(), server_time, took: began.elapsed() })
    }

    /// Begins a fetch from `upstream` and leaves it at that. An error says why it cannot be done.
    pub async fn begin_fetch(&self, upstream: &GitUpstream) -> Result<(), String> {
        let mut url = upstream.url.clone();
        url.set_path(&format!("{}.git/info/refs", url.path()));
        url.set_query(Some("service=git-upload-pack"));
        let mut request = self.to(&url).get(url).timeout(LIMIT);
        if let Some(authorization) = &upstream.authorization {
            let mut value = HeaderValue::from_str(authorization.expose_secret())
                .map_err(|_| "the credential cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let status = request.send().await.map_err(causes)?.status();
        if status.is_success() { Ok(()) } else { Err(format!("HTTP {status}")) }
    }
}

/// An error with everything that led to it; the outermost alone says only that there was one.
fn causes(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}

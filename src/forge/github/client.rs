//! One HTTP call to GitHub: time-limited, size-limited, never retried, its failure classified, and its answer not sent again
//! where it has not changed. A repository that was renamed
//! is asked for by its number.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::{ACCEPT, AUTHORIZATION, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use octocrab::Octocrab;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::SettingsError;
use super::budget::{Budgets, Payer};
use super::classify::classify;
use super::moved::new_place;
use super::remembered::Remembered;
use crate::forge::ForgeError;
use crate::net::upstream::causes;

/// The usual form of GitHub's answers.
pub(super) const JSON: &str = "application/vnd.github+json";
/// Of a commit, its id alone: in JSON it comes with its whole difference.
pub(super) const COMMIT_ID: &str = "application/vnd.github.sha";
/// A file's bytes as they are.
pub(super) const RAW: &str = "application/vnd.github.raw+json";

/// Largest answer that explains a failure, in bytes.
const MAX_FAILURE: usize = 64 * 1024;

/// What to ask.
#[derive(Debug)]
pub(super) struct Call {
    /// For errors: what is being done, such as ``reading `x` ``.
    pub(super) what: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: &'static str,
    pub(super) body: Option<Value>,
    /// Largest accepted answer, in bytes.
    pub(super) limit: usize,
}

/// An answer of success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The number of the repository, where it has another name by now than the one that was asked for.
    pub(super) renamed: Option<u64>,
}

/// An answer's status, headers and body.
type Exchanged = (StatusCode, HeaderMap, Vec<u8>);

/// In whose name a call is sent, and from whose budget it is taken.
#[derive(Debug)]
pub(super) struct Identity {
    /// A token for the `Authorization` header.
    pub(super) token: SecretString,
    pub(super) payer: Payer,
}

/// The connection pool to one GitHub. Octocrab is used without its authentication: tokens here are narrower than its own.
#[derive(Debug)]
pub(super) struct Client {
    octocrab: Octocrab,
    api: Url,
    /// For connecting and the complete answer together.
    pub(super) timeout: Duration,
    pub(super) budgets: Budgets,
    remembered: Remembered,
}

impl Client {
    /// Needs a tokio runtime: the connection pool lives on it.
    pub(super) fn new(api: Url, timeout: Duration) -> Result<Self, SettingsError> {
        use rustls::crypto::{CryptoProvider, ring};
        if CryptoProvider::get_default().is_none() {
            // Losing the race against another installer is as good as winning it.
            ring::default_provider().install_default().ok();
        }
        let octocrab = Octocrab::builder()
            .set_connect_timeout(Some(timeout))
            .build()
            .map_err(|error| SettingsError::Tls { detail: causes(&error) })?;
        Ok(Self { octocrab, api, timeout, budgets: Budgets::default(), remembered: Remembered::default() })
    }

    /// The API's address of a path. Segments are escaped, so that none of them can leave its place; callers refuse `.` and
    /// `..`, which no escaping makes harmless.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.api.clone();
        url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(segments);
        url
    }

    /// Sends `call` in the name of `identity`.
    pub(super) async fn send(&self, call: &Call, identity: &Identity) -> Result<Answer, ForgeError> {
        let etag = self.remembered.etag(identity.payer, call);
        let (mut renamed, mut exchanged) = self.exchange_in_time(call, identity, etag.as_ref()).await?;
        if exchanged.0 == StatusCode::NOT_MODIFIED {
            if let Some(answer) = self.remembered.still(identity.payer, call, &exchanged.1) {
                return Ok(answer);
            }
            // What was known has made room for another answer meanwhile.
            (renamed, exchanged) = self.exchange_in_time(call, identity, None).await?;
        }
        let (status, headers, body) = exchanged;
        if status.is_success() {
            let answer = Answer { headers, body, renamed };
            self.remembered.note(identity.payer, call, &answer);
            return Ok(answer);
        }
        // An answer that echoes the credential must not carry it into an error, which is logged.
        let secret = identity.token.expose_secret().as_bytes();
        let echoes = !secret.is_empty() && body.windows(secret.len()).any(|window| window == secret);
        let body = if echoes { Vec::new() } else { body };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Err(classify(&call.what, status, &headers, &body, now))
    }

    /// [`Self::exchange_where_it_is`], within the time for it, and with its cost noted.
    async fn exchange_in_time(
        &self, call: &Call, identity: &Identity, etag: Option<&HeaderValue>,
    ) -> Result<(Option<u64>, Exchanged), ForgeError> {
        let exchange = self.exchange_where_it_is(call, &identity.token, etag);
        let (renamed, exchanged) = tokio::time::timeout(self.timeout, exchange).await.map_err(|_| {
            let detail = format!("no complete answer within {} ms", self.timeout.as_millis());
            ForgeError::Transient { what: call.what.clone(), detail }
        })??;
        self.budgets.note(identity.payer, &exchanged.1);
        Ok((renamed, exchanged))
    }

    /// One exchange, or two if the answer to the first is where the repository is by its number.
    async fn exchange_where_it_is(
        &self, call: &Call, token: &SecretString, etag: Option<&HeaderValue>,
    ) -> Result<(Option<u64>, Exchanged), ForgeError> {
        let (status, headers, body) = self.exchange(call, &call.url, token, etag).await?;
        let Some(place) = new_place(&self.api, &call.url, status, &headers) else {
            return Ok((None, (status, headers, body)));
        };
        tracing::info!(what = call.what, repository = place.number, "the repository was renamed: asking by its number");
        Ok((Some(place.number), self.exchange(call, &place.url, token, None).await?))
    }

    /// `etag`: how the forge called the answer that is known, which it need not send again.
    async fn exchange(
        &self, call: &Call, url: &Url, token: &SecretString, etag: Option<&HeaderValue>,
    ) -> Result<Exchanged, ForgeError> {
        let permanent = |detail| ForgeError::Permanent { what: call.what.clone(), detail };
        let transient = |detail| ForgeError::Transient { what: call.what.clone(), detail };

        let uri: Uri = url.as_str().parse().map_err(|_| permanent("its address is too long".to_owned()))?;
        let mut credential = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| permanent("the credential has characters that no HTTP header can carry".to_owned()))?;
        credential.set_sensitive(true);
        let request = Request::builder().method(&call.method).uri(uri);
        let mut request = request.header(ACCEPT, call.accept).header(AUTHORIZATION, credential);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let request =
            self.octocrab.build_request(request, call.body.as_ref()).map_err(|error| permanent(causes(&error)))?;

        let answer = self.octocrab.send(request).await.map_err(|error| transient(causes(&error)))?;
        let (parts, body) = answer.into_parts();
        let limit = if parts.status.is_success() { call.limit } else { MAX_FAILURE };
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok((parts.status, parts.headers, body.to_bytes().to_vec())),
            Err(error) if error.is::<LengthLimitError>() && parts.status.is_success() => {
                Err(permanent(format!("the answer is larger than {limit} bytes")))
            }
            // The status says enough, whatever its explanation is.
            Err(error) if error.is::<LengthLimitError>() => Ok((parts.status, parts.headers, Vec::new())),
            Err(error) => Err(transient(format!("the answer broke off: {}", causes(&*error)))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_unchanged_answer_that_is_not_known_any_more_is_asked_for_again() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let respond = move || {
            let is_first = counter.fetch_add(1, Ordering::Relaxed) == 0;
            std::future::ready(if is_first { StatusCode::NOT_MODIFIED } else { StatusCode::OK })
        };
        let routes: Router = Router::new().fallback(respond);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });

        let client = Client::new(api, Duration::from_secs(10)).unwrap();
        let url = client.url(["user"]);
        let call = Call { what: "asking".into(), method: Method::GET, url, accept: JSON, body: None, limit: 16 };
        let identity = Identity { token: SecretString::from("secret".to_owned()), payer: Payer::Token };
        assert!(client.send(&call, &identity).await.unwrap().body.is_empty());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}

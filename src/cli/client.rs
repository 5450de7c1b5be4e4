//! Speaks to a running service over its control socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode, header};
use futures::{Stream, TryStreamExt, stream};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::UnixStream;
use url::Url;

use super::{EXIT_NO_PERMISSION, EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE};

/// How long the service may take to begin its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Largest answer that is taken as a whole, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why there is no answer, or which one there is instead.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "no service answers at `{}`\n  hint: start it with `dayfly serve`, or name its socket with --socket or its configuration \
         with --config", .0.display()
    )]
    NoService(PathBuf),
    #[error("the socket `{}` may not be opened\n  hint: it is for the user of the service, often root: try sudo", .0.display())]
    Forbidden(PathBuf),
    #[error("the service at `{}` did not answer within {} s\n  hint: its log may say what it is busy with", .0.display(), ANSWER_LIMIT.as_secs())]
    Silent(PathBuf),
    #[error("the conversation with the service at `{}` broke off: {detail}\n  hint: it may have been stopped; ask again", socket.display())]
    Broken { socket: PathBuf, detail: String },
    #[error(
        "the answer of the service cannot be read: {0}\n  hint: the service may be of another version than this command"
    )]
    Unreadable(String),
    #[error("{error}{}", hint.as_ref().map_or_else(String::new, |hint| format!("\n  hint: {hint}")))]
    Refused { status: StatusCode, error: String, hint: Option<String> },
}

impl ClientError {
    /// The code with which a command ends.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Forbidden(_) => EXIT_NO_PERMISSION,
            Self::Refused { status: StatusCode::BAD_REQUEST, .. } => EXIT_USAGE,
            Self::Refused { status, .. } if status.is_client_error() => EXIT_REFUSED,
            Self::NoService(_) | Self::Silent(_) | Self::Broken { .. } | Self::Unreadable(_) | Self::Refused { .. } => {
                EXIT_UNAVAILABLE
            }
        }
    }

    /// Whether the service has nothing of that name.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }
}

/// A refusal as the API words it.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
    hint: Option<String>,
}

/// A way to one service. Each call is a connection of its own.
#[derive(Debug, Clone)]
pub(super) struct Client {
    socket: PathBuf,
}

/// A path of the API with its parameters.
#[derive(Debug, Clone)]
pub(super) struct Query(Url);

impl Query {
    /// The path of these segments, which may hold any text.
    pub(super) fn of(segments: &[&str]) -> Self {
        let mut url = Url::parse("http://dayfly/v1").expect("it is an address");
        url.path_segments_mut().expect("http addresses have paths").extend(segments);
        Self(url)
    }

    /// With a parameter.
    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.query_pairs_mut().append_pair(name, &value.to_string());
        self
    }

    /// With a parameter, if it has a value.
    pub(super) fn with_any(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

impl Client {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The JSON at a path.
    pub(super) async fn get(&self, query: Query) -> Result<Value, ClientError> {
        self.whole(self.call(Method::GET, &query, None).await?).await
    }

    /// What the service answers to a wish.
    pub(super) async fn post(&self, query: Query, body: Option<&Value>) -> Result<Value, ClientError> {
        self.whole(self.call(Method::POST, &query, body).await?).await
    }

    /// The bytes at a path as they come, for as long as they come.
    pub(super) async fn stream(
        &self, query: Query,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + use<>, ClientError> {
        let body = self.call(Method::GET, &query, None).await?;
        let socket = self.socket.clone();
        let frames = stream::try_unfold(body, async |mut body| match body.frame().await.transpose()? {
            Some(frame) => Ok::<_, hyper::Error>(Some((frame.into_data().unwrap_or_default(), body))),
            None => Ok(None),
        });
        Ok(frames.map_err(move |error| ClientError::Broken { socket: socket.clone(), detail: error.to_string() }))
    }

    /// The body of a successful answer, once it begins.
    async fn call(&self, method: Method, query: &Query, body: Option<&Value>) -> Result<Incoming, ClientError> {
        let answer = tokio::time::timeout(ANSWER_LIMIT, self.send(method, query, body));
        let answer = answer.await.map_err(|_| ClientError::Silent(self.socket.clone()))??;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let bytes = self.collect(answer.into_body()).await?;
        Err(match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(Refusal { error, hint }) => ClientError::Refused { status, error, hint },
            Err(_) => ClientError::Unreadable(format!("{status}: {}", String::from_utf8_lossy(&bytes).trim())),
        })
    }

    async fn send(
        &self, method: Method, query: &Query, body: Option<&Value>,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_connected(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with the answer's body or with this process, and has nothing to say that the body does not.
        tokio::spawn(connection);
        let Query(url) = query;
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "dayfly")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.map_or_else(String::new, Value::to_string))))
            .expect("the parts of an address make a request");
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    async fn whole(&self, body: Incoming) -> Result<Value, ClientError> {
        let bytes = self.collect(body).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Unreadable(error.to_string()))
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(self.broken(&*error)),
        }
    }

    fn not_connected(&self, error: &std::io::Error) -> ClientError {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NoService(self.socket.clone()),
            ErrorKind::PermissionDenied => ClientError::Forbidden(self.socket.clone()),
            _ => self.broken(error),
        }
    }

    fn broken(&self, error: &(impl std::error::Error + ?Sized)) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), detail: error.to_string() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_is_not_there_is_told_from_one_that_may_not_be_asked() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("control.sock");
        let error = Client::new(&absent).get(Query::of(&["jobs"])).await.unwrap_err();
        assert!(matches!(error, ClientError::NoService(_)), "{error}");
        // A socket that a dead service left.
        drop(std::os::unix::net::UnixListener::bind(&absent).unwrap());
        let error = Client::new(&absent).get(Query::of(&["jobs"])).await.unwrap_err();
        assert!(matches!(error, ClientError::NoService(_)), "{error}");
        assert_eq!(ClientError::Forbidden(absent).exit_code(), 77);
    }

    #[test]
    fn any_text_can_be_asked_for() {
        let Query(url) = Query::of(&["jobs", "../x y?", "log"]).with("tail", 5).with_any("a&b", Some("=é"));
        assert_eq!(url.as_str(), "http://dayfly/v1/jobs/..%2Fx%20y%3F/log?tail=5&a%26b=%3D%C3%A9");
    }
}

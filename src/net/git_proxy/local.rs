//! Fetches that are answered from a repository on this host, by git's own program: for runs without a forge.

use std::path::Path;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::io::ReaderStream;

use super::admission::{Admitted, Fetch};
use super::{Failure, GIT_PROTOCOL, PROTOCOL_V2, Shared, transfer};
use crate::host::git;
use crate::net::http::MAX_HEAD;
use crate::net::transfer::Budget;

impl Shared {
    /// Answers from the bare repository in `directory`. Dropping the answer ends the program.
    pub(super) async fn answer_from(
        &self, directory: &Path, admitted: &Admitted, fetch: Fetch, request: Request<Incoming>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Failure> {
        let (head, body) = request.into_parts();
        let failed = |error: std::io::Error| {
            tracing::warn!(%error, directory = %directory.display(), "a local repository cannot be served");
            Failure::gateway("the repository cannot be read on the host")
        };
        let mut backend = git::http_backend(directory, &variables(fetch, &head.headers)).map_err(failed)?;
        let input = backend.stdin.take().expect("it is piped");
        let mut output = BufReader::new(backend.stdout.take().expect("it is piped"));
        let upload = transfer::bounded(
            body.into_data_stream(),
            self.limits.idle,
            Budget::new(self.limits.request_bytes).spender(),
        );
        // Beside reading: the program may answer before it has read everything.
        let feeding = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(feed(Box::pin(upload), input)));
        let content_type = tokio::time::timeout(self.limits.answer, read_head(&mut output))
            .await
            .map_err(|_| Failure::gateway("the repository was not read in time"))?
            .map_err(failed)?;
        let mut response = Response::new(self.counted(admitted, ReaderStream::new(output), (slot, backend, feeding)));
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        Ok(response)
    }
}

/// What the program is told of the request, in the variables of CGI. All values that are the guest's own are known words.
fn variables(fetch: Fetch, headers: &HeaderMap) -> Vec<(&'static str, &'static str)> {
    let says = |name: HeaderName, value: &str| headers.get(name).is_some_and(|said| said == value);
    let mut variables = match fetch {
        Fetch::Advertise => {
            vec![("REQUEST_METHOD", "GET"), ("PATH_INFO", "/info/refs"), ("QUERY_STRING", "service=git-upload-pack")]
        }
        Fetch::UploadPack => vec![
            ("REQUEST_METHOD", "POST"),
            ("PATH_INFO", "/git-upload-pack"),
            ("CONTENT_TYPE", "application/x-git-upload-pack-request"),
        ],
    };
    if says(GIT_PROTOCOL, PROTOCOL_V2) {
        variables.push(("GIT_PROTOCOL", PROTOCOL_V2));
    }
    if says(CONTENT_ENCODING, "gzip") {
        variables.push(("HTTP_CONTENT_ENCODING", "gzip"));
    }
    variables
}

async fn feed(
    mut body: impl futures::Stream<Item = Result<axum::body::Bytes, transfer::TransferError>> + Unpin,
    mut input: ChildStdin,
) {
    // Ends early if the program has read enough; a body that breaks shows in its answer.
    while let Some(Ok(chunk)) = body.next().await {
        if input.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// Reads the head of a CGI answer; gives the content's type. A status other than success is an error.
async fn read_head(output: &mut BufReader<ChildStdout>) -> std::io::Result<HeaderValue> {
    let mut head = output.take(MAX_HEAD as u64);
    let mut content_type = None;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line).await? == 0 {
            return Err(std::io::Error::other("git answered no head"));
        }
        match line.trim_end().split_once(": ") {
            None => break,
            Some(("Status", status)) => return Err(std::io::Error::other(format!("git answered `{status}`"))),
            Some((name, value)) if name.eq_ignore_ascii_case("content-type") => {
                content_type = HeaderValue::from_str(value).ok();
            }
            Some(_) => {}
        }
    }
    content_type.ok_or_else(|| std::io::Error::other("git answered no type of content"))
}

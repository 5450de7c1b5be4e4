//! An artifact as a download.

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use tokio_util::io::ReaderStream;

use crate::depot::{Artifact, Depot, DepotError};
use crate::net::results::disposition;

/// The stored file, to be saved under the artifact's name; `None` if it was removed meanwhile.
///
/// # Errors
/// The host's file system.
pub(super) async fn download(depot: &Depot, artifact: &Artifact) -> Result<Option<Response<Body>>, DepotError> {
    let (of_depot, wanted) = (depot.clone(), artifact.clone());
    let Some(content) = blocking(move || of_depot.open_artifact(&wanted)).await? else { return Ok(None) };
    let file = tokio::fs::File::from_std(content.file);
    let mut response = Response::new(Body::from_stream(ReaderStream::new(file)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, content.size.into());
    // What a job says that it is would be believed by a browser.
    let mime = if artifact.is_zip() { "application/zip" } else { "application/octet-stream" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(mime));
    headers.extend(disposition(&artifact.file_name()).map(|value| (CONTENT_DISPOSITION, value)));
    Ok(Some(response))
}

/// Does what may wait for the disk where nobody else waits for it.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

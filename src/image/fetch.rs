//! Files of the network that an operator names by address and content. Whoever serves them can refuse, and nothing else: what is not
//! the content is not kept.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Client, ClientBuilder};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt as _;

/// Bytes of one file.
pub const MAX_BYTES: u64 = 256 << 20;

/// Time for the connection, between two pieces of the answer, and for all of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const WHOLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Addresses that lead to the next one.
const MAX_REDIRECTS: usize = 5;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("`{url}` cannot be fetched: {why}\n  hint: it is fetched by this host, with the proxy of its environment")]
    Unreachable { url: String, why: String },
    #[error("`{url}` has more than {} MiB", MAX_BYTES >> 20)]
    TooLarge { url: String },
    #[error("`{url}` has the SHA-256 `{found}`, not `{expected}`\n  hint: compare it with what its author publishes")]
    Other { url: String, expected: String, found: String },
    #[error("storing `{url}`: {source}{}", crate::host::disk::hint_if_full(source))]
    NotStored { url: String, source: io::Error },
}

/// Fetches `url` into the new file `to`, and compares it with `sha256`, in lower-case hexadecimal. Honours the proxy variables of the environment.
///
/// # Errors
/// As [`FetchError`] says. Then `to` is not to be used.
pub async fn fetch(url: &str, sha256: &str, to: &Path) -> Result<(), FetchError> {
    fetch_with(|builder| builder, url, sha256, to).await
}

async fn fetch_with(
    proxies: impl FnOnce(ClientBuilder) -> ClientBuilder, url: &str, sha256: &str, to: &Path,
) -> Result<(), FetchError> {
    let unreachable = |error: reqwest::Error| {
        let why = format!("{:#}", anyhow::Error::new(error.without_url()));
        FetchError::Unreachable { url: url.to_owned(), why }
    };
    let stored = |source| FetchError::NotStored { url: url.to_owned(), source };
    let client = client(proxies).map_err(unreachable)?;
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(unreachable)?;
    let mut pieces = answer.bytes_stream();
    let mut file = tokio::fs::File::create_new(to).await.map_err(stored)?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(unreachable)?;
        length += piece.len() as u64;
        if length > MAX_BYTES {
            return Err(FetchError::TooLarge { url: url.to_owned() });
        }
        hash.update(&piece);
        file.write_all(&piece).await.map_err(stored)?;
    }
    file.flush().await.map_err(stored)?;
    let found = hex::encode(hash.finalize());
    if found == sha256 {
        return Ok(());
    }
    Err(FetchError::Other { url: url.to_owned(), expected: sha256.to_owned(), found })
}

fn client(proxies: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, reqwest::Error> {
    // Fails only if a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .timeout(WHOLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .referer(false)
        .user_agent(concat!("dayfly/", env!("CARGO_PKG_VERSION")));
    proxies(builder).build()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::response::Redirect;
    use axum::routing::get;
    use futures::stream;

    use super::*;

    /// Of `content`.
    const SHA256: &str = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";

    async fn endless() -> Body {
        Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[0; 1 << 20]))))
    }

    #[tokio::test]
    async fn only_the_content_that_was_named_is_kept() {
        let pages = Router::new()
            .route("/file", get(async || "content"))
            .route("/moved", get(async || Redirect::temporary("/file")))
            .route("/round", get(async || Redirect::temporary("/round")))
            .route("/endless", get(endless));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, pages).await });
        let directory = tempfile::tempdir().unwrap();
        let fetched = async |path: &str, sha256: &str| {
            let to = directory.path().join("fetched");
            drop(std::fs::remove_file(&to));
            let done = fetch_with(ClientBuilder::no_proxy, &format!("{address}{path}"), sha256, &to).await;
            done.map(|()| std::fs::read_to_string(to).unwrap()).map_err(|error| error.to_string().replace(&address, ""))
        };
        assert_eq!(fetched("/file", SHA256).await.unwrap(), "content");
        assert_eq!(fetched("/moved", SHA256).await.unwrap(), "content");
        insta::assert_snapshot!(fetched("/file", "00").await.unwrap_err(), @"
        `/file` has the SHA-256 `ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73`, not `00`
          hint: compare it with what its author publishes
        ");
        insta::assert_snapshot!(fetched("/absent", SHA256).await.unwrap_err(), @"
        `/absent` cannot be fetched: HTTP status client error (404 Not Found)
          hint: it is fetched by this host, with the proxy of its environment
        ");
        assert!(fetched("/round", SHA256).await.unwrap_err().contains("too many redirects"));
        assert_eq!(fetched("/endless", SHA256).await.unwrap_err(), "`/endless` has more than 256 MiB");
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert!(fetched("/file", SHA256).await.unwrap_err().contains("`/file` cannot be fetched: "));
    }
}

//! A small HTTP client, over TCP and over the control socket.

use std::path::Path;

use reqwest::{Client, ClientBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn builder() -> ClientBuilder {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Whoever was faster installed one just as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
    Client::builder().no_proxy().timeout(super::DEADLINE)
}

pub(crate) fn client() -> Client {
    builder().build().unwrap()
}

/// The status and the text at an address; `None` when nobody answers.
pub(crate) async fn get(url: &str) -> Option<(u16, String)> {
    let answer = client().get(url).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

/// The JSON at a path of a Unix socket; `None` when nobody answers.
pub(crate) async fn get_from_socket<T: DeserializeOwned>(socket: &Path, path: &str) -> Option<T> {
    let client = builder().unix_socket(socket).build().unwrap();
    let answer = client.get(format!("http://control{path}")).send().await.ok()?;
    assert_eq!(answer.status(), 200, "{path}");
    Some(serde_json::from_str(&answer.text().await.ok()?).unwrap())
}

/// The status and the JSON, or the text, that a `POST` to a path of a Unix socket is answered with.
pub(crate) async fn post_to_socket(socket: &Path, path: &str, body: &Value) -> (u16, Value) {
    let client = builder().unix_socket(socket).build().unwrap();
    let request = client.post(format!("http://control{path}")).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

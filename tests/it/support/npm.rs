//! A strict little npm registry on loopback: it answers only those who show its token, and has its files on another server,
//! which wants to hear nothing of that token.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha512};
use tokio::net::TcpListener;

/// What the registry wants to be shown. Scripts look for it by [`TOKEN_PATTERN`], which does not contain it.
pub(crate) const TOKEN: &str = "token-of-the-registry-7f3a";
pub(crate) const TOKEN_PATTERN: &str = "token-of-the-registry-7[f]3a";

/// The path of the registry, and the one package that it has.
const BASE: &str = "/repo/npm";
pub(crate) const PACKAGE: &str = "@acme/box";

/// The registry and its server of files. Ends with its runtime.
#[derive(Debug, Clone)]
pub(crate) struct NpmRegistry {
    address: SocketAddr,
    files: SocketAddr,
    tarball: Arc<Vec<u8>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl NpmRegistry {
    pub(crate) async fn start() -> Self {
        let (listener, files) = (bind().await, bind().await);
        let registry = Self {
            address: listener.local_addr().unwrap(),
            files: files.local_addr().unwrap(),
            tarball: Arc::new(tarball()),
            requests: Arc::default(),
        };
        let packages = Router::new().fallback(package).with_state(registry.clone());
        let blobs = Router::new().fallback(blob).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, packages).await });
        tokio::spawn(async move { axum::serve(files, blobs).await });
        registry
    }

    /// The address that goes into a configuration.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{BASE}/", self.address)
    }

    /// The address of the package's tarball, as lock files name it.
    pub(crate) fn resolved(&self) -> String {
        format!("http://{}{BASE}/{PACKAGE}/-/box-1.0.0.tgz", self.address)
    }

    pub(crate) fn integrity(&self) -> String {
        format!("sha512-{}", STANDARD.encode(Sha512::digest(&*self.tarball)))
    }

    /// What was answered since the last call, without what was refused.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn tarball() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let package = directory.path().join("package");
    std::fs::create_dir(&package).unwrap();
    let description = format!("{{\"name\":\"{PACKAGE}\",\"version\":\"1.0.0\",\"main\":\"index.js\"}}");
    std::fs::write(package.join("package.json"), description).unwrap();
    std::fs::write(package.join("index.js"), "module.exports = 'it is in the box';\n").unwrap();
    let packed = Command::new("tar").args(["-cz", "package"]).current_dir(directory.path()).output().unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    packed.stdout
}

fn shows_token(headers: &HeaderMap) -> bool {
    headers.values().any(|value| value.to_str().is_ok_and(|value| value.contains(TOKEN)))
}

async fn package(State(registry): State<NpmRegistry>, request: Request<Body>) -> Response {
    if !shows_token(request.headers()) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "log in").into_response();
    }
    let Some(path) = request.uri().path().strip_prefix(BASE) else {
        return (StatusCode::OK, "what the token's owner may see as well").into_response();
    };
    registry.requests.lock().unwrap().push(format!("{} {path}", request.method()));
    match path {
        "/@acme%2fbox" | "/@acme%2Fbox" => {
            let dist = serde_json::json!({ "tarball": registry.resolved(), "integrity": registry.integrity() });
            let version = serde_json::json!({ "name": PACKAGE, "version": "1.0.0", "dist": dist });
            let document = serde_json::json!({
                "name": PACKAGE, "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version },
            });
            ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
        }
        "/@acme/box/-/box-1.0.0.tgz" => {
            Redirect::temporary(&format!("http://{}/signed", registry.files)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Like a store of signed addresses, which refuses a second way to be authorised.
async fn blob(State(registry): State<NpmRegistry>, request: Request<Body>) -> Response {
    if shows_token(request.headers()) || request.headers().contains_key(header::AUTHORIZATION) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    registry.tarball.to_vec().into_response()
}

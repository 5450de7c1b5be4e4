//! The proxy before strict registries on loopback, spoken to as a guest would.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Redirect};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::net::decisions::Decision;

const TOKEN: &str = "a-token-that-no-guest-sees";

/// Requests as a server saw them.
type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

#[derive(Debug, Clone)]
struct Server {
    address: SocketAddr,
    /// Another server of this host, where files are.
    files: Option<SocketAddr>,
    seen: Seen,
}

impl Server {
    async fn start(files: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), files, seen: Seen::default() };
        let routes = Router::new().fallback(respond).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn seen(&self) -> Vec<(String, HeaderMap)> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn respond(State(server): State<Server>, request: Request<Body>) -> Response<Body> {
    let (head, _) = request.into_parts();
    server.seen.lock().unwrap().push((format!("{} {}", head.method, head.uri), head.headers.clone()));
    let Some(files) = server.files else { return "the file".into_response() };
    let shown = head.headers.get(AUTHORIZATION).map_or("", |value| value.to_str().unwrap());
    let for_pip = STANDARD.encode(format!("__token__:{TOKEN}"));
    let is_known =
        [format!("Bearer {TOKEN}"), TOKEN.to_owned(), format!("Basic {for_pip}")].iter().any(|known| known == shown);
    if !is_known {
        let asks = [("www-authenticate", "Bearer realm=\"registry\""), ("set-cookie", "a=b")];
        return (StatusCode::UNAUTHORIZED, asks, "log in").into_response();
    }
    let json = |text: String| ([("content-type", "application/json"), ("etag", "\"1\""), ("set-cookie", "a=b")], text);
    let base = server.url("/repo");
    match head.uri.path() {
        "/repo/@acme%2fbox" => {
            json(format!("{{\"dist\":{{\"tarball\":\"{base}/@acme/box/-/box-1.0.0.tgz\"}}}}")).into_response()
        }
        "/repo/@acme/box/-/box-1.0.0.tgz" => {
            Redirect::temporary(&format!("http://{files}/blob?signed=1")).into_response()
        }
        "/repo/moved" => Redirect::permanent("/repo/here").into_response(),
        "/repo/here" => "here".into_response(),
        "/repo/inwards" => Redirect::temporary("http://10.0.0.1/admin").into_response(),
        "/repo/metadata" => Redirect::temporary("http://169.254.169.254/latest").into_response(),
        "/repo/file" => Redirect::temporary("file:///etc/passwd").into_response(),
        "/repo/loop" => Redirect::temporary("/repo/loop").into_response(),
        "/repo/config.json" => {
            json(format!("{{\"dl\":\"http://{files}/crates\",\"auth-required\":true}}")).into_response()
        }
        "/repo/simple/box/" => {
            axum::response::Html("<a href=\"../../packages/box.whl#sha256=ab\">box</a>").into_response()
        }
        "/repo/broken" => (StatusCode::INTERNAL_SERVER_ERROR, "trace").into_response(),
        _ => (StatusCode::NOT_FOUND, "no such thing").into_response(),
    }
}

/// A registry, a server of files beside it, and the proxy that serves it to a guest as `one`.
struct World {
    registry: Server,
    files: Server,
    proxy: RegistryProxy,
}

impl World {
    async fn new(kind: RegistryKind, limits: RegistryLimits) -> Self {
        let files = Server::start(None).await;
        let registry = Server::start(Some(files.address)).await;
        let settings = samples::registry("one", kind, &registry.url("/repo/"));
        let credential = RegistryCredential::Token(SecretString::from(TOKEN));
        let registries = Registries::new(&[settings], &[Some(credential)]).unwrap();
        let proxy = RegistryProxy::new(registries.0.to_vec(), limits);
        Self { registry, files, proxy }
    }

    async fn npm() -> Self {
        Self::new(RegistryKind::Npm { scoped: None }, RegistryLimits::default()).await
    }

    /// The whole answer as the guest gets it.
    async fn ask(&self, method: &str, target: &str) -> String {
        let (mut guest, host) = tokio::io::duplex(1 << 16);
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer guess\r\ncookie: a=b\r\naccept: */*\r\nconnection: close\r\n\r\n"
        );
        let asking = async {
            guest.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            guest.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::join!(asking, self.proxy.serve_connection(host)).0
    }

    fn decisions(&self) -> String {
        self.proxy.take_decisions().list.iter().map(Decision::to_string).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test]
async fn the_host_shows_itself_and_the_guest_cannot() {
    let world = World::npm().await;
    let answer = world.ask("GET", "/one/@acme%2fbox").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#""tarball":"http://127.0.0.1:3129/one/@acme/box/-/box-1.0.0.tgz""#), "{answer}");
    assert!(answer.contains("etag: \"1\"") && !answer.contains("set-cookie"), "{answer}");
    let (request, headers) = world.registry.seen().pop().unwrap();
    assert_eq!(request, "GET /repo/@acme%2fbox");
    assert_eq!(headers["authorization"], format!("Bearer {TOKEN}").as_str());
    assert!(!headers.contains_key("cookie"));
}

#[tokio::test]
async fn redirects_are_followed_here_and_the_credential_stays_behind() {
    let world = World::npm().await;
    assert!(world.ask("GET", "/one/@acme/box/-/box-1.0.0.tgz").await.ends_with("the file"));
    let (request, headers) = world.files.seen().pop().unwrap();
    assert_eq!(request, "GET /blob?signed=1");
    assert!(!headers.contains_key("authorization"), "{headers:?}");
    assert!(world.ask("GET", "/one/moved").await.ends_with("here"));
    for target in ["/one/inwards", "/one/metadata", "/one/file", "/one/loop"] {
        assert!(world.ask("GET", target).await.starts_with("HTTP/1.1 502"), "{target}");
    }
    insta::assert_snapshot!(world.decisions(), @"
    registry: allowed: `GET /one/@acme/box/-/box-1.0.0.tgz`
    registry: allowed: `GET /one/moved`
    registry: failed: `GET /one/inwards`: the registry redirects to `http://10.0.0.1`, which is no public address
    registry: failed: `GET /one/metadata`: the registry redirects to `http://169.254.169.254`, which is no public address
    registry: failed: `GET /one/file`: the registry redirects to `file://`, without encryption
    registry: failed: `GET /one/loop`: the registry redirects more than 5 times
    ");
}

#[tokio::test]
async fn what_a_registry_refuses_is_explained_without_its_words() {
    let world = World::npm().await;
    let absent = world.ask("GET", "/one/absent").await;
    assert!(absent.starts_with("HTTP/1.1 404") && !absent.contains("no such thing"), "{absent}");
    assert!(!world.ask("GET", "/one/broken").await.contains("trace"));
    assert!(world.ask("PUT", "/one/@acme%2fbox").await.starts_with("HTTP/1.1 405"));
    assert!(world.ask("GET", "/two/@acme%2fbox").await.starts_with("HTTP/1.1 404"));
    assert!(world.ask("GET", "http://elsewhere.example/").await.starts_with("HTTP/1.1 403"));
    assert_eq!(world.registry.seen().len(), 2, "what is refused is not asked");
    insta::assert_snapshot!(world.decisions(), @"
    registry: failed: `GET /one/absent`: the registry `one` does not have it, or hides it from Dayfly's credential
    registry: failed: `GET /one/broken`: the registry `one` answered with status 500
    registry: refused: `PUT /one/@acme%2fbox`: registries are read here, and nothing is published to them
    registry: refused: `GET /two/@acme%2fbox`: there is no registry `two` for this job
    registry: refused: `GET http://elsewhere.example/`: only package registries are served here, below their names
    ");
    let settings = samples::registry("one", RegistryKind::Generic, &world.registry.url("/repo/"));
    let without = Registries::new(&[settings], &[None]).unwrap();
    let world = World { proxy: RegistryProxy::new(without.0.to_vec(), RegistryLimits::default()), ..world };
    let refused = world.ask("GET", "/one/here").await;
    assert!(refused.starts_with("HTTP/1.1 403") && !refused.contains("www-authenticate"), "{refused}");
}

#[tokio::test]
async fn cargo_finds_packages_where_the_registry_has_them() {
    let world = World::new(RegistryKind::Cargo { extra: false }, RegistryLimits::default()).await;
    let crate_path = format!("/one/+crate/box/1.0.0/{}", "ab".repeat(32));
    // Also where an earlier machine asked for the description, whose files this one has.
    assert!(world.ask("GET", &crate_path).await.ends_with("the file"));
    let (request, headers) = world.files.seen().pop().unwrap();
    assert_eq!((request.as_str(), headers.contains_key("authorization")), ("GET /crates/box/1.0.0/download", false));
    assert_eq!(world.registry.seen()[0].1["authorization"], TOKEN, "as Cargo shows tokens");
    let description = world.ask("GET", "/one/config.json").await;
    assert!(description.contains("127.0.0.1:3129/one/+crate/{crate}") && !description.contains("auth-required"));
}

#[tokio::test]
async fn pip_finds_files_beside_the_index() {
    let world =
        World::new(RegistryKind::Pypi { index: "simple/".into(), extra: false }, RegistryLimits::default()).await;
    let page = world.ask("GET", "/one/simple/box/").await;
    assert!(page.contains(r#"href="http://127.0.0.1:3129/one/packages/box.whl#sha256=ab""#), "{page}");
}

#[tokio::test]
async fn a_machine_reads_within_its_limits() {
    let limits = RegistryLimits { requests: 2, response_bytes: 6, ..RegistryLimits::default() };
    let world = World::new(RegistryKind::Generic, limits).await;
    assert!(world.ask("GET", "/one/here").await.ends_with("here"));
    assert!(!world.ask("GET", "/one/here").await.contains("here"));
    assert!(world.ask("GET", "/one/here").await.starts_with("HTTP/1.1 429"));
    assert!(world.decisions().contains("more bytes than the limit allows"));
}

#[tokio::test]
async fn nothing_shows_a_credential() {
    let world = World::npm().await;
    assert!(!format!("{:?}", world.proxy).contains(TOKEN));
    drop(world.ask("GET", "/one/@acme%2fbox").await);
    assert!(!world.decisions().contains(TOKEN));
}

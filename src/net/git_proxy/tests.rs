//! Real git clients through the proxy to a real `git http-backend` that demands a credential.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Mutex;

use axum::extract::State;
use axum::http::HeaderMap;
use futures::future::BoxFuture;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use url::Url;

use super::*;
use crate::forge::{
    Budget, CommitSha, DirectoryEntry, Earlier, ExternalIds, FailedDelivery, Forge, ForgeError, ForgeStanding,
    Permission, PullRequestNow, Report,
};
use crate::net::decisions::Decision;
use crate::net::http::MAX_HEAD;

mod checkout;
mod gitlab;
mod lfs;

const CREDENTIAL: &str = "Basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0";

/// Longest that any of the tests waits for anything.
const DEADLINE: Duration = Duration::from_secs(60);

/// Requests as the forge saw them.
type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

#[derive(Debug, Clone)]
struct Backend {
    root: PathBuf,
    seen: Seen,
}

/// Git's own CGI program behind an HTTP server that demands [`CREDENTIAL`].
async fn backend(State(backend): State<Backend>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    backend.seen.lock().unwrap().push((format!("{} {}", head.method, head.uri), head.headers.clone()));
    if head.uri.path().starts_with("/acme/moved") {
        let response = Response::builder().status(301).header("location", "http://127.0.0.1:1/elsewhere");
        return response.body(Body::empty()).unwrap();
    }
    let is_public = head.uri.path().starts_with("/acme/open");
    if is_public && head.headers.contains_key(AUTHORIZATION) {
        return Response::builder().status(500).body(Body::from("a credential where none is needed")).unwrap();
    }
    if !is_public && head.headers.get(AUTHORIZATION).is_none_or(|value| value != CREDENTIAL) {
        let response = Response::builder().status(401).header("www-authenticate", "Basic realm=\"forge\"");
        return response.header("set-cookie", "session=1").body(Body::from("log in")).unwrap();
    }
    let header = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut cgi = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &backend.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("HTTP_GIT_PROTOCOL", header("git-protocol"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = cgi.stdin.take().unwrap();
    // The program may answer without having read everything.
    let fed = tokio::spawn(async move { input.write_all(&body).await.is_ok() });
    let output = cgi.wait_with_output().await.unwrap().stdout;
    fed.await.unwrap();
    cgi_response(&output)
}

fn cgi_response(output: &[u8]) -> Response<Body> {
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a CGI answer has a head");
    let mut response = Response::builder().header("set-cookie", "session=1");
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).unwrap()
}

/// A forge of which only [`Forge::git_upstream`] is asked.
#[derive(Debug)]
struct GitOnly {
    address: Url,
    authorization: Option<&'static str>,
}

impl GitOnly {
    fn unasked<T: Send>() -> BoxFuture<'static, Result<T, ForgeError>> {
        Box::pin(async { Err(ForgeError::NotFound { what: "anything but git".into() }) })
    }
}

impl Forge for GitOnly {
    fn has_commit<'a>(&'a self, _: &'a RepoAccess, _: &'a CommitSha) -> BoxFuture<'a, Result<bool, ForgeError>> {
        Self::unasked()
    }

    fn resolve<'a>(&'a self, _: &'a RepoAccess, _: &'a str) -> BoxFuture<'a, Result<CommitSha, ForgeError>> {
        Self::unasked()
    }

    fn repository<'a>(&'a self, _: &'a RepoAccess) -> BoxFuture<'a, Result<serde_json::Value, ForgeError>> {
        Self::unasked()
    }

    fn list_directory<'a>(
        &'a self, _: &'a RepoAccess, _: &'a str, _: &'a CommitSha,
    ) -> BoxFuture<'a, Result<Vec<DirectoryEntry>, ForgeError>> {
        Self::unasked()
    }

    fn read_file<'a>(
        &'a self, _: &'a RepoAccess, _: &'a str, _: &'a CommitSha, _: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, ForgeError>> {
        Self::unasked()
    }

    fn publish<'a>(
        &'a self, _: &'a Report, _: &'a ExternalIds, _: Earlier,
    ) -> BoxFuture<'a, Result<ExternalIds, ForgeError>> {
        Self::unasked()
    }

    fn git_upstream<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<GitUpstream, ForgeError>> {
        let url = self.address.join(access.repo.as_str()).unwrap();
        let authorization = self.authorization.map(SecretString::from);
        Box::pin(async { Ok(GitUpstream { url, authorization }) })
    }

    fn permission<'a>(&'a self, _: &'a RepoAccess, _: &'a str) -> BoxFuture<'a, Result<Permission, ForgeError>> {
        Self::unasked()
    }

    fn pull_request<'a>(&'a self, _: &'a RepoAccess, _: u64) -> BoxFuture<'a, Result<PullRequestNow, ForgeError>> {
        Self::unasked()
    }

    fn open_pull_requests<'a>(&'a self, _: &'a RepoAccess) -> BoxFuture<'a, Result<Vec<PullRequestNow>, ForgeError>> {
        Self::unasked()
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoAccess>, ForgeError>> {
        Self::unasked()
    }

    fn failed_deliveries(&self, _: i64) -> BoxFuture<'_, Result<Vec<FailedDelivery>, ForgeError>> {
        Self::unasked()
    }

    fn redeliver(&self, _: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        Self::unasked()
    }

    fn standing(&self) -> BoxFuture<'_, Result<ForgeStanding, ForgeError>> {
        Self::unasked()
    }

    fn budgets(&self) -> Vec<(String, Budget)> {
        Vec::new()
    }
}

/// A forge with `acme/site` (one commit), `acme/lib` and `acme/other`, a proxy for the first two, and a working copy.
struct World {
    directory: tempfile::TempDir,
    seen: Seen,
    proxy: GitProxy,
    /// Where git in the guest finds the proxy.
    address: String,
    commit: String,
}

fn proxy_of(forge: Arc<dyn Forge>, access: RepoAccess, submodules: Vec<RepoName>, limits: GitLimits) -> GitProxy {
    let client = GitClient::new().unwrap();
    let name = "forge".to_owned();
    let forges = Forges::new([(name.clone(), forge)]);
    let source = Source::Forge { client, forges, name, installation: access.installation };
    GitProxy::new(source, std::iter::once(access.repo).chain(submodules).collect(), limits)
}

impl World {
    async fn new(authorization: Option<&'static str>, limits: GitLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("forge");
        for name in ["site", "lib", "other"] {
            let repository = root.join(format!("acme/{name}.git"));
            succeeds(
                git(directory.path(), &["init", "-q", "--bare", "-b", "main", repository.to_str().unwrap()]).await,
            );
        }
        let commit = first_commit(directory.path(), &root.join("acme/site.git")).await;
        let seen = Seen::default();
        let address = serve_backend(Backend { root, seen: Arc::clone(&seen) }).await;
        let repo = |name: &str| RepoName::parse(name).unwrap();
        let access = RepoAccess { repo: repo("acme/site"), installation: Some(7) };
        let submodules = vec![repo("acme/lib"), repo("acme/moved")];
        let forge = Arc::new(GitOnly { address, authorization });
        let proxy = proxy_of(forge, access, submodules, limits);
        let address = serve_proxy(proxy.clone()).await;
        Self { directory, seen, proxy, address, commit }
    }

    async fn usual() -> Self {
        Self::new(Some(CREDENTIAL), GitLimits::default()).await
    }

    fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    async fn fetch(&self, repository: &str, what: &str) -> Output {
        let address = format!("http://{}/{repository}", self.address);
        git(&self.work(), &["fetch", "-q", "--depth=1", &address, what]).await
    }

    fn decisions(&self) -> String {
        self.proxy.take_decisions().list.iter().map(Decision::to_string).collect::<Vec<_>>().join("\n")
    }

    /// The answer to `request`, written as it stands.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn serve_backend(backend_state: Backend) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let router = axum::Router::new().fallback(backend).with_state(backend_state);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn serve_proxy(proxy: GitProxy) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let proxy = proxy.clone();
            tokio::spawn(async move { proxy.serve_connection(stream).await });
        }
    });
    address
}

async fn git(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "http.proxy="];
    command.args(identity).args(arguments).current_dir(directory).kill_on_drop(true);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    command.env("HOME", directory).env("LC_ALL", "C");
    tokio::time::timeout(DEADLINE, command.output()).await.expect("git ends in time").unwrap()
}

fn succeeds(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn fails(output: &Output) -> String {
    assert!(!output.status.success(), "git succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Puts one commit into `bare` from `DIRECTORY/work` and answers its id.
async fn first_commit(directory: &Path, bare: &Path) -> String {
    succeeds(git(directory, &["init", "-q", "-b", "main", "work"]).await);
    let work = directory.join("work");
    // Larger than any buffer on the way, and incompressible.
    let mut noise = vec![0; 1_500_000];
    getrandom::fill(&mut noise).unwrap();
    std::fs::write(work.join("noise"), noise).unwrap();
    succeeds(git(&work, &["add", "."]).await);
    succeeds(git(&work, &["commit", "-q", "-m", "first"]).await);
    succeeds(git(&work, &["push", "-q", bare.to_str().unwrap(), "main"]).await);
    let commit = succeeds(git(&work, &["rev-parse", "HEAD"]).await);
    // The branch goes on, so that the first commit is nobody's tip.
    succeeds(git(&work, &["commit", "-q", "--allow-empty", "-m", "second"]).await);
    succeeds(git(&work, &["push", "-q", bare.to_str().unwrap(), "main"]).await);
    std::fs::remove_dir_all(&work).unwrap();
    succeeds(git(directory, &["init", "-q", "work"]).await);
    commit
}

/// Whoever is named there would read the credential of plain HTTP.
#[tokio::test]
async fn no_proxy_of_the_environment_sees_a_credential() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = format!("http://{}", trap.local_addr().unwrap());
    let client = GitClient::with(|builder| builder.proxy(reqwest::Proxy::all(&there).unwrap())).unwrap();
    let seen = Seen::default();
    let directory = tempfile::tempdir().unwrap();
    let address = serve_backend(Backend { root: directory.path().to_owned(), seen: Arc::clone(&seen) }).await;
    let upstream = |scheme: &str| {
        let mut url = address.clone().join("acme/site").unwrap();
        url.set_scheme(scheme).unwrap();
        GitUpstream { url, authorization: Some(SecretString::from(CREDENTIAL)) }
    };
    // Whatever its answer is.
    drop(client.begin_fetch(&upstream("http")).await);
    assert_eq!(seen.lock().unwrap()[0].1[AUTHORIZATION], CREDENTIAL, "it goes to its address");
    // With TLS the proxy is asked for a tunnel, before any credential.
    let fetching = upstream("https");
    let asked = async {
        let (mut stream, _) = trap.accept().await.unwrap();
        let mut head = [0; 512];
        let length = stream.read(&mut head).await.unwrap();
        String::from_utf8_lossy(&head[..length]).into_owned()
    };
    let (_, asked) =
        tokio::time::timeout(DEADLINE, async { tokio::join!(client.begin_fetch(&fetching), asked) }).await.unwrap();
    assert!(asked.starts_with("CONNECT ") && !asked.contains(CREDENTIAL), "{asked}");
}

#[tokio::test]
async fn a_bare_commit_is_fetched_with_the_hosts_credential() {
    let world = World::usual().await;
    succeeds(world.fetch("acme/site", &world.commit).await);
    let tree = succeeds(git(&world.work(), &["ls-tree", "-l", "FETCH_HEAD"]).await);
    assert!(tree.contains("1500000"), "{tree}");

    let seen = world.seen.lock().unwrap().clone();
    let targets: Vec<&str> = seen.iter().map(|(target, _)| target.as_str()).collect();
    assert_eq!(targets[0], "GET /acme/site.git/info/refs?service=git-upload-pack");
    assert!(targets[1..].iter().all(|target| *target == "POST /acme/site.git/git-upload-pack"), "{targets:?}");
    for (target, headers) in &seen {
        assert_eq!(headers[AUTHORIZATION], CREDENTIAL, "{target}");
        assert_eq!(headers[GIT_PROTOCOL], "version=2", "{target}");
    }
    let taken = world.proxy.take_decisions();
    assert!(taken.response_bytes > 1_000_000, "{taken:?}");
    assert!(taken.list.iter().all(|decision| decision.verdict == Verdict::Allowed), "{taken:?}");
}

#[tokio::test]
async fn submodules_are_allowed_and_other_repositories_are_not() {
    let world = World::usual().await;
    let listed = format!("http://{}/ACME/lib.git", world.address);
    succeeds(git(&world.work(), &["ls-remote", &listed]).await);
    let refused = fails(&world.fetch("acme/other", &world.commit).await);
    assert!(refused.contains("`acme/other` is neither this job's repository nor a submodule"), "{refused}");
    assert!(world.seen.lock().unwrap().iter().all(|(target, _)| !target.contains("other")));
    insta::assert_snapshot!(world.decisions(), @"
    git: allowed: `look up commits of acme/lib`
    git: allowed: `fetch from acme/lib`
    git: refused: `GET /acme/other/info/refs?service=git-upload-pack`: `acme/other` is neither this job's repository nor a submodule that it may fetch, and its profile's `egress` does not reach the forge
    ");
}

#[tokio::test]
async fn a_push_is_refused_and_says_so() {
    let world = World::usual().await;
    succeeds(world.fetch("acme/site", "main").await);
    let address = format!("http://{}/acme/site", world.address);
    let refused = fails(&git(&world.work(), &["push", &address, "FETCH_HEAD:refs/heads/evil"]).await);
    assert!(refused.contains("jobs cannot push"), "{refused}");
    assert!(world.seen.lock().unwrap().iter().all(|(target, _)| !target.contains("receive-pack")));
}

#[tokio::test]
async fn tricks_with_paths_and_headers_reach_nobody() {
    let world = World::usual().await;
    let end = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for target in [
        "GET /acme/site/../other/info/refs?service=git-upload-pack",
        "GET /acme%2fsite/info/refs?service=git-upload-pack",
        "GET http://127.0.0.1:1/acme/site/info/refs?service=git-upload-pack",
        "CONNECT 127.0.0.1:1",
        "GET /acme/site/objects/info/packs",
    ] {
        let answer = world.raw(&format!("{target} {end}")).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("only git fetches"), "{target}: {answer}");
    }
    assert!(world.seen.lock().unwrap().is_empty());
    let oversized = format!("GET /{} {end}", "a".repeat(MAX_HEAD * 2));
    assert!(!world.raw(&oversized).await.contains(" 200 "));
}

#[tokio::test]
async fn the_guests_own_headers_stay_behind_and_so_do_the_forges() {
    let world = World::usual().await;
    let request = "GET /acme/site/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eA==\r\n\
                   Cookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nGit-Protocol: version=2:evil\r\nConnection: close\r\n\r\n";
    let answer = world.raw(request).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    assert!(!answer.contains("set-cookie"), "{answer}");
    let seen = world.seen.lock().unwrap().clone();
    let headers = &seen[0].1;
    assert_eq!(headers.get_all(AUTHORIZATION).iter().collect::<Vec<_>>(), [CREDENTIAL]);
    for absent in ["cookie", "x-forwarded-for", "git-protocol"] {
        assert!(!headers.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn a_refused_credential_and_a_redirect_are_explained_without_being_passed_on() {
    let world = World::new(None, GitLimits::default()).await;
    let get = |repository: &str| {
        format!("GET /{repository}/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    };
    let answer = world.raw(&get("acme/site")).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 403 ") && !answer.contains("www-authenticate"), "{answer}");
    let answer = world.raw(&get("acme/moved")).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 502 ") && !answer.contains("location"), "{answer}");
    insta::assert_snapshot!(world.decisions(), @"
    git: failed: `look up commits of acme/site`: the forge refuses Dayfly's credential for `acme/site`
    git: failed: `look up commits of acme/moved`: the forge redirects `acme/moved`; was the repository renamed?
    ");
}

#[tokio::test]
async fn limits_end_a_transfer_in_either_direction() {
    let limits = GitLimits { request_bytes: 64, response_bytes: 100_000, ..GitLimits::default() };
    let world = World::new(Some(CREDENTIAL), limits).await;
    let declared =
        "POST /acme/site/git-upload-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 65\r\n\r\n";
    assert!(world.raw(declared).await.starts_with("HTTP/1.1 413 "));
    assert!(world.seen.lock().unwrap().is_empty());
    let chunked = format!(
        "POST /acme/site/git-upload-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         41\r\n{}\r\n0\r\n\r\n",
        "a".repeat(65)
    );
    let answer = world.raw(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let small = World::new(Some(CREDENTIAL), GitLimits { response_bytes: 100_000, ..GitLimits::default() }).await;
    fails(&small.fetch("acme/site", &small.commit).await);
    let decisions = small.decisions();
    assert!(decisions.contains("git: failed: `fetch from acme/site`: more bytes than the limit allows"), "{decisions}");
}

#[tokio::test]
async fn an_unreachable_forge_is_named_as_the_cause() {
    // Bound and closed again: nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let forge = GitOnly { address: Url::parse(&format!("http://{closed}/")).unwrap(), authorization: None };
    let access = RepoAccess { repo: RepoName::parse("acme/site").unwrap(), installation: None };
    let proxy = proxy_of(Arc::new(forge), access, Vec::new(), GitLimits::default());
    let (mut guest, host) = tokio::io::duplex(4096);
    let served = tokio::spawn({
        let proxy = proxy.clone();
        async move { proxy.serve_connection(host).await }
    });
    let request = "GET /acme/site/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    guest.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, guest.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("no connection to the forge"), "{answer}");
    tokio::time::timeout(DEADLINE, served).await.unwrap().unwrap();
}

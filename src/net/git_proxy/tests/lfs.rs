//! Git LFS through the proxy: a strict server, a store of objects at another origin, and the real client.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::job::checkout::SCRIPT;

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// A forge with Git LFS whose objects are at a store of its own port.
#[derive(Debug, Default)]
struct Server {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    store: Mutex<String>,
    /// Addresses of the store are good until this is raised.
    ticket: AtomicUsize,
    batches: AtomicUsize,
    /// What the forge says of every object, instead of where it is.
    says: Mutex<Option<Value>>,
    /// What the store answers instead of objects.
    sends: Mutex<Option<Response<Body>>>,
    /// Requests that the store got.
    asked: Seen,
}

impl Server {
    fn put(&self, content: &[u8]) -> String {
        let oid = hex::encode(Sha256::digest(content));
        self.objects.lock().unwrap().insert(oid.clone(), content.to_vec());
        oid
    }

    fn says(&self, of_each_object: Value) {
        *self.says.lock().unwrap() = Some(of_each_object);
    }

    fn leads_to(&self, href: &str) {
        self.says(json!({ "actions": { "download": { "href": href } } }));
    }

    fn sends(&self, status: u16, headers: &[(&'static str, String)], body: impl Into<Body>) {
        let builder = Response::builder().status(status);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
        *self.sends.lock().unwrap() = Some(builder.body(body.into()).unwrap());
    }

    fn store(&self) -> String {
        self.store.lock().unwrap().clone()
    }

    fn batches(&self) -> usize {
        self.batches.load(Ordering::Relaxed)
    }

    fn expire(&self) {
        self.ticket.fetch_add(1, Ordering::Relaxed);
    }

    fn one(&self, object: &Value) -> Value {
        let oid = object["oid"].as_str().unwrap();
        let mut answer = json!({ "oid": oid, "size": object["size"] });
        if let Some(says) = &*self.says.lock().unwrap() {
            answer.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
        } else if self.objects.lock().unwrap().contains_key(oid) {
            let href = format!("{}/objects/{oid}?ticket={}", self.store(), self.ticket.load(Ordering::Relaxed));
            let download = json!({ "href": href, "header": { "X-Store": "s3cret" }, "expires_in": 3600 });
            answer["actions"] = json!({ "download": download });
        } else {
            answer["error"] = json!({ "code": 404, "message": "never\nheard" });
        }
        answer
    }
}

/// Refuses whatever a real forge might mind, and what this one would not expect of Dayfly.
async fn batch(State((server, git)): State<(Arc<Server>, Backend)>, request: Request<Body>) -> Response<Body> {
    if !request.uri().path().ends_with(".git/info/lfs/objects/batch") {
        return backend(State(git), request).await;
    }
    let (head, body) = request.into_parts();
    let says = |name: HeaderName, value: &str| head.headers.get_all(name).iter().eq([value]);
    if !says(AUTHORIZATION, CREDENTIAL) {
        let response = Response::builder().status(401).header("lfs-authenticate", "Basic realm=\"forge\"");
        return response.header("www-authenticate", "Basic").body(Body::from("log in")).unwrap();
    }
    assert!(says(ACCEPT, MEDIA_TYPE) && says(CONTENT_TYPE, MEDIA_TYPE), "{:?}", head.headers);
    let asked: Value = serde_json::from_slice(&axum::body::to_bytes(body, 1 << 20).await.unwrap()).unwrap();
    let keys: Vec<&String> = asked.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["operation", "transfers", "hash_algo", "objects"]);
    server.batches.fetch_add(1, Ordering::Relaxed);
    let objects: Vec<Value> = asked["objects"].as_array().unwrap().iter().map(|object| server.one(object)).collect();
    Response::new(Body::from(json!({ "transfer": "basic", "objects": objects }).to_string()))
}

async fn store(State(server): State<Arc<Server>>, request: Request<Body>) -> Response<Body> {
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    server.asked.lock().unwrap().push((uri.to_string(), headers.clone()));
    if let Some(response) = server.sends.lock().unwrap().take() {
        return response;
    }
    let is_good = uri.query() == Some(&format!("ticket={}", server.ticket.load(Ordering::Relaxed)));
    if !is_good || headers.get("x-store").is_none_or(|value| value != "s3cret") || headers.contains_key(AUTHORIZATION) {
        let refusal = Response::builder().status(403).header("www-authenticate", "Basic").header("set-cookie", "a=b");
        return refusal.body(Body::from("expired")).unwrap();
    }
    let oid = uri.path().rsplit('/').next().unwrap();
    let content = server.objects.lock().unwrap()[oid].clone();
    let range = headers.get("range").map(|range| range.to_str().unwrap().strip_prefix("bytes=").unwrap().to_owned());
    let Some((first, last)) = range.as_deref().and_then(|range| range.split_once('-')) else {
        return Response::new(Body::from(content));
    };
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let range = format!("bytes {first}-{last}/{}", content.len());
    let partial = Response::builder().status(206).header("content-range", range);
    partial.body(Body::from(content[first..=last].to_vec())).unwrap()
}

async fn serve(router: axum::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// [`World`] with a server of Git LFS.
pub(super) struct Lfs {
    pub(super) world: World,
    server: Arc<Server>,
    /// Of the server itself.
    pub(super) upstream: Url,
}

impl Lfs {
    async fn new(authorization: Option<&'static str>, limits: GitLimits) -> Self {
        let mut world = World::new(authorization, limits).await;
        let server = Arc::new(Server::default());
        *server.store.lock().unwrap() =
            serve(axum::Router::new().fallback(store).with_state(Arc::clone(&server))).await;
        let git = Backend { root: world.directory.path().join("forge"), seen: Arc::clone(&world.seen) };
        let address = serve(axum::Router::new().fallback(batch).with_state((Arc::clone(&server), git))).await;
        let address = Url::parse(&address).unwrap();
        let access = RepoAccess { repo: RepoName::parse("acme/site").unwrap(), installation: None };
        let submodules = vec![RepoName::parse("acme/lib").unwrap()];
        let upstream = address.clone();
        world.proxy = proxy_of(Arc::new(GitOnly { address, authorization }), access, submodules, limits);
        world.address = serve_proxy(world.proxy.clone()).await;
        Self { world, server, upstream }
    }

    pub(super) async fn usual() -> Self {
        Self::new(Some(CREDENTIAL), GitLimits::default()).await
    }

    /// Keeps an object; gives its id.
    pub(super) fn put(&self, content: &[u8]) -> String {
        self.server.put(content)
    }

    /// Status, headers in small letters, and the body, of the answer to a request for something of `acme/site`.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        ask(&self.world, method, path, headers, body).await
    }

    async fn look_up(&self, oid: &str, size: u64) -> Value {
        look_up(&self.world, oid, size).await
    }

    async fn get(&self, oid: &str, headers: &str) -> (u16, String, String) {
        self.ask("GET", &format!("objects/{oid}"), headers, "").await
    }
}

async fn ask(world: &World, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    let head = format!("{method} /acme/site.git/info/lfs/{path} HTTP/1.1\r\nHost: {}\r\n", world.address);
    let length = body.len();
    let answer =
        world.raw(&format!("{head}{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    // Without a head where the connection was broken off before it left.
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (head.get(9..12).map_or(0, |status| status.parse().unwrap()), head.to_lowercase(), body.to_owned())
}

/// What the proxy says about one object.
async fn look_up(world: &World, oid: &str, size: u64) -> Value {
    let objects = json!([{ "oid": oid, "size": size }]);
    let request =
        json!({ "operation": "download", "transfers": ["basic"], "objects": objects, "ref": { "name": "x" } });
    let (status, head, body) = ask(world, "POST", "objects/batch", "", &request.to_string()).await;
    assert!(status == 200 && head.contains(MEDIA_TYPE), "{head} {body}");
    let mut answer: Value = serde_json::from_str(&body).unwrap();
    answer["objects"][0].take()
}

#[tokio::test]
async fn objects_come_whole_and_in_parts_without_any_secret() {
    let lfs = Lfs::usual().await;
    let oid = lfs.server.put(b"0123456789");
    assert_eq!(lfs.get(&oid, "").await.0, 404, "nobody asked where it is");
    let answer = lfs.look_up(&oid, 10).await;
    let href = format!("http://{}/acme/site.git/info/lfs/objects/{oid}", lfs.world.address);
    assert_eq!(answer["actions"], json!({ "download": { "href": href } }));

    let (status, head, body) = lfs.get(&oid, "Authorization: Basic eA==\r\nCookie: a=b\r\n").await;
    assert_eq!((status, body.as_str()), (200, "0123456789"), "{head}");
    let (status, head, body) = lfs.get(&oid, "Range: bytes=4-\r\n").await;
    assert_eq!((status, body.as_str()), (206, "456789"));
    assert!(head.contains("content-range: bytes 4-9/10") && head.contains("content-length: 6"), "{head}");
    assert_eq!(lfs.get(&oid, "Range: bytes=10-\r\n").await.0, 416);
    assert_eq!(lfs.get(&oid, "Range: bytes=0-1,3-4\r\n").await.2, "0123456789");
    lfs.server.sends(206, &[("content-range", "bytes 0-5/10".into())], "012345");
    assert_eq!(lfs.get(&oid, "Range: bytes=4-\r\n").await.0, 502, "another part");

    for (target, headers) in &*lfs.server.asked.lock().unwrap() {
        assert!(!headers.contains_key(AUTHORIZATION) && !headers.contains_key("cookie"), "{target}");
    }
    assert_eq!(
        lfs.look_up(&"ab".repeat(32), 1).await["error"],
        json!({ "code": 404, "message": "the forge says `never\\nheard`" })
    );
    assert_eq!(lfs.look_up(&oid, 10).await["actions"]["download"]["href"], href.as_str());
}

#[tokio::test]
async fn an_address_that_expired_is_asked_for_once_more() {
    let lfs = Lfs::usual().await;
    let oid = lfs.server.put(b"content");
    lfs.look_up(&oid, 7).await;
    lfs.server.expire();
    assert_eq!(lfs.get(&oid, "").await.2, "content");
    assert_eq!(lfs.get(&oid, "").await.2, "content");
    assert_eq!(lfs.server.batches(), 2, "what was learnt is kept");
    lfs.server.objects.lock().unwrap().clear();
    lfs.server.expire();
    let (status, head, body) = lfs.get(&oid, "").await;
    assert!(status == 404 && head.contains(MEDIA_TYPE) && body.contains("never"), "{head} {body}");
    // One that is refused for ever is not asked for again and again, and nothing asks the guest for a password.
    lfs.server.leads_to(&format!("{}/objects/{oid}?ticket=0", lfs.server.store()));
    let (status, head, _) = lfs.get(&oid, "").await;
    assert!(status == 502 && !head.contains("authenticate") && !head.contains("cookie"), "{head}");
    assert_eq!(lfs.server.batches(), 4);
}

#[tokio::test]
async fn only_downloads_are_asked_of_the_forge() {
    let lfs = Lfs::usual().await;
    let oid = "ab".repeat(32);
    let request = |operation: &str, oid: &str| {
        json!({ "operation": operation, "objects": [{ "oid": oid, "size": 1 }] }).to_string()
    };
    let many: Vec<Value> = (0..5_000).map(|n| json!({ "oid": format!("{n:064x}"), "size": 1 })).collect();
    let many = json!({ "operation": "download", "objects": many }).to_string();
    let big = " ".repeat((1 << 20) + 1);
    let table = [
        ("POST", "objects/batch".to_owned(), request("upload", &oid), 403),
        ("POST", "objects/batch".to_owned(), request("download", "../../../etc/passwd"), 422),
        ("POST", "objects/batch".to_owned(), many, 413),
        ("POST", "objects/batch".to_owned(), big, 413),
        ("POST", "objects/batch".to_owned(), "{".to_owned(), 422),
        ("POST", "locks/verify".to_owned(), "{}".to_owned(), 403),
        ("PUT", format!("objects/{oid}"), "x".to_owned(), 403),
    ];
    for (method, path, body, expected) in table {
        let (status, head, answer) = lfs.ask(method, &path, "", &body).await;
        assert!(status == expected && head.contains(MEDIA_TYPE) && answer.contains("dayfly: "), "{head} {answer}");
    }
    assert_eq!(lfs.server.batches(), 0);
    insta::assert_snapshot!(lfs.world.decisions(), @"
    git: refused: `look up Git LFS objects of acme/site`: jobs can only download from Git LFS: the operation `upload` is refused
    git: refused: `look up Git LFS objects of acme/site`: `../../../etc/passwd` is no id of an object of Git LFS
    git: refused: `look up Git LFS objects of acme/site`: 5000 objects at once are more than 1000
    git: failed: `look up Git LFS objects of acme/site`: the batch request of Git LFS was not read: more bytes than the limit allows
    git: refused: `look up Git LFS objects of acme/site`: the request is no batch request of Git LFS
    git: refused: `POST /acme/site.git/info/lfs/locks/verify`: jobs can only download from Git LFS: no uploads, no locks
    git: refused: `PUT /acme/site.git/info/lfs/objects/abababababababababababababababababababababab…`: jobs can only download from Git LFS: no uploads, no locks
    ");
}

#[tokio::test]
async fn hostile_answers_of_the_forge_and_its_store_lead_nowhere() {
    let lfs = Lfs::usual().await;
    let oid = lfs.server.put(b"content");
    let objects = format!("{}/objects/{oid}?ticket=0", lfs.server.store());
    for href in ["file:///etc/passwd", "ftp://store.example/x", "http://user:word@127.0.0.1/x"] {
        lfs.server.leads_to(href);
        assert_eq!(lfs.look_up(&oid, 7).await["error"]["code"], 502, "{href}");
    }
    lfs.server
        .says(json!({ "actions": { "download": { "href": objects, "header": { "X-Store": "a\r\nX-Other: b" } } } }));
    assert_eq!(lfs.look_up(&oid, 7).await["error"]["code"], 502);
    lfs.server.says(json!({ "error": { "code": 404, "message": "x".repeat(20 << 20) } }));
    let request = json!({ "operation": "download", "objects": [{ "oid": oid, "size": 7 }] }).to_string();
    assert_eq!(lfs.ask("POST", "objects/batch", "", &request).await.0, 502, "too much to read");

    for href in ["http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/x", "http://[::ffff:10.0.0.1]/x"] {
        lfs.server.leads_to(href);
        lfs.look_up(&oid, 7).await;
        let (status, _, body) = lfs.get(&oid, "").await;
        assert!(status == 502 && body.contains("no public address"), "{href}: {body}");
    }
    *lfs.server.says.lock().unwrap() = None;
    lfs.look_up(&oid, 7).await;
    for location in ["http://169.254.169.254/", "file:///etc/passwd", "//10.0.0.1/"] {
        lfs.server.sends(302, &[("location", location.to_owned())], "");
        assert_eq!(lfs.get(&oid, "").await.0, 502, "{location}");
    }
    lfs.server.sends(200, &[("content-length", "9".into())], "content!!");
    assert_eq!(lfs.get(&oid, "").await.0, 502);
    for (chunks, passed) in [(&["con"][..], "con"), (&["cont", "ent!!"], "cont")] {
        let chunks: Vec<Result<&str, std::io::Error>> = chunks.iter().map(|chunk| Ok(*chunk)).collect();
        lfs.server.sends(200, &[], Body::from_stream(futures::stream::iter(chunks)));
        let (status, head, body) = lfs.get(&oid, "").await;
        assert!(status == 200 && head.contains("content-length: 7") && passed.starts_with(&body), "{body}");
    }
    insta::assert_snapshot!(lfs.world.decisions(), @"
    git: allowed: `look up Git LFS objects of acme/site` (8 times)
    git: failed: `look up Git LFS objects of acme/site`: more bytes than the limit allows
    git: failed: `download Git LFS objects of acme/site`: the forge redirects to `http://169.254.169.254`, which is no public address (2 times)
    git: failed: `download Git LFS objects of acme/site`: the forge redirects to `http://10.0.0.1`, which is no public address (2 times)
    git: failed: `download Git LFS objects of acme/site`: the forge redirects to `http://[::ffff:a00:1]`, which is no public address
    git: failed: `download Git LFS objects of acme/site`: the forge redirects to `file://`, without encryption
    git: failed: `download Git LFS objects of acme/site`: the store sends 9 bytes of an object instead of 7
    git: allowed: `download Git LFS objects of acme/site` (2 times)
    git: failed: `download Git LFS objects of acme/site`: not as many bytes as were announced (2 times)
    ");
}

#[tokio::test]
async fn headers_stay_at_the_origin_that_they_are_for() {
    let lfs = Lfs::usual().await;
    let oid = lfs.server.put(b"content");
    let elsewhere = Arc::new(Server::default());
    *elsewhere.store.lock().unwrap() =
        serve(axum::Router::new().fallback(store).with_state(Arc::clone(&elsewhere))).await;
    elsewhere.sends(200, &[], "content");
    lfs.look_up(&oid, 7).await;
    lfs.server.sends(307, &[("location", format!("{}/x", elsewhere.store()))], "");
    assert_eq!(lfs.get(&oid, "").await.2, "content");
    assert_eq!(lfs.server.asked.lock().unwrap()[0].1["x-store"], "s3cret");
    let asked = elsewhere.asked.lock().unwrap();
    assert!(!asked[0].1.contains_key("x-store") && !asked[0].1.contains_key(AUTHORIZATION), "{:?}", asked[0]);
}

#[tokio::test]
async fn a_refused_credential_is_explained_and_limits_are_kept() {
    let oid = "ab".repeat(32);
    let request = json!({ "operation": "download", "objects": [{ "oid": oid, "size": 7 }] }).to_string();
    let lfs = Lfs::new(None, GitLimits::default()).await;
    let (status, head, body) = lfs.ask("POST", "objects/batch", "", &request).await;
    assert!(status == 403 && !head.contains("authenticate") && body.contains("refuses Dayfly's credential"), "{head}");

    let limits = GitLimits { downloads: 1, requests: 1, response_bytes: 2_000, ..GitLimits::default() };
    let lfs = Lfs::new(Some(CREDENTIAL), limits).await;
    let oid = lfs.server.put(&[b'x'; 5_000]);
    lfs.look_up(&oid, 5_000).await;
    assert_eq!(lfs.ask("POST", "objects/batch", "", &request).await.0, 429);
    assert!(lfs.get(&oid, "").await.2.len() < 5_000);
    assert_eq!(lfs.get(&oid, "").await.0, 429);
}

/// A proxy for a directory of this host, and where its objects are.
async fn of_directory() -> (World, PathBuf) {
    let mut world = World::usual().await;
    let users = world.directory.path().join("users");
    let mirror = world.directory.path().join("forge/acme/site.git");
    let source = Source::Directory(Directory { mirror, users: users.clone() });
    world.proxy = GitProxy::new(source, vec![RepoName::parse("acme/site").unwrap()], GitLimits::default());
    world.address = serve_proxy(world.proxy.clone()).await;
    (world, users.join("lfs/objects"))
}

#[tokio::test]
async fn a_repository_of_this_host_gives_the_objects_that_it_has() {
    let (world, objects) = of_directory().await;
    let oid = hex::encode(Sha256::digest(b"0123456789"));
    assert_eq!(look_up(&world, &oid, 10).await["error"]["code"], 404, "there is no directory of them");
    let place = objects.join(&oid[..2]).join(&oid[2..4]);
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join(&oid), b"0123456789").unwrap();
    assert!(look_up(&world, &oid, 10).await["actions"]["download"]["href"].is_string());
    assert_eq!(look_up(&world, &oid, 9).await["error"]["code"], 422);
    let get = |oid: String, range: &'static str| {
        let world = &world;
        async move { ask(world, "GET", &format!("objects/{oid}"), range, "").await }
    };
    assert_eq!(get(oid.clone(), "").await.2, "0123456789");
    let (status, _, body) = get(oid.clone(), "Range: bytes=3-5\r\n").await;
    assert_eq!((status, body.as_str()), (206, "345"));

    let absent = "ab".repeat(32);
    let (status, _, body) = get(absent.clone(), "").await;
    assert!(status == 404 && body.contains("`git lfs fetch` there gets it"), "{body}");
    let secret = world.directory.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let place = objects.join("ab/ab");
    std::fs::create_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(&secret, place.join(&absent)).unwrap();
    let (status, _, body) = get(absent.clone(), "").await;
    assert!(status == 502 && body.contains("no link"), "{body}");
    assert_eq!(look_up(&world, &absent, 6).await["error"]["code"], 502);
}

/// Runs the checkout of jobs for `acme/site` with its submodules and files of Git LFS; gives the place, and what git said.
async fn checkout(world: &World, commit: &str) -> (PathBuf, Output) {
    let place = world.directory.path().join("checked-out");
    let address = format!("http://{}/acme/site", world.address);
    let place_text = place.to_str().unwrap();
    let arguments =
        [place_text, &address, commit, "1", "no", "yes", "recursive", "https://git.example.org/", "no", "yes"];
    let mut command = Command::new("sh");
    command.args(["-ec", SCRIPT, "sh"]).args(arguments).args(["", "", "all"]).kill_on_drop(true);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", world.directory.path());
    let output = tokio::time::timeout(DEADLINE, command.output()).await.expect("the checkout ends in time").unwrap();
    (place, output)
}

/// Commits a pointer to `oid`, and what else a function does, to a bare repository; gives the commit.
pub(super) async fn commit_pointer(world: &World, name: &str, oid: &str, size: usize, more: &[&str]) -> String {
    let work = world.directory.path().join(format!("make-{name}"));
    succeeds(git(world.directory.path(), &["init", "-q", "-b", "main", work.to_str().unwrap()]).await);
    std::fs::write(work.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
    std::fs::write(work.join("größe a.bin"), pointer).unwrap();
    std::fs::write(work.join(".lfsconfig"), "[lfs]\n\turl = http://127.0.0.1:1/elsewhere\n").unwrap();
    if let [path, url, _] = more {
        let section = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        std::fs::write(work.join(".gitmodules"), section).unwrap();
    }
    succeeds(git(&work, &["-c", "filter.lfs.process=", "-c", "filter.lfs.clean=cat", "add", "."]).await);
    if let [path, _, commit] = more {
        let link = format!("160000,{commit},{path}");
        succeeds(git(&work, &["update-index", "--add", "--cacheinfo", &link]).await);
    }
    succeeds(git(&work, &["commit", "-q", "-m", "pointer"]).await);
    let bare = world.directory.path().join(format!("forge/acme/{name}.git"));
    succeeds(git(&work, &["push", "-q", "-f", bare.to_str().unwrap(), "main"]).await);
    succeeds(git(&work, &["rev-parse", "HEAD"]).await)
}

#[tokio::test]
async fn the_real_client_checks_out_files_and_submodules() {
    if !Command::new("git").args(["lfs", "version"]).output().await.unwrap().status.success() {
        eprintln!("SKIPPED: git-lfs is not installed, so its client is not tried");
        return;
    }
    let lfs = Lfs::usual().await;
    let mut noise = vec![0; 300_000];
    getrandom::fill(&mut noise).unwrap();
    let (ours, theirs) = (lfs.server.put(&noise), lfs.server.put(b"of the submodule"));
    let inner = commit_pointer(&lfs.world, "lib", &theirs, 16, &[]).await;
    let submodule = ["deps/lib", "https://git.example.org/acme/lib.git", &inner];
    let commit = commit_pointer(&lfs.world, "site", &ours, noise.len(), &submodule).await;

    let (place, output) = checkout(&lfs.world, &commit).await;
    succeeds(output);
    assert!(std::fs::read(place.join("größe a.bin")).unwrap() == noise);
    assert_eq!(std::fs::read(place.join("deps/lib/größe a.bin")).unwrap(), b"of the submodule");
    assert_eq!(succeeds(git(&place, &["status", "--porcelain"]).await), "");
    for (target, headers) in &*lfs.server.asked.lock().unwrap() {
        assert!(!headers.contains_key(AUTHORIZATION), "{target}");
    }
    let decisions = lfs.world.decisions();
    for told in ["download Git LFS objects of acme/site", "download Git LFS objects of acme/lib"] {
        assert!(decisions.contains(&format!("git: allowed: `{told}`")), "{decisions}");
    }
    // Again in the same place, with nothing to do.
    succeeds(checkout(&lfs.world, &commit).await.1);

    lfs.server.objects.lock().unwrap().clear();
    std::fs::remove_dir_all(&place).unwrap();
    let refused = fails(&checkout(&lfs.world, &commit).await.1);
    assert!(refused.contains("never"), "{refused}");
    std::fs::remove_dir_all(&place).unwrap();
    let mut bare = Command::new("sh");
    bare.args(["-ec", SCRIPT, "sh"])
        .args([place.to_str().unwrap(), "x", "x", "1", "no", "no", "no", "x", "no", "yes"])
        .args(["", "", "all"]);
    let tools = lfs.world.directory.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::fs::write(tools.join("git"), "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(tools.join("git"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = fails(&bare.env("PATH", format!("{}:/usr/bin:/bin", tools.display())).output().await.unwrap());
    assert!(said.contains("needs Git LFS") && said.contains("`git-lfs`"), "{said}");
}

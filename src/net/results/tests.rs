//! The service, spoken to as its clients do: by hand, and by the real packages where `DAYFLY_NODE_MODULES` has them.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::config::DepotLimits;
use crate::depot::Depot;
use crate::depot::artifacts::Maker;
use crate::depot::scope::{Origin, Scopes};
use crate::ids::{JobId, RunId};

const CACHE: &str = "twirp/github.actions.results.api.v1.CacheService";
const ARTIFACT: &str = "twirp/github.actions.results.api.v1.ArtifactService";

/// How long the real packages may take.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

/// A service on a port of this host, in the place of a guest's.
struct World {
    service: ResultsService,
    address: SocketAddr,
    client: reqwest::Client,
    depot: Depot,
    run: RunId,
    _state: Option<TempDir>,
    _serving: AbortOnDropHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::with_limits(DepotLimits::default()).await
    }

    async fn with_limits(limits: DepotLimits) -> Self {
        let state = tempfile::tempdir().unwrap();
        let depot = Depot::new(state.path().join("depot"), limits);
        let mut world =
            Self::of(&depot, RunId::random(), Origin { git_ref: "refs/heads/main", ..Origin::default() }).await;
        world._state = Some(state);
        world
    }

    /// Another attempt at the same depot.
    async fn beside(&self, origin: Origin<'_>) -> Self {
        Self::of(&self.depot, RunId::random(), origin).await
    }

    async fn of(depot: &Depot, run: RunId, origin: Origin<'_>) -> Self {
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let service = ResultsService::new(Tenant {
            depot: depot.clone(),
            repo: "acme/site".to_owned(),
            run: run.clone(),
            job: JobId::random(),
            maker: Maker { run: run.clone(), job: JobId::random(), attempt: 1 },
            job_name: "build".to_owned(),
            scopes: Scopes::of(Origin { default_branch: "main", ..origin }),
            page: None,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = service.clone();
        let serving = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                open.spawn(async move { serving.serve_connection(stream).await });
            }
        }));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { service, address, client, depot: depot.clone(), run, _state: None, _serving: serving }
    }

    async fn call(&self, method: &str, document: Value) -> (u16, Value) {
        let token = self.service.token().unwrap().expose_secret().to_owned();
        let request = self.client.post(format!("http://{}/{method}", self.address)).bearer_auth(token);
        let answer = request.body(document.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// A call that succeeds.
    async fn done(&self, method: &str, document: Value) -> Value {
        let (status, answer) = self.call(method, document).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn put(&self, url: &str, body: impl Into<reqwest::Body>) -> u16 {
        self.client.put(url).body(body).send().await.unwrap().status().as_u16()
    }

    async fn get(&self, url: &str, range: Option<&str>) -> (u16, HeaderMap, Bytes) {
        let request = range.iter().fold(self.client.get(url), |request, range| request.header("range", *range));
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, answer.bytes().await.unwrap())
    }

    async fn save(&self, key: &str, content: &'static str) {
        let begun = self.done(&format!("{CACHE}/CreateCacheEntry"), json!({"key": key, "version": "v"})).await;
        assert_eq!(begun["ok"], true, "{begun}");
        assert_eq!(self.put(begun["signed_upload_url"].as_str().unwrap(), content).await, 201);
        let size = content.len().to_string();
        let finish = json!({"key": key, "version": "v", "size_bytes": size});
        assert_eq!(self.done(&format!("{CACHE}/FinalizeCacheEntryUpload"), finish).await["ok"], true);
    }

    /// The key and the content of the entry that is found.
    async fn restore(&self, key: &str, others: &[&str]) -> Option<(String, Bytes)> {
        let question = json!({"key": key, "restore_keys": others, "version": "v"});
        let answer = self.done(&format!("{CACHE}/GetCacheEntryDownloadURL"), question).await;
        if answer["ok"] == false {
            return None;
        }
        let (status, _, content) = self.get(answer["signed_download_url"].as_str().unwrap(), None).await;
        assert_eq!(status, 200);
        Some((answer["matched_key"].as_str().unwrap().to_owned(), content))
    }

    fn of_run(&self, mut document: Value) -> Value {
        document["workflow_run_backend_id"] = self.run.as_str().into();
        document
    }

    async fn upload(&self, name: &str, content: &'static str) -> Value {
        let create = self.of_run(json!({"name": name, "version": 7, "mime_type": "application/zip"}));
        let begun = self.done(&format!("{ARTIFACT}/CreateArtifact"), create).await;
        assert_eq!(self.put(begun["signed_upload_url"].as_str().unwrap(), content).await, 201);
        let finish = self.of_run(json!({"name": name, "size": content.len().to_string()}));
        self.done(&format!("{ARTIFACT}/FinalizeArtifact"), finish).await
    }

    async fn names(&self) -> Vec<String> {
        let listed = self.done(&format!("{ARTIFACT}/ListArtifacts"), self.of_run(json!({}))).await;
        listed["artifacts"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_found_by_its_key_then_by_what_keys_begin_with_and_never_changes() {
    let world = World::new().await;
    world.save("npm-linux-1", "one").await;
    world.save("npm-linux-2", "two").await;
    assert_eq!(world.restore("npm-linux-1", &[]).await.unwrap(), ("npm-linux-1".into(), "one".into()));
    assert_eq!(world.restore("npm-linux-9", &["npm-linux-", "npm-"]).await.unwrap().0, "npm-linux-2");
    assert_eq!(world.restore("npm-linux-", &[]).await.unwrap().0, "npm-linux-2");
    assert!(world.restore("yarn-", &["pip-"]).await.is_none());
    let again = json!({"key": "npm-linux-1", "version": "v"});
    assert_eq!(world.call(&format!("{CACHE}/CreateCacheEntry"), again).await.0, 409);
    let other = json!({"key": "npm-linux-1", "version": "other"});
    assert_eq!(world.done(&format!("{CACHE}/GetCacheEntryDownloadURL"), other).await["ok"], false);
    let comma = json!({"key": "a,b", "version": "v"});
    assert_eq!(world.done(&format!("{CACHE}/CreateCacheEntry"), comma).await["ok"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_reads_its_base_and_nobody_reads_it() {
    let main = World::new().await;
    main.save("deps", "of main").await;
    let pull =
        main.beside(Origin { pull_request: Some(7), is_of_fork: true, base_ref: "main", ..Origin::default() }).await;
    assert_eq!(pull.restore("deps", &[]).await.unwrap().1, "of main");
    pull.save("deps", "of the fork").await;
    pull.save("deps-2", "of the fork").await;
    assert_eq!(pull.restore("deps", &[]).await.unwrap().1, "of the fork");
    assert_eq!(main.restore("deps", &[]).await.unwrap().1, "of main");
    assert_eq!(main.restore("deps-2", &["deps"]).await.unwrap().1, "of main");
    let branch = main.beside(Origin { git_ref: "refs/heads/topic", ..Origin::default() }).await;
    assert_eq!(branch.restore("deps-2", &["deps"]).await.unwrap().1, "of main");
    let stranger = main.beside(Origin { is_of_fork: true, git_ref: "refs/heads/main", ..Origin::default() }).await;
    let create = json!({"key": "new", "version": "v"});
    let denied = stranger.done(&format!("{CACHE}/CreateCacheEntry"), create).await;
    assert!(denied["message"].as_str().unwrap().starts_with("cache write denied:"), "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_longest_ago_makes_room() {
    let limits = DepotLimits { cache_budget: 9, cache_size: 9, ..DepotLimits::default() };
    let world = World::with_limits(limits).await;
    world.save("a", "aaaa").await;
    world.save("b", "bbbb").await;
    assert!(world.restore("a", &[]).await.is_some(), "which makes it the newer one");
    world.save("c", "cccc").await;
    assert!(world.restore("b", &[]).await.is_none());
    assert!(world.restore("a", &[]).await.is_some() && world.restore("c", &[]).await.is_some());
    let create = json!({"key": "d", "version": "v"});
    let url = world.done(&format!("{CACHE}/CreateCacheEntry"), create).await;
    assert_eq!(world.put(url["signed_upload_url"].as_str().unwrap(), "more than nine").await, 412);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_put_together_in_the_order_of_their_list() {
    let world = World::new().await;
    let begun = world.done(&format!("{CACHE}/CreateCacheEntry"), json!({"key": "k", "version": "v"})).await;
    let url = begun["signed_upload_url"].as_str().unwrap();
    for (block, content) in [("Yg==", "second"), ("YQ==", "old"), ("YQ==", "first ")] {
        assert_eq!(world.put(&format!("{url}&comp=block&blockid={block}"), content).await, 201);
    }
    let list = "<BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>";
    assert_eq!(world.put(&format!("{url}&comp=blocklist"), list).await, 201);
    assert_eq!(world.put(&format!("{url}&comp=block&blockid=Yg=="), "late").await, 409);
    let finish = json!({"key": "k", "version": "v", "size_bytes": "12"});
    world.done(&format!("{CACHE}/FinalizeCacheEntryUpload"), finish).await;
    assert_eq!(world.restore("k", &[]).await.unwrap().1, "first second");
    let answer = world.done(&format!("{CACHE}/GetCacheEntryDownloadURL"), json!({"key": "k", "version": "v"})).await;
    let url = answer["signed_download_url"].as_str().unwrap();
    let (status, headers, content) = world.get(url, Some("bytes=6-8")).await;
    assert_eq!((status, &content[..], headers["content-range"].to_str().unwrap()), (206, &b"sec"[..], "bytes 6-8/12"));
    assert_eq!(world.get(url, Some("bytes=12-")).await.0, 416);
    let head = world.client.head(url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "12");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_the_token_or_a_signature() {
    let world = World::new().await;
    let call = |token: &str| {
        world.client.post(format!("http://{}/{CACHE}/CreateCacheEntry", world.address)).bearer_auth(token)
    };
    assert_eq!(call("none").body("{}").send().await.unwrap().status(), 401);
    let begun = world.done(&format!("{CACHE}/CreateCacheEntry"), json!({"key": "k", "version": "v"})).await;
    let url = begun["signed_upload_url"].as_str().unwrap();
    let (plain, _) = url.split_once('?').unwrap();
    for wrong in [plain.to_owned(), url.replace("upload/1", "upload/2"), url.replace("se=", "se=9")] {
        assert_eq!(world.put(&wrong, "x").await, 403, "{wrong}");
    }
    assert_eq!(world.client.delete(url).send().await.unwrap().status(), 405);
    let unread = json!({"workflow_run_backend_id": "run-of-another"});
    assert_eq!(world.call(&format!("{ARTIFACT}/ListArtifacts"), unread).await.0, 403);
    assert_eq!(world.call("twirp/other/Call", json!({})).await.0, 404);
    assert_eq!(world.call(&format!("{CACHE}/CreateCacheEntry"), json!({"key": 7})).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_is_listed_downloaded_replaced_and_removed() {
    let world = World::new().await;
    let finished = world.upload("dist ü", "zip").await;
    assert!(finished["artifact_id"].as_str().unwrap().parse::<u64>().unwrap() < 1 << 53);
    assert_eq!(world.names().await, ["dist ü"]);
    let url = world.done(&format!("{ARTIFACT}/GetSignedArtifactURL"), world.of_run(json!({"name": "dist ü"}))).await;
    let (status, headers, content) = world.get(url["signed_url"].as_str().unwrap(), None).await;
    assert_eq!((status, &content[..]), (200, &b"zip"[..]));
    assert_eq!(headers["content-type"], "application/zip");
    assert_eq!(headers["content-disposition"], "attachment; filename*=UTF-8''dist%20%C3%BC.zip");
    let create = world.of_run(json!({"name": "dist ü"}));
    assert_eq!(world.call(&format!("{ARTIFACT}/CreateArtifact"), create).await.0, 409);
    world.done(&format!("{ARTIFACT}/DeleteArtifact"), world.of_run(json!({"name": "dist ü"}))).await;
    assert!(world.names().await.is_empty());
    for name in ["", "a/b", "a:b", "..", "a\nb", &"x".repeat(300)] {
        let create = world.of_run(json!({"name": name}));
        assert_eq!(world.call(&format!("{ARTIFACT}/CreateArtifact"), create).await.0, 400, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_differently_is_no_artifact_and_nothing_unfinished_stays() {
    let world = World::new().await;
    let staging = world._state.as_ref().unwrap().path().join("depot/staging");
    let staged = || staging.read_dir().map_or(0, Iterator::count);
    let create = world.of_run(json!({"name": "a"}));
    let url = world.done(&format!("{ARTIFACT}/CreateArtifact"), create.clone()).await;
    let finish = world.of_run(json!({"name": "a", "size": "3", "hash": format!("sha256:{}", "0".repeat(64))}));
    assert_eq!(
        world.call(&format!("{ARTIFACT}/FinalizeArtifact"), finish.clone()).await.0,
        412,
        "nothing was uploaded"
    );
    assert_eq!(world.put(url["signed_upload_url"].as_str().unwrap(), "abc").await, 201);
    assert_eq!(world.call(&format!("{ARTIFACT}/FinalizeArtifact"), finish).await.0, 400);
    assert!(world.names().await.is_empty() && staged() == 0);
    world.done(&format!("{ARTIFACT}/CreateArtifact"), create).await;
    assert_eq!(staged(), 1);
    let World { service, _serving, _state, .. } = world;
    drop(_serving);
    drop(service);
    settled(staged).await;
}

/// Waits until connections that were served have let go of what they had.
async fn settled(left: impl Fn() -> usize) {
    let all_gone = async {
        while left() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_cache_service_has_the_same_entries() {
    let world = World::new().await;
    let (status, begun) = world.call("_apis/artifactcache/caches", json!({"key": "k", "version": "v"})).await;
    assert_eq!(status, 201);
    let url = format!("http://{}/_apis/artifactcache/caches/{}", world.address, begun["cacheId"]);
    let token = world.service.token().unwrap().expose_secret().to_owned();
    for (range, content) in [("bytes 3-5/*", "def"), ("bytes 0-2/*", "abc")] {
        let request = world.client.patch(&url).bearer_auth(&token).header("content-range", range).body(content);
        assert_eq!(request.send().await.unwrap().status(), 204);
    }
    let finish = world.client.post(&url).bearer_auth(&token).body(json!({"size": 6}).to_string());
    assert_eq!(finish.send().await.unwrap().status(), 204);
    assert_eq!(world.restore("k", &[]).await.unwrap().1, "abcdef");
    let ask = |keys: &str| {
        let url = format!("http://{}/_apis/artifactcache/cache?keys={keys}&version=v", world.address);
        world.client.get(url).bearer_auth(&token).send()
    };
    assert_eq!(ask("none").await.unwrap().status(), 204);
    let found: Value = serde_json::from_slice(&ask("none,k").await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(found["cacheKey"], "k");
    assert_eq!(world.get(found["archiveLocation"].as_str().unwrap(), None).await.2, "abcdef");
}

/// The packages that actions are made of.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_packages_save_restore_upload_and_download() {
    let Some(modules) = std::env::var_os("DAYFLY_NODE_MODULES").filter(|modules| {
        ["cache", "artifact"].iter().all(|package| Path::new(modules).join("@actions").join(package).is_dir())
    }) else {
        eprintln!("SKIPPED: DAYFLY_NODE_MODULES names no node_modules with @actions/cache and @actions/artifact");
        return;
    };
    for server_url in ["https://github.com", "https://git.example.org"] {
        let world = World::new().await;
        let place = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&modules, place.path().join("node_modules")).unwrap();
        std::fs::write(place.path().join("client.mjs"), include_str!("client.mjs")).unwrap();
        let address = format!("http://{}/", world.address);
        let own = world.service.variables().into_iter().map(|(name, value)| {
            let is_url = name.ends_with("_URL");
            (name, if is_url { address.clone() } else { value })
        });
        let client = tokio::process::Command::new("node")
            .arg("client.mjs")
            .current_dir(place.path())
            .envs(own)
            .envs([("GITHUB_SERVER_URL", server_url), ("NO_PROXY", "127.0.0.1")])
            .env("GITHUB_WORKSPACE", place.path())
            .env("RUNNER_TEMP", place.path())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(CLIENT_LIMIT, client).await.unwrap().unwrap();
        let output = [ended.stdout, ended.stderr].concat();
        let output = String::from_utf8_lossy(&output);
        assert!(output.contains("all is well"), "{output}");
    }
}

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::config::DepotLimits;
use crate::forge::{CommitSha, Conclusion, RepoAccess, RepoName, Report, ReportState};
use crate::ids::{JobId, ReportId, RunId, VmId};
use crate::log::{LogWriter, Stream};
use crate::store::{DeliveryKey, DeliveryState, NewDelivery, NewJob, NewRun, Origin, Outcome, Telling};

const DEADLINE: Duration = Duration::from_secs(20);

/// A job with a hostile name, and the routes that show it.
struct Site {
    store: Store,
    logs: LogStore,
    routes: Router,
    job: NewJob,
    _directory: TempDir,
}

impl Site {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("dayfly.db")).await.unwrap();
        let logs = LogStore::new(&directory.path().join("logs")).unwrap();
        let job = new_job();
        let key = DeliveryKey { forge: "github".into(), id: "1".into() };
        let delivery = NewDelivery { key: key.clone(), event: "push".into(), received_at: 0, payload: vec![] };
        store.accept_delivery(delivery).await.unwrap();
        let run = NewRun {
            id: RunId::random(),
            forge: "github".into(),
            access: job.report.access.clone(),
            event: "push".into(),
            sha: job.report.sha.clone(),
            workflow_path: "ci.yml".into(),
            workflow_name: "ci".into(),
            context: Value::Null,
            origin: Origin::default(),
            report: None,
            called: Vec::new(),
            jobs: vec![job.clone()],
        };
        store.create_runs(&key, vec![run], DeliveryState::Processed, 0).await.unwrap();
        store.queue_job(&job.id, 1).await.unwrap();
        let routes =
            routes(store.clone(), logs.clone(), Depot::new(directory.path().join("depot"), DepotLimits::default()));
        Self { store, logs, routes, job, _directory: directory }
    }

    fn path(&self, rest: &str) -> String {
        format!("/logs/{}{rest}", self.job.log_token)
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Request::get(path)).await
    }

    async fn request(&self, request: axum::http::request::Builder) -> Response {
        self.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// Leases and starts the job's attempt and begins its log.
    async fn start(&self, attempt: u32) -> LogWriter {
        self.store.lease_job(&self.job.id, attempt, &VmId::random(), 2).await.unwrap();
        self.store.start_job(&self.job.id, attempt, 3).await.unwrap();
        self.logs.create(&self.job.id, attempt, 1 << 20).await.unwrap()
    }

    async fn finish(&self, attempt: u32) {
        let outcome = Outcome { conclusion: Conclusion::Failure, reason: None, detail: String::new() };
        self.store.finish_job(&self.job.id, attempt, outcome, json!({}), 4, |_| {}).await.unwrap();
    }
}

fn new_job() -> NewJob {
    let report = Report {
        id: ReportId::random(),
        access: RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: None },
        sha: CommitSha::parse(&"a1".repeat(20)).unwrap(),
        context: "dayfly/ci/test".into(),
        state: ReportState::Queued,
        title: String::new(),
        summary: String::new(),
        log: String::new(),
        annotations: Vec::new(),
        coverage: None,
        place: crate::forge::ReportPlace::default(),
        details_url: None,
        started_at: None,
        finished_at: None,
    };
    NewJob {
        id: JobId::random(),
        key: "test".into(),
        name: "test <script>alert('1' & \"2\")</script>".into(),
        spec: Value::Null,
        needs: vec![],
        profile: Some("linux".into()),
        log_token: LogToken::random(),
        report,
        telling: Telling::AtOnce,
        outcome: None,
    }
}

async fn body(response: Response) -> String {
    let bytes = tokio::time::timeout(DEADLINE, response.into_body().collect()).await.expect("the answer ends");
    String::from_utf8(bytes.unwrap().to_bytes().to_vec()).unwrap()
}

/// Events as `name id data`, one per line, without keep-alive comments.
fn events(body: &str) -> Vec<String> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let blocks = body.split("\n\n").filter(|block| block.contains("event:"));
    blocks.map(|b| [field(b, "event:"), field(b, "id:"), field(b, "data:")].join(" ")).collect()
}

/// Reads a stream of events until one contains `text`.
async fn read_until(body: &mut Body, text: &str) -> String {
    let mut read = String::new();
    let wait = async {
        while !read.contains(text) {
            let frame = body.frame().await.expect("the stream goes on").unwrap();
            read.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the event comes");
    read
}

#[tokio::test]
async fn the_page_shows_the_job_and_allows_nothing_from_elsewhere() {
    let site = Site::new().await;
    let response = site.get(&site.path("")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers().clone();
    let text = body(response).await;
    assert!(
        text.contains("<h1><bdi>test &lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;</bdi></h1>")
    );
    for fact in ["demo/hello", "a1a1a1a1a1a1", "Queued", "ci</bdi> #1, on push"] {
        assert!(text.contains(fact), "{fact}");
    }
    assert_eq!(text.matches("<script").count(), 1);
    for elsewhere in ["://", "src=", "url(", "@import"] {
        assert!(!text.contains(elsewhere), "{elsewhere}");
    }

    // The policy allows exactly the script and the style that are on the page.
    let policy = headers["content-security-policy"].to_str().unwrap();
    use base64::Engine;
    use sha2::Digest;
    for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
        let (_, rest) = text.split_once(&format!("<{tag}>")).unwrap();
        let (content, _) = rest.split_once(&format!("</{tag}>")).unwrap();
        let digest = base64::prelude::BASE64_STANDARD.encode(sha2::Sha256::digest(content));
        assert!(policy.contains(&format!("{directive} 'sha256-{digest}'")), "{tag}");
    }
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
}

#[tokio::test]
async fn every_answer_is_protected() {
    let site = Site::new().await;
    site.finish(1).await;
    for path in [site.path(""), site.path(".txt"), site.path("/events"), "/logs/unknown".to_owned()] {
        let response = site.get(&path).await;
        let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let found = ["cache-control", "x-content-type-options", "referrer-policy", "x-frame-options"].map(header);
        assert_eq!(found, ["no-store", "nosniff", "no-referrer", "DENY"], "{path}");
    }
}

#[tokio::test]
async fn unknown_and_malformed_tokens_get_the_same_answer() {
    let site = Site::new().await;
    let unknown = LogToken::random().to_string();
    for token in [unknown.as_str(), "x", "..%2f..%2fetc%2fpasswd", "%00", &"a".repeat(5000)] {
        for rest in ["", ".txt", "/events"] {
            let response = site.get(&format!("/logs/{token}{rest}")).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
            assert_eq!(body(response).await, "There is no such log.\n");
        }
    }
}

#[tokio::test]
async fn the_text_is_the_log_so_far() {
    let site = Site::new().await;
    assert_eq!(body(site.get(&site.path(".txt")).await).await, "");
    let mut log = site.start(1).await;
    log.append(1, Stream::Stdout, 0, b"<b>one</b>\x1b[31m\n").await.unwrap();
    log.finish(0).await.unwrap();
    let response = site.get(&site.path(".txt")).await;
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(body(response).await, "<b>one</b>\n");
}

#[tokio::test]
async fn events_follow_a_job_to_its_end() {
    let site = Site::new().await;
    let mut stream = site.get(&site.path("/events")).await.into_body();
    insta::assert_snapshot!(read_until(&mut stream, "queued").await.trim(), @r#"
    event: state
    data: {"state":"queued","attempt":1,"conclusion":null,"text":"Queued"}
    "#);
    let mut log = site.start(1).await;
    read_until(&mut stream, "running").await;
    log.append(1, Stream::Heading, 5, b"Run tests").await.unwrap();
    log.append(1, Stream::Stdout, 6, b"all good\n").await.unwrap();
    let mut rest = read_until(&mut stream, "all good").await;
    log.finish(0).await.unwrap();
    site.finish(1).await;
    rest.push_str(&read_until(&mut stream, "event: end").await);
    assert!(tokio::time::timeout(DEADLINE, stream.frame()).await.unwrap().is_none(), "the stream ends");
    let names: Vec<_> = events(&rest).iter().map(|event| event.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names.iter().filter(|name| *name != "log").collect::<Vec<_>>(), ["state", "end"]);
    assert!(rest.contains(r#""state":"finished","attempt":1,"conclusion":"failure""#), "{rest}");
}

#[tokio::test]
async fn a_client_resumes_where_it_stopped() {
    let site = Site::new().await;
    let mut log = site.start(1).await;
    log.append(1, Stream::Stdout, 0, b"before\n").await.unwrap();
    log.append(1, Stream::Stderr, 0, b"after\n").await.unwrap();
    log.finish(0).await.unwrap();
    site.finish(1).await;
    let resumed = Request::get(site.path("/events")).header("last-event-id", "1-7");
    let text = body(site.request(resumed).await).await;
    insta::assert_snapshot!(events(&text).join("\n"), @r#"
    state  {"state":"finished","attempt":1,"conclusion":"failure","text":"Failed"}
    log 1-13 [{"piece":{"step":1,"stream":"stderr","at_ms":0,"text":"after\n"}}]
    end  {}
    "#);
    assert_eq!(body(site.get(&site.path("/events?after=1-7")).await).await, text);
    // Nonsense, and an attempt that never was, begin at the start.
    for odd in ["x", "1", "9-0", "1-99999999999999999999", "-1"] {
        let text = body(site.get(&site.path(&format!("/events?after={odd}"))).await).await;
        assert!(text.contains("before"), "{odd}");
    }
}

#[tokio::test]
async fn a_new_attempt_is_announced_and_followed() {
    let site = Site::new().await;
    let mut lost = site.start(1).await;
    lost.append(1, Stream::Stdout, 0, b"first\n").await.unwrap();
    let mut stream = site.get(&site.path("/events")).await.into_body();
    read_until(&mut stream, "first").await;
    site.store.requeue_job(&site.job.id, 1, 3).await.unwrap();
    drop(lost);
    read_until(&mut stream, r#"event: attempt"#).await;
    let mut log = site.start(2).await;
    log.append(1, Stream::Stdout, 0, b"second\n").await.unwrap();
    let told = read_until(&mut stream, "second").await;
    assert!(told.contains("id: 2-7"), "{told}");
    log.finish(0).await.unwrap();
    site.finish(2).await;
    read_until(&mut stream, "event: end").await;
}

#[tokio::test]
async fn followers_are_limited_and_places_come_back() {
    let site = Site::new().await;
    let mut followers = Vec::new();
    for _ in 0..MAX_FOLLOWERS {
        let response = site.get(&site.path("/events")).await;
        assert_eq!(response.status(), StatusCode::OK);
        followers.push(response);
    }
    let refused = site.get(&site.path("/events")).await;
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("10"))
    );
    drop(followers);
    let free_again = async {
        while site.get(&site.path("/events")).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, free_again).await.expect("places come back when clients go");
}

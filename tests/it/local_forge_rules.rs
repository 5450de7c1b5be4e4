//! The local forge is only worth something while it refuses what GitHub refuses, and sends what GitHub sends.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use dayfly::ids::ReportId;
use dayfly::webhook::{Event, GitHubHeaders, PullRequestAction, PushTarget, parse_github, verify_github};
use octocrab::auth::AppAuth;
use octocrab::jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use octocrab::models::AppId;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::local_forge::{APP_PRIVATE_KEY, CheckRun, Forge, NewPullRequest, Options, Pushed, Webhook};

const REPOSITORY: &str = "demo/hello";

async fn forge() -> (Forge, String) {
    let forge = Forge::start(Options::default()).await.unwrap();
    forge.create_repository(REPOSITORY).await.unwrap();
    let sha = forge.commit(REPOSITORY, "main", &[("README.md", "# Hello\n")], "Begin").await.unwrap();
    (forge, sha)
}

/// A person's writes, without Dayfly's client and its care.
struct Person<'a> {
    forge: &'a Forge,
    http: reqwest::Client,
}

impl<'a> Person<'a> {
    fn of(forge: &'a Forge) -> Self {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        Self { forge, http: reqwest::Client::builder().user_agent("test").build().unwrap() }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        self.post_as(&self.forge.plain_token(), &format!("repos/{REPOSITORY}/{path}"), body).await
    }

    async fn post_as(&self, token: &str, path: &str, body: &Value) -> (u16, String) {
        let request = self.http.post(format!("{}/{path}", self.forge.api_url()));
        let request = request.bearer_auth(token).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// With a token that the App minted: a person's own would be refused.
    async fn make_check_run(&self, sha: &str, report: &ReportId) -> CheckRun {
        let token = self.mint(&json!({})).await;
        let body = json!({"name": "dayfly/ci/test", "head_sha": sha, "external_id": report.as_str()});
        let path = format!("repos/{REPOSITORY}/check-runs");
        let (status, answer) = self.post_as(&token, &path, &body).await;
        assert_eq!(status, 201, "{answer}");
        let is_ours = |run: &CheckRun| run.external_id == report.as_str();
        self.forge.wait_for_check_run(is_ours, Duration::from_secs(5)).await.unwrap()
    }

    /// What anybody gets at a path of the API: the status, the `Link` header and the body.
    async fn get_as(&self, token: &str, path: &str) -> (u16, Option<String>, Value) {
        let request = self.http.get(format!("{}/{path}", self.forge.api_url())).bearer_auth(token);
        let answer = request.send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        (answer.status().as_u16(), link, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    fn jwt(&self) -> String {
        let key = EncodingKey::from_rsa_pem(APP_PRIVATE_KEY.as_bytes()).unwrap();
        AppAuth { app_id: AppId(self.forge.app_id()), key }.generate_bearer_token().unwrap()
    }

    /// A token of the installation with no more than what `asked` says.
    async fn mint(&self, asked: &Value) -> String {
        let path = format!("app/installations/{}/access_tokens", self.forge.installation());
        let (_, minted) = self.post_as(&self.jwt(), &path, asked).await;
        let minted: Value = serde_json::from_str(&minted).unwrap();
        minted["token"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}/repos/{REPOSITORY}/{path}", self.forge.api_url()));
        let answer = request.bearer_auth(self.forge.plain_token()).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }
}

#[tokio::test]
async fn odd_statuses_are_refused() {
    let (forge, sha) = forge().await;
    let person = Person::of(&forge);
    let statuses = format!("statuses/{sha}");
    let cases = [
        (json!({"state": "running"}), 422),
        (json!({"state": "success", "description": "é".repeat(141)}), 422),
        (json!({"state": "success", "target_url": "javascript:alert(1)"}), 422),
        (json!({"description": "no state"}), 422),
        (json!({"state": "success", "description": "é".repeat(140), "target_url": "https://example.com"}), 201),
    ];
    for (body, expected) in cases {
        let (status, answer) = person.post(&statuses, &body).await;
        assert_eq!(status, expected, "{body}: {answer}");
    }
    let (status, _) = person.post(&format!("statuses/{}", "a".repeat(40)), &json!({"state": "success"})).await;
    assert_eq!(status, 422, "the commit does not exist");
    assert_eq!(forge.writes().len(), 1, "what was refused was not recorded");
}

#[tokio::test]
async fn a_context_takes_a_thousand_statuses() {
    let (forge, sha) = forge().await;
    let person = Person::of(&forge);
    let status_of = async |context: &str| {
        person.post(&format!("statuses/{sha}"), &json!({"state": "pending", "context": context})).await.0
    };
    for _ in 0..1000 {
        assert_eq!(status_of("a").await, 201);
    }
    assert_eq!((status_of("a").await, status_of("b").await), (422, 201));
}

#[tokio::test]
async fn check_runs_are_for_apps() {
    let (forge, sha) = forge().await;
    let (status, answer) = Person::of(&forge).post("check-runs", &json!({"name": "x", "head_sha": sha})).await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("You must authenticate via a GitHub App"));
}

#[tokio::test]
async fn statuses_are_listed_and_combined() {
    let (forge, sha) = forge().await;
    let person = Person::of(&forge);
    for (context, state) in [("a", "pending"), ("a", "success"), ("b", "error")] {
        person.post(&format!("statuses/{sha}"), &json!({"state": state, "context": context})).await;
    }
    let newest_first: Vec<Value> = person.get(&format!("commits/{sha}/statuses")).await.as_array().unwrap().clone();
    assert_eq!(newest_first.iter().map(|status| &status["state"]).collect::<Vec<_>>(), ["error", "success", "pending"]);
    let combined = person.get(&format!("commits/{sha}/status")).await;
    assert_eq!((&combined["state"], &combined["total_count"]), (&json!("failure"), &json!(2)));
}

#[tokio::test]
async fn an_apps_token_is_short_and_its_own() {
    let (forge, _) = forge().await;
    let person = Person::of(&forge);
    let key = EncodingKey::from_rsa_pem(APP_PRIVATE_KEY.as_bytes()).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let cases = [
        (forge.app_id(), now - 60, now + 300, 201),
        (forge.app_id() + 1, now - 60, now + 300, 401),
        (forge.app_id(), now + 120, now + 300, 401),
        (forge.app_id(), now - 60, now + 1200, 401),
        (forge.app_id(), now - 600, now - 60, 401),
    ];
    let path = format!("app/installations/{}/access_tokens", forge.installation());
    for (iss, iat, exp, expected) in cases {
        let claims = json!({"iss": iss, "iat": iat, "exp": exp});
        let token = encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap();
        let (status, answer) = person.post_as(&token, &path, &json!({})).await;
        assert_eq!(status, expected, "{claims}: {answer}");
    }
    let claims = json!({"iss": forge.app_id(), "iat": now - 60, "exp": now + 300});
    let forged = encode(&Header::default(), &claims, &EncodingKey::from_secret(b"x")).unwrap();
    assert_eq!(person.post_as(&forged, &path, &json!({})).await.0, 401);
    assert_eq!(person.post_as(&forge.plain_token(), &path, &json!({})).await.0, 401);
}

#[tokio::test]
async fn the_same_history_has_the_same_ids() {
    let ((_a, first), (_b, second)) = (forge().await, forge().await);
    assert_eq!(first, second);
}

/// A receiver that answers with the event as Dayfly reads it.
async fn receive(headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let header = |name: &str| headers.get(name).map(|value| value.as_bytes());
    if let Err(error) = verify_github(&SecretString::from("a secret"), header("x-hub-signature-256"), &body) {
        return (StatusCode::UNAUTHORIZED, error.label().to_owned());
    }
    let parsed = GitHubHeaders::parse(header("x-github-event"), header("x-github-delivery")).unwrap();
    match parse_github(&parsed.event, &body) {
        Ok(event) => (StatusCode::OK, serde_json::to_string(&event).unwrap()),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn delivered(forge: &Forge, event: &str, payload: &Value) -> Event {
    let answer = forge.deliver(event, payload).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn deliveries_are_signed_and_read_back_as_events() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/webhook", post(receive))).await });
    let (forge, main) = forge().await;
    forge.set_webhook(Webhook { url: url.clone(), secret: "a secret".to_owned() });

    assert_eq!(delivered(&forge, "ping", &forge.ping_payload(REPOSITORY)).await, Event::Ping);

    let files = [("new", "1")];
    let new = NewPullRequest { files: &files, from_fork: true, author: "stranger", ..Default::default() };
    let pull = forge.open_pull_request(REPOSITORY, new).await.unwrap();
    let Event::PullRequest(opened) =
        delivered(&forge, "pull_request", &forge.pull_request_payload(&pull, "opened")).await
    else {
        panic!()
    };
    assert_eq!((opened.head_sha.as_str(), opened.base_sha.unwrap().as_str()), (pull.sha.as_str(), main.as_str()));
    assert!(opened.is_fork);
    assert_eq!(opened.repository.access.installation, Some(forge.installation()));

    let pushed_to = forge.push_to_pull_request(REPOSITORY, pull.number, &[("new", "2")]).await.unwrap();
    let payload = forge.pull_request_payload(&pushed_to, "synchronize");
    let Event::PullRequest(synchronized) = delivered(&forge, "pull_request", &payload).await else { panic!() };
    assert_eq!(synchronized.action, PullRequestAction::Synchronize);
    assert_ne!(synchronized.head_sha, opened.head_sha);

    let own =
        forge.open_pull_request(REPOSITORY, NewPullRequest { files: &files, ..Default::default() }).await.unwrap();
    let Event::PullRequest(own) = delivered(&forge, "pull_request", &forge.pull_request_payload(&own, "opened")).await
    else {
        panic!()
    };
    assert_eq!((own.number, own.is_fork), (2, false));

    let pushed = Pushed { branch: "main", before: Some(&pull.sha), after: Some(&main), changed: &["README.md"] };
    let Event::Push(push) = delivered(&forge, "push", &forge.push_payload(REPOSITORY, pushed)).await else { panic!() };
    assert_eq!(push.target, PushTarget::Branch("main".to_owned()));
    assert_eq!(push.changed_paths.unwrap(), ["README.md"]);

    let report = ReportId::random();
    let run = Person::of(&forge).make_check_run(&main, &report).await;
    let payload = forge.check_run_rerequested_payload(&run);
    let Event::CheckRunRerequested(rerequested) = delivered(&forge, "check_run", &payload).await else { panic!() };
    assert_eq!((rerequested.check_run_id, rerequested.external_id), (run.id, Some(report)));

    let payload = forge.check_suite_rerequested_payload(REPOSITORY, &main, Some("main"));
    let Event::CheckSuiteRerequested(suite) = delivered(&forge, "check_suite", &payload).await else { panic!() };
    assert_eq!((suite.head_sha.as_str(), suite.head_branch.as_deref()), (main.as_str(), Some("main")));

    let payload = forge.comment_payload(&pull, "stranger", "/dayfly run");
    let Event::IssueComment(comment) = delivered(&forge, "issue_comment", &payload).await else { panic!() };
    assert_eq!((comment.number, comment.is_pull_request, comment.author.as_str()), (pull.number, true, "stranger"));

    forge.set_webhook(Webhook { url, secret: "another secret".to_owned() });
    let refused = forge.deliver("ping", &forge.ping_payload(REPOSITORY)).await.unwrap();
    assert_eq!((refused.status, refused.body.as_str()), (401, "wrong"));
}

#[tokio::test]
async fn each_question_has_its_own_kind_of_credential() {
    let (forge, _) = forge().await;
    let new = NewPullRequest { files: &[("new", "1")], ..Default::default() };
    forge.open_pull_request(REPOSITORY, new).await.unwrap();
    let person = Person::of(&forge);
    let (jwt, plain) = (person.jwt(), forge.plain_token());
    let all = person.mint(&json!({})).await;
    let checks_only = person.mint(&json!({"permissions": {"checks": "write"}})).await;
    let of_nothing = person.mint(&json!({"repositories": []})).await;
    // By the App itself, by a full token of its installation, by one without pull requests, by one without repositories, by
    // a person.
    let cases = [
        ("app", [200, 401, 401, 401, 401]),
        ("app/installations", [200, 401, 401, 401, 401]),
        ("app/hook/deliveries", [200, 401, 401, 401, 401]),
        ("installation/repositories", [401, 200, 200, 200, 403]),
        ("user", [401, 403, 403, 403, 200]),
        ("repos/demo/hello/pulls", [401, 200, 403, 404, 200]),
        ("repos/demo/hello/pulls/1", [401, 200, 403, 404, 200]),
        ("repos/demo/hello/pulls/2", [401, 404, 403, 404, 404]),
        ("repos/demo/hello/collaborators/octocat/permission", [401, 200, 200, 404, 200]),
        ("repos/demo/hello/collaborators/nobody/permission", [401, 404, 404, 404, 404]),
    ];
    for (path, expected) in cases {
        for (token, expected) in [&jwt, &all, &checks_only, &of_nothing, &plain].into_iter().zip(expected) {
            let (status, _, answer) = person.get_as(token, path).await;
            assert_eq!(status, expected, "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn attempts_are_listed_in_pages_and_made_again_under_the_same_id() {
    let (forge, _) = forge().await;
    let person = Person::of(&forge);
    let ping = forge.ping_payload(REPOSITORY);
    forge.lose_deliveries(3);
    for _ in 0..3 {
        assert_eq!(forge.deliver("ping", &ping).await.unwrap().status, 0);
    }
    let (_, link, page) = person.get_as(&person.jwt(), "app/hook/deliveries?per_page=2").await;
    let link = link.unwrap();
    let next = link.split_once("/api/v3/").unwrap().1.split_once('>').unwrap().0;
    let (_, last_link, rest) = person.get_as(&person.jwt(), next).await;
    assert_eq!((page.as_array().unwrap().len(), rest.as_array().unwrap().len(), last_link), (2, 1, None));
    assert!(page[0]["id"].as_u64() > page[1]["id"].as_u64(), "newest first");
    assert_eq!((&rest[0]["status_code"], &rest[0]["redelivery"]), (&json!(0), &json!(false)));

    let again = format!("app/hook/deliveries/{}/attempts", rest[0]["id"]);
    assert_eq!(person.post_as(&forge.plain_token(), &again, &json!({})).await.0, 401);
    assert_eq!(person.post_as(&person.jwt(), "app/hook/deliveries/1/attempts", &json!({})).await.0, 404);
    assert_eq!(person.post_as(&person.jwt(), &again, &json!({})).await.0, 202);
    let attempt = forge.wait_for_attempt(|attempt| attempt.is_redelivery, Duration::from_secs(5)).await.unwrap();
    assert_eq!(json!(attempt.guid), rest[0]["guid"]);
}

#[tokio::test]
async fn budgets_are_told_and_kept() {
    let (forge, _) = forge().await;
    let person = Person::of(&forge);
    forge.set_calls_left(1);
    let request = || person.http.get(format!("{}/user", forge.api_url())).bearer_auth(forge.plain_token()).send();
    let answer = request().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().parse::<u64>().unwrap();
    assert_eq!((header("x-ratelimit-limit"), header("x-ratelimit-remaining")), (5000, 0));
    assert_eq!(request().await.unwrap().status(), 403);
}

//! GitLab's REST API as far as workflows need it: projects, files, merge requests, members, notes, commit statuses; and the
//! webhooks that tell of them.
//!
//! It is strict where GitLab is: a status follows the ways of states, and two first statuses of one commit that come at once
//! make two pipelines.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::duplicate_mod,
    clippy::result_large_err,
    reason = "a library to several crates, none of which uses all of it"
)]

mod files;
mod hooks;
mod payloads;
mod people;
mod requests;
mod state;
mod statuses;
mod webhook;

#[path = "../../local-forge/forge/git.rs"]
mod git;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::requests::{MergeRequest, NewMergeRequest};
pub use self::state::{Note, PUSHER, Shared};
pub use self::statuses::Status;
pub use self::webhook::{Attempt, Proof, Webhook};

/// Calls in a minute, where they are limited.
const LIMIT: u64 = 2000;

/// The account of the token.
pub const BOT: &str = "dayfly-bot";

/// A running GitLab. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Api {
    pub shared: Arc<Shared>,
}

impl Api {
    /// Starts listening on loopback.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let api = Self::new(listener.local_addr()?)?;
        let router = routes(Arc::clone(&api.shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(api)
    }

    /// One whose [`routes`] somebody else serves at `address`.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("local-gitlab-").tempdir()?;
        let state = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { address, directory, state, changed: watch::Sender::new(0) }) })
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// Limits the calls, of which so many are left.
    pub fn set_calls_left(&self, left: u64) {
        self.shared.change(|state| state.calls_left = Some(left));
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.shared.state().calls
    }

    /// What the API takes.
    pub fn token(&self) -> String {
        state::TOKEN.to_owned()
    }

    /// Waits until there is what `look` finds; after `deadline` tells what was waited for.
    pub async fn wait_for<T>(
        &self, what: &str, deadline: Duration, mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let mut changes = self.shared.changed.subscribe();
        let found = async {
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                changes.changed().await.expect("this GitLab has the sender");
            }
        };
        tokio::time::timeout(deadline, found).await.map_err(|_| format!("waited {deadline:?} for {what}"))
    }
}

/// What it serves.
pub fn routes(shared: Arc<Shared>) -> Router {
    let project = Router::new()
        .route("/", get(files::project))
        .route("/repository/commits/{sha}", get(files::commit))
        .route("/repository/commits/{sha}/statuses", get(statuses::list))
        .route("/repository/branches/{name}", get(files::branch))
        .route("/repository/tags/{name}", get(files::tag))
        .route("/repository/tree", get(files::tree))
        .route("/repository/files/{path}/raw", get(files::raw))
        .route("/statuses/{sha}", post(statuses::set))
        .route("/merge_requests", get(requests::list))
        .route("/merge_requests/{iid}", get(requests::show))
        .route("/merge_requests/{iid}/notes", get(people::notes).post(people::write_note))
        .route("/merge_requests/{iid}/notes/{id}", put(people::change_note))
        .route("/members/all/{user}", get(people::member))
        .route("/events", get(files::events))
        .route("/hooks", get(hooks::list))
        .route("/hooks/{hook}/events", get(hooks::events))
        .route("/hooks/{hook}/events/{id}/resend", post(hooks::resend));
    Router::new()
        .nest("/api/v4/projects/{project}", project)
        .route("/api/v4/user", get(people::me))
        .route("/api/v4/users", get(people::users))
        .route("/api/v4/personal_access_tokens/self", get(people::token))
        .fallback(files::git)
        .layer(from_fn_with_state(Arc::clone(&shared), tell_budget))
        .with_state(shared)
}

/// Says in each answer what is left of the rate limit, where there is one.
async fn tell_budget(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let left = shared.change(|state| {
        state.calls += 1;
        state.calls_left.as_mut().map(|left| {
            *left = left.saturating_sub(1);
            *left
        })
    });
    let mut answer = next.run(request).await;
    let reset = jiff::Timestamp::now().as_second().unsigned_abs() + 60;
    for (name, number) in left.into_iter().flat_map(|left| [("limit", LIMIT), ("remaining", left), ("reset", reset)]) {
        let name = HeaderName::try_from(format!("ratelimit-{name}")).expect("the name is made of letters");
        answer.headers_mut().insert(name, HeaderValue::from(number));
    }
    answer
}

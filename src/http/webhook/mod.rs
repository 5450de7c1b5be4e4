//! `POST /webhooks/github` and `/webhooks/gitlab/NAME`: verify, store, answer. What the event means is found out later, from
//! the store.
//!
//! Anybody can send here. Without a header that proves something no body is read, and bodies are bounded in size, number and
//! time.
//!
//! A delivery that does not verify leaves no trace but a count. One that does is durable before it is answered; but for those
//! that only say that a GitLab may have jobs: they wake who asks for jobs.

mod gate;
mod lock;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use self::gate::Gate;
pub use self::lock::Lock;
use crate::clock;
use crate::core::{Core, Wake};
use crate::forge::github;
use crate::lifecycle::{Lifecycle, Step};
use crate::metrics::DeliveryMetrics;
use crate::metrics::labels::Received;
use crate::store::{Accepted, DeliveryKey, NewDelivery, Store, StoreError};
use crate::webhook::{self, DeliveryId, EventName, PayloadError, is_of_jobs};

/// Where the deliveries of one forge come in.
#[derive(Debug)]
pub struct Door {
    /// The forge's name.
    forge: String,
    gate: Gate,
    store: Store,
    wake: Arc<Wake>,
    metrics: DeliveryMetrics,
    lifecycle: Lifecycle,
}

impl Door {
    /// A door for deliveries of the forge of that name, of at most `body_limit` bytes.
    pub fn new(
        forge: &str, lock: Lock, body_limit: u64, store: Store, wake: Arc<Wake>, metrics: DeliveryMetrics,
    ) -> Self {
        let gate = Gate::new(lock, usize::try_from(body_limit).unwrap_or(usize::MAX));
        Self { forge: forge.to_owned(), gate, store, wake, metrics, lifecycle: Lifecycle::default() }
    }

    /// One of the doors of a service.
    fn of(core: &Core, forge: &str, lock: Lock) -> Self {
        let (store, wake, metrics) = (core.store.clone(), Arc::clone(&core.wake), core.metrics.deliveries.clone());
        let door = Self::new(forge, lock, core.config.server.body_limit, store, wake, metrics);
        Self { lifecycle: core.lifecycle.clone(), ..door }
    }

    async fn take(&self, headers: &HeaderMap, body: Body) -> Answer {
        // The place is kept until the body is stored: it bounds the memory.
        let (body, _place) = match self.gate.verified_body(headers, body).await {
            Ok(admitted) => admitted,
            Err(refused) => return refused,
        };
        match self.gate.lock.names(headers, &body) {
            Ok((event, _)) if self.forge != github::NAME && is_of_jobs(&event) => {
                self.wake.gitlab.notify_waiters();
                Answer::new(Received::Accepted, StatusCode::OK, "noted")
            }
            Ok((event, delivery)) => store(self, &event, &delivery, body).await,
            Err(error) => Answer {
                result: Received::RefusedHeaders,
                status: StatusCode::BAD_REQUEST,
                text: error.to_string().into(),
            },
        }
    }
}

/// The routes of a service's doors: one for each forge that sends webhooks. Where there is one GitLab, its name may be left out.
pub fn routes_of(core: &Core) -> Router {
    let github = core.webhook_secret.clone().map(|secret| Door::of(core, github::NAME, Lock::GitHub(secret)));
    let mut routes = github.map(|door| routes("/webhooks/github", door)).unwrap_or_default();
    for (name, secret) in &core.gitlab_webhooks {
        let door = || Door::of(core, name, Lock::GitLab(Arc::clone(secret)));
        routes = routes.merge(self::routes(&format!("/webhooks/gitlab/{name}"), door()));
        if core.gitlab_webhooks.len() == 1 {
            routes = routes.merge(self::routes("/webhooks/gitlab", door()));
        }
    }
    routes
}

/// The route of one door.
pub fn routes(path: &str, door: Door) -> Router {
    Router::new().route(path, post(receive)).with_state(Arc::new(door))
}

async fn receive(State(door): State<Arc<Door>>, headers: HeaderMap, body: Body) -> Response {
    let began = Instant::now();
    let answer = door.take(&headers, body).await;
    door.metrics.answered(door.gate.lock.kind(&headers), answer.result, began.elapsed());
    (answer.status, format!("{}\n", answer.text)).into_response()
}

/// What a client gets, and what it counts as.
#[derive(Debug)]
struct Answer {
    result: Received,
    status: StatusCode,
    text: Cow<'static, str>,
}

impl Answer {
    fn new(result: Received, status: StatusCode, text: &'static str) -> Self {
        Self { result, status, text: text.into() }
    }
}

async fn store(door: &Door, event: &EventName, delivery: &DeliveryId, body: Bytes) -> Answer {
    let key = DeliveryKey { forge: door.forge.clone(), id: delivery.as_str().to_owned() };
    let problem = webhook::parse(&door.forge, event, &body).err();
    let delivery = NewDelivery {
        key: key.clone(),
        event: event.as_str().to_owned(),
        received_at: clock::now_ms(),
        payload: body.into(),
    };
    door.lifecycle.reached(Step::DeliveryVerified).await;
    let accepted = match keep(door, delivery, problem.as_ref().map(PayloadError::to_string)).await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::error!(delivery = %key, %error, "a delivery could not be stored");
            let text = "the delivery could not be stored; deliver it again";
            return Answer::new(Received::NotStored, StatusCode::SERVICE_UNAVAILABLE, text);
        }
    };
    door.lifecycle.reached(Step::DeliveryStored).await;
    if let Some(problem) = problem {
        tracing::warn!(delivery = %key, %problem, "a signed delivery does not read");
        let status = if door.gate.lock.is_for_good() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        return Answer::new(Received::Unreadable, status, "the payload cannot be read");
    }
    match accepted {
        Accepted::New | Accepted::Again => Answer::new(Received::Accepted, StatusCode::ACCEPTED, "accepted"),
        Accepted::Duplicate => Answer::new(Received::Duplicate, StatusCode::OK, "already processed"),
    }
}

/// Makes a delivery durable. Only what came before is looked for in the database.
async fn keep(door: &Door, delivery: NewDelivery, problem: Option<String>) -> Result<Accepted, StoreError> {
    if problem.is_some() || !door.store.received_lately(&delivery.key) {
        return door.store.receive_delivery(delivery, problem).await.map(|()| Accepted::New);
    }
    let accepted = door.store.accept_delivery(delivery).await?;
    if accepted != Accepted::Duplicate {
        door.wake.deliveries.notify_one();
    }
    Ok(accepted)
}

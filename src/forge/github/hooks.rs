//! Webhooks of repositories and organizations, which those have who use a token: an App has a webhook of its own.

use axum::http::Method;
use serde::Deserialize;
use url::Url;

use super::client::{Call, JSON};
use super::{GitHub, deliveries, parse};
use crate::forge::{FailedDelivery, ForgeError, Hook, HookOwner, HookRef};

/// Webhooks of one owner that are looked at, as many as GitHub gives in one page.
const MAX_HOOKS: &str = "100";
/// Largest accepted list of them, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

#[derive(Deserialize)]
struct HookAnswer {
    id: u64,
    #[serde(default)]
    active: bool,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    url: String,
}

pub(super) async fn list(github: &GitHub, owner: &HookOwner) -> Result<Vec<Hook>, ForgeError> {
    let what = format!("listing the webhooks of {owner}");
    let mut url = url_of(github, owner, &[]);
    url.query_pairs_mut().append_pair("per_page", MAX_HOOKS);
    let call = Call { what, method: Method::GET, url, accept: JSON, body: None, limit: MAX_ANSWER };
    let hooks: Vec<HookAnswer> = parse(&call.what, &deliveries::ask(github, &call).await?.body)?;
    let read =
        |hook: HookAnswer| Hook { id: hook.id, url: hook.config.url, is_switched_off: !hook.active, lacks: Vec::new() };
    Ok(hooks.into_iter().map(read).collect())
}

pub(super) async fn failed(github: &GitHub, hook: &HookRef, since: i64) -> Result<Vec<FailedDelivery>, ForgeError> {
    let what = format!("listing the deliveries of webhook {} of {}", hook.id, hook.owner);
    let list = url_of(github, &hook.owner, &[&hook.id.to_string(), "deliveries"]);
    let mut found = deliveries::failed_in(github, &what, &list, since).await?;
    found.iter_mut().for_each(|delivery| delivery.hook = Some(hook.clone()));
    Ok(found)
}

pub(super) async fn resend(github: &GitHub, hook: &HookRef, id: u64) -> Result<(), ForgeError> {
    let url = url_of(github, &hook.owner, &[&hook.id.to_string(), "deliveries", &id.to_string(), "attempts"]);
    deliveries::redeliver_at(github, id, url).await
}

fn url_of(github: &GitHub, owner: &HookOwner, rest: &[&str]) -> Url {
    let owner = match owner {
        HookOwner::Project(name) => vec!["repos", name.owner(), name.name()],
        HookOwner::Group(name) => vec!["orgs", name.as_str()],
    };
    github.client.url(owner.into_iter().chain(["hooks"]).chain(rest.iter().copied()))
}

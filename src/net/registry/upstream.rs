//! The way to a registry: its credential, its redirects, and what they must not lead to.
//!
//! A redirect is followed here and not by the guest, which may reach neither the registry nor the store of files behind it.
//! Away from the registry's origin the credential stays behind, and only public addresses are connected to: the ones that
//! were looked at, as the name is resolved once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{LOCATION, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Response};
use url::{Host, Url};

use crate::host::addresses;
use crate::net::egress::addresses::Addresses;
use crate::net::http::Failure;

/// Time for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Redirects of one request that are followed.
const MAX_REDIRECTS: usize = 5;

/// Shared by all registries.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    /// To registries, the way that the environment names. With TLS a proxy there sees a name, and no credential.
    encrypted: Client,
    /// To registries by plain HTTP, which go to their addresses and nowhere else.
    plain: Client,
    /// To wherever a registry redirects: public addresses only, and directly, as those of a proxy could not be looked at.
    public: Client,
}

/// What is asked for, and how the host shows itself.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// The registry's own address, and the header for it.
    pub(super) own: &'a Url,
    pub(super) credential: Option<&'a (HeaderName, HeaderValue)>,
}

impl Upstream {
    /// Fails where the host has no usable trust roots.
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        // Fails only if a provider is installed already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        Ok(Self {
            encrypted: builder().build()?,
            plain: builder().no_proxy().build()?,
            public: builder().no_proxy().dns_resolver(Arc::new(PublicNames)).build()?,
        })
    }

    /// The answer, and the address that gave it. Dropping the future breaks the request off.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<(Response, Url), Failure> {
        let Question { method, mut url, headers, own, credential } = question;
        for _ in 0..=MAX_REDIRECTS {
            let is_own = url.origin() == own.origin();
            let mut request = self.client(&url, own)?.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some((name, value)) = credential.filter(|_| is_own) {
                request = request.header(name, value);
            }
            let response = request.send().await.map_err(|error| send_failure(&error, &url))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, url));
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or_else(|| Failure::gateway("the registry redirects to nowhere"))?;
        }
        Err(Failure::gateway(format!("the registry redirects more than {MAX_REDIRECTS} times")))
    }

    /// The client for this address of a registry, or of wherever it sends us.
    fn client(&self, url: &Url, own: &Url) -> Result<&Client, Failure> {
        let refused = |why: &str| {
            let host = url.host_str().unwrap_or_default();
            Err(Failure::gateway(format!("the registry redirects to `{}://{host}`, {why}", url.scheme())))
        };
        match url.scheme() {
            "https" => {}
            "http" if own.scheme() == "http" => {}
            _ => return refused("without encryption"),
        }
        if url.host() == own.host() {
            return Ok(if url.scheme() == "https" { &self.encrypted } else { &self.plain });
        }
        // Addresses are not resolved, so that nobody else looks at them.
        let is_public = match url.host() {
            Some(Host::Ipv4(address)) => is_public(address.into()),
            Some(Host::Ipv6(address)) => is_public(address.into()),
            Some(Host::Domain(_)) => true,
            None => false,
        };
        if is_public { Ok(&self.public) } else { refused("which is no public address") }
    }
}

fn builder() -> ClientBuilder {
    let mut agent = HeaderMap::new();
    agent.insert(USER_AGENT, HeaderValue::from_static(concat!("dayfly/", env!("CARGO_PKG_VERSION"))));
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .default_headers(agent)
}

fn send_failure(error: &reqwest::Error, url: &Url) -> Failure {
    let host = url.host_str().unwrap_or_default();
    // The chain may name addresses of the operator's network, which are not the guest's business.
    tracing::debug!(?error, "a registry cannot be reached");
    match error.is_connect() {
        true => Failure::gateway(format!("no connection to `{host}`")),
        false => Failure::gateway(format!("the connection to `{host}` broke")),
    }
}

/// Names, without those of their addresses that are not public.
#[derive(Debug)]
struct PublicNames;

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("`{}` has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// As for what guests connect to themselves, without anything that an operator lists.
fn is_public(address: IpAddr) -> bool {
    addresses::own().is_ok_and(|own| Addresses::default().refuses(address, &own).is_none())
}

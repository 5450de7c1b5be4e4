//! The way to a service that the operator names, a forge or a registry: credentials, redirects, and what they must not lead to.
//!
//! A redirect is followed here and not by the guest, which may reach neither the service nor the store of files behind it.
//! A credential goes to one origin only. Away from the service's own host only public addresses are connected to: the ones
//! that were looked at, as the name is resolved once.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::LOCATION;
use axum::http::{HeaderMap, Method};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Response};
use url::{Host, Origin, Url};

use crate::host::addresses;
use crate::net::egress::addresses::Addresses;
use crate::net::http::Failure;

/// Time for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Redirects of one request that are followed.
const MAX_REDIRECTS: usize = 5;

/// Connections to all services of a kind.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// The kind, for messages, such as `the forge`.
    kind: &'static str,
    /// To services, the way that the environment names. With TLS a proxy there sees a name, and no credential.
    encrypted: Client,
    /// To services by plain HTTP, which go to their addresses and nowhere else: whatever is on the way reads the credential.
    plain: Client,
    /// To wherever a service sends us: public addresses only, and directly, as those of a proxy could not be looked at.
    public: Client,
}

/// What is asked for, and how the host shows itself.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// The service's own address.
    pub(crate) own: &'a Url,
    /// Headers for one origin, wherever else we are sent.
    pub(crate) credential: (Origin, HeaderMap),
}

impl Upstream {
    /// Fails where the host has no usable trust roots. `agent` is the `User-Agent`; `proxies` may name others than the
    /// environment does.
    pub(crate) fn new(
        kind: &'static str, agent: &str, proxies: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, reqwest::Error> {
        // Fails only if a provider is installed already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        Ok(Self {
            kind,
            encrypted: proxies(builder(agent)).build()?,
            plain: builder(agent).no_proxy().build()?,
            public: builder(agent).no_proxy().dns_resolver(Arc::new(PublicNames)).build()?,
        })
    }

    /// The client for an address at a service itself.
    pub(crate) fn own(&self, url: &Url) -> &Client {
        if url.scheme() == "https" { &self.encrypted } else { &self.plain }
    }

    /// The answer, and the address that gave it. Dropping the future breaks the request off.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<(Response, Url), Failure> {
        let Question { method, mut url, headers, own, credential: (origin, credential) } = question;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.client(&url, own)?.request(method.clone(), url.clone()).headers(headers.clone());
            if url.origin() == origin {
                request = request.headers(credential.clone());
            }
            let response = request.send().await.map_err(|error| send_failure(&error, &url))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, url));
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or_else(|| Failure::gateway(format!("{} redirects to nowhere", self.kind)))?;
        }
        Err(Failure::gateway(format!("{} redirects more than {MAX_REDIRECTS} times", self.kind)))
    }

    /// The client for this address of a service, or of wherever it sends us.
    fn client(&self, url: &Url, own: &Url) -> Result<&Client, Failure> {
        let refused = |why: &str| {
            let host = url.host_str().unwrap_or_default();
            Err(Failure::gateway(format!("{} redirects to `{}://{host}`, {why}", self.kind, url.scheme())))
        };
        match url.scheme() {
            "https" => {}
            "http" if own.scheme() == "http" => {}
            _ => return refused("without encryption"),
        }
        if url.host() == own.host() {
            return Ok(self.own(url));
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

fn builder(agent: &str) -> ClientBuilder {
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(agent)
}

/// An error and everything that caused it: the outermost one alone says `client error` and nothing more.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn send_failure(error: &reqwest::Error, url: &Url) -> Failure {
    let host = url.host_str().unwrap_or_default();
    // The chain may name addresses of the operator's network, which are not the guest's business.
    tracing::debug!(?error, "a service cannot be reached");
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

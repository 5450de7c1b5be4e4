//! The way to the forge: connections and trust roots.

use std::time::Duration;

use reqwest::{Client, ClientBuilder};
use url::Url;

/// Time for the connection to the forge, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Shared by the proxies of all VMs.
#[derive(Debug, Clone)]
pub struct GitClient {
    /// Goes the way that the environment names. With TLS a proxy there sees the forge's name, and no credential.
    encrypted: Client,
    /// Goes to its address and nowhere else: whatever is on the way of plain HTTP reads the credential.
    plain: Client,
}

impl GitClient {
    /// Fails where the host has no usable trust roots. Honours the proxy variables of the service's environment for `https`;
    /// `http`, which is for this host only, goes there directly.
    pub fn new() -> Result<Self, reqwest::Error> {
        Self::with(|builder| builder)
    }

    /// The same, with other proxies than those of the environment.
    pub(super) fn with(proxies: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Self, reqwest::Error> {
        // Fails only if a provider is installed already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        Ok(Self { encrypted: proxies(builder()).build()?, plain: builder().no_proxy().build()? })
    }

    /// The client for this address.
    pub(super) fn to(&self, url: &Url) -> &Client {
        if url.scheme() == "https" { &self.encrypted } else { &self.plain }
    }
}

fn builder() -> ClientBuilder {
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Forges tell git from browsers by the first word.
        .user_agent(concat!("git/2 dayfly/", env!("CARGO_PKG_VERSION")))
}

//! The way to the forge: connections and trust roots.

use reqwest::{Certificate, Client, ClientBuilder};
use url::Url;

use crate::net::upstream::Upstream;

/// Forges tell git from browsers by the first word.
const AGENT: &str = concat!("git/2 dayfly/", env!("CARGO_PKG_VERSION"));

/// Shared by the proxies of all VMs.
#[derive(Debug, Clone)]
pub struct GitClient(pub(super) Upstream);

impl GitClient {
    /// Fails where the host has no usable trust roots. Honours the proxy variables of the service's environment for `https`;
    /// `http`, which is for this host only, goes there directly.
    pub fn new() -> Result<Self, reqwest::Error> {
        Self::with(|builder| builder)
    }

    /// The same, trusting these certificates, too.
    pub fn trusting(certificates: Vec<Certificate>) -> Result<Self, reqwest::Error> {
        Self::with(|builder| certificates.into_iter().fold(builder, ClientBuilder::add_root_certificate))
    }

    /// The same, with other proxies than those of the environment.
    pub(super) fn with(proxies: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Self, reqwest::Error> {
        Upstream::new("the forge", AGENT, proxies).map(Self)
    }

    /// The client for this address.
    pub(super) fn to(&self, url: &Url) -> &Client {
        self.0.own(url)
    }
}

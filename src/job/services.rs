//! What the host offers to one guest: connections to ports of its loopback interface end at proxies of the host.

use tokio::task::{JoinHandle, JoinSet};

use super::checkout::GIT_PORT;
use crate::net::egress::{Egress, environment};
use crate::net::git_proxy::GitProxy;
use crate::protocol::message::{AgentRequest, Service, decode};
use crate::protocol::session::MAX_STREAMS;
use crate::vm::VmError;
use crate::vm::channel::Connections;
use crate::vm::guest::Guest;

/// The services of one guest.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    /// What it may fetch, if anything.
    pub(crate) git: Option<GitProxy>,
    pub(crate) egress: Egress,
}

impl Services {
    /// Has the guest listen on the ports of what is offered.
    pub(crate) async fn offer(&self, guest: &Guest) -> Result<(), VmError> {
        let git = async {
            match &self.git {
                Some(_) => guest.listen(GIT_PORT, Service::Git).await,
                None => Ok(()),
            }
        };
        let egress = async {
            if self.egress.is_offered() { guest.listen(environment::PORT, Service::Egress).await } else { Ok(()) }
        };
        tokio::try_join!(git, egress).map(drop)
    }

    /// Serves the guest's connections until the task is aborted or the VM is gone.
    pub(crate) fn serve(&self, mut connections: Connections) -> JoinHandle<()> {
        let services = self.clone();
        tokio::spawn(async move {
            // Dropped with this task, and what they have open with them.
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    // The guest cannot have more streams open; those that have just ended may still be here.
                    connection = connections.recv(), if open.len() < MAX_STREAMS => match connection {
                        Some((stream, request)) => {
                            let Ok(AgentRequest::Connected { service }) = decode(&request) else { continue };
                            let services = services.clone();
                            open.spawn(async move { services.serve_one(service, stream.into_io()).await });
                        }
                        None => return,
                    },
                    Some(_) = open.join_next(), if !open.is_empty() => {}
                }
            }
        })
    }

    /// A machine that was frozen may listen for what is not offered any more: its connections are closed.
    async fn serve_one(&self, service: Service, stream: tokio::io::DuplexStream) {
        match (service, &self.git) {
            (Service::Git, Some(git)) => git.serve_connection(stream).await,
            (Service::Egress, _) if self.egress.is_offered() => self.egress.serve_connection(stream).await,
            (Service::Git | Service::Egress, _) => {}
        }
    }
}

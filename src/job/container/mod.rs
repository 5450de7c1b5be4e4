//! The containers of a job, in images with Docker: the one that its steps run in, and services beside it.
//!
//! They are on one network, on which they know each other by name. All are started before the first step, and healthy if anything
//! checks that; none is ever stopped, since the machine is destroyed. What Docker's client says in the guest is a stranger's text.
//!
//! - `argv`, `mounts`, `variables`: command lines; `state`: what Docker says of a container. Pure.
//! - `client`: calls of Docker's client; `start`: what comes before the first step; `lend`: what containers have of the machine;
//!   `inside`: programs in the job's container.

pub(super) mod argv;
pub(super) mod client;
mod inside;
mod lend;
pub(super) mod mounts;
pub(super) mod start;
pub(super) mod state;
pub(super) mod variables;

pub(super) use inside::Inside;

/// What a job has of containers.
#[derive(Debug, Clone, Default)]
pub(super) struct Containers {
    /// The one that its steps run in.
    pub(super) job: Option<Inside>,
    services: Vec<Service>,
    /// Whether there is a network for them.
    pub(super) has_network: bool,
}

/// A service that was started.
#[derive(Debug, Clone)]
struct Service {
    name: String,
    id: String,
}

impl Containers {
    /// The names by which containers of the network know each other.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let job = self.job.iter().map(|_| argv::JOB_ALIAS);
        job.chain(self.services.iter().map(|service| service.name.as_str()))
    }
}

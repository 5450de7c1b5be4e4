//! What a stored job of a GitLab says to those who speak with that GitLab for it.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gitlab::KIND;
use crate::gitlab::job::plan::shows_secrets;
use crate::gitlab::wire::JobResponse;

/// The parts of a [`JobResponse`] that sessions need.
#[derive(Debug, Deserialize)]
struct Stored {
    instance: String,
    runner: String,
    job: JobResponse,
}

/// A job as a session sees it.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) instance: String,
    pub(crate) runner: String,
    pub(crate) id: u64,
    pub(crate) token: SecretString,
    /// Failure reasons that the GitLab knows.
    pub(crate) reasons: Vec<String>,
    /// The trace shows what only its maintainers may see.
    pub(crate) is_debug: bool,
}

impl Order {
    /// What is stored with a job.
    pub(crate) fn request(instance: &str, runner: &str, job: &JobResponse) -> Value {
        json!({"kind": KIND, "instance": instance, "runner": runner, "job": job})
    }

    /// `None` for what is no job of a GitLab, or none any more.
    pub(crate) fn read(request: &Value) -> Option<Self> {
        let Stored { instance, runner, job } = Stored::deserialize(request).ok()?;
        let is_debug = shows_secrets(&job.variables);
        let token = job.token.expose().to_owned().into();
        Some(Self { instance, runner, id: job.id, token, reasons: job.features.failure_reasons, is_debug })
    }
}

//! What a job knows of its containers.

use secrecy::ExposeSecret as _;

use super::JobRun;
use crate::workflow::container::Containers;
use crate::workflow::expression::{ExpressionError, Object, Status};

impl JobRun {
    /// The containers that must be there before the first step.
    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    /// They are there. `context` is what the `job` context has of them, and `workspace` where steps see the workspace.
    pub fn has_containers(&mut self, context: Object, workspace: String) {
        (self.of_containers, self.seen_workspace) = (context, Some(workspace));
    }

    /// The directory that the repository is in, as steps see it.
    pub fn seen_workspace(&self) -> &str {
        self.seen_workspace.as_deref().unwrap_or_else(|| self.workspace())
    }

    /// Whether a step has failed or was cancelled.
    pub fn has_failed(&self) -> bool {
        matches!(self.status, Status::Failure | Status::Cancelled)
    }

    /// The `job` context.
    pub(super) fn job_context(&self) -> Object {
        let mut job = self.of_containers.clone();
        job.insert("status", super::prepare::word(self.job_status()));
        job
    }

    /// The status of the job, of which the steps of an action are a part.
    pub(super) fn job_status(&self) -> Status {
        match (self.status, self.outer_status) {
            (Status::Cancelled, _) | (_, None) => self.status,
            (_, Some(outer)) => outer,
        }
    }

    pub(super) fn mask_credentials(&mut self) -> Result<(), ExpressionError> {
        for credentials in self.containers.iter().filter_map(|container| container.credentials.as_ref()) {
            let added = self.hearing.lock().masks.add(credentials.password.expose_secret());
            added.map_err(|error| ExpressionError::evaluation(error.to_string()))?;
        }
        Ok(())
    }
}

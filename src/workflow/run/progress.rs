//! What a job's steps have come to so far: enough for another cell of its matrix to go on from there.

use std::collections::BTreeMap;

use super::JobRun;
use crate::workflow::expression::{Object, Status};

/// What the first steps of a job said and how they ended, without anything that is of one cell only.
#[derive(Debug, Clone)]
pub struct Progress {
    env: BTreeMap<String, String>,
    path: Vec<String>,
    steps: Object,
    at: usize,
    status: Status,
    output_bytes: usize,
    summary: String,
}

impl JobRun {
    /// The step that is next, counted from 0; as many as there are when all were run.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What the steps before the next one have come to.
    pub fn progress(&self) -> Progress {
        Progress {
            env: self.env.clone(),
            path: self.path.clone(),
            steps: self.steps.clone(),
            at: self.at,
            status: self.status,
            output_bytes: self.output_bytes,
            summary: self.summary.clone(),
        }
    }

    /// Goes on where another cell of the same matrix was. Sound if [`crate::workflow::share::shared_steps`] says that they
    /// have those steps in common: then their environments are the same too.
    pub fn resume(&mut self, progress: Progress) {
        let Progress { env, path, steps, at, status, output_bytes, summary } = progress;
        (self.env, self.path, self.steps) = (env, path, steps);
        (self.at, self.status) = (at, status);
        (self.output_bytes, self.summary) = (output_bytes, summary);
    }
}

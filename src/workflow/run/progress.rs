//! What a job's steps have come to so far: enough for another cell of its matrix to go on from there.

use std::collections::BTreeMap;

use super::{JobRun, PostStep};
use crate::workflow::commands::Hearing;
use crate::workflow::expression::{Object, Status};
use crate::workflow::file_commands::Pairs;

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
    hearing: Hearing,
    posts: Vec<PostStep>,
    states: BTreeMap<usize, Pairs>,
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
            hearing: self.hearing.lock().clone(),
            posts: self.posts.clone(),
            states: self.states.clone(),
        }
    }

    /// Goes on where another cell of the same matrix was. Sound if [`crate::workflow::share::shared_steps`] says that they
    /// have those steps in common: then their environments are the same too.
    pub fn resume(&mut self, progress: Progress) {
        let Progress { env, path, steps, at, status, output_bytes, summary, hearing, posts, states } = progress;
        (self.env, self.path, self.steps) = (env, path, steps);
        (self.at, self.status) = (at, status);
        (self.output_bytes, self.summary, self.hearing) = (output_bytes, summary, hearing.into());
        (self.posts, self.states) = (posts, states);
    }
}

//! The steps after all others: each was registered by a step that ran, and the last one registered runs first.

use std::collections::BTreeMap;

use super::prepare::{Prepared, extend, limit, shown_name, tolerance};
use super::{CommandFiles, JobRun, PostStep, StepPlan};
use crate::workflow::expression::{Effort, ExpressionError, FileHashes};

/// Post steps of a job.
const MAX_POSTS: usize = 1000;

impl JobRun {
    /// Registers a step to run after all others. It runs before those that were registered before it, whatever became of the
    /// step that registers it. Nothing can be registered once the steps of the workflow are over.
    pub fn add_post(&mut self, post: PostStep) {
        if self.at < self.spec.job.steps.len() && self.posts.len() < MAX_POSTS {
            self.posts.push(post);
        }
    }

    /// The post step that is next; `None` if its condition does not hold.
    pub(super) fn prepare_post(&self, files: &dyn FileHashes) -> Result<Option<Prepared>, ExpressionError> {
        let Some(post) = self.posts.last().filter(|post| !post.condition.is_ruled_out(self.status)) else {
            return Ok(None);
        };
        let step = &self.spec.job.steps[post.of.min(self.spec.job.steps.len() - 1)];
        let effort = Effort::default();
        let contexts = self.contexts(&self.env);
        let mut env = self.env.clone();
        extend(&mut env, &step.env, &self.environment(&contexts, files, &effort))?;
        env.extend(post.env.clone());
        let contexts = self.contexts(&env);
        let environment = self.environment(&contexts, files, &effort);
        if !post.condition.holds(&environment)? {
            return Ok(None);
        }
        // What the workflow says of the step goes for all of its programs.
        let tolerance = tolerance(step, &environment);
        let (timeout, remark) = limit(step, &environment);
        env.extend(self.state_of(post.of));
        let key = self.key();
        let command_files = CommandFiles::new(&self.place.command_directory, &key);
        let mut env = self.with_standard(env, post.of, &command_files);
        // Of an action's own, which a workflow may not set.
        env.extend(post.env.clone());
        let plan = StepPlan {
            index: self.at,
            key,
            name: shown_name(Some(&post.name), String::new),
            timeout,
            outlasts_cancel: self.outlasts_cancel(&post.condition, &environment),
            remark,
            env,
            path_additions: self.path.clone(),
            command_files,
            action: post.action.clone(),
        };
        Ok(Some(Prepared::Run(Box::new(plan), tolerance)))
    }

    /// What a step kept for its post step, as variables.
    pub(super) fn state_of(&self, step: usize) -> BTreeMap<String, String> {
        let state = self.states.get(&step).into_iter().flatten();
        state.map(|(name, value)| (format!("STATE_{name}"), value.clone())).collect()
    }

    /// The name of the post step at hand.
    pub(super) fn post_name(&self) -> String {
        shown_name(self.posts.last().map(|post| post.name.as_str()), String::new)
    }
}

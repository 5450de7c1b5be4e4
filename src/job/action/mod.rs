//! Actions in the guest: what a step's `uses` names is looked up, given to the guest if it comes from another repository, and run
//! as what its description says.
//!
//! The description is read from the guest, where a job may have written it; it is as bounded as a workflow. The steps of a
//! composite action run as those of the job do, in the place of the one that uses it ([`Frame`]).

mod container;
mod find;
mod node;
mod place;
mod setup;
mod tool_cache;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use self::find::Found;
pub(super) use self::place::Delivered;
pub(crate) use self::place::{Actions, NoWorkflow, Private};
use self::setup::Tool;
use super::steps::{Steps, Witness, step_number};
use crate::core::heavy;
use crate::vm::VmError;
use crate::workflow::action::inputs::Inputs;
use crate::workflow::action::manifest::{Hook, Node, Runs};
use crate::workflow::action::{MAX_LEVELS, Manifest};
use crate::workflow::run::{
    ActionPlace, JobRun, NodePlan, PostStep, StepAction, StepEnd, StepPlan, StepReport, StepResult, UsesPlan,
};

/// Whose steps run: those of the job, or of an action that is one of its steps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame {
    /// The job's step of which these are a part; steps count from 1.
    pub(super) within: Option<u16>,
    /// When that step's time is over.
    pub(super) deadline: Option<Instant>,
    /// How many actions they are inside of.
    level: usize,
    /// Whether they go on although the job is, or will be, cancelled.
    pub(super) ignores_cancellation: bool,
}

impl<W: Witness> Steps<'_, W> {
    /// Runs the action of a step to its end.
    pub(super) async fn run_uses(
        &mut self, plan: &StepPlan, uses: &UsesPlan, run: &mut JobRun,
    ) -> Result<Option<StepReport>, VmError> {
        match self.try_to_run(plan, uses, run).await {
            // Something in the place of a file or a directory: that is the job's doing, and no fault of the VM.
            Err(VmError::Refused { detail, .. }) => Ok(run.finish_step(StepResult::new(StepEnd::Failed(detail)))),
            ended => ended,
        }
    }

    async fn try_to_run(
        &mut self, plan: &StepPlan, uses: &UsesPlan, run: &mut JobRun,
    ) -> Result<Option<StepReport>, VmError> {
        let failed = |run: &mut JobRun, why: String| Ok(run.finish_step(StepResult::new(StepEnd::Failed(why))));
        let mut not_native = None;
        if let Some(tool) = Tool::of(&uses.reference) {
            match self.set_up_tool(tool, uses, plan, run).await? {
                Ok(result) => return Ok(run.finish_step(result)),
                Err(why) => not_native = Some(why),
            }
        }
        let Found { manifest, place } = match self.find(&uses.reference).await? {
            Ok(found) => found,
            Err(why) => return failed(run, not_native.into_iter().chain([why]).collect::<Vec<_>>().join("; ")),
        };
        let inputs = match heavy(|| run.action_inputs(plan, &manifest.inputs, &uses.with)) {
            Ok(inputs) => inputs,
            Err(why) => return failed(run, why),
        };
        let number = self.number_of(plan);
        for warning in manifest.warnings.iter().map(ToString::to_string).chain(inputs.warnings.iter().cloned()) {
            self.witness.say(number, &format!("warning: {warning}")).await;
        }
        match &manifest.runs {
            Runs::Composite(_) => self.run_composite(plan, &manifest, &inputs, place, run).await,
            Runs::Node(node) => {
                let plan = with_inputs(plan.clone(), &inputs, &place);
                self.run_node(plan, node, &place.path, run).await
            }
            Runs::Docker(docker) => {
                let result = self.run_container(plan, docker, &inputs, &place, run).await?;
                Ok(heavy(|| run.finish_step(result)))
            }
        }
    }

    /// Runs the steps of a composite action in the place of the step that uses it.
    async fn run_composite(
        &mut self, plan: &StepPlan, manifest: &Manifest, inputs: &Inputs, place: ActionPlace, run: &mut JobRun,
    ) -> Result<Option<StepReport>, VmError> {
        let Runs::Composite(steps) = &manifest.runs else { return Ok(None) };
        let outer = self.frame;
        if outer.level >= MAX_LEVELS {
            let why = format!("it is inside of {MAX_LEVELS} other actions\n  hint: does an action use itself?");
            return Ok(run.finish_step(StepResult::new(StepEnd::Failed(why))));
        }
        self.frame = outer.inside(self.number_of(plan), plan.timeout, !self.heeds_cancel(plan));
        let mut nested = heavy(|| run.enter(plan, steps, inputs, place));
        let ran = self.run_nested(&mut nested).await;
        let is_over = self.frame.deadline.is_some_and(|deadline| deadline <= Instant::now());
        self.frame = outer;
        ran?;
        Ok(heavy(|| run.leave(nested, &manifest.outputs, is_over.then_some(StepEnd::TimedOut))))
    }

    /// In a box, because steps may be actions with steps.
    fn run_nested<'a>(&'a mut self, nested: &'a mut JobRun) -> BoxFuture<'a, Result<(), VmError>> {
        self.run(usize::MAX, nested).boxed()
    }

    /// Runs an action's programs for Node.js: what comes before the main one, if it is wanted, and the main one.
    async fn run_node(
        &mut self, plan: StepPlan, node: &Node, directory: &str, run: &mut JobRun,
    ) -> Result<Option<StepReport>, VmError> {
        let program = |file: &str| {
            let script = format!("{directory}/{file}");
            StepAction::Node(NodePlan { version: node.version, script })
        };
        let mut plan = plan;
        if let Some(pre) = &node.pre {
            match self.run_before(pre, StepPlan { action: program(&pre.program), ..plan }, run).await? {
                Ok(next) => plan = next,
                Err(ended) => return Ok(heavy(|| run.finish_step(*ended))),
            }
        }
        if let Some(post) = &node.post {
            run.add_post(post_of(&plan, post, program(&post.program), run.variables_for_later(&plan)));
        }
        let result = self.run_step(&StepPlan { action: program(&node.main), ..plan }, run).await?;
        Ok(heavy(|| run.finish_step(result)))
    }

    /// Runs what comes before an action's main program, if it is wanted; gives the step for that one, or how the whole ended.
    async fn run_before(
        &mut self, hook: &Hook, plan: StepPlan, run: &mut JobRun,
    ) -> Result<Result<StepPlan, Box<StepResult>>, VmError> {
        Ok(match run.is_wanted(hook, &plan) {
            Ok(true) => {
                let result = self.run_step(&plan, run).await?;
                heavy(|| run.go_on(plan, result))
            }
            Ok(false) => Ok(plan),
            Err(why) => Err(Box::new(StepResult::new(StepEnd::Failed(why)))),
        })
    }

    /// The step of the job that this step is a part of, or is.
    pub(super) fn number_of(&self, plan: &StepPlan) -> u16 {
        self.frame.within.unwrap_or_else(|| step_number(plan.index))
    }
}

/// The step with what the action's programs get.
fn with_inputs(mut plan: StepPlan, inputs: &Inputs, place: &ActionPlace) -> StepPlan {
    plan.env.extend(inputs.variables());
    plan.env.extend(place.variables().map(|(name, value)| (name.to_owned(), value.to_owned())));
    plan
}

/// What an action does after all steps of the job, with variables that nobody knows any more then.
fn post_of(plan: &StepPlan, hook: &Hook, action: StepAction, variables: BTreeMap<String, String>) -> PostStep {
    // The rest is computed again then: the job's environment goes on changing.
    let is_actions = |name: &str| name.starts_with("INPUT_") || name.starts_with("GITHUB_ACTION_");
    let own = plan.env.iter().filter(|(name, _)| is_actions(name));
    let own = own.map(|(name, value)| (name.clone(), value.clone()));
    PostStep {
        of: plan.index,
        name: format!("Post {}", plan.name),
        condition: hook.condition.clone(),
        action,
        env: variables.into_iter().chain(own).collect(),
    }
}

impl Frame {
    /// The steps of an action that is a step here, for which this much time is left. Those of one that runs although the job is
    /// cancelled are not passed over for that.
    fn inside(self, number: u16, limit: Option<Duration>, ignores_cancellation: bool) -> Self {
        let own = limit.map(|limit| Instant::now() + limit);
        Self {
            within: Some(number),
            deadline: [self.deadline, own].into_iter().flatten().min(),
            level: self.level + 1,
            ignores_cancellation,
        }
    }
}

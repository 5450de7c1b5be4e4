//! Steps in the background: which of them may run, and where what they said begins to count.
//!
//! Such a step is put in line at its place among the others, with its environment as it was there. It runs on a [`JobRun`] of its own,
//! and what that came to is kept apart: its outputs, variables and outcome are the job's once something has waited for it, in the
//! order in which they are waited for. So in which order they end makes no difference to any step that waits for all it uses.
//!
//! How each ended counts for the job once more before its post steps, whether or not a wait tolerated it; one that was cancelled
//! by a step does not count.

use std::collections::BTreeMap;

use super::step_plan::{Next, PostStep, StepPlan, StepReport};
use super::{Current, Ended, Hashes, JobRun, Tolerance, step_context};
use crate::workflow::contexts::Outcome;
use crate::workflow::expression::{Object, Value};
use crate::workflow::file_commands::Pairs;
use crate::workflow::model::Steer;

/// Steps of one job that run in the background at the same time.
pub const MAX_BESIDE: usize = 10;

/// Steps that wait for a place. Each holds its environment.
const MAX_IN_LINE: usize = 100;

/// Bytes of what steps said that nothing has waited for yet.
const MAX_UNMET_BYTES: usize = 8 << 20;

/// Where the steps at hand meet steps in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitPlan {
    /// The step that waits, counted from 0; `None` where the job waits for what nothing else has waited for.
    pub index: Option<usize>,
    pub name: String,
    /// The steps that have to end, in the order in which they begin to count.
    pub steps: Vec<usize>,
    /// Whether they are to be ended.
    pub cancels: bool,
}

/// A step in the background whose turn has come.
#[derive(Debug)]
pub enum Ready {
    /// Run it as [`Next::Run`] asks, on this [`JobRun`], and give that to [`JobRun::take_back`].
    Start(Box<StepPlan>, Box<JobRun>),
    /// It was cancelled before it began.
    GivenUp(StepReport),
}

/// The steps that were put aside, by their places.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    steps: BTreeMap<usize, Aside>,
    is_cancelled: bool,
}

#[derive(Debug, Clone)]
struct Aside {
    name: String,
    stage: Stage,
    /// Ended by a step, so that its cancellation is as it should be.
    is_wanted_so: bool,
}

#[derive(Debug, Clone)]
enum Stage {
    InLine {
        plan: Box<StepPlan>,
        tolerance: Tolerance,
        is_given_up: bool,
    },
    Running,
    Ended(Outcome, Box<Came>),
    /// Its words count.
    Met(Outcome),
}

/// What a step came to, to be taken in later.
#[derive(Debug, Clone, Default)]
struct Came {
    env: Pairs,
    path: Vec<String>,
    context: Option<Value>,
    output_bytes: usize,
    summary: String,
    posts: Vec<PostStep>,
    states: BTreeMap<usize, Pairs>,
    is_too_much: bool,
}

impl Came {
    fn bytes(&self) -> usize {
        let of_pairs = |pairs: &Pairs| pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let path = self.path.iter().map(String::len).sum::<usize>();
        of_pairs(&self.env) + path + self.output_bytes + self.summary.len()
    }
}

impl Aside {
    fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Met(_))
    }

    /// Ends it before it began.
    fn give_up(&mut self, index: usize) -> StepReport {
        let (outcome, conclusion) = (Outcome::Cancelled, Outcome::Cancelled);
        let context = step_context(Object::default(), outcome, conclusion);
        let came = Came { context: Some(context.into()), ..Came::default() };
        self.stage = Stage::Ended(conclusion, Box::new(came));
        let (errors, left_out, annotations) = Default::default();
        StepReport { index, name: self.name.clone(), outcome, conclusion, errors, left_out, annotations }
    }

    fn conclusion(&self) -> Option<Outcome> {
        match self.stage {
            Stage::Ended(conclusion, _) | Stage::Met(conclusion) => Some(conclusion),
            Stage::InLine { .. } | Stage::Running => None,
        }
    }
}

impl Beside {
    /// Whether there are steps that nothing has waited for.
    pub(super) fn has_open(&self) -> bool {
        self.steps.values().any(Aside::is_open)
    }

    /// The job is cancelled: what is in line now does not begin any more. Steps that are put in line later want to run all the same.
    pub(super) fn cancel(&mut self) {
        if !std::mem::replace(&mut self.is_cancelled, true) {
            let all: Vec<usize> = self.steps.keys().copied().collect();
            self.give_up(&all);
        }
    }

    fn unmet_bytes(&self) -> usize {
        let came = self.steps.values().filter_map(|aside| match &aside.stage {
            Stage::Ended(_, came) => Some(came.bytes()),
            _ => None,
        });
        came.sum()
    }

    fn give_up(&mut self, steps: &[usize]) {
        for step in steps {
            if let Some(Aside { stage: Stage::InLine { is_given_up, .. }, .. }) = self.steps.get_mut(step) {
                *is_given_up = true;
            }
        }
    }
}

impl JobRun {
    /// Puts the step at hand in line, and goes on to the next.
    pub(super) fn put_aside(&mut self, plan: Box<StepPlan>, tolerance: Tolerance) -> Next {
        let in_line = self.beside.steps.values().filter(|aside| matches!(aside.stage, Stage::InLine { .. })).count();
        if in_line >= MAX_IN_LINE {
            let errors = vec![format!("more than {MAX_IN_LINE} steps wait for a place in the background")];
            let name = plan.name.clone();
            return Next::Failed(self.record(name, Ended { errors, ..Ended::new(Outcome::Failure) }));
        }
        let name = plan.name.clone();
        let stage = Stage::InLine { plan, tolerance, is_given_up: false };
        self.beside.steps.insert(self.at, Aside { name, stage, is_wanted_so: false });
        self.at += 1;
        self.hashes = Hashes::default();
        Next::Aside
    }

    /// A step in the background to begin with now, if there is one and a place for it. Ask until there is none.
    pub fn ready(&mut self) -> Option<Ready> {
        let is_given_up = |aside: &Aside| matches!(aside.stage, Stage::InLine { is_given_up: true, .. });
        let given_up = self.beside.steps.iter_mut().find(|(_, aside)| is_given_up(aside));
        if let Some((&index, aside)) = given_up {
            return Some(Ready::GivenUp(aside.give_up(index)));
        }
        let running = self.beside.steps.values().filter(|aside| matches!(aside.stage, Stage::Running)).count();
        if running >= MAX_BESIDE {
            return None;
        }
        let in_line = |aside: &&mut Aside| matches!(aside.stage, Stage::InLine { .. });
        let aside = self.beside.steps.values_mut().find(in_line)?;
        let Stage::InLine { plan, tolerance, .. } = std::mem::replace(&mut aside.stage, Stage::Running) else {
            return None;
        };
        let run = self.for_step(&plan, tolerance);
        Some(Ready::Start(plan, Box::new(run)))
    }

    /// The job as a step in the background sees it, without what others say meanwhile.
    fn for_step(&mut self, plan: &StepPlan, tolerance: Tolerance) -> JobRun {
        JobRun {
            at: plan.index,
            current: Some(Current { name: plan.name.clone(), tolerance }),
            exported: BTreeMap::new(),
            path_added: Vec::new(),
            hashes: Hashes::default(),
            output_bytes: 0,
            summary: String::new(),
            posts: Vec::new(),
            states: BTreeMap::new(),
            ..self.apart()
        }
    }

    /// The job as the step at hand sees it while others run. Its end is told to [`JobRun::go_on_as`].
    pub fn apart(&mut self) -> JobRun {
        // Without the steps in line, whose environments may be large.
        let beside = std::mem::take(&mut self.beside);
        let apart = self.clone();
        self.beside = beside;
        apart
    }

    /// Goes on where the step at hand has led, with what steps in the background did meanwhile.
    pub fn go_on_as(&mut self, apart: JobRun) {
        let was_cancelled = self.beside.is_cancelled;
        let beside = std::mem::take(&mut self.beside);
        *self = JobRun { beside, ..apart };
        if was_cancelled {
            self.cancel();
        }
    }

    /// Takes in that a step in the background has ended, with the [`JobRun`] that it had.
    pub fn take_back(&mut self, run: JobRun, report: &StepReport) {
        let id = run.spec.job.steps.get(report.index).and_then(|step| step.id.as_ref());
        let mut came = Came {
            context: id.and_then(|id| run.steps.get(id)).cloned(),
            env: run.exported.into_iter().collect(),
            path: run.path_added,
            output_bytes: run.output_bytes,
            summary: run.summary,
            posts: run.posts,
            states: run.states,
            is_too_much: false,
        };
        if came.bytes() + self.beside.unmet_bytes() > MAX_UNMET_BYTES {
            came = Came { is_too_much: true, posts: came.posts, states: came.states, ..Came::default() };
        }
        if let Some(aside) = self.beside.steps.get_mut(&report.index) {
            aside.stage = Stage::Ended(report.conclusion, Box::new(came));
        }
    }

    /// Whether all that a plan waits for has ended.
    pub fn is_met(&self, plan: &WaitPlan) -> bool {
        let aside = plan.steps.iter().filter_map(|step| self.beside.steps.get(step));
        aside.map(Aside::conclusion).all(|conclusion| conclusion.is_some())
    }

    /// What the step at hand waits for.
    pub(super) fn meeting(&self, steer: &Steer, name: String) -> WaitPlan {
        let open = || self.beside.steps.iter().filter(|(_, aside)| aside.is_open()).map(|(step, _)| *step).collect();
        let steps = match steer {
            Steer::Wait(steps) | Steer::Join(steps) | Steer::Cancel(steps) => {
                // Those that were passed over are not there.
                steps.iter().copied().filter(|step| self.beside.steps.contains_key(step)).collect()
            }
            Steer::WaitAll => open(),
        };
        WaitPlan { index: Some(self.at), name, steps, cancels: matches!(steer, Steer::Cancel(_)) }
    }

    /// After the last step: what nothing has waited for. Once there is no such step, how each ended has counted.
    pub(super) fn meet_the_rest(&mut self) -> Option<Box<WaitPlan>> {
        let plan = self.meeting(&Steer::WaitAll, String::new());
        if !plan.steps.is_empty() {
            return Some(Box::new(WaitPlan { index: None, ..plan }));
        }
        let is_counted = |aside: &&Aside| !(aside.is_wanted_so && aside.conclusion() == Some(Outcome::Cancelled));
        let ends: Vec<Outcome> = self.beside.steps.values().filter(is_counted).filter_map(Aside::conclusion).collect();
        ends.into_iter().for_each(|conclusion| self.count(conclusion));
        None
    }

    /// What begins with a plan that ends steps: those in line do not begin. The others are the driver's to end.
    pub fn begin_wait(&mut self, plan: &WaitPlan) {
        if !plan.cancels {
            return;
        }
        self.beside.give_up(&plan.steps);
        for step in &plan.steps {
            if let Some(aside) = self.beside.steps.get_mut(step).filter(|aside| aside.conclusion().is_none()) {
                aside.is_wanted_so = true;
            }
        }
    }

    /// Lets count what the plan waited for; gives how the step that waited ended, if it is one.
    pub fn finish_wait(&mut self, plan: &WaitPlan) -> Option<StepReport> {
        let (mut errors, mut left_out, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for step in &plan.steps {
            errors.extend(self.meet(*step, &mut left_out));
            let Some(aside) = self.beside.steps.get(step) else { continue };
            if aside.conclusion() == Some(Outcome::Failure) {
                failed.push(format!("`{}`", aside.name));
            }
        }
        if plan.index.is_none() {
            if !errors.is_empty() {
                self.count(Outcome::Failure);
            }
            return None;
        }
        let Current { name, tolerance } = self.current.take()?;
        if !failed.is_empty() && !plan.cancels {
            errors.insert(0, format!("failed in the background: {}", failed.join(", ")));
        }
        let outcome = if errors.is_empty() { Outcome::Success } else { Outcome::Failure };
        Some(self.record(name, Ended { tolerance, errors, left_out, ..Ended::new(outcome) }))
    }

    /// Lets a step count that has ended and does not count yet; gives what is wrong with what it said.
    fn meet(&mut self, step: usize, left_out: &mut Vec<String>) -> Vec<String> {
        let Some(aside) = self.beside.steps.get_mut(&step) else { return Vec::new() };
        let Some(conclusion) = aside.conclusion() else { return Vec::new() };
        let Stage::Ended(_, came) = std::mem::replace(&mut aside.stage, Stage::Met(conclusion)) else {
            return Vec::new();
        };
        let Came { env, path, context, output_bytes, summary, posts, states, is_too_much } = *came;
        let name = aside.name.clone();
        self.posts.extend(posts);
        self.states.extend(states);
        if is_too_much {
            return vec![format!(
                "`{name}`: it said more than {MAX_UNMET_BYTES} bytes together with others that nothing waited for"
            )];
        }
        let counted = self.count_bytes(output_bytes, "GITHUB_OUTPUT");
        let context = context.filter(|_| counted.is_ok());
        let noted = [self.extend_env(env), counted];
        left_out.extend(self.add_summary(&summary));
        self.extend_path(&path);
        let id = self.spec.job.steps.get(step).and_then(|step| step.id.clone());
        if let Some((id, context)) = id.zip(context) {
            self.steps.insert(id, context);
        }
        noted.into_iter().filter_map(Result::err).map(|error| format!("`{name}`: {error}")).collect()
    }
}

//! The workflow's steps in the guest: one after the other, and beside them those in the background.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::action::{Actions, Delivered, Frame};
use super::beside::Crew;
use super::checkout::{self, Origin, Workspace};
use super::container::{Containers, Inside};
use super::ear::Ear;
use super::hashing;
use super::native;
use super::verdict::StepLine;
pub(super) use super::witness::Voice;
pub(crate) use super::witness::Witness;
use crate::core::heavy;
use crate::image::catalog::ImageInfo;
use crate::log::Stream;
use crate::net::results::ResultsService;
use crate::protocol::message::{Exec, Owner};
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::workflow::contexts::{GithubContext, RunnerContext};
use crate::workflow::native::NativePlan;
use crate::workflow::permission::NO_CONTENTS;
use crate::workflow::run::{
    CommandFiles, JobRun, Next, PostStep, StepAction, StepEnd, StepPlan, StepReport, StepResult,
};
use crate::workflow::setting::Condition;

/// Where jobs work, below the account's home, as on GitHub's own machines: workflows have the path written into them.
const WORK_DIRECTORY: &str = "work";

/// Where actions keep tools, as on GitHub's own machines.
pub(super) const TOOL_CACHE: &str = "/opt/hostedtoolcache";

/// A `PATH` for images that set none.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where things are in the guest.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) home: String,
    pub(crate) workspace: String,
    pub(crate) temp: String,
    pub(crate) event_path: String,
    pub(crate) commands: String,
}

impl Places {
    /// As on GitHub's own machines: the repository's name twice below the account's `work`.
    pub(crate) fn new(home: &str, repository: &str) -> Self {
        let work = format!("{home}/{WORK_DIRECTORY}");
        let temp = format!("{work}/_temp");
        Self {
            home: home.to_owned(),
            workspace: format!("{work}/{repository}/{repository}"),
            event_path: format!("{temp}/_github_workflow/event.json"),
            commands: format!("{temp}/_runner_file_commands"),
            temp,
        }
    }

    /// What workspaces, actions and temporary files are below.
    pub(crate) fn work(&self) -> String {
        format!("{}/{WORK_DIRECTORY}", self.home)
    }

    /// Where actions of other repositories are.
    pub(crate) fn actions(&self) -> String {
        format!("{}/_actions", self.work())
    }

    pub(crate) fn runner_context(&self, name: &str) -> RunnerContext {
        RunnerContext {
            name: name.to_owned(),
            os: "Linux".to_owned(),
            arch: "X64".to_owned(),
            temp: self.temp.clone(),
            tool_cache: TOOL_CACHE.to_owned(),
        }
    }
}

/// Everything that running a job's steps takes. Steps that run at the same time have one each, see [`Steps::apart`].
pub(super) struct Steps<'a, W> {
    pub(super) origin: Origin<'a>,
    /// What the next checkout into it finds.
    pub(super) workspace: FirstCheckout,
    /// Where caches and artifacts are kept.
    pub(super) results: ResultsService,
    /// The variables by which programs find the way out.
    pub(super) proxies: Vec<(String, String)>,
    pub(super) guest: &'a Guest,
    pub(super) image: &'a ImageInfo,
    pub(super) places: &'a Places,
    pub(super) witness: Voice<'a, W>,
    /// Ends all steps that run; afterwards only those run that want to.
    pub(super) stop: CancellationToken,
    /// Ends this one: the same, or by another step.
    pub(super) cancel: CancellationToken,
    pub(super) grace: Duration,
    /// Of the step that runs.
    pub(super) oom_kills: u64,
    /// When the step that runs ended.
    pub(super) is_disk_full: bool,
    /// Where actions of other repositories come from, and what of them the guest has.
    pub(super) actions: &'a Actions,
    pub(super) delivered: Arc<Mutex<Delivered>>,
    /// Command lines of Node.js where steps run, by the version that was asked for.
    pub(super) nodes: BTreeMap<u32, Vec<String>>,
    /// What the job has of containers.
    pub(super) containers: Containers,
    /// Whose steps run now.
    pub(super) frame: Frame,
}

/// What the first checkout into the workspace finds there.
#[derive(Debug, Clone)]
pub(super) struct FirstCheckout(Arc<StdMutex<Workspace>>);

impl FirstCheckout {
    pub(super) fn new(found: Workspace) -> Self {
        Self(Arc::new(StdMutex::new(found)))
    }

    fn take(&self) -> Workspace {
        std::mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), Workspace::Empty)
    }
}

impl<'a, W: Witness> Steps<'a, W> {
    /// The same for a step of the job that runs beside others, and that ends by `cancel`.
    pub(super) fn apart(&self, cancel: CancellationToken) -> Steps<'a, W> {
        Steps {
            origin: self.origin,
            workspace: self.workspace.clone(),
            results: self.results.clone(),
            proxies: self.proxies.clone(),
            guest: self.guest,
            image: self.image,
            places: self.places,
            witness: self.witness.clone(),
            stop: self.stop.clone(),
            cancel,
            grace: self.grace,
            oom_kills: 0,
            is_disk_full: false,
            actions: self.actions,
            delivered: Arc::clone(&self.delivered),
            nodes: self.nodes.clone(),
            containers: self.containers.clone(),
            frame: Frame::default(),
        }
    }

    /// Puts what steps expect in place.
    pub(super) async fn prepare(&self, github: &GithubContext) -> Result<(), VmError> {
        let owner = self.owner();
        let event = serde_json::to_vec(&github.event).unwrap_or_default();
        for directory in [&self.places.workspace, &self.places.commands] {
            self.guest.make_directory(directory, owner).await?;
        }
        let event_directory = self.places.event_path.rsplit_once('/').map_or("/", |(directory, _)| directory);
        self.guest.make_directory(event_directory, owner).await?;
        self.guest.write_file(&self.places.event_path, &event, 0o644, owner).await
    }

    /// Runs the steps that shall run, up to this one, counted from 0.
    pub(super) async fn run(&mut self, up_to: usize, run: &mut JobRun) -> Result<(), VmError> {
        let mut crew = Crew::new(self);
        while run.at() < up_to {
            if self.cancel.is_cancelled() && !self.frame.ignores_cancellation {
                run.cancel();
            }
            match heavy(|| run.next_step()) {
                Next::Done => return Ok(()),
                Next::Aside => crew.start(run),
                Next::Wait(plan) => crew.meet(self, &plan, run).await?,
                next if crew.is_idle() => self.turn(next, run).await?,
                next => crew.go_on_beside(self, next, run).await?,
            }
        }
        Ok(())
    }

    /// Does what the job wants next, where that needs no other step.
    pub(super) async fn turn(&mut self, next: Next, run: &mut JobRun) -> Result<(), VmError> {
        match next {
            Next::HashFiles(patterns) => {
                let (root, temp) = (run.workspace(), self.places.temp.as_str());
                let digest = hashing::hash_files(self.guest, self.owner(), root, temp, &patterns).await?;
                run.answer_hash(patterns, digest);
            }
            Next::Skipped(report) => self.note(report, Duration::ZERO).await,
            Next::Failed(report) => {
                self.begin(report.index, &report.name).await;
                self.note(report, Duration::ZERO).await;
            }
            Next::Run(plan) => drop(self.execute(&plan, run).await?),
            Next::Aside | Next::Wait(_) | Next::Done => {}
        }
        Ok(())
    }

    /// Runs a step from its heading to its end.
    pub(super) async fn execute(&mut self, plan: &StepPlan, run: &mut JobRun) -> Result<Option<StepReport>, VmError> {
        self.begin(plan.index, &plan.name).await;
        if let Some(remark) = &plan.remark {
            self.witness.say(self.number_of(plan), &format!("warning: {}", run.masked(remark))).await;
        }
        let began = Instant::now();
        let report = match &plan.action {
            StepAction::Uses(uses) => self.run_uses(plan, uses, run).await?,
            _ => {
                let result = self.run_step(plan, run).await?;
                heavy(|| run.finish_step(result))
            }
        };
        if let Some(report) = &report {
            self.note(report.clone(), began.elapsed()).await;
        }
        Ok(report)
    }

    pub(super) async fn begin(&mut self, index: usize, name: &str) {
        let number = self.frame.within.unwrap_or_else(|| step_number(index));
        if self.frame.within.is_none() {
            self.witness.step_started(index, name).await;
            (self.oom_kills, self.is_disk_full) = (0, false);
        }
        self.witness.write(number, Stream::Heading, name.as_bytes()).await;
    }

    pub(super) async fn note(&mut self, report: StepReport, took: Duration) {
        let number = self.frame.within.unwrap_or_else(|| step_number(report.index));
        for error in report.errors.iter().chain(&report.left_out) {
            self.witness.say(number, &format!("error: {error}")).await;
        }
        // The rest is told of the whole action.
        if self.frame.within.is_some() {
            return;
        }
        if self.oom_kills > 0 {
            let text = "the machine ran out of memory and killed a process; a profile with more memory may help";
            self.witness.say(number, &format!("warning: {text}")).await;
        }
        if self.is_disk_full {
            let text = "the machine's disk is full; a profile with a larger disk may help";
            self.witness.say(number, &format!("warning: {text}")).await;
        }
        let (oom_kills, is_disk_full) = (std::mem::take(&mut self.oom_kills), std::mem::take(&mut self.is_disk_full));
        let line = StepLine { report, took, oom_kills, is_disk_full };
        self.witness.step_ended(line).await;
    }

    pub(super) async fn run_step(&mut self, plan: &StepPlan, run: &mut JobRun) -> Result<StepResult, VmError> {
        if let StepAction::Native(native) = &plan.action {
            return self.run_native(plan, native, run).await;
        }
        let is_of_own = matches!(&plan.action, StepAction::Checkout(checkout) if checkout.repository.is_none());
        if is_of_own && !run.may_read_contents() {
            return Ok(StepResult::new(StepEnd::Failed(NO_CONTENTS.to_owned())));
        }
        match self.prepare_step(plan).await {
            Ok(exec) => self.run_prepared(plan, exec, Ear::new(plan, run)).await,
            // Steps before this one filled the disk or removed the directory: that is theirs, and no fault of the VM.
            Err(VmError::Refused { detail, .. }) => {
                Ok(StepResult::new(StepEnd::Failed(format!("the step could not be prepared: {detail}"))))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a step that begins now ends if the job is cancelled.
    pub(super) fn heeds_cancel(&self, plan: &StepPlan) -> bool {
        !self.cancel.is_cancelled() && !self.frame.ignores_cancellation && !plan.outlasts_cancel
    }

    /// Does an action that is the host's, within the step's time.
    async fn run_native(
        &mut self, plan: &StepPlan, native: &NativePlan, run: &mut JobRun,
    ) -> Result<StepResult, VmError> {
        let inside = self.containers.job.as_ref();
        let place = native::Place {
            guest: self.guest,
            owner: self.owner(),
            // Docker's client gets none of the step's own: some of it might be meant for it.
            env: if inside.is_some() { self.image_environment().into_iter().collect() } else { self.environment(plan) },
            workspace: &self.seen_path(&self.places.workspace),
            home: inside.map_or(&self.places.home, Inside::home),
            inside,
        };
        let own = plan.timeout.map(|limit| Instant::now() + limit);
        let deadline = [own, self.frame.deadline].into_iter().flatten().min();
        let heeds_cancel = self.heeds_cancel(plan);
        let (result, done) = tokio::select! {
            done = native::run(native, self.results.tenant(), place) => done?,
            () = until(deadline) => return Ok(StepResult::new(StepEnd::TimedOut)),
            () = self.cancel.cancelled(), if heeds_cancel => return Ok(StepResult::new(StepEnd::Cancelled)),
        };
        for line in &done.said {
            let line = run.masked(line);
            self.witness.say(self.number_of(plan), &line).await;
        }
        if let Some(later) = done.later {
            run.add_post(PostStep {
                of: plan.index,
                name: format!("Post Run {}", later.uses),
                condition: Condition::default(),
                action: StepAction::Native(later),
                env: BTreeMap::new(),
            });
        }
        Ok(result)
    }

    async fn prepare_step(&mut self, plan: &StepPlan) -> Result<Exec, VmError> {
        let owner = self.owner();
        let CommandFiles { env, output, path, summary, state } = &plan.command_files;
        let writer = self.writer_of(plan);
        for file in [env, output, path, summary, state] {
            self.guest.write_file(file, b"", 0o644, writer).await?;
        }
        let (argv, directory) = match &plan.action {
            StepAction::Script { text, extension, argv, working_directory } => {
                let script = format!("{}/step_{}{extension}", self.places.temp, plan.key);
                self.guest.write_file(&script, text.as_bytes(), 0o755, owner).await?;
                let script = self.seen_path(&script);
                (argv.iter().map(|word| word.replace("{0}", &script)).collect(), working_directory.clone())
            }
            StepAction::Checkout(checkout) => {
                self.reclaim_workspace().await?;
                let script = format!("{}/checkout_{}.sh", self.places.temp, plan.key);
                self.guest.write_file(&script, checkout::SCRIPT.as_bytes(), 0o755, owner).await?;
                let sha = plan.env.get("GITHUB_SHA").map_or("", String::as_str);
                let mut argv = vec!["sh".to_owned(), "-e".to_owned(), script];
                let is_into_it = checkout.directory == self.places.workspace;
                let found = if is_into_it { self.workspace.take() } else { Workspace::Empty };
                argv.extend(checkout::arguments(checkout, self.origin, sha, found));
                (argv, self.places.workspace.clone())
            }
            StepAction::Native(_) => {
                let detail = "the host does it, without a program".to_owned();
                return Err(VmError::Refused { what: "start a program", detail });
            }
            StepAction::Node(node) => {
                let mut argv = self.find_node(node.version).await?;
                argv.push(self.seen_path(&node.script));
                (argv, self.places.workspace.clone())
            }
            StepAction::Container(container) => return self.prepare_container(plan, container).await,
            StepAction::Docker(argv) => (argv.clone(), self.places.workspace.clone()),
            StepAction::Uses(uses) => {
                let detail = format!("`{}` is not one program", uses.reference);
                return Err(VmError::Refused { what: "run an action", detail });
            }
        };
        if let Some(inside) = self.placed_inside(plan, &argv, &directory) {
            return Ok(inside);
        }
        Ok(Exec { argv, env: self.environment(plan), directory, owner, stdin: false })
    }

    /// The proxies and the image's environment below the step's own.
    fn environment(&self, plan: &StepPlan) -> Vec<(String, String)> {
        let mut env = self.image_environment();
        let path = plan.path(env.get("PATH").map_or(DEFAULT_PATH, String::as_str));
        env.extend(plan.env.clone());
        env.insert("PATH".to_owned(), path);
        env.into_iter().collect()
    }

    /// What programs get whatever the workflow says.
    pub(super) fn image_environment(&self) -> BTreeMap<String, String> {
        base_environment(self.image, &self.places.home, &self.proxies)
    }

    pub(super) fn owner(&self) -> Owner {
        self.image.user.owner()
    }
}

/// What every program of a job gets: the host's services below the image's own environment.
pub(super) fn base_environment(
    image: &ImageInfo, home: &str, services: &[(String, String)],
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = services.iter().cloned().collect();
    env.insert("HOME".to_owned(), home.to_owned());
    env.insert("USER".to_owned(), image.user.name.clone());
    env.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
    env.extend(image.environment.iter().cloned());
    env
}

/// Steps are numbered from 1 in the log; 0 is what comes before them.
pub(crate) fn step_number(index: usize) -> u16 {
    u16::try_from(index + 1).unwrap_or(u16::MAX)
}

pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

//! Actions that are containers, where the image has Docker.

mod argv;

use self::argv::{Container, Mounts};
use super::{Steps, Witness};
use crate::core::heavy;
use crate::protocol::message::{Exec, ExitStatus};
use crate::vm::VmError;
use crate::workflow::action::inputs::Inputs;
use crate::workflow::action::manifest::{Docker, DockerImage};
use crate::workflow::run::{ActionPlace, JobRun, StepAction, StepEnd, StepPlan, StepResult};

/// What an action's container is made of, when everything in it is known.
struct Ready {
    image: String,
    /// The Dockerfile that the image is made of first, if it is.
    dockerfile: Option<String>,
    entrypoint: Option<String>,
    arguments: Vec<String>,
    /// The step, with the variables as the container sees them.
    plan: StepPlan,
    mounts: Mounts,
}

impl<W: Witness> Steps<'_, W> {
    /// Makes the image, if it has to be made, and runs what comes before the main program, if it is wanted, and that one.
    pub(super) async fn run_container(
        &mut self, plan: &StepPlan, docker: &Docker, inputs: &Inputs, place: &ActionPlace, run: &mut JobRun,
    ) -> Result<StepResult, VmError> {
        if !self.has_docker().await? {
            let why = format!(
                "the action needs Docker, which the image `{}` has not; use an image with it, such as `docker`",
                self.image.name
            );
            return Ok(StepResult::new(StepEnd::Failed(why)));
        }
        let ready = match heavy(|| self.ready(plan, docker, inputs, place, run)) {
            Ok(ready) => ready,
            Err(why) => return Ok(StepResult::new(StepEnd::Failed(why))),
        };
        let owner = self.owner();
        for directory in ready.mounts.directories() {
            self.guest.make_directory(directory, owner).await?;
        }
        if let Some(dockerfile) = &ready.dockerfile {
            let build = argv::build(&ready.image, dockerfile, &place.path);
            let built = self.run_step(&StepPlan { action: StepAction::Docker(build), ..plan.clone() }).await?;
            if built.end != StepEnd::Exited(0) {
                return Ok(built);
            }
        }
        let mut programs = vec![ready.entrypoint.clone()];
        if let Some(pre) = &docker.pre {
            match run.is_wanted(pre, plan) {
                Ok(true) => programs.insert(0, Some(pre.program.clone())),
                Ok(false) => {}
                Err(why) => return Ok(StepResult::new(StepEnd::Failed(why))),
            }
        }
        let mut result = StepResult::new(StepEnd::Exited(0));
        for (at, entrypoint) in programs.iter().enumerate() {
            let container = Container {
                name: &format!("dayfly-{}-{at}", plan.key),
                image: &ready.image,
                entrypoint: entrypoint.as_deref(),
                arguments: &ready.arguments,
                mounts: &ready.mounts,
            };
            let action = StepAction::Docker(container.run(ready.plan.env.keys()));
            result = self.run_step(&StepPlan { action, ..ready.plan.clone() }).await?;
            if result.end != StepEnd::Exited(0) {
                break;
            }
        }
        Ok(result)
    }

    fn ready(
        &self, plan: &StepPlan, docker: &Docker, inputs: &Inputs, place: &ActionPlace, run: &JobRun,
    ) -> Result<Ready, String> {
        let named: Vec<_> = docker.args.iter().map(|argument| (String::new(), argument.clone())).collect();
        let arguments = match inputs.get("args") {
            Some(text) if docker.args.is_empty() => argv::split(text)?,
            _ => run.action_texts(plan, inputs, place, &named)?.into_iter().map(|(_, value)| value).collect(),
        };
        let mut env = plan.env.clone();
        env.extend(run.action_texts(plan, inputs, place, &docker.env)?);
        env.extend(inputs.variables());
        env.extend(place.variables().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mounts = Mounts::new(&self.places.workspace, &self.places.temp);
        let (image, dockerfile) = match &docker.image {
            DockerImage::Registry(image) => (image.clone(), None),
            DockerImage::File(file) => (format!("dayfly-action:{}", plan.key), Some(file.clone())),
        };
        let given = inputs.get("entrypoint").map(str::to_owned).filter(|entrypoint| !entrypoint.is_empty());
        let entrypoint = docker.entrypoint.clone().or(given);
        let plan = StepPlan { env: mounts.environment(&env), ..plan.clone() };
        Ok(Ready { image, dockerfile, entrypoint, arguments, plan, mounts })
    }

    async fn has_docker(&mut self) -> Result<bool, VmError> {
        let argv = ["sh", "-c", "command -v docker"].map(str::to_owned).to_vec();
        let env = self.image_environment().into_iter().collect();
        let owner = self.owner();
        let running = self.guest.exec(Exec { argv, env, directory: "/".to_owned(), owner, stdin: false }).await?;
        Ok(running.ended(0).await?.0 == ExitStatus::Code(0))
    }
}

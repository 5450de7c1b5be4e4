//! Actions that are containers, where the image has Docker.

mod argv;

use std::collections::BTreeMap;

use self::argv::Container;
use super::{Steps, Witness, post_of, with_inputs};
use crate::core::heavy;
use crate::job::container::mounts::Mounts;
use crate::job::container::variables::{Handover, offered};
use crate::protocol::message::Exec;
use crate::vm::VmError;
use crate::workflow::action::inputs::Inputs;
use crate::workflow::action::manifest::{Docker, DockerImage};
use crate::workflow::container::words;
use crate::workflow::run::{ActionPlace, ContainerPlan, JobRun, StepAction, StepEnd, StepPlan, StepResult};

impl<W: Witness> Steps<'_, W> {
    /// Makes the image, if it has to be made, and runs what comes before the main program, if it is wanted, and that one.
    pub(super) async fn run_container(
        &mut self, plan: &StepPlan, docker: &Docker, inputs: &Inputs, place: &ActionPlace, run: &mut JobRun,
    ) -> Result<StepResult, VmError> {
        let failed = |why: String| Ok(StepResult::new(StepEnd::Failed(why)));
        if !self.has_docker().await? {
            let image = &self.image.name;
            return failed(format!(
                "the action needs Docker, which the image `{image}` has not; use an image with it, such as `docker`"
            ));
        }
        let Prepared { main, mut plan, own } = match heavy(|| prepared(plan, docker, inputs, place, run)) {
            Ok(prepared) => prepared,
            Err(why) => return failed(why),
        };
        if let DockerImage::File(file) = &docker.image {
            let build = StepAction::Docker(argv::build(&main.image, &format!("{}/{file}", place.path)));
            let built = self.run_step(&StepPlan { action: build, ..plan.clone() }, run).await?;
            if built.end != StepEnd::Exited(0) {
                return Ok(built);
            }
        }
        let other = |entrypoint: &str| {
            let entrypoint = Some(entrypoint.to_owned());
            StepAction::Container(ContainerPlan { entrypoint, ..main.clone() })
        };
        if let Some(pre) = &docker.pre {
            match self.run_before(pre, StepPlan { action: other(&pre.program), ..plan }, run).await? {
                Ok(next) => plan = next,
                Err(ended) => return Ok(*ended),
            }
        }
        if let Some(post) = &docker.post {
            let mut variables = run.variables_for_later(&plan);
            variables.extend(own);
            run.add_post(post_of(&plan, post, other(&post.program), variables));
        }
        self.run_step(&StepPlan { action: StepAction::Container(main), ..plan }, run).await
    }

    /// The program that runs a container, with the step's variables as those in it have to see them.
    pub(in crate::job) async fn prepare_container(
        &mut self, plan: &StepPlan, container: &ContainerPlan,
    ) -> Result<Exec, VmError> {
        let mounts = Mounts::of_action(&self.places.workspace, &self.places.temp);
        let owner = self.owner();
        for directory in mounts.directories() {
            self.guest.make_directory(directory, owner).await?;
        }
        self.furnish_home().await?;
        let mounts = mounts.with_files(self.lend_files().await?);
        let mut variables = offered(&self.proxies, self.containers.names());
        variables.extend(mounts.environment(&plan.env));
        let given = Handover::new(variables);
        let ContainerPlan { image, entrypoint, arguments } = container;
        let joins_network = self.containers.has_network;
        let container =
            Container { image, entrypoint: entrypoint.as_deref(), arguments, mounts: &mounts, joins_network };
        let argv = container.run(&given.arguments);
        let mut env = self.image_environment();
        env.extend(given.env);
        Ok(Exec { argv, env: env.into_iter().collect(), directory: self.places.workspace.clone(), owner, stdin: false })
    }
}

/// What an action's programs are started with.
struct Prepared {
    main: ContainerPlan,
    plan: StepPlan,
    /// Variables that nobody but the action sets.
    own: BTreeMap<String, String>,
}

/// The action's container, and the step with what it gets. The error is what cannot be computed, in words.
fn prepared(
    plan: &StepPlan, docker: &Docker, inputs: &Inputs, place: &ActionPlace, run: &JobRun,
) -> Result<Prepared, String> {
    let arguments = match inputs.get("args") {
        Some(text) if docker.args.is_empty() => words::split(text)?,
        _ => {
            let named: Vec<_> = docker.args.iter().map(|argument| (String::new(), argument.clone())).collect();
            run.action_texts(plan, inputs, place, &named)?.into_iter().map(|(_, value)| value).collect()
        }
    };
    let image = match &docker.image {
        DockerImage::Registry(image) => image.clone(),
        DockerImage::File(_) => format!("dayfly-action:{}", plan.key),
    };
    let given = inputs.get("entrypoint").filter(|entrypoint| !entrypoint.is_empty()).map(str::to_owned);
    let main = ContainerPlan { image, entrypoint: docker.entrypoint.clone().or(given), arguments };
    let mut plan = plan.clone();
    // What the workflow says comes before what the action says.
    let mut own: BTreeMap<String, String> = run.action_texts(&plan, inputs, place, &docker.env)?.into_iter().collect();
    own.retain(|name, _| !plan.env.contains_key(name));
    plan.env.extend(own.clone());
    Ok(Prepared { main, plan: with_inputs(plan, inputs, place), own })
}

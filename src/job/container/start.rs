//! What comes before the first step of a job with containers, and what is told of services at its end.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::argv;
use super::client::refused;
use super::inside::{DEFAULT_PATH, Inside};
use super::mounts::{HOME, Mounts};
use super::state::{Inspected, Readiness};
use super::variables::{Handover, offered};
use super::{Containers, Service};
use crate::job::script;
use crate::job::steps::{Steps, TOOL_CACHE, Witness};
use crate::protocol::message::Owner;
use crate::vm::VmError;
use crate::workflow::container::{ContainerSpec, Containers as Wanted};
use crate::workflow::expression::Object;
use crate::workflow::run::JobRun;

/// How long it is waited after each pull that failed; after the last one it is given up.
pub(in crate::job) const PULL_PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// How often it is asked whether services are healthy: soon at first, then more rarely.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Lines of a service's log that the job's log shows.
pub(in crate::job) const TOLD_LINES: u32 = 300;

/// Gives the machine the paths that the container has, so that whoever names a file by one of them is understood; and lets any
/// user of the container write where steps write. `$1` is a directory, `$2` its path in the container, and so on.
const PATHS: &str = r#"
while [ $# -gt 0 ]; do
  mkdir -p "${2%/*}/"
  [ -e "$2" ] || ln -s "$1" "$2"
  chmod a+rwx "$1"
  shift 2
done
"#;

impl<W: Witness> Steps<'_, W> {
    /// Starts the job's containers. The inner error says in words why one is not there.
    pub(in crate::job) async fn start_containers(&mut self, run: &mut JobRun) -> Result<Result<(), String>, VmError> {
        let wanted = run.containers().clone();
        if wanted.is_empty() {
            return Ok(Ok(()));
        }
        self.witness.say(0, "##[group]Initialize containers").await;
        let started = self.start_all(&wanted, run).await;
        self.witness.say(0, "##[endgroup]").await;
        match started {
            Ok(context) => {
                let workspace = self.seen_path(&self.places.workspace);
                run.has_containers(context, workspace);
                Ok(Ok(()))
            }
            Err(VmError::Refused { detail, .. }) => {
                self.tell_services(run).await?;
                Ok(Err(run.masked(&detail)))
            }
            Err(error) => Err(error),
        }
    }

    /// Shows what the services wrote last.
    pub(in crate::job) async fn tell_services(&mut self, run: &mut JobRun) -> Result<(), VmError> {
        let services: Vec<(String, String)> =
            self.containers.services.iter().map(|service| (service.name.clone(), service.id.clone())).collect();
        for (name, id) in services {
            let said = match self.docker(argv::logs(&id, TOLD_LINES)).await {
                Ok(said) => said,
                // It was cancelled meanwhile.
                Err(VmError::Refused { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            let text = run.masked(&format!("{}{}", said.output, said.complaints));
            if text.trim().is_empty() {
                continue;
            }
            self.witness.say(0, &format!("##[group]Log of the service {name}")).await;
            self.witness.say(0, &text).await;
            self.witness.say(0, "##[endgroup]").await;
        }
        Ok(())
    }

    /// Gives what the `job` context has of them.
    async fn start_all(&mut self, wanted: &Wanted, run: &mut JobRun) -> Result<Object, VmError> {
        if !self.has_docker().await? {
            let image = &self.image.name;
            return Err(refused(format!(
                "the job has containers, for which the image `{image}` lacks Docker\n  hint: choose a profile whose image has \
                 it, such as `docker`, with `runs-on`"
            )));
        }
        self.docker_must(argv::network(), "the network of the job's containers could not be made").await?;
        self.containers = Containers { has_network: true, ..Containers::default() };
        for spec in wanted.iter() {
            self.have_image(spec, run).await?;
        }
        let names: Vec<&str> = wanted
            .job
            .iter()
            .map(|_| argv::JOB_ALIAS)
            .chain(wanted.services.iter().map(|(name, _)| name.as_str()))
            .collect();
        for (name, spec) in &wanted.services {
            // None of what the host offers: programs that check a service's health would ask the proxy for their own host.
            let offered = offered(&[], names.iter().copied());
            let id = self.start_one(&format!("service `{name}`"), argv::create_service(name, spec, offered)).await?;
            self.witness.say(0, &format!("Started the service {name}: {}", spec.image)).await;
            self.containers.services.push(Service { name: name.clone(), id });
        }
        let mut context = Object::default();
        if let Some(spec) = &wanted.job {
            let id = self.start_job(spec, &names).await?;
            self.witness.say(0, &format!("Started the job's container: {}", spec.image)).await;
            let of_job: Object = [("id", id.as_str()), ("network", argv::NETWORK)].into_iter().collect();
            context.insert("container", of_job);
        }
        context.insert("services", self.wait_for_services().await?);
        Ok(context)
    }

    /// Pulls the image, unless the machine has it.
    async fn have_image(&mut self, spec: &ContainerSpec, run: &mut JobRun) -> Result<(), VmError> {
        let image = &spec.image;
        if self.docker(argv::has_image(image)).await?.is_good {
            return Ok(());
        }
        let directory = format!("{}/_docker_{}", self.places.temp, crate::ids::VmId::random());
        let config = spec.credentials.as_ref().map(|_| directory.as_str());
        if let Some(credentials) = &spec.credentials {
            let login = argv::login(&directory, &credentials.username, image);
            let login = Handover { arguments: login, ..Handover::default() };
            let answer = self.docker_with(login, Some(credentials.password.expose_secret())).await?;
            if !answer.is_good {
                return Err(refused(format!(
                    "the registry of `{image}` refused the credentials: {}",
                    answer.complaint()
                )));
            }
        }
        self.witness.say(0, &format!("Pulling {image}")).await;
        let pulled = self.pull(config, image, run).await;
        if let Some(directory) = config {
            self.docker(argv::words(&["rm", "-rf", "--", directory])).await?;
        }
        pulled
    }

    async fn pull(&mut self, config: Option<&str>, image: &str, run: &mut JobRun) -> Result<(), VmError> {
        for pause in PULL_PAUSES.map(Some).into_iter().chain([None]) {
            let answer = self.docker(argv::pull(config, image)).await?;
            if answer.is_good {
                return Ok(());
            }
            let Some(pause) = pause else {
                return Err(refused(format!(
                    "the image `{image}` could not be pulled: {}\n  hint: the profile's `egress` must allow the registry and its \
                     stores of files; what the machine has already is not pulled",
                    answer.complaint()
                )));
            };
            let complaint = run.masked(answer.complaint());
            self.witness.say(0, &format!("warning: {image} could not be pulled, trying again: {complaint}")).await;
            self.pause(pause).await?;
        }
        Ok(())
    }

    /// Waits, unless the job is cancelled.
    async fn pause(&mut self, pause: Duration) -> Result<(), VmError> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.cancel.cancelled() => Err(refused("the job was ended before its containers were there")),
        }
    }

    async fn start_job(&mut self, spec: &ContainerSpec, names: &[&str]) -> Result<String, VmError> {
        let mounts = self.job_mounts().await?.with_files(self.lend_files().await?);
        let offered = offered(&self.proxies, names.iter().copied());
        let creation = argv::create_job(spec, &mounts, &self.places.workspace, offered);
        let id = self.start_one("job", creation).await?;
        let inspected = self.inspect(&id).await?;
        if let Readiness::Ended(code) = inspected.readiness() {
            let logs = self.docker(argv::logs(&id, TOLD_LINES)).await?;
            return Err(refused(format!(
                "the job's container ended at once with exit code {code}: {}",
                logs.complaint()
            )));
        }
        self.certify(Some(&id)).await?;
        let path = inspected.path().unwrap_or_else(|| DEFAULT_PATH.to_owned());
        let user = self.docker(argv::exec_id(&id)).await?;
        let user = user_of(&user.output).unwrap_or(Owner::ROOT);
        self.containers.job = Some(Inside { id: id.clone(), image: spec.image.clone(), mounts, path, user });
        Ok(id)
    }

    /// Makes the directories that the job's container sees.
    async fn job_mounts(&mut self) -> Result<Mounts, VmError> {
        let work = self.places.work();
        let mounts = Mounts::of_job(&work, &self.places.temp, TOOL_CACHE);
        let owner = self.owner();
        for directory in mounts.directories() {
            self.guest.make_directory(directory, owner).await?;
        }
        self.furnish_home().await?;
        let workspace = mounts.inside(&self.places.workspace);
        let mut arguments: Vec<&str> = mounts.places().flat_map(|(directory, place)| [directory, place]).collect();
        arguments.extend([self.places.workspace.as_str(), &workspace, &self.places.commands, HOME]);
        if let Err(why) = script::run(self.guest, Owner::ROOT, PATHS, &arguments, &mut self.witness).await? {
            return Err(refused(format!("the directories of the job's container could not be made: {why}")));
        }
        Ok(mounts)
    }

    /// Waits until all services are ready; gives what the `job` context has of them.
    async fn wait_for_services(&mut self) -> Result<Object, VmError> {
        let mut context = Object::default();
        let services: Vec<(String, String)> =
            self.containers.services.iter().map(|service| (service.name.clone(), service.id.clone())).collect();
        for (name, id) in services {
            let inspected = self.wait_for(&name, &id).await?;
            let mut service: Object = [("id", id.as_str()), ("network", argv::NETWORK)].into_iter().collect();
            service.insert("ports", inspected.ports());
            context.insert(name, service);
        }
        Ok(context)
    }

    async fn wait_for(&mut self, name: &str, id: &str) -> Result<Inspected, VmError> {
        let mut pause = FIRST_LOOK;
        loop {
            let inspected = self.inspect(id).await?;
            match inspected.readiness() {
                Readiness::Ready => {
                    if inspected.is_checked() {
                        self.witness.say(0, &format!("The service {name} is healthy")).await;
                    }
                    return Ok(inspected);
                }
                Readiness::Ended(code) => {
                    let text = format!("warning: the service {name} has ended already, with exit code {code}");
                    self.witness.say(0, &text).await;
                    return Ok(inspected);
                }
                Readiness::Failed(why) => return Err(refused(format!("the service `{name}` did not start: {why}"))),
                Readiness::Starting => {
                    self.pause(pause).await?;
                    pause = (pause * 2).min(LAST_LOOK);
                }
            }
        }
    }
}

/// What `id` says of a user.
fn user_of(said: &str) -> Option<Owner> {
    let mut numbers = said.split_whitespace().map(|number| number.parse().ok());
    Some(Owner { uid: numbers.next()??, gid: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(user_of("1000\n100\n"), Some(Owner { uid: 1000, gid: 100 }));
        for said in ["", "0", "root root", "id: not found", "-1 0"] {
            assert_eq!(user_of(said), None, "{said}");
        }
    }
}

//! The containers of a job, where its machine has Docker: services first, then the one that its scripts run in.
//!
//! Sources, caches and artifacts are the machine's own affair; the directory of all projects is what it shares with containers.
//! While scripts run that is open to everybody in them, as the users of images are anybody; afterwards it is the machine's again.

use std::time::Duration;

use nix::libc::SIGKILL;
use tokio::time::{Instant, timeout};

use super::Runner;
use super::argv::{self, Surroundings};
use super::program::Program;
use super::sources::git_variables;
use super::stages::End;
use crate::document::text::one_line;
use crate::gitlab::job::containers::{Container, Pull, Service, credentials};
use crate::gitlab::job::plan::BUILDS;
use crate::gitlab::job::script::quoted;
use crate::gitlab::job::verdict::FailureReason;
use crate::job::container::argv as docker_argv;
use crate::job::container::client::{Docker, refused};
use crate::job::container::start::{PULL_PAUSES, TOLD_LINES};
use crate::job::container::state::{Inspected, Readiness};
use crate::job::script;
use crate::protocol::message::{ExitStatus, Owner};
use crate::vm::VmError;
use crate::vm::guest::{Guest, Running};

/// Where Docker's client finds credentials, while images are pulled.
const CLIENT_CONFIG: &str = "/run/dayfly-docker";

/// How long all services together may take until they can be connected to. After that the job goes on without.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked meanwhile whether a service still runs.
const LOOK: Duration = Duration::from_secs(3);

/// Waits for `$1` seconds at most until one of the ports `$3`… at the address `$2` can be connected to.
const WAIT: &str = r#"
command -v bash >/dev/null 2>&1 || exit 0
exec bash -c 'end=$((SECONDS + $1)); address=$2; shift 2
while :; do
  for port; do if (: <"/dev/tcp/$address/$port") 2>/dev/null; then exit 0; fi; done
  if [ "$SECONDS" -ge "$end" ]; then exit 1; fi
  sleep 0.3
done' dayfly "$@"
"#;

/// Adds its arguments to the names that the machine knows.
const INTRODUCE: &str = r#"for line; do printf '%s\n' "$line" >> /etc/hosts; done"#;

/// Removes the directory `$1`.
const FORGET: &str = r#"rm -rf -- "$1""#;

/// Lets everybody do everything below `$1`, but for files that are their owner's alone, such as keys.
const OPEN: &str =
    r#"chown -R -h 0:0 -- "$1"; find "$1" '(' -type d -o -type f -perm /077 ')' -exec chmod a+rwX '{}' +"#;

/// Gives what is below `$2` to the account `$1`.
const TAKE_BACK: &str = r#"chown -R -h -- "$1" "$2""#;

/// Sends the signal `$1` to all programs of the container `$2`.
const SIGNAL: &str = r#"
first=$(docker container inspect --format '{{.State.Pid}}' -- "$2")
for again in 1 2 3 4 5; do
  [ "$first" -gt 0 ] && break
  sleep 0.2
  first=$(docker container inspect --format '{{.State.Pid}}' -- "$2")
done
[ "$first" -gt 0 ] || exit 0
space=$(readlink "/proc/$first/ns/pid")
for process in /proc/[0-9]*; do
  if [ "$(readlink "$process/ns/pid" 2>/dev/null)" = "$space" ]; then kill "-$1" "${process#/proc/}" 2>/dev/null || :; fi
done
"#;

/// How long that may take: a job may have frozen Docker.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of what is said of a signal that did not get through.
const SAID: usize = 1024;

/// The containers that there are.
#[derive(Debug, Default)]
pub(super) struct Started {
    /// The id of the one that scripts run in.
    pub(super) job: Option<String>,
    services: Vec<Beside>,
}

/// A service that was started.
#[derive(Debug)]
struct Beside {
    /// The first of its names.
    name: String,
    id: String,
}

/// Why containers are not there.
enum Unready {
    /// An image cannot be had.
    Image(String),
    Vm(VmError),
}

impl From<VmError> for Unready {
    fn from(error: VmError) -> Self {
        Self::Vm(error)
    }
}

impl<'a> Runner<'a, '_> {
    /// Starts what the job has of containers. Gives the end if it comes here.
    pub(super) async fn start_containers(&mut self) -> Result<Option<End>, VmError> {
        if self.plan.containers.is_empty() {
            return Ok(None);
        }
        let has_docker = match self.docker().is_there().await {
            Err(_) if self.stop.is_cancelled() => return Ok(Some(End::canceled())),
            has_docker => has_docker?,
        };
        if !has_docker {
            return Ok(self.do_without().await);
        }
        let (reason, detail) = match self.start_all().await {
            Ok(()) => return Ok(None),
            Err(_) if self.stop.is_cancelled() => return Ok(Some(End::canceled())),
            Err(Unready::Image(detail)) => (FailureReason::ImagePullFailure, detail),
            Err(Unready::Vm(VmError::Refused { detail, .. })) => (FailureReason::RunnerSystemFailure, detail),
            Err(Unready::Vm(error)) => return Err(error),
        };
        Ok(Some(End::of_runner(reason, detail)))
    }

    /// In a machine without Docker the job runs in the machine itself, unless it needs more than an image.
    async fn do_without(&mut self) -> Option<End> {
        let (containers, image) = (&self.plan.containers, &self.scene.image.name);
        if let Some(service) = containers.services.first() {
            let name = one_line(&service.container.image, 200);
            let detail = format!(
                "the job asks for the service `{name}`, for which the image `{image}` of this runner's machines lacks Docker\n  \
                 hint: give the runner a profile whose image has it, such as `docker`, or start what the job needs in its `script`"
            );
            return Some(End::of_runner(FailureReason::RunnerUnsupported, detail));
        }
        if let Some(own) = &containers.job {
            let name = one_line(&own.image, 200);
            let text = format!("the job's image `{name}` is not used: it runs in the machine of this runner's profile");
            self.trace.warn(&text).await;
        }
        None
    }

    fn docker(&self) -> Docker<'a> {
        Docker { guest: self.guest, env: self.base.clone(), owner: self.owner, cancel: self.stop }
    }

    async fn start_all(&mut self) -> Result<(), Unready> {
        let wanted = &self.plan.containers;
        self.have_images().await?;
        if !wanted.services.is_empty() {
            let failing = "the network of the job's services could not be made";
            self.docker().must(docker_argv::network(), failing).await?;
        }
        for service in &wanted.services {
            self.start_service(service).await?;
        }
        let hosts = self.wait_for_services().await?;
        let Some(own) = &wanted.job else { return Ok(self.introduce(&hosts).await?) };
        self.trace.say(&format!("Using Docker with image {} ...", own.image)).await;
        let creation = argv::create_job(own, self.surroundings(hosts));
        self.containers.job = Some(self.docker().create("job", creation).await?);
        Ok(())
    }

    /// Lets the machine's own programs find services by their names.
    async fn introduce(&mut self, hosts: &[(String, String)]) -> Result<(), VmError> {
        let lines: Vec<String> = hosts.iter().map(|(name, address)| format!("{address} {name}")).collect();
        let arguments: Vec<&str> = lines.iter().map(String::as_str).collect();
        if let Err(why) = script::run(self.guest, Owner::ROOT, INTRODUCE, &arguments, self.trace).await? {
            return Err(refused(format!("the machine could not be told of the job's services: {why}")));
        }
        for (name, value) in &mut self.base {
            if name.eq_ignore_ascii_case("no_proxy") {
                hosts.iter().for_each(|(host, _)| value.extend([",", host]));
            }
        }
        Ok(())
    }

    /// Pulls what the machine does not have, with the job's credentials, which are gone afterwards.
    async fn have_images(&mut self) -> Result<(), Unready> {
        let (config, complaint) = credentials(&self.plan.job, &self.variables);
        if let Some(complaint) = complaint {
            self.trace.warn(&complaint).await;
        }
        if let Some(config) = &config {
            self.guest.make_directory(CLIENT_CONFIG, self.owner).await?;
            self.guest
                .write_file(&format!("{CLIENT_CONFIG}/config.json"), config.as_bytes(), 0o600, self.owner)
                .await?;
        }
        let place = config.as_ref().map(|_| CLIENT_CONFIG);
        let wanted = &self.plan.containers;
        for container in wanted.services.iter().map(|service| &service.container).chain(&wanted.job) {
            self.have_image(container, place).await?;
        }
        if config.is_some()
            && let Err(why) = script::run(self.guest, Owner::ROOT, FORGET, &[CLIENT_CONFIG], self.trace).await?
        {
            return Err(refused(format!("the credentials of registries could not be removed: {why}")).into());
        }
        Ok(())
    }

    async fn have_image(&mut self, container: &Container, config: Option<&str>) -> Result<(), Unready> {
        let image = &container.image;
        let mut complaint = String::new();
        for pull in &container.pull {
            // What the machine has may be of another platform.
            let may_be_there = *pull == Pull::Never || *pull == Pull::IfNotPresent && container.platform.is_none();
            if may_be_there && self.docker().call(docker_argv::has_image(image)).await?.is_good {
                return Ok(());
            }
            complaint = match pull {
                Pull::Never => "the machine does not have it, and its pull policy is `never`".to_owned(),
                Pull::Always | Pull::IfNotPresent => match self.pull(container, config).await? {
                    None => return Ok(()),
                    Some(complaint) => complaint,
                },
            };
        }
        Err(Unready::Image(format!(
            "the image `{image}` could not be pulled: {complaint}\n  hint: the profile's `egress` must allow the registry and its \
             stores of files"
        )))
    }

    /// Gives what Docker complains in the end.
    async fn pull(&mut self, container: &Container, config: Option<&str>) -> Result<Option<String>, VmError> {
        let image = &container.image;
        self.trace.say(&format!("Pulling docker image {image} ...")).await;
        let mut pauses = PULL_PAUSES.iter();
        loop {
            let answer = self.docker().call(argv::pull(config, container)).await?;
            if answer.is_good {
                return Ok(None);
            }
            let complaint = one_line(answer.complaint(), 500);
            let Some(pause) = pauses.next() else { return Ok(Some(complaint)) };
            self.trace.warn(&format!("{image} could not be pulled, trying again: {complaint}")).await;
            tokio::select! {
                () = tokio::time::sleep(*pause) => {}
                () = self.stop.cancelled() => return Err(refused("the job was ended before its images were there")),
            }
        }
    }

    async fn start_service(&mut self, service: &Service) -> Result<(), VmError> {
        let image = &service.container.image;
        self.trace.say(&format!("Starting service {image} as {} ...", service.aliases.join(", "))).await;
        let names = self.plan.containers.services.iter().flat_map(|one| &one.aliases).map(String::as_str);
        let creation = argv::create_service(service, names);
        let what = format!("service `{image}`");
        let id = self.docker().create(&what, creation).await?;
        let failing = format!("the container of the {what} could not be started");
        self.docker().must(docker_argv::start(&id), &failing).await?;
        let name = service.aliases.first().unwrap_or(image).clone();
        self.containers.services.push(Beside { name, id });
        Ok(())
    }

    /// Waits until services can be connected to; gives where each of their names is.
    async fn wait_for_services(&mut self) -> Result<Vec<(String, String)>, VmError> {
        let mut hosts = Vec::new();
        let wanted = &self.plan.containers.services;
        if !wanted.is_empty() {
            self.trace.say("Waiting for services to be up and running...").await;
        }
        let until = Instant::now() + READY_LIMIT;
        for (number, service) in wanted.iter().enumerate() {
            let Some(id) = self.containers.services.get(number).map(|started| started.id.clone()) else { break };
            let inspected = self.docker().inspect(&id).await?;
            let address = inspected.address().map(|address| address.to_string());
            if !self.is_ready(service, &id, &inspected, until).await? {
                let name = one_line(&service.container.image, 200);
                self.trace.warn(&format!("the service {name} probably didn't start properly")).await;
                self.tell_service(number).await?;
            }
            hosts.extend(
                address.into_iter().flat_map(|at| service.aliases.iter().map(move |name| (name.clone(), at.clone()))),
            );
        }
        Ok(hosts)
    }

    async fn is_ready(
        &self, service: &Service, id: &str, inspected: &Inspected, until: Instant,
    ) -> Result<bool, VmError> {
        let ports = service.check_port().map_or_else(|| inspected.exposed(), |port| vec![port]);
        let address = inspected.address().map(|address| address.to_string()).unwrap_or_default();
        loop {
            let now = self.docker().inspect(id).await?.readiness();
            if matches!(now, Readiness::Ended(_) | Readiness::Failed(_)) {
                return Ok(false);
            }
            if ports.is_empty() {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            let seconds = left.min(LOOK).as_secs().max(1).to_string();
            let mut argv = docker_argv::words(&["sh", "-c", WAIT, "dayfly", &seconds, &address]);
            argv.extend(ports.iter().map(u16::to_string));
            if self.docker().call(argv).await?.is_good {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// Shows what a service wrote last.
    async fn tell_service(&mut self, number: usize) -> Result<(), VmError> {
        let Some(Beside { name, id }) = self.containers.services.get(number) else { return Ok(()) };
        let (name, said) = (name.clone(), self.docker().call(docker_argv::logs(id, TOLD_LINES)).await?);
        for line in said.output.lines().chain(said.complaints.lines()) {
            self.trace.say(&format!("[service:{name}] {line}")).await;
        }
        Ok(())
    }

    /// Shows what all services wrote last, if the job wants to see it.
    pub(super) async fn tell_services(&mut self) -> Result<(), VmError> {
        if !self.plan.settings.shows_services {
            return Ok(());
        }
        for number in 0..self.containers.services.len() {
            match self.tell_service(number).await {
                // It was cancelled meanwhile.
                Err(VmError::Refused { .. }) => return Ok(()),
                told => told?,
            }
        }
        Ok(())
    }

    fn surroundings(&self, hosts: Vec<(String, String)>) -> Surroundings {
        let names = self.plan.containers.services.iter().flat_map(|one| &one.aliases).map(String::as_str);
        let mut variables = argv::host_variables(&self.offered, names);
        variables.extend(git_variables(self.plan, &self.instance.url));
        variables.extend(self.variables.environment());
        Surroundings { hosts, variables, files: argv::certificate_files(&self.offered) }
    }

    /// The program that runs a script in the job's container; `None` if there is none. The container knows the variables that it
    /// was made with.
    pub(super) fn inside(&self, text: &str) -> Option<Program> {
        let id = self.containers.job.as_ref()?;
        let status = format!("export CI_JOB_STATUS={}\n", quoted(self.variables.value("CI_JOB_STATUS")));
        Some(Program {
            argv: argv::run(id),
            environment: self.base.clone(),
            directory: "/".to_owned(),
            input: Some(status + text),
            container: Some(id.clone()),
        })
    }

    /// Lets programs in the job's container at the project. Gives why that is not possible.
    pub(super) async fn open_up(&mut self) -> Result<Option<String>, VmError> {
        self.change_owner(OPEN, &[BUILDS]).await
    }

    /// Makes the project the machine's again.
    pub(super) async fn take_back(&mut self) -> Result<Option<String>, VmError> {
        let account = format!("{}:{}", self.owner.uid, self.owner.gid);
        self.change_owner(TAKE_BACK, &[&account, BUILDS]).await
    }

    async fn change_owner(&mut self, text: &str, arguments: &[&str]) -> Result<Option<String>, VmError> {
        if self.containers.job.is_none() {
            return Ok(None);
        }
        let changed = script::run(self.guest, Owner::ROOT, text, arguments, self.trace).await?;
        Ok(changed.err().map(|why| format!("the project's directory cannot be shared with its container: {why}")))
    }
}

/// Sends a signal to all that runs in a container. `running` is Docker's client, which waits for its end.
pub(super) async fn signal(guest: &Guest, running: &Running, id: &str, signal: i32) -> Result<(), VmError> {
    let number = signal.to_string();
    let exec = script::exec(Owner::ROOT, SIGNAL, &[&number, id]);
    let signalled = async { guest.exec(exec).await?.ended(SAID).await };
    match timeout(SIGNAL_LIMIT, signalled).await {
        Ok(ended) => {
            let (status, said) = ended?;
            if status != ExitStatus::Code(0) {
                tracing::warn!(said = %String::from_utf8_lossy(&said), "what runs in a container could not be signalled");
            }
        }
        Err(_) => tracing::warn!("Docker does not say what runs in a container, which is not signalled"),
    }
    // The client ends with what it waits for, unless Docker is gone.
    if signal == SIGKILL { running.signal(signal).await } else { Ok(()) }
}

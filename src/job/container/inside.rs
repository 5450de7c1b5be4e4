//! Programs in the container that a job's steps run in.
//!
//! Docker's client is the program that the machine runs then. It passes no signals on, so what runs in a container is told by a
//! variable that only one step has, and is signalled from outside.

use std::collections::BTreeMap;

use nix::libc::SIGKILL;

use super::argv;
use super::mounts::{HOME, MACHINE, Mounts};
use super::variables::Handover;
use crate::job::script;
use crate::job::steps::Steps;
use crate::job::witness::Witness;
use crate::protocol::message::{Exec, ExitStatus, Owner};
use crate::vm::VmError;
use crate::vm::guest::Running;
use crate::workflow::run::{StepAction, StepPlan};

/// A `PATH` for images that set none, as Docker has it.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Sends the signal `$1` to the processes in containers that have the variable `$2`.
const SIGNAL: &str = r#"
machine=$(readlink /proc/self/ns/mnt)
grep -slxzF -e "$2" /proc/[0-9]*/environ | while IFS=/ read -r _ _ process _; do
  if [ "$(readlink "/proc/$process/ns/mnt")" != "$machine" ]; then kill "-$1" "$process" 2>/dev/null || :; fi
done
"#;

/// Distributions keep parts of their Node.js in files with fixed paths.
const LEND_NODE: &str = r#"
if [ -d /__e/usr/share/nodejs ] && ! [ -e /usr/share/nodejs ]; then
  mkdir -p /usr/share && ln -s /__e/usr/share/nodejs /usr/share/nodejs
fi
"#;

/// Bytes of what is said of that.
const SAID: usize = 1024;

/// Gives what is below `$2` back to the account `$1`: whoever runs in the container may have written it.
const RECLAIM: &str = r#"chown -R -h -- "$1" "$2""#;

/// The container that steps run in.
#[derive(Debug, Clone)]
pub(in crate::job) struct Inside {
    pub(super) id: String,
    pub(in crate::job) image: String,
    pub(super) mounts: Mounts,
    pub(super) path: String,
    /// As whom its programs run.
    pub(super) user: Owner,
}

impl Inside {
    /// A program of a step, with the step's variables as those in the container have to see them. `env` is that of Docker's
    /// client.
    fn step(&self, argv: Vec<String>, directory: &str, plan: &StepPlan, env: BTreeMap<String, String>) -> Exec {
        let mut variables = self.mounts.environment(&plan.env);
        let path = plan.path(&self.path);
        let own = [("PATH", Some(path).filter(|path| *path != self.path)), ("HOME", plan.env.get("HOME").cloned())];
        variables.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        self.exec(argv, directory, Handover::new(variables), env, false)
    }

    fn exec(
        &self, argv: Vec<String>, directory: &str, given: Handover, mut env: BTreeMap<String, String>, stdin: bool,
    ) -> Exec {
        let mut words = argv::exec(&self.id, &self.mounts.inside(directory), &given.arguments, stdin);
        words.extend(argv);
        env.extend(given.env);
        // Whoever the container's own user is: the client's user only has to reach Docker.
        Exec { argv: words, env: env.into_iter().collect(), directory: "/".to_owned(), owner: Owner::ROOT, stdin }
    }

    /// A program of Dayfly's own, which has nothing but the container's variables.
    pub(in crate::job) fn program(
        &self, argv: Vec<String>, directory: &str, env: BTreeMap<String, String>, stdin: bool,
    ) -> Exec {
        self.exec(argv, directory, Handover::default(), env, stdin)
    }

    /// Likewise, as the container's superuser.
    fn program_of_root(&self, argv: Vec<String>, env: BTreeMap<String, String>) -> Exec {
        let as_root = Handover { arguments: argv::words(&["--user", "0"]), ..Handover::default() };
        self.exec(argv, "/", as_root, env, false)
    }

    /// Where the container has a directory of the machine.
    pub(in crate::job) fn path_of(&self, path: &str) -> String {
        self.mounts.inside(path)
    }

    /// The home of its steps.
    pub(in crate::job) fn home(&self) -> &str {
        HOME
    }

    /// A program of the machine, started by the machine's own loader with the machine's own libraries: the container need not
    /// have either.
    pub(in crate::job) fn of_machine(loader: &str, program: &str) -> Vec<String> {
        let libraries = loader.rsplit_once('/').map_or("/usr/lib", |(directory, _)| directory);
        let path = format!("{MACHINE}{libraries}:{MACHINE}/usr/lib:{MACHINE}/usr/lib64");
        [&format!("{MACHINE}{loader}"), "--library-path", &path, &format!("{MACHINE}{program}")]
            .map(str::to_owned)
            .to_vec()
    }
}

impl<W: Witness> Steps<'_, W> {
    /// Where the programs of steps see a path of the machine.
    pub(in crate::job) fn seen_path(&self, path: &str) -> String {
        self.containers.job.as_ref().map_or_else(|| path.to_owned(), |inside| inside.path_of(path))
    }

    /// Whether the step's program is one that runs where the job's steps do; checkouts and containers are outside.
    pub(in crate::job) fn runs_inside(&self, plan: &StepPlan) -> bool {
        self.containers.job.is_some() && matches!(plan.action, StepAction::Script { .. } | StepAction::Node(_))
    }

    /// As whom the step's program runs.
    pub(in crate::job) fn writer_of(&self, plan: &StepPlan) -> Owner {
        let inside = self.containers.job.as_ref().filter(|_| self.runs_inside(plan));
        inside.map_or_else(|| self.owner(), |inside| inside.user)
    }

    /// The step's program in the job's container, if it runs there.
    pub(in crate::job) fn placed_inside(&self, plan: &StepPlan, argv: &[String], directory: &str) -> Option<Exec> {
        let inside = self.containers.job.as_ref().filter(|_| self.runs_inside(plan))?;
        Some(inside.step(argv.to_vec(), directory, plan, self.image_environment()))
    }

    /// The image in which steps find their programs.
    pub(in crate::job) fn image_of_steps(&self) -> &str {
        self.containers.job.as_ref().map_or(&self.image.name, |inside| &inside.image)
    }

    /// Lets the machine's Node.js find in the container what it loads by its path.
    pub(in crate::job) async fn lend_node(&mut self) -> Result<(), VmError> {
        let Some(inside) = &self.containers.job else { return Ok(()) };
        let argv = ["sh", "-c", LEND_NODE].map(str::to_owned).to_vec();
        let exec = inside.program_of_root(argv, self.image_environment());
        let (status, said) = self.guest.exec(exec).await?.ended(SAID).await?;
        if status != ExitStatus::Code(0) {
            tracing::debug!(said = %String::from_utf8_lossy(&said), "the machine's Node.js was not lent to a container");
        }
        Ok(())
    }

    /// Runs a program of Dayfly's own where the job's steps run; gives its status and the last `kept` bytes that it wrote.
    pub(in crate::job) async fn ask_where_steps_run(
        &mut self, argv: Vec<String>, kept: usize,
    ) -> Result<(ExitStatus, Vec<u8>), VmError> {
        match &self.containers.job {
            Some(inside) => {
                let exec = inside.program(argv, "/", self.image_environment(), false);
                self.guest.exec(exec).await?.ended(kept).await
            }
            None => self.ask_machine(argv, kept).await,
        }
    }

    /// Likewise, in the machine itself.
    pub(in crate::job) async fn ask_machine(
        &mut self, argv: Vec<String>, kept: usize,
    ) -> Result<(ExitStatus, Vec<u8>), VmError> {
        let env = self.image_environment().into_iter().collect();
        let exec = Exec { argv, env, directory: "/".to_owned(), owner: self.owner(), stdin: false };
        self.guest.exec(exec).await?.ended(kept).await
    }

    /// Sends a signal to what the step runs, wherever that is.
    pub(in crate::job) async fn signal_step(
        &mut self, running: &Running, plan: &StepPlan, signal: i32,
    ) -> Result<(), VmError> {
        let is_inside = self.runs_inside(plan);
        let is_container = matches!(plan.action, StepAction::Container(_));
        if !is_inside && !is_container {
            return running.signal(signal).await;
        }
        let of_action;
        let mounts = match &self.containers.job {
            Some(inside) if is_inside => &inside.mounts,
            _ => {
                of_action = Mounts::of_action(&self.places.workspace, &self.places.temp);
                &of_action
            }
        };
        let variable = format!("GITHUB_ENV={}", mounts.inside(&plan.command_files.env));
        let number = signal.to_string();
        let arguments = [number.as_str(), &variable];
        if let Err(why) = script::run(self.guest, Owner::ROOT, SIGNAL, &arguments, &mut self.witness).await? {
            tracing::warn!(%why, "what runs in a container could not be signalled");
        }
        // The client ends with what it waits for, unless that is gone already.
        if signal == SIGKILL { running.signal(signal).await } else { Ok(()) }
    }

    /// Makes the workspace the account's again, before the machine itself works in it.
    pub(in crate::job) async fn reclaim_workspace(&mut self) -> Result<(), VmError> {
        if self.containers.job.is_none() {
            return Ok(());
        }
        let Owner { uid, gid } = self.owner();
        let account = format!("{uid}:{gid}");
        let arguments = [account.as_str(), &self.places.workspace];
        if let Err(why) = script::run(self.guest, Owner::ROOT, RECLAIM, &arguments, &mut self.witness).await? {
            tracing::warn!(%why, "a workspace could not be taken back from a container");
        }
        Ok(())
    }
}

//! Actions that the host does: caches and artifacts of jobs, without Node.js in the guest and without a way out of it.
//!
//! The host looks and decides; the guest's own `find` and `tar` tell names and move bytes, as the job's account. What comes from
//! the guest is a stranger's: names are bounded and become no path of the host, contents go into the depot within its limits.

pub(super) mod cache;
mod download;
pub(super) mod guest;
pub(super) mod incoming;
pub(super) mod outgoing;
mod paths;
mod upload;

use std::collections::BTreeMap;

use self::guest::{Hands, Trouble};
use super::container::Inside;
use crate::depot::Tenant;
use crate::protocol::message::Owner;
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::workflow::native::{NativeKind, NativePlan};
use crate::workflow::run::{StepEnd, StepResult};

/// Where a step of this kind is done.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) guest: &'a Guest,
    pub(super) owner: Owner,
    pub(super) env: Vec<(String, String)>,
    pub(super) workspace: &'a str,
    pub(super) home: &'a str,
    /// The container that the job's steps run in, if they do not run in the machine itself; paths are that container's.
    pub(super) inside: Option<&'a Inside>,
}

/// What a step of this kind said and left.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Lines for the log.
    pub(super) said: Vec<String>,
    outputs: BTreeMap<String, String>,
    /// What is to be done after all other steps.
    pub(super) later: Option<NativePlan>,
}

impl Done {
    fn say(&mut self, line: impl Into<String>) {
        self.said.push(line.into());
    }

    fn output(&mut self, name: &str, value: &str) {
        self.outputs.insert(name.to_owned(), value.to_owned());
    }

    /// `actions/cache` saves once the job has succeeded, unless it only looked.
    fn save_later(&mut self, plan: &NativePlan) {
        let only_looks = plan.flag("lookup-only", false).unwrap_or(false);
        if plan.kind == NativeKind::Cache && !only_looks {
            self.later = Some(NativePlan { is_post: true, ..plan.clone() });
        }
    }

    /// The outputs in the form of `GITHUB_OUTPUT`; values have no line like the delimiter.
    fn command_file(&self) -> Vec<u8> {
        let mut file = String::new();
        for (name, value) in &self.outputs {
            let mut delimiter = "END".to_owned();
            while value.lines().any(|line| line == delimiter) {
                delimiter.push('_');
            }
            file.push_str(&format!("{name}<<{delimiter}\n{value}\n{delimiter}\n"));
        }
        file.into_bytes()
    }
}

/// Does the step; gives its result, and what it said and left.
///
/// # Errors
/// Only what the VM itself did: what is the step's own is its result.
pub(super) async fn run(
    plan: &NativePlan, tenant: Option<&Tenant>, place: Place<'_>,
) -> Result<(StepResult, Done), VmError> {
    let Place { guest, owner, env, workspace, home, inside } = place;
    let hands = Hands { guest, owner, env, workspace: workspace.to_owned(), home: home.to_owned(), inside };
    let mut done = Done::default();
    let ended = match tenant {
        Some(tenant) => dispatch(plan, tenant, &hands, &mut done).await,
        None => Err(Trouble::Said("caches and artifacts are switched off on this runner".to_owned())),
    };
    let end = match ended {
        Ok(()) => StepEnd::Exited(0),
        Err(Trouble::Said(why)) => StepEnd::Failed(why),
        Err(Trouble::Vm(VmError::Refused { detail, .. })) => StepEnd::Failed(detail),
        Err(Trouble::Vm(error)) => return Err(error),
    };
    let result = StepResult { output: done.command_file(), ..StepResult::new(end) };
    Ok((result, done))
}

async fn dispatch(plan: &NativePlan, tenant: &Tenant, hands: &Hands<'_>, done: &mut Done) -> Result<(), Trouble> {
    match plan.kind {
        NativeKind::Cache | NativeKind::CacheRestore | NativeKind::CacheSave => {
            cache::run(plan, tenant, hands, done).await
        }
        NativeKind::UploadArtifact => upload::run(plan, tenant, hands, done).await,
        NativeKind::DownloadArtifact => download::run(plan, tenant, hands, done).await,
    }
}

//! GitHub's jobs and the machines for them, as people are told.

use serde::{Deserialize, Serialize};

use super::{Machine, group_of, machines};
use crate::clock;
use crate::core::Core;
use crate::store::{DemandState, StoreError, WorkflowJob};

/// Both sides of what is compared.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunnersView {
    pub(crate) jobs: Vec<WaitingView>,
    pub(crate) machines: Vec<MachineView>,
}

/// A job of GitHub's that waits for a runner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WaitingView {
    /// GitHub's number of it.
    pub(crate) id: u64,
    pub(crate) repo: String,
    pub(crate) name: String,
    pub(crate) profile: String,
    /// Where its runner would be registered.
    pub(crate) place: Option<String>,
    /// `queued`, `unjudged` or `refused`.
    pub(crate) state: String,
    /// What keeps it from having a machine, if something does.
    pub(crate) why: Option<String>,
    pub(crate) seen_at: i64,
}

/// A machine for GitHub's jobs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MachineView {
    pub(crate) job: String,
    pub(crate) vm: Option<String>,
    pub(crate) runner: Option<String>,
    pub(crate) profile: String,
    pub(crate) place: String,
    /// `queued`, `starting`, `idle`, `busy`, or `leaving` while GitHub is told that it is gone.
    pub(crate) state: String,
    pub(crate) created_at: i64,
}

/// What there is now.
pub(crate) async fn view(core: &Core) -> Result<RunnersView, StoreError> {
    let jobs = core.store.waiting_workflow_jobs().await?;
    let machines = machines(core).await?;
    Ok(RunnersView {
        jobs: jobs.iter().map(|job| waiting(core, job)).collect(),
        machines: machines.iter().map(|machine| seen(core, machine)).collect(),
    })
}

fn waiting(core: &Core, job: &WorkflowJob) -> WaitingView {
    let group = group_of(core, job);
    let luck = group.as_ref().and_then(|group| core.runners.luck(group));
    let why = match (job.state, &group, luck) {
        (DemandState::Refused, ..) => Some("its code is a fork's, and `forks` is `deny`".to_owned()),
        _ if core.runners.is_unseen(job.id) => Some(
            "GitHub says that there is no such job: may the credential read `Actions` of the repository?".to_owned(),
        ),
        (DemandState::Unjudged, ..) => Some("GitHub is asked whether its code is a fork's".to_owned()),
        (_, None, _) => Some("its profile has no runners for its repository".to_owned()),
        (_, Some(_), Some(luck)) => {
            let wait = clock::span((luck.held_until - clock::now_ms()).max(0));
            let first = luck.detail.lines().next().unwrap_or_default();
            Some(format!("{} machines failed in a row, the next one comes in {wait}: {first}", luck.failures))
        }
        (_, Some(group), None) if core.runners.doubts(clock::now_ms()).values().any(|doubt| doubt.group == *group) => {
            Some("a runner has just ended, and GitHub is asked whether it did this job".to_owned())
        }
        (_, Some(_), None) => None,
    };
    WaitingView {
        id: job.id,
        repo: job.access.repo.to_string(),
        name: job.name.clone(),
        profile: job.profile.clone(),
        place: group.map(|group| group.place.to_string()),
        state: job.state.as_str().to_owned(),
        why,
        seen_at: job.seen_at,
    }
}

fn seen(core: &Core, machine: &Machine) -> MachineView {
    let state = if machine.is_over() { "leaving" } else { machine.stage(core).as_str() };
    MachineView {
        job: machine.job.id.to_string(),
        vm: machine.job.vm.as_ref().map(ToString::to_string),
        runner: machine.registered.as_ref().map(|registered| registered.name.clone()),
        profile: machine.request.profile.clone(),
        place: machine.request.at.place.to_string(),
        state: state.to_owned(),
        created_at: machine.job.created_at,
    }
}

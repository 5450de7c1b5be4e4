//! Starts that name no commit: people's (`dayfly dispatch`, `workflow_dispatch`), programs' (`repository_dispatch`) and those of
//! schedules. The commit is that of their ref when they are dealt with, and pinned from then on.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::internal::Wish;
use super::runs::{Planner, workflow_files};
use super::{IntakeError, ended, finish_created};
use crate::clock;
use crate::config::JobSecrets;
use crate::core::{Core, heavy};
use crate::document::reader::quoted;
use crate::forge::{CommitSha, ForgeError, RepoAccess, RepoName};
use crate::lifecycle::Step;
use crate::policy::dispatch_request;
use crate::store::{Delivery, DeliveryState, NewSchedule};
use crate::webhook::{self, Dispatch, Event, EventName, Repository};
use crate::workflow::inputs::{as_event, of_dispatch};
use crate::workflow::plan::PlanInput;
use crate::workflow::schedule::Schedule;
use crate::workflow::{MAX_FILE_BYTES, Workflow, parse};

/// Whom a start is of that somebody asked for on the control socket.
const OPERATOR: &str = "dayfly";

/// Starts what was asked for, at this commit or at that of its ref.
pub(super) async fn start(
    core: &Core, delivery: &Delivery, asked: &Dispatch, sha: Option<&CommitSha>, payload: &Json,
) -> Result<(), IntakeError> {
    let access = &asked.repository.access;
    let Some(settings) = core.config.repository(&asked.repository.forge, &access.repo) else {
        return ended(core, delivery, "the repository is not configured").await;
    };
    let sha = match sha {
        Some(sha) => sha.clone(),
        None => match resolve(core, &asked.repository, &asked.git_ref).await? {
            Some(sha) => sha,
            None => return ended(core, delivery, &format!("there is no {}", quoted(&asked.git_ref))).await,
        },
    };
    let request = dispatch_request(asked, sha);
    let arrived_at = delivery.arrived_at;
    let planner = Planner { core, request: &request, settings: &settings, payload, arrived_at, asked: Some(asked) };
    let runs = planner.plan().await?.runs;
    if runs.is_empty() {
        return ended(core, delivery, "no workflow of the commit asks for this event").await;
    }
    core.lifecycle.reached(Step::RunsPlanned).await;
    let created = core.store.create_runs(&delivery.key, runs, DeliveryState::Processed, clock::now_ms()).await?;
    finish_created(core, delivery, &created).await
}

/// The commit of a full ref.
async fn resolve(core: &Core, repository: &Repository, git_ref: &str) -> Result<Option<CommitSha>, ForgeError> {
    let forge = core.forges.of(&repository.forge)?;
    match forge.resolve(&repository.access, git_ref.strip_prefix("refs/").unwrap_or(git_ref)).await {
        Err(ForgeError::NotFound { .. } | ForgeError::Permanent { .. }) => Ok(None),
        found => found.map(Some),
    }
}

/// Schedules of one repository. Each is a row with its event, and a delivery whenever it is due.
const MAX_SCHEDULES: usize = 100;

/// What the workflows of a default branch's commit say about when they start. `payload` is that of the push.
pub(super) fn schedules(
    asked_by: &crate::webhook::Push, payload: &Json, found: Vec<(String, Schedule)>,
) -> Vec<NewSchedule> {
    let now = clock::now_ms();
    if found.len() > MAX_SCHEDULES {
        tracing::warn!(repository = %asked_by.repository.access.repo, "a repository has more schedules than are kept");
    }
    let found = found.into_iter().take(MAX_SCHEDULES);
    let new = |(path, schedule): (String, Schedule)| {
        let member = |name: &str| payload.get(name).cloned().unwrap_or_default();
        Some(NewSchedule {
            next_at: schedule.next_after(now)?,
            asked: Dispatch {
                repository: asked_by.repository.clone(),
                event: "schedule".to_owned(),
                action: None,
                git_ref: asked_by.ref_name.clone(),
                workflow: Some(path.clone()),
                schedule: Some(schedule.source().to_owned()),
                sender: asked_by.sender.clone(),
            },
            payload: json!({
                "schedule": schedule.source(),
                "workflow": path,
                "repository": member("repository"),
                "sender": member("sender"),
            }),
            cron: schedule.stored(),
            workflow_path: path,
        })
    };
    found.into_iter().filter_map(new).collect()
}

/// What a person asks for on the control socket.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The forge's name; without it the one that the repository is configured for.
    pub forge: Option<String>,
    pub repo: RepoName,
    /// A workflow's path, its file's name, or that without the ending.
    pub workflow: String,
    /// A branch or a tag, or a full ref; without it the default branch.
    pub git_ref: Option<String>,
    pub inputs: BTreeMap<String, String>,
}

/// Why nothing starts.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// For the person who asked.
    #[error("{0}")]
    Wrong(String),
    #[error(transparent)]
    Forge(#[from] ForgeError),
}

/// The start that a person asked for, checked as far as it can be before it is stored.
///
/// # Errors
/// What does not exist, or is not as the workflow wants it; a forge that does not answer.
pub async fn wish(core: &Core, wanted: Wanted) -> Result<Wish, Refused> {
    let Wanted { forge, repo, workflow, git_ref, inputs } = wanted;
    let wrong = |text: String| Refused::Wrong(text);
    let name = core.config.forge_of(&repo, forge.as_deref()).map_err(wrong)?;
    let Some(settings) = core.config.repository(name, &repo) else {
        return Err(wrong(format!("the repository `{repo}` is not configured")));
    };
    let forge = core.forges.of(name)?;
    let unread = RepoAccess { repo, installation: None };
    let repository = forge.repository(&unread).await?;
    let mut payload =
        json!({ "inputs": inputs, "repository": repository, "sender": { "login": OPERATOR }, "ref": "HEAD" });
    let asked = event_of(name, &payload).map_err(wrong)?;
    let access = &asked.repository.access;
    let (git_ref, sha) = found_ref(core, &asked.repository, git_ref).await?;
    payload["ref"] = git_ref.into();
    let request = dispatch_request(&event_of(name, &payload).map_err(wrong)?, sha.clone());
    let files =
        workflow_files(core, &request, settings.workflows_dir).await.map_err(|error| wrong(error.to_string()))?;
    let path = meant(&files, &workflow).ok_or_else(|| {
        let names: Vec<String> = files.iter().map(|path| format!("`{path}`")).collect();
        wrong(format!(
            "the commit {} has no workflow {}\n  hint: it has {}",
            sha.short(),
            quoted(&workflow),
            names.join(", ")
        ))
    })?;
    let bytes = forge.read_file(access, path, &sha, MAX_FILE_BYTES).await?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(format!("`{path}` is not UTF-8")))?;
    let read = heavy(|| parse(path, &text)).map_err(|complaints| wrong(complaints[0].to_string()))?;
    // With the defaults, as a forge tells them.
    payload["inputs"] = checked(core, &asked.repository, &read, &payload["inputs"]).map_err(wrong)?;
    payload["workflow"] = path.as_str().into();
    let asked = Box::new(event_of(name, &payload).map_err(wrong)?);
    Ok(Wish::Start { asked, sha: Some(sha), payload })
}

/// The file that a person means by its path, its name, or its name without the ending.
fn meant<'f>(files: &'f [String], wanted: &str) -> Option<&'f String> {
    let is_meant = |path: &&String| {
        let file = path.rsplit('/').next().unwrap_or(path);
        **path == wanted || file == wanted || file.rsplit_once('.').is_some_and(|(stem, _)| stem == wanted)
    };
    files.iter().find(is_meant)
}

fn event_of(forge: &str, payload: &Json) -> Result<Dispatch, String> {
    let name = EventName::parse("workflow_dispatch")?;
    match webhook::parse(forge, &name, payload.to_string().as_bytes()) {
        Ok(Event::Dispatch(asked)) => Ok(asked),
        Ok(_) => Err("the forge's answer is no repository".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The full ref that a person means, and its commit: a branch comes before a tag of the same name.
async fn found_ref(
    core: &Core, repository: &Repository, wanted: Option<String>,
) -> Result<(String, CommitSha), Refused> {
    let candidates = match &wanted {
        None => vec![format!("refs/heads/{}", repository.default_branch)],
        Some(full) if full.starts_with("refs/") => vec![full.clone()],
        Some(short) => vec![format!("refs/heads/{short}"), format!("refs/tags/{short}")],
    };
    for git_ref in candidates {
        if let Some(sha) = resolve(core, repository, &git_ref).await? {
            return Ok((git_ref, sha));
        }
    }
    let name = wanted.as_deref().unwrap_or(&repository.default_branch);
    Err(Refused::Wrong(format!("`{}` has no branch or tag {}", repository.access.repo, quoted(name))))
}

fn checked(core: &Core, repository: &Repository, workflow: &Workflow, inputs: &Json) -> Result<Json, String> {
    if !workflow.on.iter().any(|trigger| trigger.event == "workflow_dispatch") {
        return Err(format!(
            "`{}` is not started by people\n  hint: its `on` must name `workflow_dispatch`",
            workflow.file
        ));
    }
    let vars = core.config.values_of(&repository.forge, &repository.access.repo, None, &JobSecrets::new()).vars();
    let github = json!({ "event_name": "workflow_dispatch" }).into();
    let input = PlanInput { github, inputs: inputs.clone().into(), vars, ..PlanInput::default() };
    of_dispatch(workflow, &input).map(|inputs| as_event(&inputs)).map_err(|complaint| complaint.to_string())
}

//! From a `uses` to an action's description in the guest.

use std::sync::Arc;

use super::place::{Delivered, deliver};
use super::setup::Tool;
use super::{Steps, Witness};
use crate::job::steps::TOOL_CACHE;
use crate::vm::VmError;
use crate::workflow::action::manifest::{Docker, DockerImage, FILES, Runs};
use crate::workflow::action::{ActionRef, MAX_LEVELS, Manifest, RemoteAction};
use crate::workflow::parse;
use crate::workflow::run::{ActionPlace, JobRun};

/// Bytes of an action's description.
const MAX_MANIFEST: u32 = 512 << 10;

/// What makes a directory without a description an action.
const DOCKERFILES: [&str; 2] = ["Dockerfile", "dockerfile"];

/// Different actions of other repositories in one job.
const MAX_ACTIONS: usize = 100;

/// An action that can be run.
#[derive(Debug)]
pub(in crate::job) struct Found {
    pub(super) manifest: Manifest,
    pub(super) place: ActionPlace,
}

impl<W: Witness> Steps<'_, W> {
    /// Gives the guest the actions of other repositories that the job's steps use, and those that they use. The inner error says
    /// in words why the job cannot have one.
    pub(in crate::job) async fn set_up_actions(&mut self, run: &JobRun) -> Result<Result<(), String>, VmError> {
        match self.bring_all(run).await {
            Err(VmError::Refused { detail, .. }) => Ok(Err(detail)),
            done => done,
        }
    }

    async fn bring_all(&mut self, run: &JobRun) -> Result<Result<(), String>, VmError> {
        if let Some((workflow, commit)) = run.called_workflow() {
            self.witness.say(0, &format!("Using the workflow {workflow} at commit {commit}")).await;
        }
        let mut wanted: Vec<(RemoteAction, usize)> = Vec::new();
        wanted.extend(fetched(run.actions()).map(|action| (action, 1)));
        wanted.reverse();
        if run.actions().next().is_some() {
            // Actions install what they bring there.
            self.guest.make_directory(TOOL_CACHE, self.owner()).await?;
        }
        let mut seen: Vec<RemoteAction> = Vec::new();
        while let Some((action, level)) = wanted.pop() {
            if seen.contains(&action) {
                continue;
            }
            if level > MAX_LEVELS {
                return Ok(Err(format!("the action `{action}` is inside of more than {MAX_LEVELS} others")));
            }
            if seen.len() >= MAX_ACTIONS {
                return Ok(Err(format!("a job uses at most {MAX_ACTIONS} different actions")));
            }
            seen.push(action.clone());
            match self.find(&ActionRef::Remote(action)).await? {
                Ok(found) => {
                    let used: Vec<_> = fetched(found.manifest.used()).collect();
                    wanted.extend(used.into_iter().rev().map(|action| (action, level + 1)));
                }
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(()))
    }

    /// Looks an action up. The inner error says in words why it cannot be run.
    pub(super) async fn find(&mut self, reference: &ActionRef) -> Result<Result<Found, String>, VmError> {
        let mut place = ActionPlace::default();
        match reference {
            ActionRef::Local(path) => place.path = join(&self.places.workspace, path),
            ActionRef::Remote(action) => {
                let root = match self.bring(action).await? {
                    Ok(root) => root,
                    Err(why) => return Ok(Err(why)),
                };
                place.path = join(&root, &action.path);
                place.repository = action.repo.to_string();
                place.version.clone_from(&action.version);
            }
            ActionRef::Docker(image) => return Ok(Ok(of_image(image))),
        }
        for name in FILES {
            let content = match self.guest.read_file(&format!("{}/{name}", place.path), MAX_MANIFEST).await {
                Ok(content) => content,
                Err(VmError::Refused { detail, .. }) => {
                    return Ok(Err(format!("`{reference}` cannot be read: {detail}")));
                }
                Err(error) => return Err(error),
            };
            if content.bytes.is_empty() {
                continue;
            }
            place.file = format!("{reference}/{name}").replace("//", "/");
            if content.truncated {
                return Ok(Err(format!("`{}` has more than {MAX_MANIFEST} bytes", place.file)));
            }
            let text = String::from_utf8_lossy(&content.bytes);
            return Ok(crate::core::heavy(|| parse::action(&place.file, &text))
                .map(|manifest| Found { manifest, place })
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
        }
        for name in DOCKERFILES {
            if !self.guest.read_file(&format!("{}/{name}", place.path), 1).await?.bytes.is_empty() {
                return Ok(Ok(Found { manifest: container(DockerImage::File(name.to_owned())), place }));
            }
        }
        Ok(Err(absent(reference)))
    }

    /// Gives the guest the repository of an action; tells its directory there.
    async fn bring(&mut self, action: &RemoteAction) -> Result<Result<String, String>, VmError> {
        let directory = format!("{}/{}", self.places.actions(), Delivered::directory(action));
        // Held until it is there: a step beside this one may want the same.
        let delivered = Arc::clone(&self.delivered);
        let mut delivered = delivered.lock().await;
        if delivered.has(action) {
            return Ok(Ok(directory));
        }
        let archive = match self.actions.obtain(action).await {
            Ok(archive) => archive,
            Err(why) => return Ok(Err(why)),
        };
        let number = self.frame.within.unwrap_or(0);
        self.witness.say(number, &format!("Using the action {action} at commit {}", archive.sha)).await;
        if let Err(why) = deliver(self.guest, &archive, &directory, self.owner()).await? {
            return Ok(Err(format!("the action `{action}`: {why}")));
        }
        delivered.note(action, archive.sha);
        Ok(Ok(directory))
    }
}

/// The actions of other repositories among them; those that may be in the image are fetched only if they are not.
fn fetched<'r>(references: impl Iterator<Item = &'r ActionRef>) -> impl Iterator<Item = RemoteAction> {
    references.filter(|reference| Tool::of(reference).is_none()).filter_map(ActionRef::remote).cloned()
}

fn join(root: &str, path: &str) -> String {
    if path.is_empty() { root.to_owned() } else { format!("{root}/{path}") }
}

fn absent(reference: &ActionRef) -> String {
    let what = format!("`{reference}` has no `action.yml`, `action.yaml` or `Dockerfile`");
    match reference {
        ActionRef::Local(_) => {
            format!("{what}\n  hint: it is looked for in the workspace, which is empty before `actions/checkout`")
        }
        ActionRef::Remote(_) | ActionRef::Docker(_) => what,
    }
}

fn of_image(image: &str) -> Found {
    let place = ActionPlace::default();
    Found { manifest: container(DockerImage::Registry(image.to_owned())), place }
}

/// A container that nothing is said about.
fn container(image: DockerImage) -> Manifest {
    let docker = Docker { image, env: Vec::new(), args: Vec::new(), entrypoint: None, pre: None, post: None };
    Manifest { name: None, inputs: Vec::new(), outputs: Vec::new(), runs: Runs::Docker(docker), warnings: Vec::new() }
}

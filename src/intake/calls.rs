//! Reads what a workflow calls, however indirectly, before anything of it runs: a call that does not fit is told at once, and what
//! runs later is what was read here.

use std::collections::{BTreeMap, BTreeSet};

use super::IntakeError;
use super::runs::{MAX_FILE_BYTES, complaint};
use crate::core::{Core, heavy};
use crate::document::Diagnostic;
use crate::forge::{CommitSha, ForgeError};
use crate::policy::Request;
use crate::store::CalledWorkflow;
use crate::workflow::call::{CallTarget, Library, MAX_WORKFLOWS};
use crate::workflow::{Workflow, parse};

/// One file as it was read, with its commit, or what is wrong with it.
pub(crate) type Read = Result<(Workflow, CommitSha), Vec<Diagnostic>>;

/// What a workflow calls, as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Gathering(BTreeMap<CallTarget, Read>);

/// What is to be done next.
pub(crate) enum Look {
    /// These are to be read, and added: the files of the round before call them.
    Missing(BTreeSet<CallTarget>),
    /// All of them, by their places; or everything that is wrong with them.
    Done(Result<BTreeMap<CallTarget, (Workflow, CommitSha)>, Vec<Diagnostic>>),
}

impl Gathering {
    pub(crate) fn add(&mut self, target: CallTarget, read: Read) {
        self.0.insert(target, read);
    }

    /// Looks what `root` calls that was not read yet.
    pub(crate) fn look(&mut self, root: &Workflow) -> Look {
        let mut missing = BTreeSet::new();
        let checked = heavy(|| {
            Library::load(root, &mut |target| match self.0.get(target) {
                Some(Ok((workflow, _))) => Ok(workflow.clone()),
                Some(Err(complaints)) => Err(complaints.clone()),
                None => {
                    missing.insert(target.clone());
                    Err(Vec::new())
                }
            })
        });
        if missing.is_empty() {
            let read = std::mem::take(&mut self.0).into_iter().filter_map(|(place, read)| Some((place, read.ok()?)));
            return Look::Done(checked.map(|_| read.collect()));
        }
        if self.0.len() + missing.len() > MAX_WORKFLOWS {
            let message = format!("the workflow calls more than {MAX_WORKFLOWS} others");
            return Look::Done(Err(vec![complaint(&root.file, message)]));
        }
        Look::Missing(missing)
    }
}

/// What `root` calls at the pinned commit.
///
/// # Errors
/// The forge does not answer.
pub(super) async fn called_by(
    core: &Core, request: &Request, root: &Workflow,
) -> Result<Result<Vec<CalledWorkflow>, Vec<Diagnostic>>, IntakeError> {
    let stored = |(place, (workflow, sha)): (CallTarget, (Workflow, CommitSha))| CalledWorkflow {
        place: place.to_string(),
        sha,
        workflow: serde_json::to_value(&workflow).unwrap_or_default(),
    };
    let mut gathering = Gathering::default();
    loop {
        let missing = match gathering.look(root) {
            Look::Done(found) => return Ok(found.map(|found| found.into_iter().map(stored).collect())),
            Look::Missing(missing) => missing,
        };
        for target in missing {
            let read = read(core, request, &target).await?;
            gathering.add(target, read);
        }
    }
}

async fn read(core: &Core, request: &Request, target: &CallTarget) -> Result<Read, IntakeError> {
    let refuse = |message: String| Ok(Err(vec![complaint(&target.to_string(), message)]));
    let CallTarget::Local { path } = target else {
        return refuse("workflows of other repositories are not supported yet".to_owned());
    };
    let sha = request.sha.clone();
    match core.forges.of(&request.forge)?.read_file(&request.access, path, &sha, MAX_FILE_BYTES).await {
        Ok(bytes) => Ok(parsed(path, bytes, sha)),
        Err(ForgeError::NotFound { .. }) => refuse(format!("the commit {} has no such file", sha.short())),
        Err(ForgeError::Permanent { detail, .. }) => refuse(detail),
        Err(error) => Err(error.into()),
    }
}

/// A file's bytes as a workflow.
pub(crate) fn parsed(path: &str, bytes: Vec<u8>, sha: CommitSha) -> Read {
    let text = String::from_utf8(bytes).map_err(|_| vec![complaint(path, "the file is not UTF-8".to_owned())])?;
    let workflow = heavy(|| parse(path, &text))?;
    match workflow.concurrency {
        None => Ok((workflow, sha)),
        Some(_) => {
            let message = "`concurrency` of a whole workflow is not supported where another one calls it".to_owned();
            let hint = Some("give it to the workflow's jobs, or to the job that calls it".to_owned());
            Err(vec![Diagnostic { hint, path: "concurrency".to_owned(), ..complaint(path, message) }])
        }
    }
}

//! Reads what a workflow calls, however indirectly, before anything of it runs: a call that does not fit is told at once, and what
//! runs later is what was read here.
//!
//! A branch or tag of another repository is looked up once for all that a run calls of it; from then on its commit counts, in
//! re-runs too.

use std::collections::{BTreeMap, BTreeSet};

use super::IntakeError;
use super::runs::complaint;
use crate::core::{Core, heavy};
use crate::document::Diagnostic;
use crate::forge::{CommitSha, ForgeError, RepoName};
use crate::job::action::{Actions, NoWorkflow};
use crate::job::services::actions_of;
use crate::policy::Request;
use crate::store::CalledWorkflow;
use crate::workflow::action::RemoteAction;
use crate::workflow::call::{CallTarget, Library, MAX_WORKFLOWS};
use crate::workflow::{MAX_FILE_BYTES, Workflow, parse};

/// One file as it was read, with its commit, or what is wrong with it.
pub(crate) type Read = Result<(Workflow, CommitSha), Vec<Diagnostic>>;

/// A workflow, and all that it calls.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) root: Box<Workflow>,
    /// By their places.
    pub(crate) called: BTreeMap<CallTarget, (Workflow, CommitSha)>,
}

/// What a workflow calls, as far as it was read.
#[derive(Debug)]
pub(crate) struct Gathering<'a> {
    /// The repository of the first workflow.
    home: &'a RepoName,
    read: BTreeMap<CallTarget, Read>,
    /// The commits of other repositories' versions.
    commits: BTreeMap<(RepoName, String), CommitSha>,
}

/// What is to be done next.
pub(crate) enum Look {
    /// These are to be read, and added: the files of the round before call them.
    Missing(BTreeSet<CallTarget>),
    /// All of them; or everything that is wrong with them.
    Done(Result<Gathered, Vec<Diagnostic>>),
}

impl<'a> Gathering<'a> {
    pub(crate) fn of(home: &'a RepoName) -> Self {
        Self { home, read: BTreeMap::new(), commits: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, target: CallTarget, read: Read) {
        self.read.insert(target, read);
    }

    /// Looks what `root` calls that was not read yet.
    pub(crate) fn look(&mut self, root: &Workflow) -> Look {
        let mut missing = BTreeSet::new();
        let checked = heavy(|| {
            Library::load(root, self.home.owner(), &mut |target| match self.read.get(target) {
                Some(Ok((workflow, _))) => Ok(workflow.clone()),
                Some(Err(complaints)) => Err(complaints.clone()),
                None => {
                    missing.insert(target.clone());
                    Err(Vec::new())
                }
            })
        });
        if missing.is_empty() {
            return Look::Done(checked.map(|library| heavy(|| self.equipped(root, &library))));
        }
        if self.read.len() + missing.len() > MAX_WORKFLOWS {
            let message = format!("the workflow calls more than {MAX_WORKFLOWS} others");
            return Look::Done(Err(vec![complaint(&root.file, message)]));
        }
        Look::Missing(missing)
    }

    fn equipped(&mut self, root: &Workflow, library: &Library) -> Gathered {
        let read = std::mem::take(&mut self.read).into_iter();
        let equip = |(place, read): (CallTarget, Read)| {
            let (workflow, sha) = read.ok()?;
            let workflow = library.equip(workflow, Some(&place));
            Some((place, (workflow, sha)))
        };
        let root = Box::new(library.equip(root.clone(), None));
        Gathered { root, called: read.filter_map(equip).collect() }
    }

    /// Reads a workflow of another repository, or of this one at another commit, and adds it.
    ///
    /// # Errors
    /// Its server does not answer now; for people.
    pub(crate) async fn fetch(&mut self, wanted: &RemoteAction, actions: &Actions) -> Result<(), String> {
        let version = (wanted.repo.clone(), wanted.version.clone());
        let is_at_home = wanted.repo.as_str().eq_ignore_ascii_case(self.home.as_str());
        let place = wanted.to_string();
        let read = match actions.workflow(wanted, self.commits.get(&version), is_at_home).await {
            Ok(found) => {
                let text = found.text.map_err(|why| vec![complaint(&place, why)]);
                let parsed = text.and_then(|text| heavy(|| parse(&place, &text)));
                self.commits.insert(version, found.sha.clone());
                parsed.map(|workflow| (Workflow { commit: Some(found.sha.to_string()), ..workflow }, found.sha))
            }
            Err(NoWorkflow::Refused(why)) => Err(vec![complaint(&place, why)]),
            Err(NoWorkflow::Unreachable(why)) => return Err(why),
        };
        self.add(CallTarget::Remote(wanted.clone()), read);
        Ok(())
    }
}

/// `root` with what it calls, at the pinned commit and at those of other repositories.
///
/// # Errors
/// A server does not answer.
pub(super) async fn called_by(
    core: &Core, request: &Request, root: &Workflow,
) -> Result<Result<Gathered, Vec<Diagnostic>>, IntakeError> {
    let is_of_fork = request.pull_request.is_some_and(|pull| pull.is_fork);
    let actions = actions_of(core, &request.forge, &request.access, is_of_fork);
    let mut gathering = Gathering::of(&request.access.repo);
    loop {
        let missing = match gathering.look(root) {
            Look::Done(found) => return Ok(found),
            Look::Missing(missing) => missing,
        };
        for target in missing {
            match &target {
                CallTarget::Remote(wanted) => {
                    gathering.fetch(wanted, &actions).await.map_err(IntakeError::Elsewhere)?;
                }
                CallTarget::Local { path } => {
                    let read = read(core, request, path).await?;
                    gathering.add(target, read);
                }
            }
        }
    }
}

/// What a run calls, as it is stored.
pub(super) fn stored(called: BTreeMap<CallTarget, (Workflow, CommitSha)>) -> Vec<CalledWorkflow> {
    let stored = |(place, (workflow, sha)): (CallTarget, (Workflow, CommitSha))| CalledWorkflow {
        place: place.to_string(),
        sha,
        workflow: serde_json::to_value(&workflow).unwrap_or_default(),
    };
    called.into_iter().map(stored).collect()
}

async fn read(core: &Core, request: &Request, path: &str) -> Result<Read, IntakeError> {
    let refuse = |message: String| Ok(Err(vec![complaint(&format!("./{path}"), message)]));
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
    heavy(|| parse(path, &text)).map(|workflow| (workflow, sha))
}

//! Where a job's actions come from, and how their files get into its guest.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;

use crate::actions::{Access, ActionError, ActionStore, Archive, WorkflowFile};
use crate::forge::{CommitSha, Forge, ForgeError, RepoAccess, RepoName};
use crate::protocol::message::{Exec, ExitStatus, Owner};
use crate::vm::VmError;
use crate::vm::guest::{Guest, Input};
use crate::workflow::action::RemoteAction;
use crate::workflow::action::policy::ActionPolicy;

/// Bytes that are read and sent at a time.
const PIECE: usize = 256 << 10;

/// Bytes of what `tar` says that are kept.
const SAID: usize = 2048;

/// The actions that one job may have.
#[derive(Debug, Clone)]
pub(crate) struct Actions {
    pub(crate) store: Arc<ActionStore>,
    pub(crate) policy: ActionPolicy,
    /// The way to repositories that need a credential, if the job has one.
    pub(crate) private: Option<Private>,
}

/// Repositories that are fetched with the credential of the job's own.
#[derive(Debug, Clone)]
pub(crate) struct Private {
    pub(crate) forge: Arc<dyn Forge>,
    pub(crate) installation: Option<u64>,
    pub(crate) repositories: Vec<RepoName>,
}

/// Why a run cannot call a workflow, for people.
#[derive(Debug)]
pub(crate) enum NoWorkflow {
    /// That stays so.
    Refused(String),
    /// Nobody answers just now.
    Unreachable(String),
}

impl Actions {
    /// A workflow of another repository that a run may call; or of its own repository, which needs nobody's permission. At the
    /// commit `at`, if it is known already.
    pub(crate) async fn workflow(
        &self, workflow: &RemoteAction, at: Option<&CommitSha>, is_own: bool,
    ) -> Result<WorkflowFile, NoWorkflow> {
        if !is_own {
            self.policy.check_workflow(workflow).map_err(NoWorkflow::Refused)?;
        }
        let access = match &self.private {
            Some(private) => private.access(workflow).await.map_err(|error| match error.is_retryable() {
                true => NoWorkflow::Unreachable(no_credential(workflow)),
                false => NoWorkflow::Refused(no_credential(workflow)),
            })?,
            None => None,
        };
        self.store.workflow(workflow, at, access.as_ref()).await.map_err(|error| match error {
            ActionError::Unreachable { .. } | ActionError::NotStored { .. } => {
                NoWorkflow::Unreachable(error.to_string())
            }
            error => NoWorkflow::Refused(error.to_string()),
        })
    }

    /// The files of an action that the job may use; or why it gets none, in words.
    pub(super) async fn obtain(&self, action: &RemoteAction) -> Result<Archive, String> {
        self.policy.check(action)?;
        let access = match &self.private {
            Some(private) => private.access(action).await.map_err(|_| no_credential(action))?,
            None => None,
        };
        self.store.obtain(action, access.as_ref()).await.map_err(|error| error.to_string())
    }
}

impl Private {
    async fn access(&self, action: &RemoteAction) -> Result<Option<Access>, ForgeError> {
        let is_it = |repo: &&RepoName| repo.as_str().eq_ignore_ascii_case(action.repo.as_str());
        let Some(repo) = self.repositories.iter().find(is_it) else { return Ok(None) };
        let access = RepoAccess { repo: repo.clone(), installation: self.installation };
        let upstream = self.forge.git_upstream(&access).await;
        let upstream =
            upstream.inspect_err(|error| tracing::warn!(%action, %error, "there is no credential for a repository"))?;
        Ok(Some(Access { url: upstream.url, authorization: upstream.authorization }))
    }
}

fn no_credential(action: &RemoteAction) -> String {
    format!("the {} `{action}` cannot be fetched: the forge gave no credential for its repository", action.noun())
}

/// What a guest has of other repositories.
#[derive(Debug, Default)]
pub(in crate::job) struct Delivered(BTreeMap<String, CommitSha>);

impl Delivered {
    /// The directory of an action's repository below that of all actions.
    pub(super) fn directory(action: &RemoteAction) -> String {
        format!("{}/{}", action.repo, action.version)
    }

    pub(super) fn has(&self, action: &RemoteAction) -> bool {
        self.0.contains_key(&Self::directory(action))
    }

    pub(super) fn note(&mut self, action: &RemoteAction, sha: CommitSha) {
        self.0.insert(Self::directory(action), sha);
    }
}

/// Unpacks the archive in a fresh directory of the guest. The inner error says in words why that failed.
pub(super) async fn deliver(
    guest: &Guest, archive: &Archive, directory: &str, owner: Owner,
) -> Result<Result<(), String>, VmError> {
    let mut file = match tokio::fs::File::open(&archive.file).await {
        Ok(file) => file,
        Err(error) => {
            tracing::error!(file = %archive.file.display(), %error, "a fetched action cannot be read");
            return Ok(Err("what was fetched of it cannot be read on the host".to_owned()));
        }
    };
    guest.make_directory(directory, owner).await?;
    let argv = ["tar", "-x", "-f", "-", "-C", directory].map(str::to_owned).to_vec();
    let env = vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())];
    let running = guest.exec(Exec { argv, env, directory: "/".to_owned(), owner, stdin: true }).await?;
    let input = running.input();
    let fed = async {
        feed(&mut file, &input).await?;
        // Whether it was read is for the program to say.
        std::future::pending::<Result<_, VmError>>().await
    };
    let (status, said) = tokio::select! {
        ended = running.ended(SAID) => ended?,
        failed = fed => failed?,
    };
    Ok(match status {
        ExitStatus::Code(0) => Ok(()),
        _ => Err(format!("it cannot be unpacked in the machine: {}", String::from_utf8_lossy(&said).trim())),
    })
}

async fn feed(file: &mut tokio::fs::File, input: &Input) -> Result<(), VmError> {
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).await {
            Ok(0) => break,
            Ok(length) => input.write(&piece[..length]).await?,
            // The archive ends early then, which the program notices.
            Err(error) => {
                tracing::error!(%error, "a fetched action cannot be read");
                break;
            }
        }
    }
    input.end();
    Ok(())
}

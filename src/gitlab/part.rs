//! The part of the service that is a runner to GitLabs: one task for each runner, one for each job that it took.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use super::KIND;
use super::bureau::{Bureau, Place};
use super::runner::{self, Runner, Work};
use super::session;
use crate::core::Core;
use crate::ids::JobId;
use crate::metrics::GitLabMetrics;
use crate::metrics::labels::GitLabJob;

/// How long sessions may go on telling the ends of jobs when the service stops.
const STOP_GRACE: Duration = Duration::from_secs(8);

/// The file below the state directory with the name of this host for GitLabs.
const SYSTEM_ID: &str = "gitlab-system-id";

/// Runs until the service stops.
pub async fn run(core: Arc<Core>) {
    let state_dir = core.config.server.state_dir.clone();
    let read = tokio::task::spawn_blocking(move || system_id(&state_dir)).await;
    let system_id = match read.map_err(io::Error::other).and_then(|read| read) {
        Ok(id) => id,
        Err(error) => {
            tracing::error!(%error, "the name of this host for GitLab cannot be stored; it has another one now");
            random_id()
        }
    };
    let bureau = Arc::new(Bureau::of(&core, system_id));
    let runners = core.config.gitlab.iter().zip(&core.gitlab_secrets).flat_map(|(gitlab, secrets)| {
        gitlab.runners.iter().zip(&secrets.runners).map(|(runner, token)| Runner {
            instance: gitlab.name.clone(),
            name: runner.name.clone(),
            token: token.clone(),
            profile: runner.profile.clone(),
            limit: runner.limit,
        })
    });
    serve(bureau, runners.collect()).await;
}

/// Goes on with the sessions that there were, and asks for jobs as these runners.
pub async fn serve(bureau: Arc<Bureau>, runners: Vec<Runner>) {
    let (sender, mut work) = unbounded_channel();
    let mut sessions = JoinSet::new();
    resume(&bureau, &mut sessions).await;
    let mut asking = JoinSet::new();
    let is_alone = runners.len() == 1;
    for runner in runners {
        let Some(client) = bureau.gitlabs.client(&runner.instance) else { continue };
        asking.spawn(runner::run(Arc::clone(&bureau), client, runner, is_alone, sender.clone()));
    }
    loop {
        tokio::select! {
            () = bureau.stop.cancelled() => break,
            Some(work) = work.recv() => begin(&bureau, &mut sessions, work),
            Some(ended) = sessions.join_next() => note_end(ended),
            Some(ended) = asking.join_next() => note_end(ended),
        }
    }
    let ending = async {
        while asking.join_next().await.is_some() {}
        while sessions.join_next().await.is_some() {}
    };
    if tokio::time::timeout(STOP_GRACE, ending).await.is_err() {
        tracing::info!(
            count = sessions.len(),
            "GitLab does not know the ends of some jobs yet; the next start tells them"
        );
    }
    // What was taken at the last moment is stored; the next start goes on with it.
    drain(&mut work);
}

/// Sessions of jobs that an earlier run of the service took.
async fn resume(bureau: &Arc<Bureau>, sessions: &mut JoinSet<()>) {
    let unsettled = bureau.store.unsettled_foreign(None).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the jobs of GitLabs cannot be read; the next start goes on with them");
        Vec::new()
    });
    for foreign in unsettled.into_iter().filter(|foreign| foreign.request["kind"] == KIND) {
        sessions.spawn(counted(bureau.metrics.clone(), session::accompany(Arc::clone(bureau), foreign, None)));
    }
}

fn begin(bureau: &Arc<Bureau>, sessions: &mut JoinSet<()>, work: Work) {
    let own = Arc::clone(bureau);
    match work {
        Work::Accompany(job, place) => {
            sessions.spawn(counted(bureau.metrics.clone(), accompany(own, job, place)));
        }
        // Nobody can be told.
        Work::Refuse { id: 0, why, .. } => {
            tracing::error!(why, "GitLab gave a job that cannot be read");
            bureau.metrics.job(GitLabJob::Refused);
        }
        Work::Refuse { client, id, token, why } => {
            sessions.spawn(session::refuse(own, client, id, token, why));
        }
    }
}

async fn accompany(bureau: Arc<Bureau>, job: JobId, place: Option<Place>) {
    match bureau.store.foreign_job(&job).await {
        Ok(Some(foreign)) => session::accompany(bureau, foreign, place).await,
        Ok(None) => {}
        Err(error) => tracing::error!(%job, %error, "a GitLab job cannot be read; the next start goes on with it"),
    }
}

/// Counts a session for as long as it lasts.
async fn counted(metrics: GitLabMetrics, session: impl Future<Output = ()>) {
    struct Counted(GitLabMetrics);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.unsettled(-1);
        }
    }
    metrics.unsettled(1);
    let _counted = Counted(metrics);
    session.await;
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "what spoke with a GitLab died; the next start goes on");
    }
}

fn drain(work: &mut UnboundedReceiver<Work>) {
    while let Ok(left) = work.try_recv() {
        tracing::info!(?left, "a job was taken as the service stopped");
    }
}

/// The name of this host, made at the first start. Blocks.
pub(crate) fn system_id(state_dir: &Path) -> io::Result<String> {
    if let Some(id) = known_system_id(state_dir)? {
        return Ok(id);
    }
    let id = random_id();
    std::fs::write(state_dir.join(SYSTEM_ID), format!("{id}\n"))?;
    Ok(id)
}

/// The name of this host for GitLabs, if it has one. Blocks.
pub(crate) fn known_system_id(state_dir: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(state_dir.join(SYSTEM_ID)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|id| is_system_id(id))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// As GitLab has it: `r_` and twelve letters and digits.
fn is_system_id(text: &str) -> bool {
    text.strip_prefix("r_")
        .is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn random_id() -> String {
    let letters = JobId::random();
    let letters = letters.as_str().bytes().rev().filter(u8::is_ascii_alphanumeric).take(12);
    format!("r_{}", letters.map(char::from).collect::<String>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let id = system_id(directory.path()).unwrap();
        assert!(is_system_id(&id), "{id}");
        assert_eq!(system_id(directory.path()).unwrap(), id);
        std::fs::write(directory.path().join(SYSTEM_ID), "r_../../../x").unwrap();
        assert!(is_system_id(&system_id(directory.path()).unwrap()));
    }
}

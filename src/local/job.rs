//! One job of a local run, in one VM, from its restore to its absence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use url::Url;

use super::session::{Job, Session};
use crate::caches::CacheId;
use crate::config::Profile;
use crate::depot::artifacts::Maker;
use crate::depot::{Tenant, tenant};
use crate::engine::Prepared;
use crate::ids::VmId;
use crate::image::Logged;
use crate::job::attempt::Attempt;
use crate::job::checkout::{Origin, Workspace};
use crate::job::driver::{numeric_id, shape_of};
use crate::job::obtain::NoVm;
use crate::job::reports;
use crate::job::steps::{Places, Witness};
use crate::job::verdict::{self, CANCELLED, Ending, StepLine};
use crate::log::Stream;
use crate::metrics::EgressMetrics;
use crate::net::egress::Egress;
use crate::net::egress::policy::Scope;
use crate::net::git_proxy::{GitClient, GitLimits, GitProxy, Source};
use crate::net::results::ResultsService;
use crate::report::{Results, summary};
use crate::store::{Outcome, Reason};
use crate::vm::machine::Machine;
use crate::workflow::contexts::GithubContext;
use crate::workflow::gate::{NeedResult, NeedsResults};
use crate::workflow::run::{JobPlace, JobRun};

/// How a job ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The job for people.
    pub name: String,
    pub outcome: Outcome,
    /// From the request for a VM until it was gone.
    pub took: Duration,
    pub(crate) seen_by_needs: NeedResult,
    /// What its programs reported.
    pub results: Results,
}

impl Ended {
    pub(super) fn without_machine(job: &Job, outcome: Outcome) -> Self {
        let ending = Ending::NotStarted { reason: Reason::Internal, detail: String::new() };
        let seen_by_needs = verdict::need_result(&ending, &outcome);
        Self { name: job.full_name(), outcome, took: Duration::ZERO, seen_by_needs, results: Results::default() }
    }
}

/// Runs the job. Its VM is absent afterwards, or said to be left in the log.
pub(super) async fn run<W: Witness>(
    session: Arc<Session>, job: Job, needs: NeedsResults, mut witness: W, cancel: CancellationToken,
) -> Ended {
    let began = Instant::now();
    let (ending, lines, results) = match &job.profile {
        Ok(profile) => drive(&session, &job, profile, needs, &mut witness, &cancel).await,
        Err(why) => nothing(Ending::NotStarted { reason: Reason::NoProfile, detail: why.clone() }),
    };
    let outcome = verdict::outcome(&ending, &lines);
    let seen_by_needs = verdict::need_result(&ending, &outcome);
    Ended { name: job.full_name(), outcome, took: began.elapsed(), seen_by_needs, results }
}

/// How an attempt ended, how each step did, and what its programs reported.
type Done = (Ending, Vec<StepLine>, Results);

fn nothing(ending: Ending) -> Done {
    (ending, Vec::new(), Results::default())
}

async fn drive<W: Witness>(
    session: &Session, job: &Job, profile: &Profile, needs: NeedsResults, witness: &mut W, cancel: &CancellationToken,
) -> Done {
    let created = tokio::select! {
        created = create(session, profile, job.cache.as_ref()) => created,
        // Dropping the creation leaves its home to the reaper, which is asked at once.
        () = cancel.cancelled() => {
            session.engine.reap().await;
            return nothing(Ending::Cancelled(CANCELLED.to_owned()));
        }
    };
    let (mut machine, prepared, note) = match created {
        Ok(created) => created,
        Err(NoVm { reason, detail, .. }) => return nothing(Ending::NotStarted { reason, detail }),
    };
    for note in prepared.notes().into_iter().chain(note) {
        witness.write(0, Stream::Service, format!("{note}\n").as_bytes()).await;
    }
    let ended = attend(session, job, profile, needs, &mut machine, &prepared, witness, cancel).await;
    if let Err(error) = machine.destroy().await {
        tracing::error!(vm = %machine.id(), %error, "a VM could not be removed");
    }
    ended
}

/// A machine, what it started from, and what its job's author has to know of its cache.
async fn create(
    session: &Session, profile: &Profile, id: Option<&CacheId>,
) -> Result<(Machine, Arc<Prepared>, Option<String>), NoVm> {
    let engine = &session.engine;
    let prepared = engine.prepare(&profile.image, shape_of(profile), &Logged).await?;
    let cache = match &profile.cache {
        Some(cache) => Some(engine.cache(cache, id, &prepared).await?),
        None => None,
    };
    let is_empty = cache.as_ref().is_some_and(|cache| cache.shared().is_none());
    let empty = profile.cache.as_ref().filter(|_| is_empty).map(|cache| why_empty(&cache.mount, id));
    let home = engine.home(VmId::random())?;
    let machine = engine.restore(home, &prepared, cache.as_ref()).await?;
    Ok((machine, prepared, empty))
}

fn why_empty(mount: &str, id: Option<&CacheId>) -> String {
    match id {
        Some(id) => format!("note: `{mount}` is empty: the cache `{id}` has no generation yet"),
        None => format!(
            "note: `{mount}` is empty: its caches are of repositories of the configured forge, and this is none"
        ),
    }
}

#[expect(clippy::too_many_arguments, reason = "everything that one attempt takes, named once")]
async fn attend<W: Witness>(
    session: &Session, job: &Job, profile: &Profile, needs: NeedsResults, machine: &mut Machine, prepared: &Prepared,
    witness: &mut W, cancel: &CancellationToken,
) -> Done {
    let places = Places::new(&prepared.info.user.home(), session.repo.name());
    let github = GithubContext {
        job: job.planned.spec.job.id.clone(),
        workspace: places.workspace.clone(),
        event_path: places.event_path.clone(),
        run_id: numeric_id(job.run.as_str()).to_string(),
        run_number: "1".to_owned(),
        run_attempt: "1".to_owned(),
        ..job.github.clone()
    };
    let place = JobPlace {
        github: github.clone(),
        runner: places.runner_context(machine.id().as_str()),
        needs,
        values: session.values.clone(),
        command_directory: places.commands.clone(),
    };
    let run = match JobRun::new(job.planned.spec.clone(), place) {
        Ok(run) => run,
        Err(complaint) => {
            let detail = complaint.to_string();
            return nothing(Ending::NotStarted { reason: Reason::Workflow, detail });
        }
    };
    let source = Source::Directory(session.source.clone());
    let egress = Egress::new(
        Scope::of_profile(&profile.name, &profile.egress, None),
        Arc::clone(&session.network),
        EgressMetrics::default(),
    );
    let forge = Url::parse(&format!("{}/", session.server_url)).ok().filter(|forge| egress.reaches(forge));
    let public = forge.zip(GitClient::new().ok()).map(|(forge, client)| (client, forge));
    let repositories = Some(session.repo.clone()).filter(|_| run.may_read_contents()).into_iter().collect();
    let attempt = Attempt {
        machine: &mut *machine,
        image: &prepared.info,
        places: &places,
        github: &github,
        origin: Origin { repo: &session.repo, forge_url: &session.server_url },
        workspace: Workspace::Empty,
        git: GitProxy::with_public(source, repositories, public, GitLimits::default()),
        egress,
        registries: session.registries.proxy(Some(&session.repo), &profile.name, false),
        results: ResultsService::new(Tenant {
            depot: session.depot.clone(),
            repo: session.repo.as_str().to_owned(),
            run: job.run.clone(),
            job: job.id.clone(),
            maker: Maker { run: job.run.clone(), job: job.id.clone(), attempt: 1 },
            job_name: job.planned.name.clone(),
            scopes: tenant::scopes_of(&github, None, false),
            page: None,
        }),
        actions: &session.actions,
        limit: profile.timeout,
        spent: Duration::ZERO,
        grace: session.grace,
        cancel,
    };
    let (ending, lines) = attempt.run(run, witness).await;
    let Ending::Steps(end) = &ending else { return (ending, lines, Results::default()) };
    let (wanted, file) = (&profile.reports, &job.planned.spec.file);
    let results = reports::gather(machine.guest(), &prepared.info, &places, wanted, file, &end.masks).await;
    for line in summary::lines(&results) {
        witness.write(0, Stream::Service, format!("{line}\n").as_bytes()).await;
    }
    (ending, lines, results)
}

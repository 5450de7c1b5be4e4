//! Concurrency groups: whose turn it is, of runs and of jobs that are in a group by themselves. Groups are of one repository,
//! and runs and jobs share them.

use std::collections::{HashMap, HashSet};

use super::{Job, Snapshot, Stage, WaitReason};
use crate::forge::RepoName;
use crate::ids::{JobId, RunId};
use crate::store::GroupPlace;

/// The concurrency group of one job, and its place there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnGroup {
    /// In lower case.
    pub group: String,
    /// When it entered, in milliseconds since the epoch: the turns come in this order.
    pub since: i64,
}

type Key<'a> = (&'a RepoName, &'a str);

/// The run of a group whose turn it is.
struct First<'a> {
    place: &'a GroupPlace,
    run: &'a RunId,
    has_begun: bool,
}

/// The members of a group that are jobs.
#[derive(Default)]
struct Members<'a> {
    /// One that has its turn.
    holder: Option<&'a Job>,
    /// The first of those that wait for it.
    next: Option<(i64, &'a JobId)>,
}

/// Whose turn in a group it is.
pub(super) enum Holder<'a> {
    /// A run, with how people call it. It is over when all of its jobs are.
    Run(&'a RunId, &'a str),
    Job(&'a JobId),
}

impl Holder<'_> {
    fn as_reason(&self, group: &str) -> WaitReason {
        let run = match self {
            Self::Run(_, label) => (*label).to_owned(),
            Self::Job(id) => format!("the job `{id}`"),
        };
        WaitReason::Group { group: group.to_owned(), run }
    }
}

/// All groups.
pub(super) struct Groups<'a> {
    runs: HashMap<Key<'a>, First<'a>>,
    jobs: HashMap<Key<'a>, Members<'a>>,
}

impl<'a> Groups<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        Self { runs: runs(snapshot), jobs: jobs(snapshot) }
    }

    /// Why the job has to wait for its run's turn, or for its own.
    pub(super) fn before(&self, job: &Job) -> Option<WaitReason> {
        let of_run = || Some(self.before_run(job)?.as_reason(&job.group.as_ref()?.group));
        let own = || Some(self.before_job(job)?.as_reason(&job.own_group.as_ref()?.group));
        of_run().or_else(own)
    }

    /// Who has to be over before the job can go on.
    pub(super) fn holder(&self, job: &Job) -> Option<Holder<'a>> {
        self.before_run(job).or_else(|| self.before_job(job))
    }

    /// Attempts of one run do not wait for each other.
    fn before_run(&self, job: &Job) -> Option<Holder<'a>> {
        let own = job.group.as_ref()?;
        let key = (&job.repo, own.group.as_str());
        let first = self.runs.get(&key)?;
        if *first.run != job.run && first.place.root != own.root {
            return Some(Holder::Run(first.run, &first.place.label));
        }
        let holder = self.jobs.get(&key).and_then(|members| members.holder).filter(|holder| holder.run != job.run);
        holder.filter(|_| !first.has_begun).map(|holder| Holder::Job(&holder.id))
    }

    fn before_job(&self, job: &Job) -> Option<Holder<'a>> {
        let own = job.own_group.as_ref().filter(|_| !job.is_entered)?;
        let key = (&job.repo, own.group.as_str());
        let earlier = |first: &&First<'_>| first.has_begun || first.place.order.0 <= own.since;
        if let Some(first) = self.runs.get(&key).filter(earlier) {
            return Some(Holder::Run(first.run, &first.place.label));
        }
        let members = self.jobs.get(&key)?;
        if let Some(holder) = members.holder {
            return Some(Holder::Job(&holder.id));
        }
        let (_, next) = members.next.filter(|(_, next)| **next != job.id)?;
        Some(Holder::Job(next))
    }
}

/// The run of each group whose turn it is: the first that is not over. One that has begun comes before those that
/// have not, even if it arrived after them, as another attempt of a run that had its turn does.
fn runs(snapshot: &Snapshot) -> HashMap<Key<'_>, First<'_>> {
    let begun: HashSet<&RunId> =
        snapshot.jobs.iter().filter(|job| job.stage != Stage::Waiting).map(|job| &job.run).collect();
    let mut first: HashMap<Key<'_>, First<'_>> = HashMap::new();
    for job in snapshot.jobs.iter().filter(|job| is_open(job)) {
        let Some(place) = &job.group else { continue };
        let new = First { place, run: &job.run, has_begun: begun.contains(&job.run) };
        let rank = |first: &First<'_>| (!first.has_begun, first.place.order, first.run.clone());
        match first.get_mut(&(&job.repo, place.group.as_str())) {
            Some(known) if rank(&new) < rank(known) => *known = new,
            Some(_) => {}
            None => drop(first.insert((&job.repo, &place.group), new)),
        }
    }
    first
}

fn jobs(snapshot: &Snapshot) -> HashMap<Key<'_>, Members<'_>> {
    let mut groups: HashMap<Key<'_>, Members<'_>> = HashMap::new();
    for job in snapshot.jobs.iter().filter(|job| is_open(job)) {
        let Some(own) = &job.own_group else { continue };
        let members = groups.entry((&job.repo, &own.group)).or_default();
        if job.stage != Stage::Waiting || job.is_entered {
            members.holder = Some(job);
        } else if members.next.is_none_or(|next| (own.since, &job.id) < next) {
            members.next = Some((own.since, &job.id));
        }
    }
    groups
}

fn is_open(job: &Job) -> bool {
    !matches!(job.stage, Stage::Finished(_))
}

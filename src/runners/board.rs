//! What is known in memory of the machines that serve GitHub's jobs: how far each is, and which groups have had bad luck.
//!
//! Who drops a machine that nobody needs and the machine that is about to register meet here: whichever comes first wins, so
//! that no runner with a job is ever dropped. Nothing here survives a restart, nor do the machines.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::NAME_PREFIX;
use super::plan::{Group, Stage};
use crate::forge::backoff;
use crate::ids::JobId;

/// How long a group is held back for a doubt: GitHub may be slow, or not be asked because its budget is low, and a machine too
/// many does less harm than jobs that wait.
pub(super) const LONGEST_DOUBT: Duration = Duration::from_secs(60);

/// How long a runner that works, and whose job GitHub does not name, meets the need of a job that waits here: it may be at a job
/// of a repository that this service does not serve.
const UNNAMED_WORK: Duration = Duration::from_secs(240);

/// Shared by the machines' drivers and by those who count.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// What the names of this service's runners begin with.
    prefix: String,
    state: Mutex<State>,
    /// GitHub should be asked soon.
    questions: Notify,
}

#[derive(Debug, Default)]
struct State {
    machines: HashMap<JobId, Machine>,
    /// Machines that GitHub's answer says no job will take.
    spare: HashSet<JobId>,
    /// Machines whose end was counted as its group's luck.
    counted: HashSet<JobId>,
    /// Runners that ended at a job that GitHub has not named.
    doubts: HashMap<String, Doubt>,
    /// Jobs that GitHub does not show when it is asked for them.
    unseen: HashMap<u64, Unseen>,
    luck: HashMap<Group, Luck>,
    /// The newest version of the runner that GitHub has.
    newest: Option<[u32; 3]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// Nobody needs it: it must not register.
    Dropped,
    /// Its runner is being registered, waits, or works; and since when, in milliseconds since the epoch.
    Registered(Stage, i64),
}

/// One of the jobs of a group that seem to wait was done by a runner that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) group: Group,
    /// Milliseconds since the epoch.
    pub(super) since: i64,
    /// Jobs that GitHub was asked for and gave no answer about.
    pub(super) unanswered: HashSet<u64>,
}

impl Doubt {
    /// Whether a job of the group, asked for last at `checked_at`, may be the one that the runner had. One that GitHub gave no
    /// answer about counts only if it was asked for before `asked_before`.
    pub(super) fn is_about(&self, job: u64, checked_at: i64, asked_before: i64) -> bool {
        checked_at < self.since || (checked_at < asked_before && self.unanswered.contains(&job))
    }
}

/// Answers of GitHub that there is no such job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unseen {
    pub(super) times: u32,
    /// The first one: milliseconds since the epoch.
    pub(super) since: i64,
}

/// What has gone wrong in a row, in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luck {
    pub failures: u32,
    /// Milliseconds since the epoch; no machine is added before.
    pub held_until: i64,
    /// The last failure, for people.
    pub detail: String,
}

impl Board {
    /// The board of a service whose runners are told from those of others by `instance`.
    pub fn of(instance: &str) -> Self {
        Self(Arc::new(Shared { prefix: format!("{NAME_PREFIX}{instance}-"), ..Shared::default() }))
    }

    /// What the names of this service's runners begin with.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// How far a machine is whose job runs.
    pub fn stage(&self, job: &JobId) -> Stage {
        self.locked(|state| match state.machines.get(job) {
            Some(Machine::Registered(stage, _)) => *stage,
            Some(Machine::Dropped) | None => Stage::Starting,
        })
    }

    /// Whether a machine's runner has worked for so long that GitHub would have said at which of our jobs.
    pub fn works_for_others(&self, job: &JobId, now: i64) -> bool {
        self.locked(|state| match state.machines.get(job) {
            Some(Machine::Registered(Stage::Busy, since)) => later(*since, UNNAMED_WORK) <= now,
            _ => false,
        })
    }

    /// Keeps a machine from registering; `false` if it has begun to.
    pub fn try_drop(&self, job: &JobId) -> bool {
        self.locked(|state| *state.machines.entry(job.clone()).or_insert(Machine::Dropped) == Machine::Dropped)
    }

    /// A machine is about to register; `false` if it was dropped.
    pub fn may_register(&self, job: &JobId) -> bool {
        let begins = Machine::Registered(Stage::Starting, 0);
        self.locked(|state| *state.machines.entry(job.clone()).or_insert(begins) == begins)
    }

    /// A registered machine got on.
    pub fn advance(&self, job: &JobId, stage: Stage, now: i64) {
        self.locked(|state| state.machines.insert(job.clone(), Machine::Registered(stage, now)));
    }

    /// A runner at a job that GitHub has not named has ended: one of the jobs that seem to wait was its own.
    pub fn doubt(&self, runner: String, group: Group, now: i64) {
        let doubt = Doubt { group, since: now, unanswered: HashSet::new() };
        self.locked(|state| state.doubts.insert(runner, doubt));
    }

    /// What GitHub must be asked about before anything is added, by the name of the runner that ended.
    pub(super) fn doubts(&self, now: i64) -> HashMap<String, Doubt> {
        self.locked(|state| {
            state.doubts.retain(|_, doubt| now < later(doubt.since, LONGEST_DOUBT));
            state.doubts.clone()
        })
    }

    /// GitHub was asked for a job of the group. Without an answer, the group's doubts remain.
    pub(super) fn note_answer(&self, group: &Group, job: u64, is_answered: bool) {
        self.locked(|state| {
            for doubt in state.doubts.values_mut().filter(|doubt| doubt.group == *group) {
                if is_answered {
                    doubt.unanswered.remove(&job);
                } else {
                    doubt.unanswered.insert(job);
                }
            }
        });
    }

    /// It is known which job the runner had, or that it is none of those that wait.
    pub(super) fn settle(&self, runner: &str) {
        self.locked(|state| state.doubts.remove(runner));
    }

    /// GitHub says that there is no such job. Gives how often it has said so.
    pub(super) fn not_seen(&self, job: u64, now: i64) -> Unseen {
        self.locked(|state| {
            let unseen = state.unseen.entry(job).or_insert(Unseen { times: 0, since: now });
            unseen.times += 1;
            *unseen
        })
    }

    /// GitHub shows the job, or nobody asks for it any more.
    pub(super) fn seen(&self, job: u64) {
        self.locked(|state| state.unseen.remove(&job));
    }

    /// Nobody asks any more for jobs other than these.
    pub(super) fn keep_unseen(&self, waiting: &HashSet<u64>) {
        self.locked(|state| state.unseen.retain(|job, _| waiting.contains(job)));
    }

    /// Whether GitHub does not show the job.
    pub(super) fn is_unseen(&self, job: u64) -> bool {
        self.locked(|state| state.unseen.contains_key(&job))
    }

    /// Has GitHub asked soon.
    pub(super) fn ask_soon(&self) {
        self.0.questions.notify_one();
    }

    /// Returns when somebody wants GitHub asked.
    pub(super) async fn asked(&self) {
        self.0.questions.notified().await;
    }

    /// Whether a machine that waits might as well go.
    pub fn is_spare(&self, job: &JobId) -> bool {
        self.locked(|state| state.spare.contains(job))
    }

    /// What the last look came to; machines that are not there any more are forgotten.
    pub fn note_look(&self, there: &HashSet<JobId>, spare: HashSet<JobId>) {
        self.locked(|state| {
            state.machines.retain(|job, _| there.contains(job));
            state.spare = spare;
        });
    }

    /// Whether the end of this machine was not counted before; from now on it was.
    pub(super) fn count_once(&self, job: &JobId) -> bool {
        self.locked(|state| state.counted.insert(job.clone()))
    }

    /// Only these machines can still be told of: whether others were counted is forgotten.
    pub(super) fn keep_counts(&self, unsettled: &HashSet<JobId>) {
        self.locked(|state| state.counted.retain(|job| unsettled.contains(job)));
    }

    /// A machine of the group failed: the next one waits longer each time.
    pub fn failed(&self, group: Group, detail: &str, jitter: f64, now: i64) -> Duration {
        self.locked(|state| {
            let (failures, held) = state.luck.get(&group).map_or((0, 0), |luck| (luck.failures, luck.held_until));
            let wait = backoff(failures, jitter);
            let held_until = held.max(later(now, wait));
            state.luck.insert(group, Luck { failures: failures + 1, held_until, detail: detail.to_owned() });
            wait
        })
    }

    /// The forge asks to wait so long before anything more is asked of it for the group.
    pub fn hold(&self, group: Group, wait: Duration, detail: &str, now: i64) {
        self.locked(|state| {
            let luck = Luck { failures: 0, held_until: 0, detail: detail.to_owned() };
            let luck = state.luck.entry(group).or_insert(luck);
            luck.held_until = luck.held_until.max(later(now, wait));
        });
    }

    /// A machine of the group did what it should.
    pub fn succeeded(&self, group: &Group) {
        self.locked(|state| state.luck.remove(group));
    }

    /// What has gone wrong in a group since something went well.
    pub fn luck(&self, group: &Group) -> Option<Luck> {
        self.locked(|state| state.luck.get(group).cloned())
    }

    /// GitHub names the newest version of its runner.
    pub fn note_newest(&self, version: [u32; 3]) {
        self.locked(|state| state.newest = Some(version));
    }

    /// The newest version, as far as it is known.
    pub fn newest(&self) -> Option<[u32; 3]> {
        self.locked(|state| state.newest)
    }

    fn locked<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A panic elsewhere cannot leave it half changed, so poisoning is no reason to stop.
        act(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn later(now: i64, wait: Duration) -> i64 {
    now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::RunnerPlace;

    #[test]
    fn a_machine_is_dropped_or_registers_whichever_comes_first() {
        let board = Board::default();
        let (early, late) = (JobId::random(), JobId::random());
        assert!(board.try_drop(&early) && board.try_drop(&early));
        assert!(!board.may_register(&early));
        assert!(board.may_register(&late));
        assert!(!board.try_drop(&late));
        board.advance(&late, Stage::Busy, 1_000);
        assert_eq!((board.stage(&early), board.stage(&late)), (Stage::Starting, Stage::Busy));
        board.note_look(&[late.clone()].into(), HashSet::new());
        assert_eq!(board.stage(&late), Stage::Busy);
        assert_eq!([240_999, 241_000].map(|now| board.works_for_others(&late, now)), [false, true]);
        board.advance(&late, Stage::Idle, 1_000);
        assert!(!board.works_for_others(&late, i64::MAX));
    }

    #[test]
    fn a_doubt_lasts_until_it_is_settled_and_never_for_long() {
        let board = Board::of("x");
        let group = Group { profile: "a".into(), place: RunnerPlace::Organization("demo".into()) };
        board.doubt("one".into(), group.clone(), 0);
        board.doubt("two".into(), group.clone(), 1_000);
        board.settle("one");
        assert_eq!(board.doubts(60_999).into_keys().collect::<Vec<_>>(), ["two"]);
        assert!(board.doubts(61_000).is_empty());
        assert_eq!(board.prefix(), "dayfly-x-");
    }

    #[test]
    fn a_question_without_an_answer_settles_no_doubt() {
        let board = Board::default();
        let group = Group { profile: "a".into(), place: RunnerPlace::Organization("demo".into()) };
        board.doubt("one".into(), group.clone(), 1_000);
        let is_about = |checked_at, asked_before| board.doubts(2_000)["one"].is_about(7, checked_at, asked_before);
        assert!(is_about(999, 0) && !is_about(1_000, i64::MAX));
        board.note_answer(&group, 7, false);
        assert!(is_about(1_500, i64::MAX), "it is not settled");
        assert!(!is_about(1_500, 1_500) && is_about(1_500, 1_501), "it is asked again, but not at once");
        let other = Group { profile: "b".into(), ..group.clone() };
        board.note_answer(&other, 7, true);
        assert!(is_about(1_500, i64::MAX));
        board.note_answer(&group, 7, true);
        assert!(!is_about(1_500, i64::MAX));
    }

    #[test]
    fn the_end_of_a_machine_counts_once_whoever_tells_of_it() {
        let board = Board::default();
        let (one, two) = (JobId::random(), JobId::random());
        assert!(board.count_once(&one) && !board.count_once(&one) && board.count_once(&two));
        board.keep_counts(&[one.clone()].into());
        assert!(!board.count_once(&one) && board.count_once(&two));
    }

    #[test]
    fn jobs_that_wait_no_more_are_not_missed() {
        let board = Board::default();
        for job in [1, 2] {
            board.not_seen(job, 5);
        }
        board.keep_unseen(&HashSet::from([2, 3]));
        assert_eq!([1, 2, 3].map(|job| board.is_unseen(job)), [false, true, false]);
        assert_eq!(board.not_seen(2, 9), Unseen { times: 2, since: 5 });
    }

    #[test]
    fn bad_luck_holds_back_longer_each_time_and_one_success_ends_it() {
        let board = Board::default();
        let group = Group { profile: "a".into(), place: RunnerPlace::Organization("demo".into()) };
        let waits: Vec<u64> = (0..3).map(|_| board.failed(group.clone(), "x", 1.0, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4]);
        assert_eq!(board.luck(&group).map(|luck| (luck.failures, luck.held_until)), Some((3, 4000)));
        board.hold(group.clone(), Duration::from_secs(60), "asked to wait", 0);
        board.failed(group.clone(), "x", 1.0, 0);
        assert_eq!(board.luck(&group).map(|luck| luck.held_until), Some(60_000), "the longer wait counts");
        board.succeeded(&group);
        assert_eq!(board.luck(&group), None);
    }
}

//! What is known in memory of the machines that serve GitHub's jobs: how far each is, and which groups have had bad luck.
//!
//! Who drops a machine that nobody needs and the machine that is about to register meet here: whichever comes first wins, so
//! that no runner with a job is ever dropped. Nothing here survives a restart, nor do the machines.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::plan::{Group, Stage};
use crate::forge::backoff;
use crate::ids::JobId;

/// Shared by the machines' drivers and by those who count.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    machines: HashMap<JobId, Machine>,
    /// Machines that GitHub's answer says no job will take.
    spare: HashSet<JobId>,
    /// Groups in which a machine ended at a job that GitHub has not named.
    doubtful: HashSet<Group>,
    luck: HashMap<Group, Luck>,
    /// The newest version of the runner that GitHub has.
    newest: Option<[u32; 3]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// Nobody needs it: it must not register.
    Dropped,
    /// Its runner is being registered, waits, or works.
    Registered(Stage),
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
    /// How far a machine is whose job runs.
    pub fn stage(&self, job: &JobId) -> Stage {
        self.locked(|state| match state.machines.get(job) {
            Some(Machine::Registered(stage)) => *stage,
            Some(Machine::Dropped) | None => Stage::Starting,
        })
    }

    /// Keeps a machine from registering; `false` if it has begun to.
    pub fn try_drop(&self, job: &JobId) -> bool {
        self.locked(|state| *state.machines.entry(job.clone()).or_insert(Machine::Dropped) == Machine::Dropped)
    }

    /// A machine is about to register; `false` if it was dropped.
    pub fn may_register(&self, job: &JobId) -> bool {
        let begins = Machine::Registered(Stage::Starting);
        self.locked(|state| *state.machines.entry(job.clone()).or_insert(begins) == begins)
    }

    /// A registered machine got on.
    pub fn advance(&self, job: &JobId, stage: Stage) {
        self.locked(|state| state.machines.insert(job.clone(), Machine::Registered(stage)));
    }

    /// A machine at a job that GitHub has not named has ended: one of the jobs that seem to wait was its own.
    pub fn doubt(&self, group: Group) {
        self.locked(|state| state.doubtful.insert(group));
    }

    /// The groups of which GitHub must be asked before anything is added.
    pub fn doubtful(&self) -> HashSet<Group> {
        self.locked(|state| state.doubtful.clone())
    }

    /// GitHub was asked.
    pub fn settle(&self, group: &Group) {
        self.locked(|state| state.doubtful.remove(group));
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
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
        board.advance(&late, Stage::Busy);
        assert_eq!((board.stage(&early), board.stage(&late)), (Stage::Starting, Stage::Busy));
        board.note_look(&[late.clone()].into(), HashSet::new());
        assert_eq!(board.stage(&late), Stage::Busy);
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

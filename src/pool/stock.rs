//! What is in the pools: every VM with its stage, and what each pool is made from. Changed under one lock, and never waited
//! for. Times are of the steady clock, but for those that people see.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::keeper::{Line, Reserved, keep};
use super::plan::{self, DEMAND_WINDOW, Stage};
use crate::clock;
use crate::config::{self, Config};
use crate::core::Core;
use crate::engine::Prepared;
use crate::forge::backoff;
use crate::ids::VmId;
use crate::metrics::PoolMetrics;
use crate::metrics::labels::PoolStage;
use crate::scheduler::plan::{Reserve, Room, Size};
use crate::vm::volume::CacheMount;

/// How long after a shortage of memory nothing is made: what was just given up would only be needed again.
const REST: Duration = Duration::from_secs(60);

/// What the VMs of a pool start from.
#[derive(Debug)]
pub struct Kit {
    pub prepared: Arc<Prepared>,
    pub cache: Option<CacheMount>,
}

impl Kit {
    /// Whether its VMs are of use to whoever wants those of the other. What is said of their image is not asked here: a job that
    /// gets one looks that up.
    fn is_same(&self, other: &Self) -> bool {
        self.prepared.starts_like(&other.prepared) && self.cache == other.cache
    }
}

/// The pools of all profiles.
#[derive(Debug)]
pub struct Pools(Mutex<Stock>);

#[derive(Debug)]
struct Stock {
    pools: BTreeMap<String, Pool>,
    vms: HashMap<VmId, Entry>,
    keepers: JoinSet<()>,
    is_closed: bool,
    /// Until when a shortage of memory is remembered.
    pressed_until: i64,
}

#[derive(Debug)]
struct Pool {
    settings: config::Pool,
    size: Size,
    /// `None` until image and cache are there.
    kit: Option<Arc<Kit>>,
    /// Since the last VM that served a job.
    failures: u32,
    not_before: i64,
    /// When jobs of the profile began, at most as many as count.
    starts: VecDeque<i64>,
}

#[derive(Debug)]
struct Entry {
    profile: String,
    kit: Arc<Kit>,
    stage: Stage,
    /// For people: milliseconds since the epoch.
    created_at: i64,
    /// To its keeper; gone once it is promised or shall go.
    line: Option<Line>,
}

/// A VM of a pool, for whoever asks what there is.
#[derive(Debug, Clone)]
pub struct Idling {
    pub vm: VmId,
    pub profile: String,
    pub stage: Stage,
    /// Milliseconds since the epoch.
    pub created_at: i64,
}

impl Pools {
    /// Empty pools for the profiles that have one.
    pub fn new(config: &Config) -> Self {
        let pools = config.profiles.iter().filter_map(|profile| {
            let size = Size { memory_mib: profile.memory >> 20, vcpus: profile.vcpus };
            let settings = profile.pool?;
            let starts = VecDeque::new();
            Some((profile.name.clone(), Pool { settings, size, kit: None, failures: 0, not_before: 0, starts }))
        });
        let (vms, keepers) = Default::default();
        Self(Mutex::new(Stock { pools: pools.collect(), vms, keepers, is_closed: false, pressed_until: 0 }))
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no profile has a pool, or all are being emptied for good.
    pub(super) fn are_none(&self) -> bool {
        let stock = self.stock();
        stock.pools.is_empty() || stock.is_closed
    }

    /// Notes what a pool is made from; gives whether that has changed.
    pub(super) fn set_kit(&self, profile: &str, kit: Option<Kit>) -> bool {
        let mut stock = self.stock();
        let Some(pool) = stock.pools.get_mut(profile) else { return false };
        let is_same = match (&pool.kit, &kit) {
            (Some(known), Some(kit)) => known.is_same(kit),
            (known, kit) => known.is_none() && kit.is_none(),
        };
        if !is_same {
            pool.kit = kit.map(Arc::new);
        }
        !is_same
    }

    /// Everything that the plan depends on.
    pub(super) fn observe(&self, now: i64, room: Room, others_wait: bool, is_short: bool) -> plan::Snapshot {
        let mut stock = self.stock();
        if is_short {
            stock.pressed_until = now.saturating_add(millis(REST));
        }
        let is_pressed = now < stock.pressed_until;
        let Stock { pools, vms, .. } = &mut *stock;
        let pools = pools.iter_mut().map(|(profile, pool)| pool.observe(profile, vms, now)).collect();
        plan::Snapshot { now, pools, room, others_wait, is_pressed }
    }

    /// Has a VM made.
    pub(super) fn make(&self, core: &Arc<Core>, profile: &str) {
        let mut stock = self.stock();
        while stock.keepers.try_join_next().is_some() {}
        if stock.is_closed {
            return;
        }
        let Some(kit) = stock.pools.get(profile).and_then(|pool| pool.kit.clone()) else { return };
        let (line, orders) = oneshot::channel();
        let (id, profile) = (VmId::random(), profile.to_owned());
        stock.keepers.spawn(keep(Arc::clone(core), id.clone(), profile.clone(), Arc::clone(&kit), orders));
        let created_at = clock::now_ms();
        stock.vms.insert(id, Entry { profile, kit, stage: Stage::Making, created_at, line: Some(line) });
    }

    /// Has a VM destroyed, unless it is promised already.
    pub(super) fn remove(&self, vm: &VmId) {
        if let Some(entry) = self.stock().vms.get_mut(vm).filter(|entry| entry.line.is_some()) {
            entry.stage = Stage::Leaving;
            // Without a line its keeper knows that nobody wants it.
            entry.line = None;
        }
    }

    /// Promises a VM to a job, if it is still there.
    pub(crate) fn take(&self, vm: &VmId) -> Option<Reserved> {
        let mut stock = self.stock();
        let entry = stock.vms.get_mut(vm).filter(|entry| matches!(entry.stage, Stage::Ready { .. }))?;
        let line = entry.line.take()?;
        entry.stage = Stage::Leaving;
        Some(Reserved::new(vm.clone(), line))
    }

    /// Counts a job's start; gives whether its profile has a pool.
    pub(super) fn note_start(&self, profile: &str, now: i64) -> bool {
        let mut stock = self.stock();
        let Some(pool) = stock.pools.get_mut(profile) else { return false };
        pool.starts.push_back(now);
        if pool.starts.len() > pool.settings.max as usize {
            pool.starts.pop_front();
        }
        true
    }

    /// A VM stands still, and may be claimed.
    pub(super) fn became_ready(&self, vm: &VmId, now: i64) {
        if let Some(entry) = self.stock().vms.get_mut(vm).filter(|entry| entry.stage == Stage::Making) {
            entry.stage = Stage::Ready { since: now };
        }
    }

    /// A VM of the profile was handed to its job: whatever made others fail is over.
    pub(super) fn succeeded(&self, profile: &str) {
        if let Some(pool) = self.stock().pools.get_mut(profile) {
            (pool.failures, pool.not_before) = (0, 0);
        }
    }

    /// A VM of the profile could not be made, or died. Gives how long none is made now.
    pub(super) fn failed(&self, profile: &str) -> Duration {
        let mut stock = self.stock();
        let Some(pool) = stock.pools.get_mut(profile) else { return Duration::ZERO };
        let wait = backoff(pool.failures, clock::jitter());
        pool.failures = pool.failures.saturating_add(1);
        pool.not_before = clock::steady_ms().saturating_add(millis(wait));
        wait
    }

    /// A VM is absent, or its job's.
    pub(super) fn forget(&self, vm: &VmId) {
        self.stock().vms.remove(vm);
    }

    /// What the pools hold of the host's room, those first that have been ready longest.
    pub(crate) fn reserve(&self) -> Vec<Reserve> {
        let stock = self.stock();
        let mut all: Vec<(&VmId, &Entry)> = stock.vms.iter().collect();
        all.sort_by_key(|(id, entry)| (entry.created_at, id.as_str()));
        let reserve = all.into_iter().filter_map(|(id, entry)| {
            let pool = stock.pools.get(&entry.profile)?;
            let is_current = pool.kit.as_ref().is_some_and(|kit| Arc::ptr_eq(kit, &entry.kit));
            Some(Reserve {
                vm: id.clone(),
                profile: entry.profile.clone(),
                size: pool.size,
                is_ready: matches!(entry.stage, Stage::Ready { .. }) && is_current,
                is_leaving: entry.stage == Stage::Leaving,
            })
        });
        reserve.collect()
    }

    /// Every VM of the pools, oldest first.
    pub(crate) fn idling(&self) -> Vec<Idling> {
        let stock = self.stock();
        let all = stock.vms.iter().map(|(vm, entry)| {
            let Entry { profile, stage, created_at, .. } = entry;
            Idling { vm: vm.clone(), profile: profile.clone(), stage: *stage, created_at: *created_at }
        });
        let mut all: Vec<Idling> = all.collect();
        all.sort_by(|a, b| (a.created_at, &a.vm).cmp(&(b.created_at, &b.vm)));
        all
    }

    /// Tells how many VMs there are.
    pub(super) fn measure(&self, metrics: &PoolMetrics) {
        let idling = self.idling();
        let count = |is_meant: fn(Stage) -> bool| idling.iter().filter(|vm| is_meant(vm.stage)).count() as u64;
        metrics.stands(PoolStage::Making, count(|stage| stage == Stage::Making));
        metrics.stands(PoolStage::Ready, count(|stage| matches!(stage, Stage::Ready { .. })));
        metrics.stands(PoolStage::Leaving, count(|stage| stage == Stage::Leaving));
    }

    /// Destroys every VM that is not promised, and waits until all are gone. Nothing is made any more.
    pub(super) async fn close(&self) {
        let mut keepers = {
            let mut stock = self.stock();
            stock.is_closed = true;
            stock.vms.values_mut().for_each(|entry| {
                entry.line = None;
                entry.stage = Stage::Leaving;
            });
            std::mem::take(&mut stock.keepers)
        };
        while keepers.join_next().await.is_some() {}
    }
}

impl Pool {
    /// The pool as the plan sees it. Starts that count no more are forgotten.
    fn observe(&mut self, profile: &str, vms: &HashMap<VmId, Entry>, now: i64) -> plan::Pool {
        let begin = now.saturating_sub(millis(DEMAND_WINDOW));
        self.starts.retain(|start| *start > begin);
        let of_plan = |(id, entry): (&VmId, &Entry)| plan::Vm {
            id: id.clone(),
            stage: entry.stage,
            is_current: self.kit.as_ref().is_some_and(|kit| Arc::ptr_eq(kit, &entry.kit)),
        };
        plan::Pool {
            profile: profile.to_owned(),
            min: self.settings.min as usize,
            max: self.settings.max as usize,
            max_age: self.settings.max_age,
            size: self.size,
            can_make: self.kit.is_some(),
            not_before: self.not_before,
            demand: self.starts.len(),
            vms: vms.iter().filter(|(_, entry)| entry.profile == profile).map(of_plan).collect(),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const AMPLE: Room = Room { vms: 9, memory_mib: 1 << 20, vcpus: 9 };

    fn pools() -> Pools {
        let text = "[server]\npublic_url = 'https://ci.example.org'\n[github]\nwebhook_secret = { env = 'HOOK' }\n\
                    token = { env = 'TOKEN' }\n[profile.linux]\nlabels = ['linux']\npool = { max = 2 }\n\
                    [profile.plain]\nlabels = ['plain']\n";
        Pools::new(&Config::parse("dayfly.toml", text).unwrap().0)
    }

    /// The only pool at a time.
    fn observed(pools: &Pools, now: i64) -> plan::Pool {
        pools.observe(now, AMPLE, false, false).pools.pop().unwrap()
    }

    #[test]
    fn starts_are_demand_for_a_while_and_up_to_the_maximum() {
        let pools = pools();
        assert!(!pools.note_start("plain", 0), "it has no pool");
        for now in [1000, 2000, 3000] {
            assert!(pools.note_start("linux", now));
        }
        let window = millis(DEMAND_WINDOW);
        assert_eq!([3000, 2000 + window, 3000 + window].map(|now| observed(&pools, now).demand), [2, 1, 0]);
    }

    #[test]
    fn failures_wait_longer_each_time_until_a_vm_serves_a_job() {
        let pools = pools();
        let waits: Vec<Duration> = (0..4).map(|_| pools.failed("linux")).collect();
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]) && waits[3] >= Duration::from_secs(4), "{waits:?}");
        assert!(observed(&pools, 0).not_before > clock::steady_ms());
        pools.succeeded("linux");
        assert_eq!(observed(&pools, 0).not_before, 0);
        assert!(pools.failed("linux") <= Duration::from_secs(1));
    }

    #[test]
    fn a_shortage_of_memory_is_remembered_for_a_while() {
        let pools = pools();
        let is_pressed = |now, is_short| pools.observe(now, AMPLE, false, is_short).is_pressed;
        let rest = millis(REST);
        assert_eq!(
            [
                is_pressed(0, false),
                is_pressed(1000, true),
                is_pressed(999 + rest, false),
                is_pressed(1000 + rest, false)
            ],
            [false, true, true, false]
        );
    }
}

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::forge::RepoName;

fn group(profile: &str) -> Group {
    let repo = RepoName::parse("demo/hello").expect("it is a name");
    Group { profile: profile.to_owned(), place: RunnerPlace::Repository(repo) }
}

fn vm(id: u32, stage: Stage, is_taken: bool) -> Vm<u32> {
    Vm { id, group: group("a"), stage, is_taken }
}

fn unbounded(_: &Group) -> Bounds {
    Bounds { most_of_profile: usize::MAX, is_held_back: false }
}

fn waiting(count: usize) -> Vec<Group> {
    vec![group("a"); count]
}

#[test]
fn each_waiting_job_is_met_once() {
    use Stage::{Busy, Idle, Queued, Starting};
    type Case<'a> = (usize, &'a [Vm<u32>], usize, &'a [u32], &'a [u32]);
    let cases: [Case<'_>; 8] = [
        (0, &[], 0, &[], &[]),
        (3, &[], 3, &[], &[]),
        (2, &[vm(1, Queued, false), vm(2, Starting, false)], 0, &[], &[]),
        (2, &[vm(1, Busy, true), vm(2, Idle, false)], 1, &[], &[]),
        // It works, and GitHub has not said at which job: that one still looks as if it waited.
        (1, &[vm(1, Busy, false)], 0, &[], &[]),
        (0, &[vm(1, Idle, false), vm(2, Starting, false), vm(3, Queued, false)], 0, &[3, 2], &[1]),
        (1, &[vm(1, Queued, false), vm(2, Idle, false), vm(3, Queued, false)], 0, &[3, 1], &[]),
        (0, &[vm(1, Busy, false), vm(2, Busy, true)], 0, &[], &[]),
    ];
    for (jobs, vms, added, dropped, spare) in cases {
        let plan = plan(&waiting(jobs), vms, unbounded);
        assert_eq!(plan.add.get(&group("a")).copied().unwrap_or(0), added, "{vms:?}");
        assert_eq!((plan.drop.as_slice(), plan.spare.as_slice()), (dropped, spare), "{vms:?}");
    }
}

#[test]
fn a_profile_has_a_limit_over_all_places_and_failures_hold_it_back() {
    let elsewhere = Group { place: RunnerPlace::Organization("demo".to_owned()), ..group("a") };
    let jobs = [group("a"), group("a"), elsewhere.clone(), elsewhere, group("b")];
    let vms = [vm(1, Stage::Busy, true)];
    let most_of = |most_of_profile| move |_: &Group| Bounds { most_of_profile, is_held_back: false };
    let added = |bounds: &dyn Fn(&Group) -> Bounds| plan(&jobs, &vms, bounds).add.into_values().sum::<usize>();
    assert_eq!(added(&most_of(3)), 3, "two more of `a`, and `b`");
    assert_eq!(added(&most_of(1)), 1);
    let held = |of: &Group| Bounds { most_of_profile: 9, is_held_back: of.profile == "a" };
    assert_eq!(added(&held), 1);
}

#[test]
fn who_has_waited_longest_gets_the_room_whatever_the_names() {
    let at = |name: &str| Group { place: RunnerPlace::Organization(name.to_owned()), ..group("a") };
    let jobs = [at("z"), at("a"), at("z"), at("a"), at("a")];
    let bounds = |_: &Group| Bounds { most_of_profile: 3, is_held_back: false };
    let added = |vms: &[Vm<u32>]| plan(&jobs, vms, bounds).add.into_iter().collect::<Vec<_>>();
    assert_eq!(added(&[]), [(at("a"), 1), (at("z"), 2)]);
    let busy = Vm { id: 1, group: at("a"), stage: Stage::Busy, is_taken: true };
    assert_eq!(added(&[busy]), [(at("a"), 1), (at("z"), 1)]);
}

/// What can happen, in any order.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A job is queued at GitHub; its event arrives or is lost.
    Queue { is_told: bool },
    /// GitHub gives a waiting job to a runner that waits; the event arrives or is lost.
    Assign { is_told: bool },
    /// Somebody else's runner takes a job.
    Steal { is_told: bool },
    /// The oldest job that runs ends.
    End,
    /// A machine dies before GitHub knows its runner.
    Die,
    /// A machine gets one stage on.
    Advance,
    /// The forge is asked what is true.
    Reconcile,
}

/// GitHub, the machines, and what Dayfly believes.
#[derive(Debug, Default)]
struct World {
    /// Jobs that wait at GitHub.
    waiting: Vec<u32>,
    /// Jobs of which Dayfly believes that they wait.
    believed: Vec<u32>,
    vms: BTreeMap<u32, Vm<u32>>,
    /// Which job each machine has.
    at: BTreeMap<u32, u32>,
    last: u32,
}

impl World {
    fn next(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::Queue { is_told } => {
                let job = self.next();
                self.waiting.push(job);
                self.believed.extend(is_told.then_some(job));
            }
            Happening::Assign { is_told } => {
                let idle = self.vms.values_mut().find(|vm| vm.stage == Stage::Idle);
                let (Some(vm), Some(job)) = (idle, self.waiting.first().copied()) else { return };
                vm.stage = Stage::Busy;
                vm.is_taken = is_told;
                self.at.insert(vm.id, job);
                self.waiting.retain(|other| *other != job);
                if is_told {
                    self.believed.retain(|other| *other != job);
                }
            }
            Happening::Steal { is_told } => {
                let Some(job) = self.waiting.pop() else { return };
                if is_told {
                    self.believed.retain(|other| *other != job);
                }
            }
            Happening::End => {
                let Some((vm, _)) = self.at.pop_first() else { return };
                let was_named = self.vms.remove(&vm).is_some_and(|vm| vm.is_taken);
                // Whoever ran a job that nobody named makes all that wait doubtful.
                if !was_named {
                    self.happens(Happening::Reconcile);
                }
            }
            Happening::Die => {
                let dead = self.vms.values().find(|vm| vm.stage <= Stage::Starting).map(|vm| vm.id);
                dead.map(|id| self.vms.remove(&id));
            }
            Happening::Advance => {
                for vm in self.vms.values_mut() {
                    vm.stage = match vm.stage {
                        Stage::Queued => Stage::Starting,
                        Stage::Starting => Stage::Idle,
                        stage => stage,
                    };
                }
            }
            Happening::Reconcile => {
                self.believed = self.waiting.clone();
                for vm in self.vms.values_mut() {
                    vm.is_taken |= self.at.contains_key(&vm.id);
                }
            }
        }
        self.look();
    }

    fn look(&mut self) {
        let jobs = waiting(self.believed.len());
        let vms: Vec<Vm<u32>> = self.vms.values().cloned().collect();
        let plan = plan(&jobs, &vms, unbounded);
        for id in plan.drop {
            self.vms.remove(&id);
        }
        for _ in 0..plan.add.values().sum::<usize>() {
            let id = self.next();
            self.vms.insert(id, vm(id, Stage::Queued, false));
        }
    }

    /// Machines that wait for a job long enough without one being there go.
    fn time_passes(&mut self) {
        for _ in 0..3 {
            self.happens(Happening::Reconcile);
            self.happens(Happening::Advance);
        }
        let vms: Vec<Vm<u32>> = self.vms.values().cloned().collect();
        for id in plan(&waiting(self.believed.len()), &vms, unbounded).spare {
            self.vms.remove(&id);
        }
    }

    fn free(&self) -> usize {
        self.vms.values().filter(|vm| vm.stage != Stage::Busy).count()
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        any::<bool>().prop_map(|is_told| Happening::Queue { is_told }),
        any::<bool>().prop_map(|is_told| Happening::Assign { is_told }),
        any::<bool>().prop_map(|is_told| Happening::Steal { is_told }),
        Just(Happening::End),
        Just(Happening::Die),
        Just(Happening::Advance),
        Just(Happening::Reconcile),
    ]
}

proptest! {
    #[test]
    fn machines_come_to_be_as_many_as_jobs_wait(happenings in proptest::collection::vec(happening(), 0..60)) {
        let mut world = World::default();
        for happening in happenings {
            world.happens(happening);
            prop_assert!(world.vms.len() <= world.last as usize);
        }
        world.time_passes();
        prop_assert_eq!(world.free(), world.waiting.len(), "one for each job that waits, and no more");
        while !world.waiting.is_empty() || !world.at.is_empty() {
            world.happens(Happening::Assign { is_told: false });
            world.happens(Happening::End);
        }
        world.time_passes();
        prop_assert!(world.vms.is_empty(), "{:?}", world.vms);
    }

    #[test]
    fn nobody_gets_two_machines_while_events_arrive(jobs in 1usize..8, looks in proptest::collection::vec(happening(), 0..20)) {
        let mut world = World::default();
        for _ in 0..jobs {
            world.happens(Happening::Queue { is_told: true });
        }
        prop_assert_eq!(world.vms.len(), jobs);
        for _ in looks {
            world.look();
            prop_assert_eq!(world.vms.len(), jobs, "looking changes nothing");
        }
    }
}

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_vms: 3, memory_mib: 4096, vcpus: 4 };
pub(super) const SMALL: Size = Size { memory_mib: 1024, vcpus: 1 };

/// Jobs of one size have one profile.
fn profile_of(size: Size) -> String {
    format!("{}m-{}c", size.memory_mib, size.vcpus)
}

/// Jobs with speaking names: ids are random, so tests find jobs by `run/key`.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) jobs: Vec<Job>,
    runs: HashMap<String, RunId>,
    reserve: Vec<Reserve>,
    disk: Option<Disk>,
}

impl World {
    /// `place` is `repo/run/key`; `needs` are separated by spaces.
    pub(super) fn add(&mut self, place: &str, needs: &str, stage: Stage, size: Size) -> JobId {
        let (repo, run, key) = match *place.split('/').collect::<Vec<_>>() {
            [repo, run, key] => (repo, run, key),
            _ => panic!("`{place}` is not repo/run/key"),
        };
        let job = Job {
            id: JobId::random(),
            run: self.runs.entry(run.to_owned()).or_insert_with(RunId::random).clone(),
            repo: RepoName::parse(&format!("demo/{repo}")).unwrap(),
            key: key.to_owned(),
            needs: needs.split_whitespace().map(str::to_owned).collect(),
            stage,
            profile: Some(profile_of(size)),
            size,
            group: None,
            own_group: None,
            is_entered: false,
            starts_from: None,
            matrix: None,
            has_failed: false,
            is_ending: false,
        };
        self.jobs.push(job);
        self.jobs.last().unwrap().id.clone()
    }

    fn snapshot(&self, now: i64) -> Snapshot {
        Snapshot { now, limits: LIMITS, disk: self.disk, reserve: self.reserve.clone(), jobs: self.jobs.clone() }
    }

    /// A VM of the pool for jobs of this size.
    fn idle(&mut self, size: Size) -> VmId {
        let vm = VmId::random();
        let profile = profile_of(size);
        self.reserve.push(Reserve { vm: vm.clone(), profile, size, is_ready: true, is_leaving: false });
        vm
    }

    /// What was told to go is gone.
    fn let_go(&mut self) {
        self.reserve.retain(|vm| !vm.is_leaving);
    }

    pub(super) fn plan(&self, now: i64) -> Plan {
        plan(&self.snapshot(now), |_, _| Gate::Run)
    }

    /// The plan in words.
    fn told(&self, now: i64) -> String {
        let key = |id: &JobId| &self.jobs.iter().find(|job| job.id == *id).unwrap().key;
        let plan = self.plan(now);
        let mut lines: Vec<String> = plan
            .actions
            .iter()
            .map(|action| match action {
                Action::Queue(id) => format!("queue {}", key(id)),
                Action::Skip(id) => format!("skip {}", key(id)),
                Action::Unfold(id) => format!("unfold {}", key(id)),
                Action::Join(id) => format!("join {}", key(id)),
                Action::Fail(id, text) => format!("fail {}: {text}", key(id)),
                Action::Start(id) => format!("start {}", key(id)),
                Action::Claim(id, _) => format!("claim {}", key(id)),
                Action::Cancel(id) => format!("cancel {}", key(id)),
                Action::Evict(vm) => {
                    format!("evict {}", self.reserve.iter().find(|known| known.vm == *vm).unwrap().profile)
                }
            })
            .collect();
        for job in &self.jobs {
            if let Some(reason) = plan.why(&job.id) {
                let mut reason = reason.to_string();
                for other in &self.jobs {
                    reason = reason.replace(other.id.as_str(), &other.key);
                }
                lines.push(format!("{}: {reason}", job.key));
            }
        }
        lines.join("\n")
    }
}

/// How a VM of this size gets its room that no job asked for, in words.
fn told_aside(world: &World, size: Size) -> String {
    match aside(&world.snapshot(0), size) {
        Aside::Now => "now".to_owned(),
        Aside::After(vms) => format!("after {}", vms.len()),
        Aside::NotNow => "not now".to_owned(),
    }
}

#[test]
fn idle_vms_give_way_to_what_is_made_for_later_jobs_and_jobs_do_not() {
    let large = Size { memory_mib: 4096, vcpus: 1 };
    let mut world = World::default();
    assert_eq!(told_aside(&world, SMALL), "now");
    let idle: Vec<VmId> = (0..3).map(|_| world.idle(SMALL)).collect();
    assert_eq!([SMALL, large].map(|size| told_aside(&world, size)), ["after 1", "after 3"]);
    // One that is ready for its job is worth more than one that is being made.
    world.reserve[2].is_ready = false;
    assert_eq!(aside(&world.snapshot(0), SMALL), Aside::After(vec![idle[2].clone()]));
    world.reserve[2].is_leaving = true;
    assert_eq!(aside(&world.snapshot(0), SMALL), Aside::After(vec![]), "it has only to wait for that one");
    world.let_go();
    assert_eq!(told_aside(&world, SMALL), "now");

    world.add("a/r/running", "", Stage::Occupying, SMALL);
    assert_eq!([SMALL, large].map(|size| told_aside(&world, size)), ["after 1", "not now"]);
    world.add("a/r/queued", "", queued(0), SMALL);
    assert_eq!(told_aside(&world, SMALL), "not now", "a job has its turn first");
    world.jobs.pop();
    world.disk = Some(Disk { free_mib: 1, reserve_mib: 2 });
    assert_eq!(told_aside(&world, SMALL), "not now");
}

#[test]
fn cells_wait_for_the_one_that_runs_their_common_steps_and_hold_nobody_up() {
    let mut world = World::default();
    let leader = world.add("a/r/leader", "", Stage::Occupying, SMALL);
    for key in ["second", "third"] {
        world.add(&format!("a/r/{key}"), "", queued(0), SMALL);
        world.jobs.last_mut().unwrap().starts_from = Some(leader.clone());
    }
    world.add("a/r/other", "", queued(1), SMALL);
    let after_patience = i64::try_from(PATIENCE.as_millis()).unwrap() + 2;
    insta::assert_snapshot!(world.told(after_patience), @r"
    start other
    second: waiting for `leader`, which runs the first steps of their matrix
    third: waiting for `leader`, which runs the first steps of their matrix
    ");
}

fn queued(since: i64) -> Stage {
    Stage::Queued { since }
}

pub(super) const DONE: Stage = Stage::Finished(Conclusion::Success);

#[test]
fn a_job_waits_for_all_cells_of_what_it_needs() {
    let mut world = World::default();
    world.add("hello/ci/test", "", DONE, SMALL);
    world.add("hello/ci/test", "", Stage::Occupying, SMALL);
    world.add("hello/ci/lint", "", DONE, SMALL);
    world.add("hello/ci/deploy", "test lint", Stage::Waiting, SMALL);
    world.add("hello/other/test", "", DONE, SMALL);
    insta::assert_snapshot!(world.told(0), @"deploy: waiting for `test`");
    world.jobs[1].stage = Stage::Finished(Conclusion::Failure);
    insta::assert_snapshot!(world.told(0), @"queue deploy");
}

#[test]
fn the_gate_decides_with_the_jobs_that_are_needed() {
    let mut world = World::default();
    world.add("hello/ci/test", "", Stage::Finished(Conclusion::Failure), SMALL);
    let skipped = world.add("hello/ci/deploy", "test", Stage::Waiting, SMALL);
    let broken = world.add("hello/ci/broken", "", Stage::Waiting, SMALL);
    let plan = plan(&world.snapshot(0), |_, needed| match needed {
        [] => Gate::Error("`if` is not an expression".into()),
        [test] if test.stage == DONE => Gate::Run,
        _ => Gate::Skip,
    });
    let expected = [Action::Skip(skipped), Action::Fail(broken, "`if` is not an expression".into())];
    assert_eq!(plan.actions, expected);
}

/// Puts all jobs of a run into a group.
pub(super) fn group(world: &mut World, run: &str, group: &str, arrived_at: i64, root: Option<&str>) {
    let id = world.runs[run].clone();
    let root = root.map_or_else(|| id.clone(), |root| world.runs[root].clone());
    for job in world.jobs.iter_mut().filter(|job| job.run == id) {
        let label = format!("run {run}");
        job.group = Some(GroupPlace { group: group.into(), order: (arrived_at, 0), root: root.clone(), label });
    }
}

#[test]
fn one_run_of_a_group_runs_after_the_other_in_the_order_of_arrival() {
    let mut world = World::default();
    for (place, needs, stage) in [
        // Created out of order.
        ("hello/third/c", "", Stage::Waiting),
        ("hello/first/done", "", DONE),
        ("hello/first/a", "", Stage::Occupying),
        ("hello/second/b", "", Stage::Waiting),
        ("hello/second/later", "b", Stage::Waiting),
        ("hello/again/x", "", Stage::Waiting),
        ("hello/other/y", "", Stage::Waiting),
        ("fork/foreign/z", "", Stage::Waiting),
    ] {
        world.add(place, needs, stage, SMALL);
    }
    for (run, name, arrived_at, root) in [
        ("third", "g", 3, None),
        ("first", "g", 1, None),
        ("second", "g", 2, None),
        // A re-run of one job of the first does not wait for the rest of it.
        ("again", "g", 4, Some("first")),
        ("other", "h", 2, None),
        ("foreign", "g", 2, None),
    ] {
        group(&mut world, run, name, arrived_at, root);
    }
    insta::assert_snapshot!(world.told(0), @r"
    queue x
    queue y
    queue z
    c: waiting for the concurrency group `g`: run first is not over
    b: waiting for the concurrency group `g`: run first is not over
    later: waiting for `b`
    ");
    world.jobs[2].stage = DONE;
    world.jobs[5].stage = DONE;
    insta::assert_snapshot!(world.told(0), @r"
    queue b
    queue y
    queue z
    c: waiting for the concurrency group `g`: run second is not over
    later: waiting for `b`
    ");
}

#[test]
fn another_attempt_that_has_begun_keeps_its_turn_when_the_first_is_over() {
    let mut world = World::default();
    world.add("hello/first/done", "", DONE, SMALL);
    world.add("hello/first/x", "", Stage::Occupying, SMALL);
    world.add("hello/next/n", "", Stage::Waiting, SMALL);
    world.add("hello/again/y", "", Stage::Occupying, SMALL);
    world.add("hello/again/z", "y", Stage::Waiting, SMALL);
    for (run, arrived_at, root) in [("first", 1, None), ("next", 2, None), ("again", 3, Some("first"))] {
        group(&mut world, run, "g", arrived_at, root);
    }
    let told = |world: &World| world.told(0);
    insta::assert_snapshot!(told(&world), @r"
    n: waiting for the concurrency group `g`: run first is not over
    z: waiting for `y`
    ");
    world.jobs[1].stage = DONE;
    insta::assert_snapshot!(told(&world), @r"
    n: waiting for the concurrency group `g`: run again is not over
    z: waiting for `y`
    ");
    world.jobs[3].stage = DONE;
    insta::assert_snapshot!(told(&world), @r"
    queue z
    n: waiting for the concurrency group `g`: run again is not over
    ");
}

#[test]
fn needs_that_can_never_be_met_fail() {
    let mut world = World::default();
    world.add("hello/ci/deploy", "tset", Stage::Waiting, SMALL);
    world.add("hello/circle/egg", "hen", Stage::Waiting, SMALL);
    world.add("hello/circle/hen", "egg", Stage::Waiting, SMALL);
    insta::assert_snapshot!(world.told(0), @r"
    fail deploy: it needs `tset`, which its run does not have
    fail egg: it needs `hen`, and they wait for each other
    fail hen: it needs `egg`, and they wait for each other
    ");
}

#[test]
fn the_repository_with_the_fewest_vms_comes_first_then_the_oldest() {
    let mut world = World::default();
    world.add("busy/ci/b0", "", Stage::Occupying, SMALL);
    world.add("busy/ci/b1", "", queued(1), SMALL);
    world.add("calm/ci/c3", "", queued(3), SMALL);
    world.add("calm/ci/c2", "", queued(2), SMALL);
    insta::assert_snapshot!(world.told(0), @r"
    start c2
    start b1
    c3: waiting for a VM: 3 of 3 are busy
    ");
}

#[test]
fn a_job_that_does_not_fit_is_overtaken_only_for_a_while() {
    let mut world = World::default();
    world.add("big/ci/running", "", Stage::Occupying, SMALL);
    world.add("big/ci/big", "", queued(0), Size { memory_mib: 4096, vcpus: 1 });
    world.add("tiny/ci/tiny", "", queued(5), SMALL);
    world.add("tiny/ci/late", "", queued(6), SMALL);
    let patience = i64::try_from(PATIENCE.as_millis()).unwrap();
    insta::assert_snapshot!(world.told(patience - 1), @r"
    start tiny
    start late
    big: waiting for memory: it takes 4096 MiB, 2048 MiB are free
    ");
    // The other repository has no VM: its turn still comes first, but only once.
    insta::assert_snapshot!(world.told(patience), @r"
    start tiny
    big: waiting for memory: it takes 4096 MiB, 2048 MiB are free
    late: waiting behind `big`, which has waited longer and needs more room
    ");
}

#[test]
fn a_job_that_can_never_fit_fails() {
    let mut world = World::default();
    world.add("hello/ci/memory", "", queued(0), Size { memory_mib: 8192, vcpus: 1 });
    world.add("hello/ci/vcpus", "", queued(0), Size { memory_mib: 1, vcpus: 5 });
    let mut told: Vec<_> = world.told(0).lines().map(str::to_owned).collect();
    told.sort();
    insta::assert_snapshot!(told.join("\n"), @r"
    fail memory: it takes 8192 MiB of memory; all VMs together have 4096 MiB
    fail vcpus: it takes 5 vCPUs; all VMs together have 4
    ");
}

#[test]
fn what_already_runs_may_exceed_lowered_limits() {
    let mut world = World::default();
    for _ in 0..5 {
        world.add("hello/ci/old", "", Stage::Occupying, Size { memory_mib: 4096, vcpus: 4 });
    }
    world.add("hello/ci/new", "", queued(0), SMALL);
    insta::assert_snapshot!(world.told(0), @"new: waiting for a VM: 3 of 3 are busy");
}

#[test]
fn a_job_takes_a_vm_of_its_own_pool_and_makes_others_give_way() {
    let big = Size { memory_mib: 3072, vcpus: 2 };
    let mut world = World::default();
    world.idle(SMALL);
    world.idle(SMALL);
    world.add("hello/ci/small", "", queued(1), SMALL);
    insta::assert_snapshot!(world.told(0), @"claim small");
    world.add("hello/ci/big", "", queued(2), big);
    insta::assert_snapshot!(world.told(0), @"
    claim small
    evict 1024m-1c
    big: waiting for room: idle VMs of the pools are being destroyed
    ");
    let plan = world.plan(0);
    carry_out(&mut world, &plan, 0);
    // It is promised the room that is about to be free: nobody else gets that.
    world.add("hello/ci/late", "", queued(3), SMALL);
    insta::assert_snapshot!(world.told(0), @"
    big: waiting for room: idle VMs of the pools are being destroyed
    late: waiting for memory: it takes 1024 MiB, 0 MiB are free
    ");
    world.let_go();
    insta::assert_snapshot!(world.told(0), @"
    start big
    late: waiting for memory: it takes 1024 MiB, 0 MiB are free
    ");
}

#[test]
fn pools_stay_where_that_would_not_help() {
    let mut world = World::default();
    world.idle(SMALL);
    world.add("hello/ci/running", "", Stage::Occupying, Size { memory_mib: 2048, vcpus: 1 });
    world.add("hello/ci/big", "", queued(0), Size { memory_mib: 3072, vcpus: 1 });
    insta::assert_snapshot!(world.told(0), @"big: waiting for memory: it takes 3072 MiB, 2048 MiB are free");
    world.reserve[0].is_ready = false;
    world.jobs[0].stage = DONE;
    insta::assert_snapshot!(world.told(0), @"start big");
}

#[test]
fn nothing_starts_on_a_disk_that_is_nearly_full() {
    let mut world = World::default();
    world.idle(SMALL);
    world.disk = Some(Disk { free_mib: 99, reserve_mib: 100 });
    world.add("hello/ci/small", "", queued(1), SMALL);
    world.add("hello/ci/later", "", queued(2), SMALL);
    insta::assert_snapshot!(world.told(i64::MAX), @"
    small: waiting for disk space: 99 MiB are free, 100 MiB are kept free
    later: waiting for disk space: 99 MiB are free, 100 MiB are kept free
    ");
    world.disk = Some(Disk { free_mib: 100, reserve_mib: 100 });
    insta::assert_snapshot!(world.told(0), @"
    claim small
    start later
    ");
}

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        3 => Just(Stage::Waiting),
        4 => (0_i64..500_000).prop_map(queued),
        1 => Just(Stage::Occupying),
        2 => Just(DONE),
        1 => Just(Stage::Finished(Conclusion::Failure)),
    ]
}

/// Up to 40 jobs in 3 repositories with 2 runs each. Needs name smaller keys only, as in a checked workflow.
fn world() -> impl Strategy<Value = World> {
    let job = (0..3_u8, 0..2_u8, 0..5_u8, prop::collection::vec(0..5_u8, 0..3), stage(), 1_u64..5000, 1_u32..6);
    // The pools are within the limits: who fills them sees to that.
    let idle = prop::collection::vec((0..3_usize, any::<bool>(), any::<bool>()), 0..3);
    (prop::collection::vec(job, 0..40), idle).prop_map(|(jobs, idle)| {
        let mut world = World::default();
        for (like, is_ready, is_leaving) in idle {
            let size =
                jobs.get(like).map_or(SMALL, |(.., memory_mib, vcpus)| Size { memory_mib: *memory_mib, vcpus: *vcpus });
            world.idle(size);
            if let Some(vm) = world.reserve.last_mut() {
                (vm.is_ready, vm.is_leaving) = (is_ready && !is_leaving, is_leaving);
            }
        }
        for (repo, run, key, needs, stage, memory_mib, vcpus) in jobs {
            let needs: Vec<_> = needs.iter().filter(|need| **need < key).map(|need| format!("k{need}")).collect();
            let place = format!("r{repo}/r{repo}-{run}/k{key}");
            world.add(&place, &needs.join(" "), stage, Size { memory_mib, vcpus });
        }
        world
    })
}

/// Carries out a plan; panics on what must not be in it.
pub(super) fn carry_out(world: &mut World, plan: &Plan, now: i64) {
    for action in &plan.actions {
        let (id, next) = match action {
            Action::Evict(vm) => {
                let vm = world.reserve.iter_mut().find(|known| known.vm == *vm).unwrap();
                assert!(!vm.is_leaving, "a VM goes once");
                vm.is_leaving = true;
                continue;
            }
            Action::Claim(id, vm) => {
                let at = world.reserve.iter().position(|known| known.vm == *vm).expect("a VM is given to one job");
                let claimed = world.reserve.remove(at);
                let job = world.jobs.iter().find(|job| job.id == *id).unwrap();
                assert!(claimed.is_ready && !claimed.is_leaving && Some(claimed.profile) == job.profile);
                (id, Stage::Occupying)
            }
            Action::Queue(id) | Action::Unfold(id) | Action::Join(id) => (id, queued(now)),
            Action::Skip(id) => (id, Stage::Finished(Conclusion::Skipped)),
            Action::Fail(id, _) => (id, Stage::Finished(Conclusion::Error)),
            Action::Cancel(id) => (id, Stage::Finished(Conclusion::Cancelled)),
            Action::Start(id) => (id, Stage::Occupying),
        };
        let at = world.jobs.iter().position(|job| job.id == *id).unwrap();
        let job = &world.jobs[at];
        match action {
            Action::Start(_) | Action::Claim(..) => {
                assert!(matches!(job.stage, Stage::Queued { .. }), "only queued jobs start, and once");
            }
            Action::Evict(_) | Action::Cancel(_) => {}
            Action::Queue(_) | Action::Skip(_) | Action::Unfold(_) | Action::Join(_) => {
                assert_eq!(job.stage, Stage::Waiting);
                let is_open = |other: &&Job| {
                    other.run == job.run && job.needs.contains(&other.key) && !matches!(other.stage, Stage::Finished(_))
                };
                assert_eq!(world.jobs.iter().find(is_open), None, "its needs have finished");
            }
            Action::Fail(..) => assert!(matches!(job.stage, Stage::Waiting | Stage::Queued { .. })),
        }
        world.jobs[at].stage = next;
    }
}

fn occupied(world: &World) -> (usize, u64, u32) {
    let jobs = world.jobs.iter().filter(|job| job.stage == Stage::Occupying).map(|job| job.size);
    jobs.chain(world.reserve.iter().map(|vm| vm.size))
        .fold((0, 0, 0), |(vms, memory, vcpus), size| (vms + 1, memory + size.memory_mib, vcpus + size.vcpus))
}

proptest! {
    #[test]
    fn a_plan_keeps_the_limits_and_accounts_for_every_job(mut world in world(), now in 0_i64..1_000_000) {
        let before = occupied(&world);
        let plan = world.plan(now);
        for job in &world.jobs {
            let acts = plan.actions.iter().filter(|action| match action {
                Action::Queue(id) | Action::Skip(id) | Action::Unfold(id) | Action::Join(id) | Action::Fail(id, _) | Action::Start(id) | Action::Claim(id, _) | Action::Cancel(id) => *id == job.id,
                Action::Evict(_) => false,
            }).count();
            let is_open = matches!(job.stage, Stage::Waiting | Stage::Queued { .. });
            prop_assert_eq!(acts + usize::from(plan.why(&job.id).is_some()), usize::from(is_open));
        }
        carry_out(&mut world, &plan, now);
        let after = occupied(&world);
        if after != before {
            prop_assert!(after.0 <= LIMITS.max_vms && after.1 <= LIMITS.memory_mib && after.2 <= LIMITS.vcpus);
        }
    }

    #[test]
    fn everything_ends_when_jobs_end(mut world in world()) {
        let mut now = 500_000;
        while world.jobs.iter().any(|job| !matches!(job.stage, Stage::Finished(_))) {
            now += 1000;
            let plan = world.plan(now);
            carry_out(&mut world, &plan, now);
            let is_making_room = world.reserve.iter().any(|vm| vm.is_leaving);
            world.let_go();
            let running = world.jobs.iter_mut().find(|job| job.stage == Stage::Occupying);
            let has_moved = running.is_some() || !plan.actions.is_empty() || is_making_room;
            prop_assert!(has_moved, "an idle host makes progress");
            if let Some(job) = running {
                job.stage = DONE;
            }
        }
    }

    /// Small jobs of other repositories never stop coming; the big one starts all the same.
    #[test]
    fn a_big_job_does_not_starve(lengths in prop::collection::vec(1_i64..90, 50), repos in 1_usize..6) {
        let mut world = World::default();
        let big = world.add("big/ci/big", "", queued(0), Size { memory_mib: 4096, vcpus: 4 });
        let mut ends: HashMap<JobId, i64> = HashMap::new();
        for second in 0..600 {
            let now = second * 1000;
            world.jobs.retain(|job| ends.get(&job.id).is_none_or(|end| *end > now));
            let place = format!("small{}/ci{second}/small", usize::try_from(second).unwrap() % repos);
            world.add(&place, "", queued(now), SMALL);
            let plan = world.plan(now);
            carry_out(&mut world, &plan, now);
            for (action, length) in plan.actions.iter().zip(lengths.iter().cycle().skip(usize::try_from(second).unwrap())) {
                if let Action::Start(id) = action {
                    if *id == big {
                        return Ok(());
                    }
                    ends.insert(id.clone(), now + length * 1000);
                }
            }
        }
        prop_assert!(false, "ten minutes were not enough");
    }
}

/// Three cells `a`, of which so many may run at a time, in the stages that are given.
fn matrix(fail_fast: bool, max_parallel: Option<u32>, stages: [Stage; 3]) -> World {
    let mut world = World::default();
    for (job_index, stage) in (0..).zip(stages) {
        world.add("r/run/a", "", stage, SMALL);
        world.jobs[job_index as usize].matrix = Some(StrategyCell { fail_fast, max_parallel, job_index, job_total: 3 });
    }
    world
}

#[test]
fn a_matrix_runs_no_more_cells_than_it_says() {
    let queued = Stage::Queued { since: 0 };
    insta::assert_snapshot!(matrix(true, Some(2), [queued, queued, queued]).told(0), @"
    start a
    start a
    a: waiting for its matrix: 2 of 2 jobs at a time run
    ");
    insta::assert_snapshot!(matrix(true, Some(2), [Stage::Occupying, Stage::Occupying, queued]).told(0), @"a: waiting for its matrix: 2 of 2 jobs at a time run");
    insta::assert_snapshot!(matrix(true, None, [queued, queued, queued]).told(0), @"
    start a
    start a
    start a
    ");
}

#[test]
fn the_failure_of_a_cell_ends_the_others_where_that_is_wanted() {
    let (queued, failed) = (Stage::Queued { since: 0 }, Stage::Finished(Conclusion::Failure));
    for (fail_fast, has_failed, is_ending, expected) in [
        (true, true, false, "cancel a\ncancel a"),
        (true, true, true, "cancel a"),
        (false, true, false, "start a"),
        // A failure that is allowed.
        (true, false, false, "start a"),
    ] {
        let mut world = matrix(fail_fast, None, [failed, Stage::Occupying, queued]);
        world.jobs[0].has_failed = has_failed;
        world.jobs[1].is_ending = is_ending;
        assert_eq!(world.told(0), expected, "{fail_fast} {has_failed} {is_ending}");
    }
}

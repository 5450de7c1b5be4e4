use proptest::prelude::*;

use super::*;

const SIZE: Size = Size { memory_mib: 512, vcpus: 1 };
const AMPLE: Room = Room { vms: 100, memory_mib: 1 << 20, vcpus: 100 };
const HOUR_MS: i64 = 3_600_000;

fn vm(stage: Stage) -> Vm {
    Vm { id: VmId::random(), stage, is_current: true }
}

fn ready(since: i64) -> Vm {
    vm(Stage::Ready { since })
}

fn pool(min: usize, max: usize, demand: usize, vms: Vec<Vm>) -> Pool {
    Pool {
        profile: "linux".into(),
        min,
        max,
        max_age: Duration::from_secs(3600),
        size: SIZE,
        can_make: true,
        not_before: 0,
        demand,
        vms,
    }
}

fn calm(pools: Vec<Pool>) -> Snapshot {
    Snapshot { now: 2 * HOUR_MS, pools, room: AMPLE, others_wait: false, is_pressed: false }
}

/// The plan in words: how many are made, and why others go.
fn told(snapshot: &Snapshot) -> String {
    let actions = plan(snapshot);
    let made = actions.iter().filter(|action| matches!(action, Action::Make { .. })).count();
    let gone = actions.iter().filter_map(|action| match action {
        Action::Remove { why, .. } => Some(format!("{why:?}")),
        Action::Make { .. } => None,
    });
    std::iter::once(format!("+{made}")).chain(gone).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_pool_follows_the_demand_between_its_bounds() {
    let young = || ready(2 * HOUR_MS);
    let rows = [
        ("nobody came", pool(0, 4, 0, vec![])),
        ("min", pool(1, 4, 0, vec![])),
        ("demand", pool(0, 4, 1, vec![])),
        ("more than may be made at a time", pool(0, 9, 9, vec![])),
        ("one is being made", pool(0, 9, 9, vec![vm(Stage::Making)])),
        ("max", pool(0, 1, 9, vec![young()])),
        ("leaving ones do not count", pool(1, 1, 0, vec![vm(Stage::Leaving)])),
        ("too many", pool(0, 4, 1, vec![young(), young(), young()])),
        ("too old", pool(1, 1, 0, vec![ready(HOUR_MS)])),
        ("outdated", pool(1, 1, 0, vec![Vm { is_current: false, ..young() }])),
        ("made of what is outdated", pool(1, 1, 0, vec![Vm { is_current: false, ..vm(Stage::Making) }])),
        ("no image", Pool { can_make: false, ..pool(1, 1, 0, vec![]) }),
        ("after a failure", Pool { not_before: 2 * HOUR_MS + 1, ..pool(1, 1, 0, vec![]) }),
        ("long after a failure", Pool { not_before: 2 * HOUR_MS, ..pool(1, 1, 0, vec![]) }),
    ];
    let lines = rows.map(|(name, pool)| format!("{name}: {}", told(&calm(vec![pool]))));
    insta::assert_snapshot!(lines.join("\n"), @"
    nobody came: +0
    min: +1
    demand: +1
    more than may be made at a time: +2
    one is being made: +1
    max: +0
    leaving ones do not count: +1
    too many: +0 Surplus Surplus
    too old: +0 Aged
    outdated: +1 Outdated
    made of what is outdated: +1 Outdated
    no image: +0
    after a failure: +0
    long after a failure: +1
    ");
}

#[test]
fn what_the_host_lacks_pools_do_not_take() {
    let wanting = || pool(2, 2, 0, vec![]);
    let full = pool(2, 2, 0, vec![ready(2 * HOUR_MS), vm(Stage::Making)]);
    let rows = [
        ("one place", Snapshot { room: Room { vms: 1, ..AMPLE }, ..calm(vec![wanting()]) }),
        ("memory for one", Snapshot { room: Room { memory_mib: 1023, ..AMPLE }, ..calm(vec![wanting()]) }),
        ("no processor", Snapshot { room: Room { vcpus: 0, ..AMPLE }, ..calm(vec![wanting()]) }),
        ("others wait", Snapshot { others_wait: true, ..calm(vec![wanting()]) }),
        ("short of memory", Snapshot { is_pressed: true, ..calm(vec![wanting(), full]) }),
        ("two pools", Snapshot { room: Room { vms: 1, ..AMPLE }, ..calm(vec![wanting(), wanting()]) }),
    ];
    let lines = rows.map(|(name, snapshot)| format!("{name}: {}", told(&snapshot)));
    insta::assert_snapshot!(lines.join("\n"), @"
    one place: +1
    memory for one: +1
    no processor: +0
    others wait: +0
    short of memory: +0 Pressure Pressure
    two pools: +1
    ");
}

fn any_stage() -> impl Strategy<Value = Stage> {
    prop_oneof![Just(Stage::Making), (0..3 * HOUR_MS).prop_map(|since| Stage::Ready { since }), Just(Stage::Leaving)]
}

fn any_pool() -> impl Strategy<Value = Pool> {
    let vms = prop::collection::vec((any_stage(), any::<bool>()), 0..6);
    (0..4_usize, 0..4_usize, 0..8_usize, any::<bool>(), vms).prop_map(|(min, more, demand, can_make, vms)| {
        let vms = vms.into_iter().map(|(stage, is_current)| Vm { is_current, ..vm(stage) }).collect();
        Pool { can_make, ..pool(min, min + more.max(1), demand, vms) }
    })
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let room = (0..6_usize, 0..4096_u64, 0..6_u32);
    (prop::collection::vec(any_pool(), 0..4), room, any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(mut pools, (vms, memory_mib, vcpus), others_wait, is_pressed)| {
            pools.iter_mut().enumerate().for_each(|(number, pool)| pool.profile = format!("p{number}"));
            let room = Room { vms, memory_mib, vcpus };
            Snapshot { room, others_wait, is_pressed, ..calm(pools) }
        },
    )
}

/// Carries out a plan at once.
fn carry_out(snapshot: &mut Snapshot, actions: &[Action]) {
    for action in actions {
        match action {
            Action::Make { profile } => {
                let pool = snapshot.pools.iter_mut().find(|pool| pool.profile == *profile).unwrap();
                pool.vms.push(ready(snapshot.now));
                snapshot.room.take(SIZE);
            }
            Action::Remove { vm, .. } => {
                snapshot.pools.iter_mut().for_each(|pool| pool.vms.retain(|known| known.id != *vm));
                snapshot.room.vms += 1;
                snapshot.room.memory_mib += SIZE.memory_mib;
                snapshot.room.vcpus += SIZE.vcpus;
            }
        }
    }
}

proptest! {
    #[test]
    fn a_plan_keeps_within_the_room_and_touches_each_vm_once(snapshot in any_snapshot()) {
        let actions = plan(&snapshot);
        let made = actions.iter().filter(|action| matches!(action, Action::Make { .. })).count();
        let room = snapshot.room;
        prop_assert!(made <= room.vms && made as u64 * SIZE.memory_mib <= room.memory_mib && made <= room.vcpus as usize);
        prop_assert!(made == 0 || !(snapshot.others_wait || snapshot.is_pressed));
        let mut gone: Vec<_> = actions.iter().filter_map(|action| match action {
            Action::Remove { vm, .. } => Some(vm),
            Action::Make { .. } => None,
        }).collect();
        let all: Vec<_> = snapshot.pools.iter().flat_map(|pool| &pool.vms).collect();
        let may_go = |id: &&VmId| all.iter().any(|vm| vm.id == **id && vm.stage != Stage::Leaving);
        prop_assert!(gone.iter().all(may_go));
        let count = gone.len();
        gone.sort();
        gone.dedup();
        prop_assert_eq!(gone.len(), count);
    }

    /// What is planned and carried out leaves nothing to remove, and at last nothing to do: pools do not swing.
    #[test]
    fn pools_come_to_rest(mut snapshot in any_snapshot()) {
        for pool in &mut snapshot.pools {
            pool.vms.retain(|vm| matches!(vm.stage, Stage::Ready { .. }));
        }
        for round in 0..40 {
            let actions = plan(&snapshot);
            let removes = actions.iter().any(|action| matches!(action, Action::Remove { .. }));
            prop_assert!(round == 0 || !removes, "{:?}", actions);
            if actions.is_empty() {
                for pool in &snapshot.pools {
                    prop_assert!(pool.vms.len() <= pool.max && pool.vms.iter().all(|vm| vm.is_current));
                }
                return Ok(());
            }
            carry_out(&mut snapshot, &actions);
        }
        prop_assert!(false, "it never rests");
    }
}

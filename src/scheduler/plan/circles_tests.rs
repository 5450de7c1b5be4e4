#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::tests::{DONE, SMALL, World, carry_out, group};
use super::super::{Action, OwnGroup};
use super::*;

fn enter(world: &mut World, key: &str, group: &str, since: i64) -> JobId {
    let job = world.jobs.iter_mut().find(|job| job.key == key).unwrap();
    job.own_group = Some(OwnGroup { group: group.to_owned(), since });
    job.id.clone()
}

#[test]
fn of_two_runs_that_hold_what_the_other_wants_the_later_job_fails() {
    let mut world = World::default();
    for (place, stage) in [
        ("hello/one/begun1", DONE),
        ("hello/one/a", Stage::Waiting),
        ("hello/two/begun2", DONE),
        ("hello/two/b", Stage::Waiting),
    ] {
        world.add(place, "", stage, SMALL);
    }
    world.add("hello/one/after", "a", Stage::Waiting, SMALL);
    group(&mut world, "one", "x", 1, None);
    group(&mut world, "two", "y", 2, None);
    // As it is where both have begun: each run has another job that keeps it open.
    let later = world.add("hello/one/runs1", "", Stage::Occupying, SMALL);
    world.add("hello/two/runs2", "", Stage::Occupying, SMALL);
    group(&mut world, "one", "x", 1, None);
    group(&mut world, "two", "y", 2, None);
    enter(&mut world, "a", "y", 5);
    let last = enter(&mut world, "b", "x", 6);
    let plan = world.plan(0);
    assert_eq!(plan.actions, [Action::Fail(last, WHY.to_owned())]);
    carry_out(&mut world, &plan, 0);
    assert!(world.plan(0).actions.is_empty(), "one of them is enough, and `{later}` still runs");
}

#[test]
fn who_only_waits_long_fails_not() {
    let mut world = World::default();
    world.add("hello/one/a", "", Stage::Occupying, SMALL);
    world.add("hello/two/b", "", Stage::Waiting, SMALL);
    world.add("hello/two/c", "b", Stage::Waiting, SMALL);
    group(&mut world, "one", "x", 1, None);
    enter(&mut world, "b", "x", 6);
    assert!(world.plan(0).actions.is_empty());
}

/// Runs of one repository, with and without groups, whose jobs are in groups or not.
fn world() -> impl Strategy<Value = World> {
    let name = || prop::option::of(0_u8..3);
    let job = (0_u8..4, any::<bool>(), name(), any::<bool>());
    let runs = prop::collection::vec((name(), prop::collection::vec(job, 1..5)), 1..6);
    runs.prop_map(|runs| {
        let mut world = World::default();
        for (number, (of_run, jobs)) in runs.into_iter().enumerate() {
            let run = format!("r{number}");
            for (at, (need, has_need, own, is_done)) in jobs.into_iter().enumerate() {
                let needs = if has_need && usize::from(need) < at { format!("k{need}") } else { String::new() };
                let stage = if is_done && at == 0 { DONE } else { Stage::Waiting };
                world.add(&format!("hello/{run}/k{at}"), &needs, stage, SMALL);
                // A job of its own run's group is refused where it would enter.
                let own = own.filter(|own| Some(*own) != of_run);
                let since = i64::try_from(number * 7 % 5 + at).unwrap();
                world.jobs.last_mut().unwrap().own_group = own.map(|own| OwnGroup { group: format!("g{own}"), since });
            }
            if let Some(of_run) = of_run {
                group(&mut world, &run, &format!("g{of_run}"), i64::try_from(number).unwrap(), None);
            }
        }
        world
    })
}

proptest! {
    #[test]
    fn no_groups_keep_jobs_for_ever(mut world in world()) {
        let mut now = 1000;
        while world.jobs.iter().any(|job| !matches!(job.stage, Stage::Finished(_))) {
            now += 1000;
            let plan = world.plan(now);
            carry_out(&mut world, &plan, now);
            let running = world.jobs.iter_mut().find(|job| job.stage == Stage::Occupying);
            prop_assert!(running.is_some() || !plan.actions.is_empty(), "nothing moves");
            if let Some(job) = running {
                job.stage = DONE;
            }
        }
    }
}

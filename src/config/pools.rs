//! `pool` of a profile, and whether all pools together keep within `[limits]`.

use std::time::Duration;

use super::units::duration_between;
use super::{Cache, CacheSource, Limits, NamedCache, Pool, Profile};
use crate::config::format_size;
use crate::document::{Complaint, Item, Table};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// VMs of one pool.
const MOST: u32 = 1000;

/// `{ min = 0, max = 4, max_age = "1h" }`; one of `min` and `max` must be there. What waits for any job must look the same
/// to all of them, so that each repository cannot have a cache of its own.
pub(super) fn read(item: &Item<'_>, cache: Option<&Cache>) -> Option<Pool> {
    let table = item.table(&["min", "max", "max_age"])?;
    if table.get("min").is_none() && table.get("max").is_none() {
        item.refuse(Complaint::new("neither `min` nor `max` says how many VMs wait").hint("like `pool = { max = 2 }`"));
        return None;
    }
    if let Some(Cache { source: CacheSource::Named(NamedCache { repository: None, .. }), .. }) = cache {
        let complaint =
            Complaint::new("each repository has a `cache` of its own, and VMs of a pool wait for any of them");
        item.refuse(
            complaint.hint("give the cache a `repository`, whose default branch fills it for all, or leave `pool` out"),
        );
        return None;
    }
    let min = table.read_or("min", 0, |item| item.integer_in(0..=MOST));
    let max = table.read_or("max", min.max(1), |item| item.integer_in(1..=MOST));
    if let Some(item) = table.get("max").filter(|_| max < min) {
        item.refuse(Complaint::new(format!("{max} is less than `min`, which is {min}")));
        return None;
    }
    Some(Pool { min, max, max_age: table.read_or("max_age", HOUR, |item| duration_between(item, MINUTE, 7 * DAY)) })
}

/// What could never be there at the same time. Limits that are left to the host are the doctor's to compare.
pub(super) fn refuse_too_many(root: &Table<'_>, profiles: &[Profile], limits: &Limits) {
    let Some(section) = root.get("limits") else { return };
    let waiting = |of: fn(&Profile) -> u64| -> u64 {
        let always = |profile: &Profile| profile.pool.map_or(0, |pool| u64::from(pool.min));
        profiles.iter().map(|profile| always(profile).saturating_mul(of(profile))).fold(0, u64::saturating_add)
    };
    let refuse = |text: String| {
        let hint = "lower `min` of the pools, or raise the limit; without `min`, pools follow the demand";
        section.refuse(Complaint::new(text).hint(hint));
    };
    let vms = waiting(|_| 1);
    if limits.max_vms > 0 && vms > u64::from(limits.max_vms) {
        refuse(format!("the pools' `min` are {vms} VMs together, more than `max_vms`, which is {}", limits.max_vms));
    }
    let memory = waiting(|profile| profile.memory);
    if let Some(limit) = limits.memory.filter(|limit| memory > *limit) {
        let (memory, limit) = (format_size(memory), format_size(limit));
        refuse(format!("the pools' `min` take {memory} together, more than `memory`, which is {limit}"));
    }
    let vcpus = waiting(|profile| u64::from(profile.vcpus));
    if limits.vcpus > 0 && vcpus > u64::from(limits.vcpus) {
        refuse(format!("the pools' `min` have {vcpus} vCPUs together, more than `vcpus`, which is {}", limits.vcpus));
    }
}

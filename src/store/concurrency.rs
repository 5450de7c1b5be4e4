//! Concurrency groups: what a new run of a group does to the others, in the transaction that creates it.
//!
//! The order is that in which deliveries arrived, so that an event which was processed late does not end a newer one. A group
//! has at most one run that may run and one that waits, or many if they queue; who may run is decided by the scheduler's plan, in the same order.

use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use super::model::NewRun;
use super::origin::{Concurrency, run_label};
use super::rows::Columns;
use crate::ids::RunId;
use crate::workflow::concurrency::MAX_QUEUED;

/// Runs that a group has at a time, unless one ends the others: one that may run, and one that waits.
const PLACES: usize = 2;

/// A run of the group.
#[derive(Debug, Clone, PartialEq)]
struct Member {
    id: RunId,
    label: String,
    arrived_at: i64,
    /// Has unfinished jobs that nobody asked to end.
    is_open: bool,
    /// Has jobs that do not wait any more.
    has_begun: bool,
    /// A newer run of the group ends those before it; this one does.
    cancels: bool,
    /// It ends none that wait.
    queues: bool,
}

/// Ends what the new run supersedes, or the new run itself if a newer one is there.
pub(super) async fn enter(db: &mut SqliteConnection, run: &NewRun, number: i64) -> Result<(), StoreError> {
    let Some(concurrency) = &run.origin.concurrency else { return Ok(()) };
    let others = members(db, run, concurrency).await?;
    let new = Member {
        id: run.id.clone(),
        label: run_label(number.cast_unsigned(), &run.sha),
        arrived_at: run.origin.arrived_at,
        is_open: true,
        has_begun: false,
        cancels: concurrency.cancels,
        queues: concurrency.queues,
    };
    if is_turned_away(&new, &others) {
        let why = format!("Cancelled: {MAX_QUEUED} runs of its concurrency group wait already");
        return cancel_jobs(db, &new.id, &why).await;
    }
    for (victim, by) in superseded(&new, &others) {
        cancel_jobs(db, &victim.id, &format!("Cancelled: superseded by {}", by.label)).await?;
    }
    Ok(())
}

/// Which runs end, and for whom. `others` are in the order of the group.
fn superseded<'m>(new: &'m Member, others: &'m [Member]) -> Vec<(&'m Member, &'m Member)> {
    let (earlier, later) = others.split_at(others.partition_point(|other| other.arrived_at <= new.arrived_at));
    if let Some(newest) = later.iter().rfind(|later| later.cancels) {
        return vec![(new, newest)];
    }
    let open = |members: &'m [Member]| members.iter().filter(|member| member.is_open);
    // One that was processed late finds the places taken through which it would have passed: to run, and to wait.
    if let Some(newest) = open(later).rfind(|later| !later.queues)
        && open(others).count() >= PLACES
    {
        return vec![(new, newest)];
    }
    if new.queues {
        return Vec::new();
    }
    if new.cancels {
        return open(earlier).map(|other| (other, new)).collect();
    }
    // One runs or will run next; a newer run takes the place of those that wait behind it.
    let next = open(others).find(|other| other.has_begun).or_else(|| open(others).next());
    open(earlier).filter(|other| next != Some(other)).map(|other| (other, new)).collect()
}

/// Whether there is no place even for a run that waits behind all others.
fn is_turned_away(new: &Member, others: &[Member]) -> bool {
    new.queues && others.iter().filter(|other| other.is_open && !other.has_begun).count() >= MAX_QUEUED
}

/// The other runs of the group that are not over or ending, or newer; attempts of the same run do not count.
async fn members(
    db: &mut SqliteConnection, run: &NewRun, concurrency: &Concurrency,
) -> Result<Vec<Member>, StoreError> {
    let root = run.origin.rerun.as_ref().map_or(&run.id, |rerun| &rerun.root);
    let rows = sqlx::query(
        "SELECT id, number, sha, arrived_at, is_open, has_begun, cancels_group, queues_in_group FROM (SELECT runs.*, EXISTS (SELECT 1 \
         FROM jobs WHERE jobs.run_id = runs.id AND jobs.state <> 'finished' AND NOT jobs.cancel_requested) AS is_open, \
         EXISTS (SELECT 1 FROM jobs WHERE jobs.run_id = runs.id AND jobs.state <> 'waiting') AS has_begun FROM runs \
         WHERE forge = $1 AND repo = $2 AND concurrency_group = $3 AND COALESCE(root_id, id) <> $4) AS members \
         WHERE is_open OR arrived_at > $5 ORDER BY arrived_at, created_at, id",
    )
    .bind(&run.forge)
    .bind(run.access.repo.as_str())
    .bind(&concurrency.group)
    .bind(root.as_str())
    .bind(run.origin.arrived_at)
    .fetch_all(db)
    .await?;
    let read = |row| {
        let columns = Columns::of("run", row);
        Ok(Member {
            id: columns.text("id")?,
            label: run_label(columns.count("number")?, &columns.text("sha")?),
            arrived_at: columns.plain("arrived_at")?,
            is_open: columns.plain("is_open")?,
            has_begun: columns.plain("has_begun")?,
            cancels: columns.plain("cancels_group")?,
            queues: columns.plain("queues_in_group")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Asks for the end of all jobs of a run that have not finished.
pub(super) async fn cancel_jobs(db: &mut SqliteConnection, run: &RunId, why: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE jobs SET cancel_requested = TRUE, cancel_why = COALESCE(cancel_why, $2) \
         WHERE run_id = $1 AND state <> 'finished'",
    )
    .bind(run.as_str())
    .bind(why)
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(label: &str, arrived_at: i64, is_open: bool) -> Member {
        Member {
            id: RunId::random(),
            label: label.to_owned(),
            arrived_at,
            is_open,
            has_begun: false,
            cancels: false,
            queues: false,
        }
    }

    /// `old<new`: the run `old` ends for `new`.
    fn told(cancels: bool, others: &[Member]) -> String {
        let new = Member { cancels, ..member("new", 10, true) };
        let told = superseded(&new, others);
        told.iter().map(|(victim, by)| format!("{}<{}", victim.label, by.label)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_latest_arrival_supersedes() {
        let (a, b, c) = (member("a", 1, true), member("b", 2, true), member("c", 3, true));
        let (over, later, later_over) =
            (member("over", 4, false), member("later", 11, true), member("gone", 12, false));
        let begun = |member: &Member| Member { has_begun: true, ..member.clone() };
        let ending = |member: &Member| Member { cancels: true, ..member.clone() };
        let all = [a.clone(), b.clone(), c];
        for (cancels, others, expected) in [
            (true, &[][..], ""),
            (true, &all[..], "a<new b<new c<new"),
            (false, &all[..], "b<new c<new"),
            (false, &all[..1], ""),
            // Of the runs that were processed out of order, the one that has begun goes on.
            (false, &[a.clone(), begun(&b)], "a<new"),
            (true, &[a.clone(), begun(&b)], "a<new b<new"),
            (true, std::slice::from_ref(&over), ""),
            (false, &[a.clone(), over.clone(), b.clone()], "b<new"),
            // What was processed late is itself the older one: it ends if the newer one ends others, over or not ...
            (true, &[a.clone(), ending(&later)], "new<later"),
            (false, &[ending(&later)], "new<later"),
            (true, &[ending(&later), ending(&later_over)], "new<gone"),
            (false, &[ending(&later_over)], "new<gone"),
            // ... or if there is no place for it.
            (false, &[a.clone(), later.clone()], "new<later"),
            (false, &[later.clone(), member("latest", 12, true)], "new<latest"),
            (false, std::slice::from_ref(&later), ""),
            (false, &[a.clone(), later_over.clone()], ""),
            (true, &[later.clone(), later_over], ""),
            (true, &[a.clone(), later.clone()], "new<later"),
            // Two workflows of one delivery arrived at once: the second is the newer.
            (true, &[member("same", 10, true)], "same<new"),
        ] {
            assert_eq!(told(cancels, others), expected, "{cancels} {others:?}");
        }
    }
    #[test]
    fn runs_that_queue_end_nobody_and_have_a_limit() {
        let queued = |label: &str, arrived_at| Member { queues: true, ..member(label, arrived_at, true) };
        let many: Vec<Member> = (0..MAX_QUEUED as i64).map(|at| queued("old", at - 1000)).collect();
        let new = queued("new", 10);
        assert_eq!(superseded(&new, &many), []);
        assert!(is_turned_away(&new, &many) && !is_turned_away(&new, &many[1..]));
        assert!(!is_turned_away(&member("new", 10, true), &many), "it takes their place");
        let later = [member("a", 1, true), queued("later", 11), queued("latest", 12)];
        assert_eq!(superseded(&new, &later), []);
        let single = [member("a", 1, true), member("later", 11, true)];
        assert_eq!(superseded(&new, &single).len(), 1, "it would have ended it");
    }
}

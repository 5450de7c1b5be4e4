//! Workflows that start by themselves: `on: schedule` of default branches.
//!
//! When a schedule is due, a delivery is stored under an id that the schedule and the time make, and only then the next time is
//! noted: a crash in between stores the same delivery again, which changes nothing. Times that passed while the service was
//! down make one run, not many, and a clock that is set back makes none twice.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock;
use crate::core::Core;
use crate::depot::tenant::place_of;
use crate::intake::internal::{Wish, submit};
use crate::store::{DueSchedule, StoreError};
use crate::workflow::schedule::Schedule;

/// The longest time between two looks: clocks are set, too.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The shortest one: what is due is stored at once.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// Schedules that are attended to at a look.
const MAX_DUE: u32 = 100;

/// Starts what is due until the service stops.
pub async fn run(core: Arc<Core>) {
    loop {
        let wait = look(&core).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the schedules cannot be attended to");
            LONGEST_WAIT
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = core.wake.schedules.notified() => {}
            () = core.stop.cancelled() => return,
        }
    }
}

/// Starts what is due. Gives the time until the next look.
async fn look(core: &Core) -> Result<Duration, StoreError> {
    for due in core.store.due_schedules(clock::now_ms(), MAX_DUE).await? {
        start(core, &due).await?;
    }
    let next = core.store.next_schedule_due().await?;
    let wait = next.map(|next| Duration::from_millis(u64::try_from(next - clock::now_ms()).unwrap_or(0)));
    Ok(wait.unwrap_or(LONGEST_WAIT).clamp(SHORTEST_WAIT, LONGEST_WAIT))
}

async fn start(core: &Core, due: &DueSchedule) -> Result<(), StoreError> {
    let repo = &due.asked.repository.access.repo;
    if core.config.repository(&due.forge, repo).is_some() {
        let wish = Wish::Start { asked: Box::new(due.asked.clone()), sha: None, payload: due.payload.clone() };
        let delivery = submit(core, id_of(due), &wish).await?;
        tracing::info!(%repo, workflow = due.workflow_path, cron = due.cron, %delivery, "a schedule is due");
    }
    let next = Schedule::try_from(due.cron.clone()).ok().and_then(|schedule| schedule.next_after(clock::now_ms()));
    core.store.advance_schedule(due, next).await
}

/// The same for the same schedule and time.
fn id_of(due: &DueSchedule) -> String {
    let repo = place_of(&due.forge, &due.asked.repository.access.repo);
    let place = format!("{repo}\0{}\0{}\0{}", due.workflow_path, due.cron, due.next_at);
    let digest: String = Sha256::digest(place).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("schedule-{digest}")
}

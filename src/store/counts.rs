//! How much of what there is, for monitoring. Each count is answered by an index of what is unfinished, so that its price does
//! not grow with the history.

use std::collections::BTreeMap;

use super::rows::Columns;
use super::transitions::{JobState, Lifecycle, VmState};
use super::{Store, StoreError};

/// What is open in the store now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreCounts {
    pub deliveries_pending: u64,
    /// When the oldest of them came, in milliseconds since the epoch.
    pub oldest_delivery: Option<i64>,
    /// Reports whose newest version was not sent.
    pub reports_waiting: u64,
    /// Those of them that failed since they were last sent.
    pub reports_retrying: u64,
    jobs: BTreeMap<&'static str, u64>,
    vms: BTreeMap<&'static str, u64>,
}

impl StoreCounts {
    /// Jobs in a state that is no end.
    pub fn jobs(&self, state: JobState) -> u64 {
        self.jobs.get(state.as_str()).copied().unwrap_or(0)
    }

    /// VMs in a state that is no end.
    pub fn vms(&self, state: VmState) -> u64 {
        self.vms.get(state.as_str()).copied().unwrap_or(0)
    }
}

impl Store {
    /// Counts what is open.
    pub async fn counts(&self) -> Result<StoreCounts, StoreError> {
        self.read("count what is open", async |db| {
            let deliveries =
                "SELECT COUNT(*) AS number, MIN(received_at) AS oldest FROM deliveries WHERE state = 'received'";
            let deliveries = sqlx::query(deliveries).fetch_one(&mut *db).await?;
            let reports = "SELECT COUNT(*) AS number, COALESCE(SUM(tries > 0), 0) AS retrying FROM reports \
                           WHERE version > sent_version AND version > abandoned_version";
            let reports = sqlx::query(reports).fetch_one(&mut *db).await?;
            let jobs = "SELECT state, COUNT(*) AS number FROM jobs WHERE state <> 'finished' GROUP BY state";
            let jobs = sqlx::query(jobs).fetch_all(&mut *db).await?;
            let vms = "SELECT state, COUNT(*) AS number FROM vms WHERE state <> 'gone' GROUP BY state";
            let vms = sqlx::query(vms).fetch_all(&mut *db).await?;
            let (deliveries, reports) = (Columns::of("delivery", &deliveries), Columns::of("report", &reports));
            Ok(StoreCounts {
                deliveries_pending: deliveries.count("number")?,
                oldest_delivery: deliveries.plain("oldest")?,
                reports_waiting: reports.count("number")?,
                reports_retrying: reports.count("retrying")?,
                jobs: by_state::<JobState>(&jobs)?,
                vms: by_state::<VmState>(&vms)?,
            })
        })
        .await
    }
}

fn by_state<S: Lifecycle>(rows: &[sqlx::sqlite::SqliteRow]) -> Result<BTreeMap<&'static str, u64>, StoreError> {
    let count = |row| {
        let columns = Columns::of(S::WHAT, row);
        Ok((columns.state::<S>("state")?.as_str(), columns.count("number")?))
    };
    rows.iter().map(count).collect()
}

//! VMs: written before anything of them exists, and kept until their absence has been verified.

use sqlx::sqlite::SqliteConnection;

use super::model::Vm;
use super::rows::Columns;
use super::transitions::{Lifecycle, VmState};
use super::{Store, StoreError};
use crate::ids::{JobId, VmId};

impl Store {
    /// Moves a VM on. [`Store::lease_job`] creates it. Teardown may be told twice; the first time counts.
    pub async fn set_vm_state(&self, id: &VmId, state: VmState, now: i64) -> Result<(), StoreError> {
        let id = id.clone();
        self.write("change a VM's state", move |db| {
            Box::pin(async move {
                let row = sqlx::query("SELECT state FROM vms WHERE id = $1")
                    .bind(id.as_str())
                    .fetch_optional(&mut *db)
                    .await?
                    .ok_or_else(|| StoreError::NotFound { what: "VM", id: id.to_string() })?;
                Columns::of("VM", &row).state::<VmState>("state")?.check(&id, state)?;
                let gone_at = (state == VmState::Gone).then_some(now);
                sqlx::query("UPDATE vms SET state = $2, gone_at = COALESCE(gone_at, $3) WHERE id = $1")
                    .bind(id.as_str())
                    .bind(state.as_str())
                    .bind(gone_at)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// A VM.
    pub async fn vm(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        self.read("read a VM", async |db| {
            let row = sqlx::query("SELECT * FROM vms WHERE id = $1").bind(id.as_str()).fetch_optional(db).await?;
            row.as_ref().map(|row| read_vm(Columns::of("VM", row))).transpose()
        })
        .await
    }

    /// Every VM of which something may still exist, oldest first.
    pub async fn vms_not_gone(&self) -> Result<Vec<Vm>, StoreError> {
        self.read("list the VMs", async |db| {
            let rows =
                sqlx::query("SELECT * FROM vms WHERE state <> 'gone' ORDER BY created_at, id").fetch_all(db).await?;
            rows.iter().map(|row| read_vm(Columns::of("VM", row))).collect()
        })
        .await
    }
}

/// Writes the intent to make a VM.
pub(super) async fn insert_vm(
    db: &mut SqliteConnection, id: &VmId, job: &JobId, attempt: u32, now: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO vms (id, job_id, attempt, state, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(id.as_str())
        .bind(job.as_str())
        .bind(i64::from(attempt))
        .bind(VmState::Creating.as_str())
        .bind(now)
        .execute(db)
        .await?;
    Ok(())
}

fn read_vm(columns: Columns<'_>) -> Result<Vm, StoreError> {
    Ok(Vm {
        id: columns.text("id")?,
        job: columns.text("job_id")?,
        attempt: columns.count("attempt")?,
        state: columns.state("state")?,
        created_at: columns.plain("created_at")?,
        gone_at: columns.plain("gone_at")?,
    })
}

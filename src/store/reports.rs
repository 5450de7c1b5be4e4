//! Reports: what the forge shall show, kept until it has said that it does.
//!
//! A report is a level, not an event: each change raises its version, and only the latest version is ever sent. Before a call
//! its uncertainty is stored, so that after a crash the forge is asked what it has before anything is created twice. A
//! report that is finished never changes.

use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::model::{StoredReport, Telling};
use super::rows::{Columns, to_bigint, to_json};
use super::{Store, StoreError, bounded_detail};
use crate::forge::{ExternalIds, RepoName, Report, ReportState};
use crate::ids::{JobId, ReportId, RunId};

/// The least time between two versions of a report, in milliseconds, unless the later one is an end. What changes within it
/// is sent together.
const LIVE_INTERVAL: i64 = 5000;

/// The version up to which a report counts as sent of which the forge shall not know: that of a job whose place others take.
const SILENT: i64 = i64::MAX;

/// The same for a report that the forge never gets: one less, so that [`tell`] passes over it.
const UNTOLD: i64 = i64::MAX - 1;

/// Reports with the forge of their run. A version that was abandoned is not due; the next one is.
macro_rules! select_reports {
    ($rest:literal) => {
        concat!("SELECT reports.*, runs.forge FROM reports JOIN runs ON runs.id = reports.run_id ", $rest)
    };
}

impl Store {
    /// Changes what the forge shall show. Identity, place and log of the report stay as they are; a change that changes
    /// nothing is no new version. A finished report refuses every change. Returns the version.
    pub async fn set_report(
        &self, id: &ReportId, now: i64, change: impl FnOnce(&mut Report) + Send + 'static,
    ) -> Result<u64, StoreError> {
        let id = id.clone();
        self.write("change a report", move |db| {
            Box::pin(async move {
                let stored = load(db, &id).await?;
                change_report(db, &stored, now, change).await
            })
        })
        .await
    }

    /// Has the report sent again although nothing in it changed: its log has grown. Does nothing for a finished one, nor for
    /// one that is yet to be sent, with the log as it is then.
    pub async fn refresh_report(&self, id: &ReportId, now: i64) -> Result<(), StoreError> {
        let id = id.clone();
        self.write("refresh a report", move |db| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE reports SET version = version + 1, \
                     next_try_at = CASE WHEN next_try_at > $2 THEN next_try_at ELSE $2 END \
                     WHERE id = $1 AND NOT is_final \
                     AND (uncertain OR version <= sent_version OR version <= abandoned_version)",
                )
                .bind(id.as_str())
                .bind(now)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Has nothing of an installation at a forge sent before `until`, because its budget of calls is used up.
    pub async fn postpone_reports(&self, forge: &str, installation: Option<u64>, until: i64) -> Result<(), StoreError> {
        let forge = forge.to_owned();
        self.write("postpone reports", move |db| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE reports SET next_try_at = $2 \
                     WHERE version > sent_version AND version > abandoned_version AND next_try_at < $2 \
                     AND run_id IN (SELECT id FROM runs WHERE forge = $3 AND COALESCE(installation, -1) = COALESCE($1, -1))",
                )
                .bind(installation.map(u64::cast_signed))
                .bind(until)
                .bind(forge)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Gives every report that was abandoned one more chance: what the forge refused may have been put right. Returns how
    /// many there are.
    pub async fn revive_abandoned_reports(&self, now: i64) -> Result<u64, StoreError> {
        self.write("revive abandoned reports", move |db| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE reports SET abandoned_version = 0, abandoned_why = NULL, tries = 0, next_try_at = $1 \
                     WHERE version > sent_version AND version <= abandoned_version",
                );
                Ok(done.bind(now).execute(db).await?.rows_affected())
            })
        })
        .await
    }

    /// Reports that the forge does not show yet and whose time has come, at most `limit`: ends first, then longest due first.
    pub async fn due_reports(&self, now: i64, limit: u32) -> Result<Vec<StoredReport>, StoreError> {
        self.read("list due reports", async |db| {
            let rows = sqlx::query(select_reports!(
                "WHERE version > sent_version AND version > abandoned_version AND next_try_at <= $1 \
                 ORDER BY is_final DESC, next_try_at, reports.id LIMIT $2"
            ))
            .bind(now)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            rows.iter().map(read_report).collect()
        })
        .await
    }

    /// When the next report becomes due that waits for another try; the past if one is due now.
    pub async fn next_report_due(&self) -> Result<Option<i64>, StoreError> {
        self.read("look for the next report", async |db| {
            Ok(sqlx::query_scalar(
                "SELECT MIN(next_try_at) FROM reports WHERE version > sent_version AND version > abandoned_version",
            )
            .fetch_one(db)
            .await?)
        })
        .await
    }

    /// A report.
    pub async fn get_report(&self, id: &ReportId) -> Result<Option<StoredReport>, StoreError> {
        self.read("read a report", async |db| {
            let row =
                sqlx::query(select_reports!("WHERE reports.id = $1")).bind(id.as_str()).fetch_optional(db).await?;
            row.as_ref().map(read_report).transpose()
        })
        .await
    }

    /// The reports of a run itself and of its jobs.
    pub async fn reports_of_run(&self, run: &RunId) -> Result<Vec<StoredReport>, StoreError> {
        self.read("read a run's reports", async |db| {
            let rows = sqlx::query(select_reports!("WHERE reports.run_id = $1 ORDER BY reports.id"))
                .bind(run.as_str())
                .fetch_all(db)
                .await?;
            rows.iter().map(read_report).collect()
        })
        .await
    }

    /// Reports whose latest version will not be sent, for the operator, at most `limit`.
    pub async fn abandoned_reports(&self, limit: u32) -> Result<Vec<StoredReport>, StoreError> {
        self.read("list abandoned reports", async |db| {
            let rows = sqlx::query(select_reports!(
                "WHERE version > sent_version AND version <= abandoned_version ORDER BY runs.created_at DESC LIMIT $1"
            ))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            rows.iter().map(read_report).collect()
        })
        .await
    }

    /// A call to the forge is about to start.
    pub async fn report_sending(&self, id: &ReportId) -> Result<(), StoreError> {
        let id = id.clone();
        self.write("note that a report is being sent", move |db| {
            Box::pin(async move {
                let done = sqlx::query("UPDATE reports SET uncertain = TRUE WHERE id = $1").bind(id.as_str());
                expect_one(&id, done.execute(db).await?.rows_affected())
            })
        })
        .await
    }

    /// The forge shows `version` since `now`; `external` is what it called the things that it made.
    pub async fn report_sent(
        &self, id: &ReportId, version: u64, external: &ExternalIds, now: i64,
    ) -> Result<(), StoreError> {
        let (id, external) = (id.clone(), to_json(external));
        self.write("note that a report was sent", move |db| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE reports SET uncertain = FALSE, tries = 0, external = $3, \
                     next_try_at = CASE WHEN is_final THEN next_try_at ELSE $4 END, \
                     sent_version = CASE WHEN sent_version < $2 THEN $2 ELSE sent_version END WHERE id = $1",
                )
                .bind(id.as_str())
                .bind(to_bigint(version))
                .bind(external)
                .bind(now.saturating_add(LIVE_INTERVAL));
                expect_one(&id, done.execute(db).await?.rows_affected())
            })
        })
        .await
    }

    /// A call failed; the next may start at `next_try_at`. Whether it reached the forge stays uncertain.
    pub async fn report_failed(&self, id: &ReportId, next_try_at: i64) -> Result<(), StoreError> {
        let id = id.clone();
        self.write("note that a report failed", move |db| {
            Box::pin(async move {
                let done = sqlx::query("UPDATE reports SET tries = tries + 1, next_try_at = $2 WHERE id = $1")
                    .bind(id.as_str())
                    .bind(next_try_at);
                expect_one(&id, done.execute(db).await?.rows_affected())
            })
        })
        .await
    }

    /// The forge will never take `version`. It stays visible; a later version is tried again.
    pub async fn report_abandoned(&self, id: &ReportId, version: u64, why: &str) -> Result<(), StoreError> {
        let (id, why) = (id.clone(), bounded_detail(why).to_owned());
        self.write("note that a report was abandoned", move |db| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE reports SET abandoned_version = $2, abandoned_why = $3, tries = tries + 1 WHERE id = $1",
                )
                .bind(id.as_str())
                .bind(to_bigint(version))
                .bind(why);
                expect_one(&id, done.execute(db).await?.rows_affected())
            })
        })
        .await
    }
}

fn not_found(id: &ReportId) -> StoreError {
    StoreError::NotFound { what: "report", id: id.to_string() }
}

fn expect_one(id: &ReportId, affected: u64) -> Result<(), StoreError> {
    if affected == 1 { Ok(()) } else { Err(not_found(id)) }
}

/// The report as it is stored: the log is read from the log store when the report is sent.
fn stored_form(report: &Report) -> Report {
    Report { log: String::new(), ..report.clone() }
}

/// Stores a new report. Of one that others may take the place of, the forge is not told before [`tell`].
pub(super) async fn insert_report(
    db: &mut SqliteConnection, run: &RunId, job: Option<&JobId>, report: &Report, telling: Telling, now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO reports (id, run_id, job_id, desired, is_final, version, sent_version, abandoned_version, external, uncertain, \
         tries, next_try_at) VALUES ($1, $2, $3, $4, $7, 1, $8, 0, $5, FALSE, 0, $6)",
    )
    .bind(report.id.as_str())
    .bind(run.as_str())
    .bind(job.map(JobId::as_str))
    .bind(to_json(&stored_form(report)))
    .bind(to_json(&ExternalIds::default()))
    .bind(now)
    .bind(is_final(report))
    .bind(match telling {
        Telling::AtOnce => 0,
        Telling::IfItEndsSo => SILENT,
        Telling::Never => UNTOLD,
    })
    .execute(db)
    .await?;
    Ok(())
}

/// Has the forge told of a job's report that was silent so far.
pub(super) async fn tell(db: &mut SqliteConnection, job: &JobId) -> Result<(), StoreError> {
    sqlx::query("UPDATE reports SET sent_version = 0 WHERE job_id = $1 AND sent_version = $2")
        .bind(job.as_str())
        .bind(SILENT)
        .execute(db)
        .await?;
    Ok(())
}

fn is_final(report: &Report) -> bool {
    matches!(report.state, ReportState::Finished(_))
}

/// Applies `change` and stores the result as the next version. A report that failed before keeps its time of the next try:
/// the forge asked for that pause. One that was just sent keeps it too, unless the change is its end.
pub(super) async fn change_report(
    db: &mut SqliteConnection, stored: &StoredReport, now: i64, change: impl FnOnce(&mut Report),
) -> Result<u64, StoreError> {
    let known = &stored.desired;
    let mut changed = known.clone();
    change(&mut changed);
    changed.log.clear();
    changed.id = known.id.clone();
    changed.access = known.access.clone();
    changed.sha = known.sha.clone();
    changed.context = known.context.clone();
    if changed == *known {
        return Ok(stored.version);
    }
    if is_final(known) {
        return Err(StoreError::ReportFinished { id: known.id.clone() });
    }
    let version = stored.version + 1;
    let is_final = is_final(&changed);
    let keeps_time = stored.tries > 0 || (!is_final && stored.next_try_at > now);
    sqlx::query("UPDATE reports SET desired = $2, version = $3, next_try_at = $4, is_final = $5 WHERE id = $1")
        .bind(known.id.as_str())
        .bind(to_json(&changed))
        .bind(to_bigint(version))
        .bind(if keeps_time { stored.next_try_at } else { now })
        .bind(is_final)
        .execute(db)
        .await?;
    Ok(version)
}

/// Has a report sent without the pause between two versions: there will be nobody to send it later. One that the forge
/// refused keeps its time.
pub(super) async fn hasten_report(
    db: &mut SqliteConnection, report: &StoredReport, now: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE reports SET next_try_at = $2 WHERE id = $1 AND tries = 0 AND next_try_at > $2")
        .bind(report.desired.id.as_str())
        .bind(now)
        .execute(db)
        .await?;
    Ok(())
}

async fn load(db: &mut SqliteConnection, id: &ReportId) -> Result<StoredReport, StoreError> {
    let row = sqlx::query(select_reports!("WHERE reports.id = $1")).bind(id.as_str()).fetch_optional(db).await?;
    read_report(&row.ok_or_else(|| not_found(id))?)
}

pub(super) async fn report_of_job(db: &mut SqliteConnection, job: &JobId) -> Result<StoredReport, StoreError> {
    let row = sqlx::query(select_reports!("WHERE reports.job_id = $1")).bind(job.as_str()).fetch_optional(db).await?;
    read_report(&row.ok_or_else(|| StoreError::NotFound { what: "report of job", id: job.to_string() })?)
}

/// The reports of a pull request that still are held, oldest first.
pub(super) async fn reports_of_held(
    db: &mut SqliteConnection, forge: &str, repo: &RepoName, number: u64,
) -> Result<Vec<StoredReport>, StoreError> {
    let rows = sqlx::query(select_reports!(
        "WHERE runs.forge = $1 AND runs.repo = $2 AND runs.pull_request = $3 AND runs.is_held AND NOT reports.is_final \
         ORDER BY runs.created_at, runs.id"
    ))
    .bind(forge)
    .bind(repo.as_str())
    .bind(number.cast_signed())
    .fetch_all(db)
    .await?;
    rows.iter().map(read_report).collect()
}

/// Reports of commits that are held since before `cut_off`, at most `limit`.
pub(super) async fn long_held(
    db: &mut SqliteConnection, cut_off: i64, limit: i64,
) -> Result<Vec<StoredReport>, StoreError> {
    let rows = sqlx::query(select_reports!(
        "WHERE runs.is_held AND runs.created_at < $1 AND NOT reports.is_final ORDER BY runs.created_at, runs.id LIMIT $2"
    ))
    .bind(cut_off)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(read_report).collect()
}

fn read_report(row: &SqliteRow) -> Result<StoredReport, StoreError> {
    let columns = Columns::of("report", row);
    let version = columns.count("version")?;
    let is_abandoned = columns.count::<u64>("abandoned_version")? >= version;
    let why: Option<String> = columns.plain("abandoned_why")?;
    Ok(StoredReport {
        desired: columns.json("desired")?,
        forge: columns.plain("forge")?,
        run: columns.text("run_id")?,
        job: columns.optional_text("job_id")?,
        version,
        sent_version: columns.count("sent_version")?,
        external: columns.json("external")?,
        uncertain: columns.plain("uncertain")?,
        tries: columns.count("tries")?,
        next_try_at: columns.plain("next_try_at")?,
        abandoned: why.filter(|_| is_abandoned),
    })
}

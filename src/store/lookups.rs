//! From what a person types to what is meant: ids and commits by how they begin, and what there is of a commit.

use super::model::Run;
use super::rows::Columns;
use super::runs::read_run;
use super::{Store, StoreError};
use crate::forge::CommitSha;
use crate::ids::JobId;

/// Sorts after every letter of ids and commits.
const AFTER_ALL_LETTERS: char = '~';

impl Store {
    /// Ids of jobs that begin with `prefix`, at most `limit`.
    pub async fn jobs_beginning(&self, prefix: &str, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.read("look for a job", async |db| {
            let rows = sqlx::query("SELECT id FROM jobs WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3")
                .bind(prefix)
                .bind(format!("{prefix}{AFTER_ALL_LETTERS}"))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?;
            rows.iter().map(|row| Columns::of("job", row).text("id")).collect()
        })
        .await
    }

    /// Commits with runs that begin with `prefix`, at most `limit`.
    pub async fn commits_beginning(&self, prefix: &str, limit: u32) -> Result<Vec<CommitSha>, StoreError> {
        self.read("look for a commit", async |db| {
            let rows = sqlx::query("SELECT DISTINCT sha FROM runs WHERE sha >= $1 AND sha < $2 ORDER BY sha LIMIT $3")
                .bind(prefix)
                .bind(format!("{prefix}{AFTER_ALL_LETTERS}"))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?;
            rows.iter().map(|row| Columns::of("run", row).text("sha")).collect()
        })
        .await
    }

    /// The runs of a commit, latest first, at most `limit`.
    pub async fn runs_of_commit(&self, sha: &CommitSha, limit: u32) -> Result<Vec<Run>, StoreError> {
        self.read("read a commit's runs", async |db| {
            let rows = sqlx::query("SELECT * FROM runs WHERE sha = $1 ORDER BY created_at DESC, id LIMIT $2")
                .bind(sha.as_str())
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?;
            rows.iter().map(|row| read_run(Columns::of("run", row))).collect()
        })
        .await
    }
}

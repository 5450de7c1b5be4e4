//! Reading the store of a service that may be running, or not, without becoming a part of it: no schema is changed, no file
//! is left.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::{BUSY_TIMEOUT, OpenError, Store};

impl Store {
    /// When the newest delivery in the store at `path` was received, in milliseconds since the epoch.
    pub async fn last_delivery_in(path: &Path) -> Result<Option<i64>, OpenError> {
        let refused = |source| OpenError::Database { path: path.to_owned(), source };
        // Only a service at work, or one that was killed, has a log beside its store. Without one nobody writes, and SQLite
        // need not make the files by which readers and writers agree.
        let is_in_use = path.with_extension("db-wal").exists();
        let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(!is_in_use);
        let options = options.busy_timeout(BUSY_TIMEOUT).disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(refused)?;
        let newest = sqlx::query_scalar("SELECT MAX(received_at) FROM deliveries").fetch_one(&mut connection).await;
        connection.close().await.map_err(refused)?;
        newest.map_err(refused)
    }
}

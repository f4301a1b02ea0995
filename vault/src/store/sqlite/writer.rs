//! The one connection that writes, and what a failing disk does to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

use super::fault::fault;
use super::{BUSY, SqliteBatch, connect};
use crate::domain::TenantName;
use crate::store::Error;
use crate::store::fault::Fault;

/// From so many bytes on the write-ahead log is begun anew. SQLite does that by itself when a commit finds nobody reading; while
/// one long reading follows the other there is no such moment, and it was seen to grow by 10 MB a second.
const LONG: u64 = if cfg!(test) { 2 << 20 } else { 64 << 20 };
/// Those who read from it are waited for so long; meanwhile nobody writes, and who begins to read reads from the file.
const PAUSE: &str = "PRAGMA busy_timeout = 250";
/// As ever.
const PATIENCE: &str = "PRAGMA busy_timeout = 1500";
const _: () = assert!(BUSY.as_millis() == 1500, "the same");
/// And then not again for so long; after each time in vain for twice as long as before, up to the second: who reads for an hour
/// must not cost writers a quarter of it.
const APART: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(64)];

/// The writer. After a failure of the disk it writes nothing before a probe succeeded; after a failed sync nothing at
/// all: what the file then holds is not known (PostgreSQL's lesson of 2018), so only a restart may go on.
pub(in crate::store) struct Writer {
    path: PathBuf,
    /// Its write-ahead log.
    log: PathBuf,
    connection: Option<SqliteConnection>,
    poisoned: bool,
    /// When its write-ahead log was last begun anew, or should have been.
    began_anew: Instant,
    apart: Duration,
    /// Set while it waits less than ever: whoever asked may have gone away meanwhile.
    hurries: bool,
    #[cfg(test)]
    loses_answer: bool,
}

impl Writer {
    pub(super) fn new(path: PathBuf, connection: SqliteConnection) -> Self {
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        Self {
            path,
            log: log.into(),
            connection: Some(connection),
            poisoned: false,
            began_anew: Instant::now(),
            apart: APART[0],
            hurries: false,
            #[cfg(test)]
            loses_answer: false,
        }
    }

    /// Begins a transaction that holds the write lock.
    pub(in crate::store) async fn begin(&mut self) -> Result<SqliteBatch<'_>, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if self.connection.is_none() {
            let mut connection = connect(&self.path).await?;
            if let Err(error) = probe(&mut connection).await {
                // Whoever asked: after a sync that failed not even the next probe may find that all is well.
                self.failed(&error).await;
                return Err(error.into());
            }
            (self.connection, self.hurries) = (Some(connection), false);
        }
        if let Err(error) = self.begin_log_anew().await {
            self.failed(&error).await;
            return Err(error.into());
        }
        let connection = self.connection.as_mut().ok_or(Error::Unavailable)?;
        Ok(SqliteBatch {
            transaction: connection.begin_with("BEGIN IMMEDIATE").await?,
            #[cfg(test)]
            loses_answer: std::mem::take(&mut self.loses_answer),
        })
    }

    /// Where the write-ahead log is long: all of it goes into the file, and it is cut to nothing.
    async fn begin_log_anew(&mut self) -> Result<(), sqlx::Error> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if std::mem::take(&mut self.hurries) {
            sqlx::query(PATIENCE).execute(&mut *connection).await?;
        }
        let length = |log: &Path| std::fs::metadata(log).map_or(0, |facts| facts.len());
        if length(&self.log) <= LONG || self.began_anew.elapsed() < self.apart {
            return Ok(());
        }
        (self.began_anew, self.hurries) = (Instant::now(), true);
        sqlx::query(PAUSE).execute(&mut *connection).await?;
        let done = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
        sqlx::query(PATIENCE).execute(&mut *connection).await?;
        self.hurries = false;
        let is_in_vain = done?.try_get::<i64, _>(0)? != 0;
        self.apart = if is_in_vain { (self.apart * 2).min(APART[1]) } else { APART[0] };
        if is_in_vain {
            let length = length(&self.log);
            tracing::warn!(
                length,
                "somebody has been reading the database for long: its write-ahead log grows meanwhile"
            );
        }
        Ok(())
    }

    /// Tells the writer how a write or commit failed, so that it begins the next one as it must.
    pub(in crate::store) async fn failed(&mut self, error: &sqlx::Error) -> Fault {
        let fault = fault(error);
        match fault {
            Fault::Row | Fault::Raced | Fault::Again | Fault::Busy | Fault::Slow => {}
            Fault::Sync => {
                tracing::error!(%error, "the disk did not confirm a write: this node writes nothing until it is restarted");
                self.poisoned = true;
            }
            Fault::Disk | Fault::Other => {
                tracing::error!(%error, "writing failed: nothing is acknowledged until a write succeeds again");
                // The connection's own state is not known either.
                if let Some(connection) = self.connection.take() {
                    let _ = connection.close_hard().await;
                }
            }
        }
        fault
    }

    /// Passes on how a transaction ended; a failure is remembered.
    pub(super) async fn settle<T>(&mut self, done: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Database(error)) = &done {
            self.failed(error).await;
        }
        done
    }

    /// Closes the connection in order.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "closing the database failed");
        }
        self.poisoned = true;
    }
}

/// Whether the store can write again: a row that says nothing new goes to the disk.
async fn probe(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("UPDATE installation SET created = created WHERE tenant = ?")
        .bind(TenantName::SYSTEM)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

#[cfg(test)]
impl Writer {
    /// The next commit happens, but nobody hears of it; or, as ever, who asked does.
    pub(in crate::store) const fn lose_the_next_answer(&mut self, is_lost: bool) {
        self.loses_answer = is_lost;
    }

    /// As after a sync that the disk refused.
    pub(in crate::store) const fn refuse_a_sync(&mut self) {
        self.poisoned = true;
    }

    /// From now on this connection may add no page to the file.
    pub(in crate::store) async fn fill_the_disk(&mut self) {
        let connection = self.connection.as_mut().unwrap();
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await.unwrap();
        assert!(pages > 0);
        sqlx::query("PRAGMA max_page_count = 1").fetch_one(connection).await.unwrap();
    }
}

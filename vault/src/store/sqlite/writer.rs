//! The one connection that writes, and what a failing disk does to it.

use std::path::PathBuf;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::fault::fault;
use super::{SqliteBatch, connect};
use crate::domain::TenantName;
use crate::store::Error;
use crate::store::fault::Fault;

/// The writer. After a failure of the disk it writes nothing before a probe succeeded; after a failed sync nothing at
/// all: what the file then holds is not known (PostgreSQL's lesson of 2018), so only a restart may go on.
pub(in crate::store) struct Writer {
    path: PathBuf,
    connection: Option<SqliteConnection>,
    poisoned: bool,
    #[cfg(test)]
    loses_answer: bool,
}

impl Writer {
    pub(super) const fn new(path: PathBuf, connection: SqliteConnection) -> Self {
        Self {
            path,
            connection: Some(connection),
            poisoned: false,
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
            probe(&mut connection).await.map_err(Error::Database)?;
            self.connection = Some(connection);
        }
        let connection = self.connection.as_mut().ok_or(Error::Unavailable)?;
        Ok(SqliteBatch {
            transaction: connection.begin_with("BEGIN IMMEDIATE").await?,
            #[cfg(test)]
            loses_answer: std::mem::take(&mut self.loses_answer),
        })
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

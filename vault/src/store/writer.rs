//! The connection that writes, of whichever engine.

use std::collections::BTreeSet;

use tokio::sync::MutexGuard;

use super::batch::{Loaded, Wanted, WriteSet};
use super::fault::{Fault, NotWritten};
use super::postgres::{self, PostgresBatch};
use super::sqlite::{self, SqliteBatch};
use super::{Engine, Error, Store};
use crate::domain::{Clock, Realm, TenantName};

impl Store {
    /// The connection that writes; whoever holds it is alone in this node.
    pub(in crate::store) async fn writer(&self) -> Writer<'_> {
        match &self.inner.engine {
            Engine::Sqlite(engine) => Writer::Sqlite(engine.writer().await),
            Engine::Postgres(engine) => Writer::Postgres(engine.writer().await),
        }
    }

    /// Whether there may be other nodes: then who moves a generation on must have said so when it was read.
    pub(in crate::store) fn has_others(&self) -> bool {
        matches!(self.inner.engine, Engine::Postgres(_))
    }
}

/// An engine's writer, held.
pub(in crate::store) enum Writer<'s> {
    Sqlite(MutexGuard<'s, sqlite::Writer>),
    Postgres(MutexGuard<'s, postgres::Writer>),
}

impl Writer<'_> {
    /// Begins a batch's transaction.
    pub(in crate::store) async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        Ok(match self {
            Self::Sqlite(writer) => Transaction::Sqlite(writer.begin().await?),
            Self::Postgres(writer) => Transaction::Postgres(writer.begin().await?),
        })
    }

    /// Says that this node waits to move tenants' generations on. Without other nodes there is nobody to say it to.
    pub(in crate::store) async fn expect(&mut self, tenants: &BTreeSet<TenantName>) -> Result<(), Error> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(writer) => writer.expect(tenants).await,
        }
    }

    /// Whether a commit that ended so surely did not happen: the engine says that it could not order it.
    pub(in crate::store) fn undid(&self, error: &sqlx::Error) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(_) => postgres::fault(error) == Fault::Again,
        }
    }

    /// Tells it how a write or commit failed, so that it begins the next one as it must.
    pub(in crate::store) async fn failed(&mut self, error: &sqlx::Error) -> Fault {
        match self {
            Self::Sqlite(writer) => writer.failed(error).await,
            Self::Postgres(writer) => writer.failed(error).await,
        }
    }
}

/// A batch's transaction.
pub(in crate::store) enum Transaction<'w> {
    Sqlite(SqliteBatch<'w>),
    Postgres(PostgresBatch<'w>),
}

impl Transaction<'_> {
    /// Reads what the operations asked for.
    pub(in crate::store) async fn load(
        &mut self,
        wanted: &Wanted,
        realm: &Realm,
        clock: &Clock,
    ) -> Result<Loaded, Error> {
        match self {
            Self::Sqlite(batch) => batch.load(wanted, realm, clock).await,
            Self::Postgres(batch) => batch.load(wanted, realm, clock).await,
        }
    }

    /// Writes what the operations decided.
    pub(in crate::store) async fn write(&mut self, set: &WriteSet) -> Result<(), NotWritten> {
        match self {
            Self::Sqlite(batch) => Ok(batch.write(set).await?),
            Self::Postgres(batch) => batch.write(set).await,
        }
    }

    /// Makes it durable. After an error nobody knows whether it is, but where [`Writer::undid`] says so.
    pub(in crate::store) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(batch) => batch.commit().await,
            Self::Postgres(batch) => batch.commit().await,
        }
    }

    /// Undoes it.
    pub(in crate::store) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(batch) => batch.rollback().await,
            Self::Postgres(batch) => batch.rollback().await,
        }
    }
}

#[cfg(test)]
impl Writer<'_> {
    /// The next commit happens, but nobody hears of it; or, as ever, who asked does.
    pub(in crate::store) fn lose_the_next_answer(&mut self, is_lost: bool) {
        match self {
            Self::Sqlite(writer) => writer.lose_the_next_answer(is_lost),
            Self::Postgres(writer) => writer.lose_the_next_answer(is_lost),
        }
    }

    /// SQLite's, where a test is about its file.
    pub(in crate::store) fn sqlite(&mut self) -> &mut sqlite::Writer {
        match self {
            Self::Sqlite(writer) => writer,
            Self::Postgres(_) => panic!("this test is about SQLite"),
        }
    }
}

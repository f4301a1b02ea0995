//! A connection that writes, and what a server that went away does to it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::fault::fault;
use super::{PostgresBatch, connect, generations, within};
use crate::domain::TenantName;
use crate::store::Error;
use crate::store::fault::Fault;

/// A connection that was not used for so long is asked whether it still is one.
const IDLE_FOR: Duration = Duration::from_secs(1);

/// The writer. After a failure that is more than a row's it begins with a new connection, whose server is judged anew: it
/// may have been started with other settings, or be a standby. A node goes on by itself when its database comes back.
pub(in crate::store) struct Writer {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// Set while a transaction begins: one that did not begin leaves a connection that is of no use.
    is_doubtful: bool,
    used: Instant,
    closed: bool,
    #[cfg(test)]
    loses_answer: bool,
}

impl Writer {
    pub(super) fn new(options: PgConnectOptions, connection: PgConnection) -> Self {
        Self { connection: Some(connection), ..Self::lazy(options) }
    }

    /// One that connects when it first begins.
    pub(super) fn lazy(options: PgConnectOptions) -> Self {
        Self {
            options,
            connection: None,
            is_doubtful: false,
            used: Instant::now(),
            closed: false,
            #[cfg(test)]
            loses_answer: false,
        }
    }

    /// One that never writes: a standby's.
    pub(super) fn never(options: PgConnectOptions) -> Self {
        Self { closed: true, ..Self::lazy(options) }
    }

    /// Begins a transaction.
    pub(in crate::store) async fn begin(&mut self) -> Result<PostgresBatch<'_>, Error> {
        if self.closed {
            return Err(Error::Unavailable);
        }
        if self.is_doubtful || self.is_stale().await {
            self.connection = None;
        }
        if self.connection.is_none() {
            self.connection = Some(connect(&self.options).await?);
        }
        (self.is_doubtful, self.used) = (true, Instant::now());
        let connection = self.connection.as_mut().ok_or(Error::Unavailable)?;
        #[cfg(test)]
        let loses_answer = std::mem::take(&mut self.loses_answer);
        let transaction = within(connection.begin()).await?;
        self.is_doubtful = false;
        Ok(PostgresBatch::new(
            transaction,
            #[cfg(test)]
            loses_answer,
        ))
    }

    /// Whether the server ended the connection while it lay idle; under load nobody asks.
    async fn is_stale(&mut self) -> bool {
        match &mut self.connection {
            Some(connection) if self.used.elapsed() > IDLE_FOR => within(connection.ping()).await.is_err(),
            _ => false,
        }
    }

    /// Tells the writer how a write or commit failed, so that it begins the next one as it must.
    pub(in crate::store) async fn failed(&mut self, error: &sqlx::Error) -> Fault {
        let fault = fault(error);
        if !matches!(fault, Fault::Row | Fault::Raced | Fault::Again | Fault::Busy | Fault::Slow) {
            tracing::error!(%error, "writing failed: nothing is acknowledged until a write succeeds again");
            // Whatever the server still had to say on this connection is of no use any more.
            if let Some(connection) = self.connection.take() {
                let _ = within(connection.close_hard()).await;
            }
        }
        fault
    }

    /// Says that this node waits to move tenants' generations on.
    pub(in crate::store) async fn expect(&mut self, tenants: &BTreeSet<TenantName>) -> Result<(), Error> {
        let mut batch = self.begin().await?;
        let said = within(generations::expect(tenants, &mut batch.transaction)).await;
        let done = batch.finish(said.map_err(Error::Database)).await;
        self.settle(done).await.map_err(|(error, _)| error)
    }

    /// Passes on how a transaction ended; a failure is remembered.
    pub(super) async fn settle<T>(&mut self, done: Result<T, Error>) -> Result<T, (Error, Fault)> {
        match done {
            Ok(done) => Ok(done),
            Err(Error::Database(error)) => {
                let fault = self.failed(&error).await;
                Err((Error::Database(error), fault))
            }
            Err(error) => Err((error, Fault::Row)),
        }
    }

    /// Closes the connection in order.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = within(connection.close()).await
        {
            tracing::warn!(%error, "closing the database failed");
        }
        self.closed = true;
    }
}

#[cfg(test)]
impl Writer {
    /// The next commit happens, but nobody hears of it; or, as ever, who asked does.
    pub(in crate::store) const fn lose_the_next_answer(&mut self, is_lost: bool) {
        self.loses_answer = is_lost;
    }
}

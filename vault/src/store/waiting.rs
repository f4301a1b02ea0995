//! How far integration is behind, log by log: for whoever watches a node.

use super::{Error, Store, engine};
use crate::domain::{TenantName, Timestamp};

/// So many batches are counted at most: a log that is further behind than that is told by its age.
const MOST: i64 = 10_000;

/// Entries of a log that are durable and have no index yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Whose log.
    pub log: TenantName,
    /// How many, of all nodes; at least so many where more than 10,000 batches wait.
    pub entries: u64,
    /// When the oldest of them was written.
    pub since: Timestamp,
}

impl Store {
    /// The logs of which entries wait for integration. The rows are taken at their word: this is for a picture of the node,
    /// not for a decision.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn waiting(&self) -> Result<Vec<Waiting>, Error> {
        engine!(self, waiting(MOST, None))
    }

    /// The same of one log, however far others are behind.
    ///
    /// # Errors
    /// As [`Store::waiting`].
    pub async fn waiting_in(&self, log: &TenantName) -> Result<Option<Waiting>, Error> {
        Ok(engine!(self, waiting(MOST, Some(log)))?.pop())
    }
}

//! Why the log could not be integrated, read or proven.

use crate::domain::TenantName;
use crate::store::Error as StoreError;

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error("the store failed")]
    Store(#[from] crate::store::Error),
    /// The key store.
    #[error("the key store failed")]
    Keys(#[from] crate::keys::Error),
    /// Bytes of the log that are not what they should be.
    #[error("the log's bytes do not hold")]
    Log(#[from] crate::access_log::Error),
    /// The entry is not integrated yet: ask again in a second.
    #[error("not integrated yet")]
    Pending,
    /// No such entry, tile or checkpoint.
    #[error("not in this log")]
    Absent,
    /// A range that is none.
    #[error("not a range of this log")]
    Range,
    /// The receipt is not one of this log.
    #[error("not a receipt of this log")]
    Receipt,
    /// The log holds another entry where the receipt says.
    #[error("the log contradicts the receipt")]
    Contradiction,
    /// The head of a log in the database is not one that was signed, or does not continue what was.
    #[error("the database does not continue what was signed of the log {0}")]
    History(TenantName),
    /// A lane is not integrated up to where its row says: entries were left out, or are gone.
    #[error("its batches do not lead to where its row says it is integrated")]
    Lane,
    /// The checkpoint named for a recovery is not one of this installation.
    #[error("not a checkpoint of this installation that the database had reached")]
    Checkpoint,
    /// A recovery while a node runs, or ran until just now.
    #[error("another node gave a sign of life within the last 30 seconds; stop every node first")]
    NodeAlive,
    /// What a bundle is written to failed.
    #[error("the bundle could not be written")]
    Output(#[source] std::io::Error),
}

impl Error {
    /// Whether it says that rows were altered. Everything else is a store or key store that does not answer, a request that
    /// asks for what is not there, or another sequencer that came first.
    #[must_use]
    pub const fn is_evidence(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::Tampered(_) | StoreError::Unreadable(_))
                | Self::Log(_)
                | Self::Absent
                | Self::Contradiction
                | Self::Lane
                | Self::History(_)
        )
    }

    /// What is wrong, for an alarm.
    pub(super) fn words(&self) -> String {
        std::error::Error::source(self).map_or_else(|| self.to_string(), ToString::to_string)
    }
}

//! Why the log could not be integrated, read or proven.

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
    /// The checkpoint named for a recovery is not one of this installation.
    #[error("not a checkpoint of this installation that the database had reached")]
    Checkpoint,
    /// What a bundle is written to failed.
    #[error("the bundle could not be written")]
    Output(#[source] std::io::Error),
}

//! What a failed write means, whatever the engine.

/// A failure's consequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Fault {
    /// One row breaks a constraint: its operation fails, its neighbours need not.
    Row,
    /// Another node changed a row between reading and writing: what was decided on it is decided anew.
    Raced,
    /// The engine could not order this transaction among others: the same one is made anew.
    Again,
    /// Another node holds what it needs for longer than a batch waits.
    Busy,
    /// The engine gave up on it because it took too long.
    Slow,
    /// The disk is full or fails: nothing is acknowledged until a write succeeds again.
    Disk,
    /// The disk did not confirm a write it had taken: what the file holds is not known before a restart.
    Sync,
    /// Locked, closed or anything else: this write did not happen.
    Other,
}

impl Fault {
    /// True if it concerns the operation whose row it was, and no other.
    pub(in crate::store) const fn is_own_row(self) -> bool {
        matches!(self, Self::Row | Self::Raced)
    }

    /// True if the same operations can succeed when they are decided anew.
    pub(in crate::store) const fn passes(self) -> bool {
        matches!(self, Self::Raced | Self::Again)
    }
}

/// Why a batch was not written. Nothing of it was.
#[derive(Debug)]
pub(in crate::store) enum NotWritten {
    /// A row is not what it was when the batch decided on it.
    Raced,
    /// The engine refused.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for NotWritten {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

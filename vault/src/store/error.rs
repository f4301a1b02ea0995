//! What can be wrong with storing. No variant carries a row's content.

use crate::keys;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The committer's queue is full.
    #[error("too many operations are waiting")]
    Overloaded,
    /// The tenant's generation moved on since the request was decided: refresh the catalog and decide anew.
    #[error("the tenant's settings changed meanwhile")]
    Stale,
    /// The credential that asked was revoked, suspended or ended before the commit.
    #[error("the credential that asked is no longer in force")]
    CredentialEnded,
    /// The act takes a second custodian, and nobody approved it yet.
    #[error("the act takes a second custodian")]
    TakesTwo(Box<super::approvals::TwoPersonAct>),
    /// The creation of this tenant began with a key of the built-in KMS and broke off: that key is its first.
    #[error("the creation of this tenant began with a key of the built-in KMS")]
    BegunLocally,
    /// As many requests of one credential wait for a second custodian as may.
    #[error("sixteen requests of this credential wait for a second custodian already")]
    TooManyOpen,
    /// These secrets of a destination do not open where they were left: they must be given again.
    #[error("secrets of a destination are out of reach")]
    SecretsOutOfReach(Vec<String>),
    /// The operation's deadline passed; nothing of it was given out.
    #[error("the operation's deadline passed")]
    Late,
    /// Another change of the same row came first, or a row with this key is already there.
    #[error("another change came first")]
    Conflict,
    /// The place in a list is none of ours.
    #[error("not a cursor")]
    Cursor,
    /// The logs cannot be relied on (see `access_log::LogHealth`): nothing is written that would rest on them.
    #[error("the access log cannot be relied on")]
    LogUnavailable,
    /// The store does not write or read at the moment; nothing was acknowledged.
    #[error("the store is not available")]
    Unavailable,
    /// Other nodes hold what the batch needs; it comes again.
    #[error("other nodes hold what is needed")]
    Held,
    /// Another node closed this start of the node, since it gave no sign of life: only a new start may write.
    #[error("this start of the node was closed by another node")]
    Closed,
    /// A data key could not be had.
    #[error("a data key is not available")]
    Keys(#[from] keys::Error),
    /// A row that decides, or an entry, is not what was written.
    #[error("a row of {0} was tampered with")]
    Tampered(&'static str),
    /// A row does not read back as what it should be.
    #[error("a row of {0} is not readable")]
    Unreadable(&'static str),
    /// A change breaks a rule of the store; a fault of the vault itself.
    #[error("a change breaks a rule: {0}")]
    Rule(&'static str),
    /// The database was written by a newer program, or an applied migration was altered.
    #[error("the database's schema is not one this program knows")]
    Schema(#[source] sqlx::migrate::MigrateError),
    /// The database belongs to another installation than the key store.
    #[error("the database belongs to another installation than the key store")]
    WrongInstallation,
    /// The address of the database is not one we take, or asks for weaker settings.
    #[error("database setting refused: {0}")]
    Setting(&'static str),
    /// The file of the database could not be made or guarded.
    #[error("the database's file could not be opened")]
    File(#[source] std::io::Error),
    /// The engine failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// An earlier write may not have reached the disk: only a restart may go on.
    #[error("an earlier write may not have reached the disk; restart the node")]
    Poisoned,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Schema(error)
    }
}

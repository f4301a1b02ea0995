//! What a failure of PostgreSQL means for what was being written.

use crate::store::fault::Fault;

/// Classes of SQLSTATE that concern one row: data that does not fit, a constraint.
const OF_A_ROW: [&str; 2] = ["22", "23"];
/// Serialization failure and deadlock: the same transaction can succeed when it is made anew.
const TRANSIENT: [&str; 2] = ["40001", "40P01"];
/// A lock was not to be had within `lock_timeout`.
const WAITED: &str = "55P03";
/// `statement_timeout` passed: by work, since a lock is not waited for that long; or somebody cancelled it.
const TOOK_TOO_LONG: &str = "57014";
/// The disk is full, the disk fails, the database or an index is damaged.
const OF_THE_DISK: [&str; 4] = ["53100", "58030", "XX001", "XX002"];

/// Judges an error by its SQLSTATE. None poisons the node: PostgreSQL itself goes down when a sync fails, and what it
/// acknowledges after its recovery is on the disk.
pub(in crate::store) fn fault(error: &sqlx::Error) -> Fault {
    let sqlx::Error::Database(database) = error else {
        // A row that does not decode or encode, or a compare-and-set that found another version, concerns its operation.
        let own = matches!(
            error,
            sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::RowNotFound
        );
        return if own { Fault::Row } else { Fault::Other };
    };
    let code = database.code().unwrap_or_default();
    if TRANSIENT.contains(&&*code) {
        Fault::Again
    } else if code == WAITED {
        Fault::Busy
    } else if code == TOOK_TOO_LONG {
        Fault::Slow
    } else if OF_THE_DISK.contains(&&*code) {
        Fault::Disk
    } else if OF_A_ROW.iter().any(|class| code.starts_with(class)) {
        Fault::Row
    } else {
        Fault::Other
    }
}

//! What a failure of SQLite means for what was being written.

use crate::store::fault::Fault;

const CONSTRAINT: u32 = 19;
const MISMATCH: u32 = 20;
const TOO_BIG: u32 = 18;
const IO: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const READ_ONLY: u32 = 8;
const NOT_A_DATABASE: u32 = 26;
/// `SQLITE_IOERR_FSYNC` and `SQLITE_IOERR_DIR_FSYNC`.
const SYNC: [u32; 2] = [IO | 4 << 8, IO | 5 << 8];

/// Judges an error by SQLite's extended result code.
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
    let code: u32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    match code & 0xff {
        CONSTRAINT | MISMATCH | TOO_BIG => Fault::Row,
        _ if SYNC.contains(&code) => Fault::Sync,
        IO | FULL | CORRUPT | READ_ONLY | NOT_A_DATABASE => Fault::Disk,
        _ => Fault::Other,
    }
}

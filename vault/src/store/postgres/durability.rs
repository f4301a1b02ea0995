//! Whether the server keeps what it acknowledges: judged when a connection is made, and again with all that is written,
//! since a running server takes weaker settings without a word.

use sqlx::{PgConnection, Row};

use super::{IDLE, STATEMENT};
use crate::store::Error;

/// True where a commit is on the disk before it is answered, said in SQL: a part of the statements that write.
macro_rules! keeps_commits {
    () => {
        "(current_setting('synchronous_commit') IN ('on', 'remote_apply') AND current_setting('fsync') = 'on' \
         AND current_setting('full_page_writes') = 'on' \
         AND coalesce(current_setting('data_sync_retry', true), 'off') = 'off')"
    };
}
pub(super) use keeps_commits;

/// What is said of a server that no longer does.
pub(super) const WEAK: Error =
    Error::Setting("the server's durability was weakened while it ran: see docs/operations.md");

/// Refuses settings with which an acknowledged commit could be lost, a connection that our own did not reach (some poolers
/// drop them), and a standby.
pub(in crate::store) async fn judge(connection: &mut PgConnection) -> Result<Result<(), &'static str>, sqlx::Error> {
    // The session keeps the strength it begins with: none that is set for the server later weakens it.
    let row = sqlx::query(
        "SELECT set_config('synchronous_commit', current_setting('synchronous_commit'), false), \
         current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery(), \
         current_setting('server_encoding'), coalesce(current_setting('data_sync_retry', true), 'off'), \
         current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')",
    )
    .fetch_one(connection)
    .await?;
    let is = |index: usize, good: &[&str]| row.try_get::<&str, _>(index).map(|setting| good.contains(&setting));
    Ok(if !is(0, &["on", "remote_apply"])? {
        Err("synchronous_commit is weaker than on: set it to on")
    } else if !is(1, &["on"])? {
        Err("fsync is off, and what is acknowledged would not be on the disk: set it to on")
    } else if !is(2, &["on"])? {
        Err("full_page_writes is off, and a power cut would damage pages: set it to on")
    } else if row.try_get::<bool, _>(3)? {
        Err("the database is a standby, which cannot be written: name the primary")
    } else if !is(4, &["UTF8"])? {
        Err("the database's encoding is not UTF8: make it anew with ENCODING 'UTF8'")
    } else if !is(5, &["off"])? {
        Err("data_sync_retry is on, and what a failed sync lost would count as written: set it to off")
    } else if !is(6, &[STATEMENT])? || !is(7, &[IDLE])? {
        Err(
            "statement_timeout and idle_in_transaction_session_timeout do not reach the server: a pooler before it must \
             pool sessions and pass the startup parameter options on",
        )
    } else {
        Ok(())
    })
}

/// Whether it still does, in a transaction that has nothing else to ask.
pub(super) async fn hold(connection: &mut PgConnection) -> Result<(), Error> {
    let keeps: bool = sqlx::query_scalar(concat!("SELECT ", keeps_commits!())).fetch_one(connection).await?;
    if keeps { Ok(()) } else { Err(WEAK) }
}

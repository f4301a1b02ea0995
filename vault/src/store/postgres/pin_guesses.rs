//! PINs that were brought for a token, counted before each is tried.

use sqlx::PgConnection;

use super::PostgresStore;
use super::column::{int, millis};
use crate::domain::{TenantName, Timestamp};
use crate::store::Error;

impl PostgresStore {
    /// Counts one more, unless there are `most` already that are not older than `horizon`: then it says when the last was begun.
    pub(in crate::store) async fn guess(
        &self,
        place: (&TenantName, &str),
        most: u32,
        now: Timestamp,
        horizon: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        super::writing!(self, |connection| guess(place, most, (now, horizon), connection).await.map_err(Error::from))
    }

    /// Takes one back.
    pub(in crate::store) async fn guess_back(&self, by: &TenantName, token: &str) -> Result<(), Error> {
        super::writing!(self, |connection| guess_back(by, token, connection).await.map_err(Error::from))
    }

    /// Forgets them all.
    pub(in crate::store) async fn guesses_over(&self, by: &TenantName, token: &str) -> Result<(), Error> {
        super::writing!(self, |connection| forget(by, token, connection).await.map_err(Error::from))
    }

    /// Removes what was last begun before `horizon`; how many.
    pub(in crate::store) async fn purge_guesses(&self, horizon: Timestamp) -> Result<u64, Error> {
        super::writing!(self, |connection| purge(horizon, connection).await.map_err(Error::from))
    }
}

async fn guess(
    (by, token): (&TenantName, &str),
    most: u32,
    (now, horizon): (Timestamp, Timestamp),
    connection: &mut PgConnection,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO pin_guesses AS g (tenant, token, tried, last) VALUES ($1, $2, 1, $3) \
         ON CONFLICT (tenant, token) DO UPDATE SET tried = CASE WHEN g.last <= $4 THEN 1 ELSE g.tried + 1 END, last = $3 \
         WHERE g.tried < $5 OR g.last <= $4",
    )
    .bind(by.as_str())
    .bind(token)
    .bind(millis(now))
    .bind(millis(horizon))
    .bind(int(u64::from(most)))
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(None);
    }
    let (_, last) = counted(by, token, connection).await?.unwrap_or((0, now));
    Ok(Some(last))
}

/// How many there are, and when the last was begun.
async fn counted(
    by: &TenantName,
    token: &str,
    connection: &mut PgConnection,
) -> Result<Option<(u64, Timestamp)>, sqlx::Error> {
    let row: Option<(i64, i64)> =
        sqlx::query_as("SELECT tried, last FROM pin_guesses WHERE tenant = $1 AND token = $2")
            .bind(by.as_str())
            .bind(token)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(tried, last)| (tried.unsigned_abs(), Timestamp::from_millis(last.unsigned_abs()))))
}

/// How many there are: the row is held until the transaction ends.
pub(super) async fn tried(
    by: &TenantName,
    token: &str,
    connection: &mut PgConnection,
) -> Result<Option<u64>, sqlx::Error> {
    let tried: Option<i64> =
        sqlx::query_scalar("SELECT tried FROM pin_guesses WHERE tenant = $1 AND token = $2 FOR UPDATE")
            .bind(by.as_str())
            .bind(token)
            .fetch_optional(connection)
            .await?;
    Ok(tried.map(i64::unsigned_abs))
}

async fn guess_back(by: &TenantName, token: &str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE pin_guesses SET tried = tried - 1 WHERE tenant = $1 AND token = $2 AND tried > 0")
        .bind(by.as_str())
        .bind(token)
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn forget(by: &TenantName, token: &str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM pin_guesses WHERE tenant = $1 AND token = $2")
        .bind(by.as_str())
        .bind(token)
        .execute(connection)
        .await
        .map(|_| ())
}

async fn purge(horizon: Timestamp, connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let done =
        sqlx::query("DELETE FROM pin_guesses WHERE last <= $1").bind(millis(horizon)).execute(connection).await?;
    Ok(done.rows_affected())
}

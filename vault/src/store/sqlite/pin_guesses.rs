//! PINs that were brought for a token, counted before each is tried.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::column::{int, millis};
use crate::domain::{TenantName, Timestamp};
use crate::store::Error;

impl SqliteStore {
    /// Counts one more, and says how many there are; unless there are `most` already that are not older than `horizon`: then it
    /// says when the last was begun.
    pub(in crate::store) async fn guess(
        &self,
        place: (&TenantName, &str),
        most: u32,
        now: Timestamp,
        horizon: Timestamp,
    ) -> Result<Result<u64, Timestamp>, Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let done = guess(place, most, (now, horizon), &mut batch.transaction).await.map_err(Error::from);
        let done = batch.finish(done).await;
        writer.settle(done).await
    }

    /// Takes one back.
    pub(in crate::store) async fn guess_back(&self, by: &TenantName, token: &str) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let done = guess_back(by, token, &mut batch.transaction).await.map_err(Error::from);
        let done = batch.finish(done).await;
        writer.settle(done).await
    }

    /// Forgets them all.
    pub(in crate::store) async fn guesses_over(&self, by: &TenantName, token: &str) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let done = forget(by, token, &mut batch.transaction).await.map_err(Error::from);
        let done = batch.finish(done).await;
        writer.settle(done).await
    }

    /// Removes what was last begun before `horizon`; how many.
    pub(in crate::store) async fn purge_guesses(&self, horizon: Timestamp) -> Result<u64, Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let done = purge(horizon, &mut batch.transaction).await.map_err(Error::from);
        let done = batch.finish(done).await;
        writer.settle(done).await
    }
}

async fn guess(
    (by, token): (&TenantName, &str),
    most: u32,
    (now, horizon): (Timestamp, Timestamp),
    connection: &mut SqliteConnection,
) -> Result<Result<u64, Timestamp>, sqlx::Error> {
    let tried: Option<i64> = sqlx::query_scalar(
        "INSERT INTO pin_guesses AS g (tenant, token, tried, last) VALUES (?1, ?2, 1, ?3) \
         ON CONFLICT (tenant, token) DO UPDATE SET tried = CASE WHEN g.last <= ?4 THEN 1 ELSE g.tried + 1 END, last = ?3 \
         WHERE g.tried < ?5 OR g.last <= ?4 RETURNING tried",
    )
    .bind(by.as_str())
    .bind(token)
    .bind(millis(now))
    .bind(millis(horizon))
    .bind(int(u64::from(most)))
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(tried) = tried {
        return Ok(Ok(tried.unsigned_abs()));
    }
    let last: Option<i64> = sqlx::query_scalar("SELECT last FROM pin_guesses WHERE tenant = ?1 AND token = ?2")
        .bind(by.as_str())
        .bind(token)
        .fetch_optional(connection)
        .await?;
    Ok(Err(last.map_or(now, |last| Timestamp::from_millis(last.unsigned_abs()))))
}

/// How many there are: nobody else writes before the transaction ends.
pub(super) async fn tried(
    by: &TenantName,
    token: &str,
    connection: &mut SqliteConnection,
) -> Result<Option<u64>, sqlx::Error> {
    let tried: Option<i64> = sqlx::query_scalar("SELECT tried FROM pin_guesses WHERE tenant = ?1 AND token = ?2")
        .bind(by.as_str())
        .bind(token)
        .fetch_optional(connection)
        .await?;
    Ok(tried.map(i64::unsigned_abs))
}

async fn guess_back(by: &TenantName, token: &str, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE pin_guesses SET tried = tried - 1 WHERE tenant = ?1 AND token = ?2 AND tried > 0")
        .bind(by.as_str())
        .bind(token)
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn forget(by: &TenantName, token: &str, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM pin_guesses WHERE tenant = ?1 AND token = ?2")
        .bind(by.as_str())
        .bind(token)
        .execute(connection)
        .await
        .map(|_| ())
}

async fn purge(horizon: Timestamp, connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let done =
        sqlx::query("DELETE FROM pin_guesses WHERE last <= ?1").bind(millis(horizon)).execute(connection).await?;
    Ok(done.rows_affected())
}

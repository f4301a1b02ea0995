//! Data keys that end with a KEK version that is lost, and their marks.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::column::{Columns, int};
use super::sql::{self, Texts, texts};
use crate::domain::{DataKeyClass, DataKeyId, Epoch, KekId, TenantName};
use crate::keys::LostDataKey;
use crate::store::Error;

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

const REMOVE: Texts =
    texts!("DELETE FROM data_keys WHERE (tenant, data_key_id, kek_id, kek_version) IN (VALUES ", "(?,?,?,?)", ")");
const MARK: Texts = texts!(
    "INSERT INTO lost_data_keys (tenant, data_key_id, kek_id, kek_version, class, epoch, mac) VALUES ",
    "(?,?,?,?,?,?,?)",
    ""
);

/// Removes them and marks them, several with one statement: nobody else writes meanwhile. If one is not there under its KEK version
/// any more: [`sqlx::Error::RowNotFound`].
pub(super) async fn write(lost: &[LostDataKey], connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for (text, part) in sql::parts(&REMOVE, lost) {
        let query = part.iter().fold(sqlx::query(text), bind_key);
        if query.execute(&mut *connection).await?.rows_affected() != part.len() as u64 {
            return Err(sqlx::Error::RowNotFound);
        }
    }
    for (text, part) in sql::parts(&MARK, lost) {
        let marked =
            |query, mark| bind_key(query, mark).bind(mark.class.as_str()).bind(int(mark.epoch.0)).bind(&mark.mac[..]);
        let query = part.iter().fold(sqlx::query(text), marked);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// A data key and what wraps it, as both statements begin.
fn bind_key<'q>(query: Query<'q>, mark: &'q LostDataKey) -> Query<'q> {
    query
        .bind(mark.tenant.as_str())
        .bind(&mark.data_key_id.as_bytes()[..])
        .bind(&mark.kek_id.as_bytes()[..])
        .bind(mark.kek_version)
}

/// Removes the marks of a class up to an epoch: what their data keys sealed would be gone by now in any case.
pub(super) async fn remove_erased(
    class: DataKeyClass,
    newest: Epoch,
    connection: &mut SqliteConnection,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("DELETE FROM lost_data_keys WHERE class = ? AND epoch <= ?")
        .bind(class.as_str())
        .bind(int(newest.0))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

impl SqliteStore {
    /// The mark of a data key.
    pub(in crate::store) async fn lost_data_key(
        &self,
        id: DataKeyId,
        tenant: &TenantName,
    ) -> Result<Option<LostDataKey>, Error> {
        let row = sqlx::query("SELECT * FROM lost_data_keys WHERE tenant = ? AND data_key_id = ?")
            .bind(tenant.as_str())
            .bind(&id.as_bytes()[..])
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        let Some(row) = &row else { return Ok(None) };
        let columns = Columns::of("lost_data_keys", row);
        Ok(Some(LostDataKey {
            tenant: tenant.clone(),
            data_key_id: id,
            kek_id: columns.id("kek_id", KekId::from_bytes)?,
            kek_version: columns.number("kek_version")?,
            class: columns.word("class")?,
            epoch: Epoch(columns.number("epoch")?),
            mac: columns.bytes("mac")?,
        }))
    }
}

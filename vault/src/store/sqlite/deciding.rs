//! Rows that decide as they lie in the database: not yet authenticated.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::column::{Columns, int};
use super::kek_claims;
use super::sql::{self, Texts, texts};
use crate::domain::{AppName, SecretId, TenantName};
use crate::store::Error;
use crate::store::batch::{SealedRow, Stored};
use crate::store::rows::{DecidingRow, Table};

/// The columns with the row's newest entry, in one statement: row and entry are of one moment.
macro_rules! columns {
    ($table:tt) => {
        concat!(
            "SELECT tenant, key, version, body, mac, mac_key_id, (SELECT l.leaf FROM access_log l INDEXED BY access_log_by_object WHERE \
             l.tenant = t.tenant AND l.object = '",
            $table,
            "/' || t.key AND l.object_version IS NOT NULL ORDER BY l.object_version DESC LIMIT 1) AS newest, \
             (SELECT max(l.object_version) FROM access_log l INDEXED BY access_log_by_object WHERE l.tenant = t.tenant AND l.object = '",
            $table,
            "/' || t.key) AS newest_version FROM ",
            $table,
            " AS t"
        )
    };
}

struct Statements {
    by_key: Texts,
    by_id: &'static str,
    all: &'static str,
    part: &'static str,
    insert: &'static str,
    replace: &'static str,
}

macro_rules! statements {
    ($table:tt) => {
        Statements {
            by_key: texts!(concat!(columns!($table), " WHERE t.tenant = ? AND t.key IN ("), "?", ")"),
            by_id: concat!(columns!($table), " WHERE t.key = ? LIMIT 2"),
            all: concat!(columns!($table), " WHERE t.tenant = ? ORDER BY t.key"),
            part: concat!(columns!($table), " WHERE t.tenant = ? AND t.key > ? ORDER BY t.key LIMIT ?"),
            insert: concat!(
                "INSERT INTO ",
                $table,
                " (body, mac, mac_key_id, version, tenant, key) VALUES (?, ?, ?, ?, ?, ?)"
            ),
            replace: concat!(
                "UPDATE ",
                $table,
                " SET body = ?, mac = ?, mac_key_id = ?, version = ? WHERE tenant = ? AND key = ? AND version = ?"
            ),
        }
    };
}

/// The statements that read.
#[cfg(test)]
pub(super) fn texts_of(table: Table) -> [&'static str; 4] {
    let Statements { by_key, by_id, all, part, .. } = statements(table);
    [by_key[3], by_id, all, part]
}

const fn statements(table: Table) -> &'static Statements {
    static TENANTS: Statements = statements!("tenants");
    static APPS: Statements = statements!("apps");
    static FLOWS: Statements = statements!("flows");
    static DESTINATIONS: Statements = statements!("destinations");
    static CREDENTIALS: Statements = statements!("credentials");
    static SESSIONS: Statements = statements!("capture_sessions");
    static KEKS: Statements = statements!("keks");
    static KEY_PROVIDERS: Statements = statements!("key_providers");
    static NODE_KEYS: Statements = statements!("node_keys");
    static APPROVALS: Statements = statements!("approvals");
    match table {
        Table::Tenants => &TENANTS,
        Table::Apps => &APPS,
        Table::Flows => &FLOWS,
        Table::Destinations => &DESTINATIONS,
        Table::Credentials => &CREDENTIALS,
        Table::CaptureSessions => &SESSIONS,
        Table::Keks => &KEKS,
        Table::KeyProviders => &KEY_PROVIDERS,
        Table::NodeKeys => &NODE_KEYS,
        Table::Approvals => &APPROVALS,
    }
}

/// Rows of a tenant by their keys.
pub(super) async fn read(
    table: Table,
    keys: &[&str],
    tenant: &TenantName,
    connection: &mut SqliteConnection,
) -> Result<Vec<Stored>, Error> {
    let mut found = Vec::new();
    for (text, part, fill) in sql::look_ups(&statements(table).by_key, keys) {
        let query = sqlx::query(text).bind(tenant.as_str());
        let query = part.iter().fold(query, |query, key| query.bind(*key));
        let query = (0..fill).fold(query, |query, _| query.bind(None::<&str>));
        for row in query.fetch_all(&mut *connection).await? {
            found.push(stored(table, &row)?);
        }
    }
    Ok(found)
}

/// The row with a key that is an id, whosever it is.
pub(super) async fn read_by_id(
    table: Table,
    key: &str,
    connection: &mut SqliteConnection,
) -> Result<Vec<Stored>, Error> {
    let rows = sqlx::query(statements(table).by_id).bind(key).fetch_all(connection).await?;
    rows.iter().map(|row| stored(table, row)).collect()
}

/// All rows of a tenant.
pub(super) async fn read_all(
    table: Table,
    tenant: &TenantName,
    connection: &mut SqliteConnection,
) -> Result<Vec<Stored>, Error> {
    let rows = sqlx::query(statements(table).all).bind(tenant.as_str()).fetch_all(connection).await?;
    rows.iter().map(|row| stored(table, row)).collect()
}

/// So many rows of a tenant behind a key.
pub(super) async fn read_part(
    table: Table,
    (after, limit): (&str, usize),
    tenant: &TenantName,
    connection: &mut SqliteConnection,
) -> Result<Vec<Stored>, Error> {
    let query = sqlx::query(statements(table).part).bind(tenant.as_str()).bind(after).bind(int(limit as u64));
    query.fetch_all(connection).await?.iter().map(|row| stored(table, row)).collect()
}

fn stored(table: Table, row: &SqliteRow) -> Result<Stored, Error> {
    let columns = Columns::of(table.as_str(), row);
    let tenant = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
    let (key, version, body) = (columns.get("key")?, columns.number("version")?, columns.get("body")?);
    let row = DecidingRow { table, tenant, key, version, body };
    let mac_key_id = columns.id("mac_key_id", SecretId::from_bytes)?;
    Ok(Stored { sealed: SealedRow { row, mac: columns.bytes("mac")?, mac_key_id }, newest: columns.newest()? })
}

/// The newest entries that speak of a row: more than one, since whoever takes rows away may also have moved the number by which they are
/// ordered. Sessions go by the clock, and none is missed.
pub(super) async fn last_words(
    table: Table,
    key: &str,
    tenant: &TenantName,
    connection: &mut SqliteConnection,
) -> Result<Vec<Vec<u8>>, Error> {
    if table == Table::CaptureSessions {
        return Ok(Vec::new());
    }
    let found = sqlx::query_scalar(
        "SELECT leaf FROM access_log INDEXED BY access_log_by_object WHERE tenant = ? AND object = ? \
         ORDER BY object_version DESC LIMIT 16",
    );
    let object = format!("{}/{key}", table.as_str());
    Ok(found.bind(tenant.as_str()).bind(object).fetch_all(connection).await?)
}

/// Writes a row over version `base`, or a new one if that is 0. Not exactly so: [`sqlx::Error::RowNotFound`].
pub(super) async fn write(sealed: &SealedRow, base: u64, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let SealedRow { row, mac, mac_key_id } = sealed;
    let texts = statements(row.table);
    let text = if base == 0 { texts.insert } else { texts.replace };
    let query = sqlx::query(text)
        .bind(&row.body[..])
        .bind(&mac[..])
        .bind(&mac_key_id.as_bytes()[..])
        .bind(int(row.version))
        .bind(row.tenant.as_str())
        .bind(&row.key[..]);
    let query = if base == 0 { query } else { query.bind(int(base)) };
    let done = query.execute(&mut *connection).await?;
    if done.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    if base == 0 && row.table == Table::Apps {
        claim_app_name(&row.key, &row.tenant, connection).await?;
    }
    kek_claims::write(row, base == 0, connection).await
}

/// Names of apps are unique in the installation: another tenant's claim breaks the primary key.
async fn claim_app_name(app: &str, owner: &TenantName, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO app_names (tenant, app, owner) VALUES (?, ?, ?)")
        .bind(TenantName::SYSTEM)
        .bind(app)
        .bind(owner.as_str())
        .execute(connection)
        .await
        .map(|_| ())
}

/// The tenant that has claimed an app's name.
pub(super) async fn owner_of_app(
    app: &AppName,
    connection: &mut SqliteConnection,
) -> Result<Option<TenantName>, Error> {
    let owner: Option<String> = sqlx::query_scalar("SELECT owner FROM app_names WHERE tenant = ? AND app = ?")
        .bind(TenantName::SYSTEM)
        .bind(app.as_str())
        .fetch_optional(connection)
        .await?;
    owner.map(|owner| TenantName::from_store(&owner).map_err(|_| Error::Unreadable("app_names"))).transpose()
}

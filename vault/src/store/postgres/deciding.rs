//! Rows that decide as they lie in the database: not yet authenticated.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::column::{Columns, column, int};
use super::kek_claims;
use crate::domain::{AppName, SecretId, TenantName};
use crate::store::Error;
use crate::store::batch::{SealedRow, Stored};
use crate::store::rows::{DecidingRow, Table};

/// The columns with the row's newest entry, in one statement: row and entry are of one moment.
macro_rules! columns {
    ($table:tt) => {
        concat!(
            "SELECT t.tenant, t.key, t.version, t.body, t.mac, t.mac_key_id, n.leaf AS newest, n.object_version AS \
             newest_version FROM ",
            $table,
            " AS t LEFT JOIN LATERAL (SELECT l.leaf, l.object_version FROM access_log l WHERE l.tenant = t.tenant AND \
             l.object = '",
            $table,
            "/' || t.key AND l.object_version IS NOT NULL ORDER BY l.object_version DESC LIMIT 1) AS n ON true"
        )
    };
}

struct Statements {
    by_key: &'static str,
    by_key_locked: &'static str,
    lock: &'static str,
    share: &'static str,
    by_id: &'static str,
    all: &'static str,
    part: &'static str,
    insert: &'static str,
    replace: &'static str,
}

macro_rules! statements {
    ($table:tt) => {
        Statements {
            by_key: concat!(columns!($table), " WHERE t.tenant = $1 AND t.key = ANY($2)"),
            by_key_locked: concat!(
                columns!($table),
                " WHERE t.tenant = $1 AND t.key = ANY($2) ORDER BY t.key FOR UPDATE OF t"
            ),
            lock: concat!("SELECT 1 FROM ", $table, " WHERE tenant = $1 AND key = ANY($2) ORDER BY key FOR UPDATE"),
            share: concat!("SELECT 1 FROM ", $table, " WHERE tenant = $1 AND key = ANY($2) ORDER BY key FOR SHARE"),
            by_id: concat!(columns!($table), " WHERE t.key = $1 LIMIT 2"),
            all: concat!(columns!($table), " WHERE t.tenant = $1 ORDER BY t.key"),
            part: concat!(columns!($table), " WHERE t.tenant = $1 AND t.key > $2 ORDER BY t.key LIMIT $3"),
            insert: concat!(
                "INSERT INTO ",
                $table,
                " (tenant, key, version, body, mac, mac_key_id) SELECT n.tenant, n.key, n.version, n.body, n.mac, \
                 n.mac_key_id FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], \
                 $7::bigint[]) AS n(tenant, key, version, body, mac, mac_key_id, base)"
            ),
            replace: concat!(
                "UPDATE ",
                $table,
                " AS t SET version = n.version, body = n.body, mac = n.mac, mac_key_id = n.mac_key_id \
                 FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bigint[]) \
                 AS n(tenant, key, version, body, mac, mac_key_id, base) \
                 WHERE t.tenant = n.tenant AND t.key = n.key AND t.version = n.base"
            ),
        }
    };
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
    connection: &mut PgConnection,
) -> Result<Vec<Stored>, Error> {
    let rows = sqlx::query(statements(table).by_key).bind(tenant.as_str()).bind(keys).fetch_all(connection).await?;
    rows.iter().map(|row| stored(table, row)).collect()
}

/// Locks rows of a tenant in the order of their keys and reads them.
pub(super) async fn lock_and_read(
    table: Table,
    keys: &[&str],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<Stored>, Error> {
    if table != Table::CaptureSessions {
        lock(table, keys, tenant, connection).await?;
        return read(table, keys, tenant, connection).await;
    }
    // In one statement: nearly every capture of a browser locks its session, and hardly ever waits for it. Who had to wait
    // reads the row that the other wrote beside the entry of before: older than the row, and that is allowed. If somebody put
    // the row back meanwhile, too, its next version is refused by the index: an entry of it is there already.
    let text = statements(table).by_key_locked;
    let rows = sqlx::query(text).bind(tenant.as_str()).bind(keys).fetch_all(connection).await?;
    rows.iter().map(|row| stored(table, row)).collect()
}

/// Locks rows in the order of their keys. In a statement of its own before they are read: whoever had to wait reads what
/// the other wrote, its entry too.
async fn lock(
    table: Table,
    keys: &[&str],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query(statements(table).lock).bind(tenant.as_str()).bind(keys).execute(connection).await.map(|_| ())
}

/// Locks a row against changes, not against others that rest on it.
pub(super) async fn share(
    table: Table,
    key: &str,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    let keys = [key];
    sqlx::query(statements(table).share).bind(tenant.as_str()).bind(&keys[..]).execute(connection).await.map(|_| ())
}

/// The row with a key that is an id, whosever it is.
pub(super) async fn read_by_id(table: Table, key: &str, connection: &mut PgConnection) -> Result<Vec<Stored>, Error> {
    let rows = sqlx::query(statements(table).by_id).bind(key).fetch_all(connection).await?;
    rows.iter().map(|row| stored(table, row)).collect()
}

/// All rows of a tenant.
pub(super) async fn read_all(
    table: Table,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<Stored>, Error> {
    let rows = sqlx::query(statements(table).all).bind(tenant.as_str()).fetch_all(connection).await?;
    rows.iter().map(|row| stored(table, row)).collect()
}

/// So many rows of a tenant behind a key.
pub(super) async fn read_part(
    table: Table,
    (after, limit): (&str, usize),
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<Stored>, Error> {
    let query = sqlx::query(statements(table).part).bind(tenant.as_str()).bind(after).bind(int(limit as u64));
    query.fetch_all(connection).await?.iter().map(|row| stored(table, row)).collect()
}

fn stored(table: Table, row: &PgRow) -> Result<Stored, Error> {
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
    connection: &mut PgConnection,
) -> Result<Vec<Vec<u8>>, Error> {
    if table == Table::CaptureSessions {
        return Ok(Vec::new());
    }
    let found = sqlx::query_scalar(
        "SELECT leaf FROM access_log WHERE tenant = $1 AND object = $2 ORDER BY object_version DESC LIMIT 16",
    );
    let object = format!("{}/{key}", table.as_str());
    Ok(found.bind(tenant.as_str()).bind(object).fetch_all(connection).await?)
}

/// Rows as a batch writes them: with the version that must be there now; 0 is none.
pub(super) type Changed = BTreeMap<(Table, TenantName, String), (u64, SealedRow)>;

/// Writes rows, those of each table together. A version that is not there: [`sqlx::Error::RowNotFound`].
pub(super) async fn write(rows: &Changed, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut tables: BTreeMap<(Table, bool), Vec<(u64, &SealedRow)>> = BTreeMap::new();
    for ((table, ..), (base, sealed)) in rows {
        tables.entry((*table, *base == 0)).or_default().push((*base, sealed));
    }
    for ((table, is_new), rows) in tables {
        let texts = statements(table);
        let done = sqlx::query(if is_new { texts.insert } else { texts.replace })
            .bind(column(&rows, |(_, sealed)| sealed.row.tenant.as_str()))
            .bind(column(&rows, |(_, sealed)| &sealed.row.key[..]))
            .bind(column(&rows, |(_, sealed)| int(sealed.row.version)))
            .bind(column(&rows, |(_, sealed)| &sealed.row.body[..]))
            .bind(column(&rows, |(_, sealed)| &sealed.mac[..]))
            .bind(column(&rows, |(_, sealed)| &sealed.mac_key_id.as_bytes()[..]))
            .bind(column(&rows, |(base, _)| int(*base)))
            .execute(&mut *connection)
            .await?;
        if done.rows_affected() != rows.len() as u64 {
            return Err(sqlx::Error::RowNotFound);
        }
        if is_new && table == Table::Apps {
            claim_app_names(&rows, connection).await?;
        }
        for (_, sealed) in rows {
            kek_claims::write(&sealed.row, is_new, connection).await?;
        }
    }
    Ok(())
}

/// Names of apps are unique in the installation: another tenant's claim breaks the primary key.
async fn claim_app_names(rows: &[(u64, &SealedRow)], connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO app_names (tenant, app, owner) SELECT $1, n.app, n.owner FROM unnest($2::text[], $3::text[]) \
         AS n(app, owner)",
    )
    .bind(TenantName::SYSTEM)
    .bind(column(rows, |(_, sealed)| &sealed.row.key[..]))
    .bind(column(rows, |(_, sealed)| sealed.row.tenant.as_str()))
    .execute(connection)
    .await
    .map(|_| ())
}

/// The tenant that has claimed an app's name.
pub(super) async fn owner_of_app(app: &AppName, connection: &mut PgConnection) -> Result<Option<TenantName>, Error> {
    let owner: Option<String> = sqlx::query_scalar("SELECT owner FROM app_names WHERE tenant = $1 AND app = $2")
        .bind(TenantName::SYSTEM)
        .bind(app.as_str())
        .fetch_optional(connection)
        .await?;
    owner.map(|owner| TenantName::from_store(&owner).map_err(|_| Error::Unreadable("app_names"))).transpose()
}

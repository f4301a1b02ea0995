//! SQLite: one file, one writer, readers beside it. Every commit is on the disk before it is acknowledged.

mod boots;
mod column;
mod deciding;
mod fault;
mod file;
mod integration;
mod kek_claims;
mod key_rows;
mod lane_ends;
mod lanes;
mod log_read;
mod log_write;
mod lost_keys;
mod pin_guesses;
#[cfg(test)]
mod plans;
mod purge;
mod read;
mod requests;
mod sql;
mod transaction;
mod values;
mod waiting;
mod writer;

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Row};

pub(in crate::store) use transaction::SqliteBatch;
pub(in crate::store) use writer::Writer;

use super::Error;
use crate::domain::{InstallationId, Realm, TenantName, Timestamp};

/// How long a statement waits for the file's lock (another process, such as a backup).
const BUSY: Duration = Duration::from_millis(1500);

/// Connections that read.
const READERS: u32 = 8;

/// Kibibytes of pages that one of them keeps (negative is SQLite's spelling of that). Each commit of the writer makes them void,
/// so there is little to gain by more; what a long reading fills stays with the process, eight times.
const READERS_CACHE: &str = "-512";

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// The file with its connections.
pub(in crate::store) struct SqliteStore {
    readers: SqlitePool,
    writer: tokio::sync::Mutex<Writer>,
}

impl SqliteStore {
    /// Opens the file, or makes it, and brings its schema up to date.
    pub(in crate::store) async fn open(
        path: &Path,
        installation: InstallationId,
        realm: &Realm,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let owned = path.to_owned();
        tokio::task::spawn_blocking(move || file::guard(&owned))
            .await
            .map_err(|_| Error::Unavailable)?
            .map_err(Error::File)?;
        let mut connection = connect(path).await?;
        MIGRATIONS.run(&mut connection).await?;
        belongs_to(installation, realm, now, &mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            // A file's connection does not grow old. Made anew every half hour, each took its statements and pages from memory that the
            // one before it had left in pieces.
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(Duration::from_secs(2))
            .test_before_acquire(false)
            .connect_with(options(path).pragma("query_only", "ON").pragma("cache_size", READERS_CACHE))
            .await?;
        Ok(Self { readers, writer: tokio::sync::Mutex::new(Writer::new(path.to_owned(), connection)) })
    }

    /// A connection that reads.
    pub(in crate::store) async fn reader(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>, Error> {
        Ok(self.readers.acquire().await?)
    }

    /// The connection that writes; whoever holds it is alone.
    pub(in crate::store) async fn writer(&self) -> tokio::sync::MutexGuard<'_, Writer> {
        self.writer.lock().await
    }

    /// Closes every connection; the write-ahead log goes into the file.
    pub(in crate::store) async fn close(&self) {
        self.readers.close().await;
        self.writer.lock().await.close().await;
    }
}

/// The settings of every connection.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // Leaves of the log have about a kilobyte: a page of 8 KiB keeps them out of overflow pages.
        .page_size(8192)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(BUSY)
        .pragma("secure_delete", "ON")
        .pragma("trusted_schema", "OFF")
        // What is sorted or kept aside for a moment never lands in a file of its own.
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(256)
}

/// Opens a connection and makes sure that it writes as safely as it must.
async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    let mut connection = SqliteConnection::connect_with(&options(path)).await?;
    let synchronous: i64 = sqlx::query("PRAGMA synchronous").fetch_one(&mut connection).await?.try_get(0)?;
    let journal: String = sqlx::query("PRAGMA journal_mode").fetch_one(&mut connection).await?.try_get(0)?;
    let erasing: i64 = sqlx::query("PRAGMA secure_delete").fetch_one(&mut connection).await?.try_get(0)?;
    if synchronous < 2 || journal != "wal" || erasing != 1 {
        return Err(Error::Setting("the database does not write as safely as it must"));
    }
    Ok(connection)
}

/// Writes the installation's id into a new database, and refuses one with another id.
async fn belongs_to(
    installation: InstallationId,
    realm: &Realm,
    now: Timestamp,
    connection: &mut SqliteConnection,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO installation (tenant, installation_id, realm, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(TenantName::SYSTEM)
    .bind(&installation.as_bytes()[..])
    .bind(realm.as_str())
    .bind(column::millis(now))
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query("SELECT installation_id, realm FROM installation WHERE tenant = ?")
        .bind(TenantName::SYSTEM)
        .fetch_one(connection)
        .await?;
    let same =
        row.try_get::<&[u8], _>(0)? == &installation.as_bytes()[..] && row.try_get::<&str, _>(1)? == realm.as_str();
    if same { Ok(()) } else { Err(Error::WrongInstallation) }
}

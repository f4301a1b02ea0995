//! PostgreSQL: any number of nodes, one connection of each that writes batches, one for the vault's own upkeep, readers
//! beside them. Every commit is on the disk before it is acknowledged.
//!
//! Transactions run at READ COMMITTED, whatever the role's or the database's default is. What a batch decides on is locked before it is read: generations are shared, so
//! that none moves on before the batch ends, and so is the leave of the boot to write; rows that a batch may change are its
//! own. What turns out to change only when
//! all is decided is locked and compared then ([`transaction`]).

mod batch_copy;
mod batch_write;
mod boots;
mod column;
mod deciding;
mod durability;
mod fault;
mod generations;
mod integration;
mod kek_claims;
mod key_rows;
mod key_store;
mod lane_ends;
mod lanes;
mod log_read;
mod lost_keys;
mod pending;
mod pin_guesses;
#[cfg(test)]
mod plans;
mod purge;
mod read;
mod reader;
mod replica;
mod requests;
mod root_rotation;
mod transaction;
mod values;
mod waiting;
mod writer;

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Row};

pub(in crate::store) use durability::judge;
pub(in crate::store) use fault::fault;
pub use key_store::KeyStoreDatabase;
use reader::Reader;
pub(in crate::store) use replica::Place;
pub(in crate::store) use transaction::PostgresBatch;
pub(in crate::store) use writer::Writer;

use super::Error;
use super::settings::PostgresAddress;
use crate::domain::{InstallationId, Realm, TenantName, Timestamp};

/// How long the server works on one statement, waiting for locks included.
const STATEMENT: &str = "1500ms";
/// How long a transaction of a node that stands still holds its locks; then the server ends it, and nothing of it is given
/// out.
const IDLE: &str = "2s";
/// How long a batch waits for what another node holds: then the operations it was made of go apart, so that only those wait
/// longer that must. What stands still, or a deadlock, holds up nobody else.
const LOCK: &str = "250ms";
/// How long we wait for the server, whatever the network does: who asks is told within two seconds.
const PATIENCE: Duration = Duration::from_millis(1700);
/// How long a migration may take.
const MIGRATING: Duration = Duration::from_mins(10);

/// Connections that read.
const READERS: u32 = 8;
/// Connections for the questions that a node lives by: no list, however many ask for one, stands before them.
const VITAL: u32 = 2;

/// The database with this node's connections.
pub(in crate::store) struct PostgresStore {
    readers: Readers,
    /// Generations, signs of life, whether this boot is open.
    vital: Readers,
    writer: tokio::sync::Mutex<Writer>,
    /// Integration, purge and new keys: a batch of requests waits for none of them.
    upkeep: tokio::sync::Mutex<Writer>,
}

impl PostgresStore {
    /// Opens the database and brings its schema up to date.
    pub(in crate::store) async fn open(
        address: &PostgresAddress,
        migration_lock: bool,
        installation: InstallationId,
        realm: &Realm,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let options = address.options()?;
        let mut connection = connect(&options).await?;
        if key_store::is_there("secrets", &mut connection).await? {
            return Err(Error::Setting("it is the key store: name another database for the values"));
        }
        migrate(&options, sqlx::migrate!("migrations/postgres"), migration_lock).await?;
        belongs_to(installation, realm, now, &mut connection).await?;
        let (readers, vital) = (Readers::of(READERS, &options), Readers::of(VITAL, &options));
        // The writer connects when it begins: a socket belongs to the runtime that opened it, and the committer has its own.
        let writer = tokio::sync::Mutex::new(Writer::lazy(options.clone().options([("lock_timeout", LOCK)])));
        Ok(Self { readers, vital, writer, upkeep: tokio::sync::Mutex::new(Writer::new(options, connection)) })
    }

    /// Whether there are tables of an installation.
    pub(in crate::store) async fn is_made(address: &PostgresAddress) -> Result<bool, Error> {
        let mut connection = connect(&address.options()?).await?;
        let is_made = key_store::is_there("access_log", &mut connection).await;
        let _ = within(connection.close()).await;
        is_made
    }

    /// A connection that reads.
    async fn reader(&self) -> Result<Reader, Error> {
        self.readers.reader().await
    }

    /// The connection that writes batches; whoever holds it is alone in this node.
    pub(in crate::store) async fn writer(&self) -> tokio::sync::MutexGuard<'_, Writer> {
        self.writer.lock().await
    }

    /// The connection for all else that is written.
    async fn upkeep(&self) -> tokio::sync::MutexGuard<'_, Writer> {
        self.upkeep.lock().await
    }

    /// Closes every connection.
    pub(in crate::store) async fn close(&self) {
        let _ =
            tokio::time::timeout(PATIENCE, async { tokio::join!(self.readers.0.close(), self.vital.0.close()) }).await;
        self.writer.lock().await.close().await;
        self.upkeep.lock().await.close().await;
    }
}

/// Connections that only read.
struct Readers(PgPool);

impl Readers {
    /// So many at most, made when they are needed.
    fn of(most: u32, options: &PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new().max_connections(most).acquire_timeout(PATIENCE).test_before_acquire(false);
        Self(pool.connect_lazy_with(bounded(options).options([("default_transaction_read_only", "on")])))
    }

    async fn reader(&self) -> Result<Reader, Error> {
        // In a box: the pool may have to make one, and that is long.
        Ok(Reader::of(Box::pin(self.0.acquire()).await?))
    }
}

/// Waits for the server no longer than we may; what it does not answer in time has failed.
async fn within<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(timed_out()))
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// Whether the server had ended this connection, as it does when it is restarted.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Database(sqlx::Error::Io(_)) => true,
        Error::Database(sqlx::Error::Database(error)) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// Whether what failed so is done once more, on another connection: this one is gone, or the engine could not order what was
/// read or written, and did nothing of it.
fn goes_on(error: &Error) -> bool {
    is_gone(error) || matches!(error, Error::Database(error) if fault(error).passes())
}

/// Reads on a connection of the pool, no longer than we may wait. One that did not answer in time is given up: in the pool
/// it would wait for an answer that may never come; so is one of which the asker went away ([`Reader`]). One that the server
/// ended is given up for another: after a restart of the server the pool is full of them.
macro_rules! reading {
    ($store:expr, |$connection:ident| $work:expr) => {{
        let mut left = super::READERS;
        loop {
            let mut held = $store.reader().await?;
            let read = tokio::time::timeout(super::PATIENCE, async {
                let $connection = held.connection().ok_or(Error::Unavailable)?;
                $work
            })
            .await;
            match read {
                Ok(Err(error)) if left > 0 && super::goes_on(&error) => left -= 1,
                Ok(done) => {
                    held.give_back();
                    break done;
                }
                Err(_) => break Err(Error::Database(super::timed_out())),
            }
        }
    }};
}

/// The same, all of one snapshot.
macro_rules! snapshot {
    ($store:expr, |$connection:ident| $work:expr) => {
        super::reading!($store, |reader| {
            let mut snapshot =
                sqlx::Connection::begin_with(reader, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let done: Result<_, Error> = {
                let $connection = &mut *snapshot;
                $work
            };
            snapshot.commit().await?;
            done
        })
    };
}

/// A transaction of its own beside the batches; made anew when the engine could not order it.
macro_rules! writing {
    ($store:expr, |$connection:ident| $work:expr) => {{
        let mut writer = $store.upkeep().await;
        let mut left = crate::store::ATTEMPTS;
        loop {
            let mut batch = writer.begin().await?;
            let done = super::within_any(async {
                let $connection = &mut *batch.transaction;
                super::durability::hold(&mut *$connection).await?;
                $work
            })
            .await;
            let done = batch.finish(done).await;
            match writer.settle(done).await {
                Err((_, fault)) if fault.passes() && left > 1 => left -= 1,
                done => break done.map_err(|(error, _)| error),
            }
        }
    }};
}
use {reading, snapshot, writing};

/// As [`within`], for work that fails in more ways.
async fn within_any<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(Error::Database(timed_out())))
}

/// The settings of every connection but the one that migrates.
fn bounded(options: &PgConnectOptions) -> PgConnectOptions {
    let options = options.clone().statement_cache_capacity(256);
    // Statements are short whatever they are thought to cost: compiling one takes longer than running it. They find their rows
    // by a key: where the server cannot know how few those are, or made its plan while a table was empty, it would read whole
    // tables, and go on so however full they get.
    options.options([
        ("enable_seqscan", "off"),
        ("statement_timeout", STATEMENT),
        ("idle_in_transaction_session_timeout", IDLE),
        ("default_transaction_isolation", "read committed"),
        ("jit", "off"),
    ])
}

/// Opens a connection that writes and makes sure that it writes as safely as it must.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    // Its statements are few and always find their rows by a key: planning one anew for each batch costs more than it.
    let options = bounded(options).options([("plan_cache_mode", "force_generic_plan")]);
    let mut connection = within(Box::pin(PgConnection::connect_with(&options))).await?;
    let safe = within(judge(&mut connection)).await?;
    safe.map(|()| connection).map_err(Error::Setting)
}

/// Brings the schema up to date. The lock (an advisory one, which some engines do not have) keeps nodes that start at once
/// from doing it twice; without it one of them fails and is started again.
async fn migrate(options: &PgConnectOptions, mut migrations: Migrator, lock: bool) -> Result<(), Error> {
    let mut connection = within(PgConnection::connect_with(options)).await?;
    migrations.set_locking(lock);
    let done = tokio::time::timeout(MIGRATING, migrations.run(&mut connection)).await;
    done.unwrap_or_else(|_| Err(sqlx::migrate::MigrateError::Execute(timed_out())))?;
    let _ = within(connection.close()).await;
    Ok(())
}

/// Writes the installation's id into a new database, and refuses one with another id.
async fn belongs_to(
    installation: InstallationId,
    realm: &Realm,
    now: Timestamp,
    connection: &mut PgConnection,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO installation (tenant, installation_id, realm, created) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(TenantName::SYSTEM)
    .bind(&installation.as_bytes()[..])
    .bind(realm.as_str())
    .bind(column::millis(now))
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query("SELECT installation_id, realm FROM installation WHERE tenant = $1")
        .bind(TenantName::SYSTEM)
        .fetch_one(connection)
        .await?;
    let same =
        row.try_get::<&[u8], _>(0)? == &installation.as_bytes()[..] && row.try_get::<&str, _>(1)? == realm.as_str();
    if same { Ok(()) } else { Err(Error::WrongInstallation) }
}

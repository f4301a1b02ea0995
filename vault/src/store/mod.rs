//! Where rows live. The only room that names sqlx.

pub mod administration;
pub mod approvals;
pub(in crate::store) mod batch;
mod boots;
pub mod caller;
pub mod catalog;
pub mod committer;
#[cfg(test)]
mod contract;
mod cursor;
mod decree;
pub mod destinations;
mod error;
mod fault;
pub mod idempotency;
pub mod integration;
mod kek_claims;
pub mod kek_rotation;
pub mod kek_states;
mod key_commit;
mod key_records;
pub mod key_upkeep;
pub mod lane_reads;
pub mod listing;
mod log_reads;
pub mod lost_version;
#[cfg(test)]
pub(crate) mod meddling;
pub mod meter;
pub mod node_key;
mod old_approvals;
pub mod once;
pub mod own_batches;
pub mod pin_guesses;
mod postgres;
pub mod records;
mod refused_pins;
mod replica;
pub mod resealing;
mod rounds;
mod row_seal;
pub mod rows;
pub mod settings;
pub mod shredding;
mod sqlite;
pub mod tenants;
#[cfg(test)]
pub(crate) mod testing;
mod two_person_act;
#[cfg(test)]
mod vectors;
pub mod waiting;
mod writer;

use std::sync::Arc;

pub use caller::Caller;
pub use catalog::{Catalog, StoredFlow, TenantCatalog};
pub use committer::operation::{Changes, Decision, Generation, Operation, ReadValue, Reads, Rows, current_state};
pub use committer::{Committed, Committer, FirstWords};
pub use error::Error;
pub use listing::{EntryFilter, Page, StoredEntry};
pub use postgres::KeyStoreDatabase;
pub use settings::DatabaseSettings;
use settings::PostgresAddress;

pub use crate::access_log::NodeIdentity;
use crate::access_log::{Heartbeat, Leaf, LogHealth};
use crate::domain::{CaptureSessionId, Clock, DataKeyClass, DataKeyId, Epoch, RunId, TenantName, Timestamp, ValueId};
use crate::keys::Keys;
pub use batch::{CountedValues, StoredKey};
use batch::{Expired, LoadedValue, Purged};
use meter::Meter;
use own_batches::OwnBatches;
use postgres::PostgresStore;
use replica::Replica;
use row_seal::RowSeal;
use rows::{CaptureKeyRow, DecidingRow, RunRow, Table};
use sqlite::SqliteStore;

/// The database of an installation. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    /// Where lists of the access log are read from, if there is one.
    replica: Option<Arc<Replica>>,
    seal: RowSeal,
    keys: Keys,
    clock: Clock,
    log_health: LogHealth,
    /// Room for lists of the access log.
    lists: tokio::sync::Semaphore,
    own_batches: OwnBatches,
    meter: Meter,
}

/// The engines. Each has the same functions and passes the same suite (contract.rs).
enum Engine {
    Sqlite(SqliteStore),
    Postgres(Box<PostgresStore>),
}

/// So often a transaction is made: more than once only where another one came between (SQLSTATE 40001, 40P01).
const ATTEMPTS: u32 = 3;

/// Calls a function of the engine. In a box: an engine's futures hold connections being made and rows being read, several
/// KiB that every request's future would carry otherwise, and that would be wiped with it.
macro_rules! engine {
    ($store:expr, $function:ident ( $($argument:expr),* )) => {{
        $store.inner.meter.calls.inc();
        match &$store.inner.engine {
            crate::store::Engine::Sqlite(engine) => Box::pin(engine.$function($($argument),*)).await,
            crate::store::Engine::Postgres(engine) => Box::pin(engine.$function($($argument),*)).await,
        }
    }};
}
use engine;

impl Store {
    /// Opens the database: migrates it, checks that it is this installation's and writes as safely as it must.
    ///
    /// # Errors
    /// [`Error::Schema`], [`Error::WrongInstallation`], [`Error::Setting`], [`Error::File`], [`Error::Database`].
    pub async fn open(settings: &DatabaseSettings, keys: Keys, clock: Clock) -> Result<Self, Error> {
        Self::open_beside(settings, None, keys, clock).await
    }

    /// Whether a database holds an installation. Nothing is made in it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn is_made(settings: &DatabaseSettings) -> Result<bool, Error> {
        match settings {
            DatabaseSettings::Sqlite { path } => match std::fs::metadata(path) {
                Ok(file) => Ok(file.len() > 0),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(Error::File(error)),
            },
            DatabaseSettings::Postgres { address, .. } => PostgresStore::is_made(address).await,
        }
    }

    /// The same with a standby that lists of the access log are read from while it is at most a second behind.
    ///
    /// # Errors
    /// As [`Store::open`]; [`Error::Setting`] if it is no standby of this installation's database.
    pub async fn open_beside(
        settings: &DatabaseSettings,
        standby: Option<&PostgresAddress>,
        keys: Keys,
        clock: Clock,
    ) -> Result<Self, Error> {
        let (installation, realm, now) = (keys.installation_id(), keys.realm(), clock.now());
        let engine = match settings {
            DatabaseSettings::Sqlite { path } => {
                Engine::Sqlite(SqliteStore::open(path, installation, realm, now).await?)
            }
            DatabaseSettings::Postgres { address, migration_lock } => {
                let store = PostgresStore::open(address, *migration_lock, installation, realm, now).await?;
                Engine::Postgres(Box::new(store))
            }
        };
        let replica = match standby {
            Some(address) => Some(Arc::new(Replica::open(address, (installation, realm.clone())).await?)),
            None => None,
        };
        let seal = RowSeal::new(keys.clone());
        let (log_health, meter, own_batches) = (LogHealth::default(), Meter::default(), OwnBatches::default());
        let lists = tokio::sync::Semaphore::new(log_reads::LISTS);
        let inner = Arc::new(Inner { engine, replica, seal, keys, clock, log_health, lists, own_batches, meter });
        if let Some(replica) = &inner.replica {
            Replica::watch(replica, Arc::downgrade(&inner));
        }
        Ok(Self { inner })
    }

    /// Closes every connection in order: for the end of the process.
    pub async fn close(&self) {
        engine!(self, close());
    }

    /// The keys it authenticates its rows with.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// Whether the logs can be relied on; the sequencer says so, the committer and the listeners ask.
    #[must_use]
    pub fn log_health(&self) -> &LogHealth {
        &self.inner.log_health
    }

    /// Whether lists of the access log are read from a standby now, and how many were.
    #[must_use]
    pub fn replica(&self) -> (bool, u64) {
        self.inner.replica.as_ref().map_or((false, 0), |replica| (replica.is_fresh(), replica.reads.get()))
    }

    /// What it counted.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    /// The batches this process committed and did not integrate yet.
    #[must_use]
    pub fn own_batches(&self) -> &OwnBatches {
        &self.inner.own_batches
    }

    /// The clock it judges expiry by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// A value, with its state and the newest state version in the log; not judged.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`], [`Error::Tampered`].
    pub async fn value(&self, tenant: &TenantName, value_id: ValueId) -> Result<Option<ReadValue>, Error> {
        let found = engine!(self, value(value_id, tenant, self.inner.keys.realm()))?;
        found.map(read_value).transpose()
    }

    /// A capture session of any tenant, authenticated: how a capture token finds its row.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`].
    pub async fn session(&self, session: CaptureSessionId) -> Result<Option<DecidingRow>, Error> {
        self.row_by_id(Table::CaptureSessions, &session.to_string()).await
    }

    /// A run.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn run(&self, tenant: &TenantName, run_id: RunId) -> Result<Option<RunRow>, Error> {
        engine!(self, run(run_id, tenant))
    }

    /// A capture key pair by its id.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn capture_key(&self, tenant: &TenantName, key_id: &[u8; 16]) -> Result<Option<CaptureKeyRow>, Error> {
        engine!(self, capture_key(key_id, tenant))
    }

    /// The capture key pair that a data key seals.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn capture_key_under(
        &self,
        tenant: &TenantName,
        data_key: DataKeyId,
    ) -> Result<Option<CaptureKeyRow>, Error> {
        engine!(self, capture_key_under(data_key, tenant))
    }

    /// Stores a capture key pair unless its day has one, durably; gives the stored one.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn insert_capture_key(&self, row: CaptureKeyRow) -> Result<CaptureKeyRow, Error> {
        engine!(self, insert_capture_key(&row))
    }

    /// A row that decides, authenticated and not older than its newest entry.
    ///
    /// # Errors
    /// [`Error::Tampered`], also if the row is gone though an entry speaks of it; [`Error::Database`].
    pub async fn row(&self, table: Table, tenant: &TenantName, key: &str) -> Result<Option<DecidingRow>, Error> {
        let (found, said) = engine!(self, row(table, key, tenant))?;
        if found.is_none() && old_approvals::is_missing(table, key, &said, self.clock().now()) {
            return Err(Error::Tampered(table.as_str()));
        }
        found.map(|stored| self.inner.seal.check(stored)).transpose()
    }

    /// All rows of a table that a tenant has, likewise.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`].
    pub async fn rows(&self, table: Table, tenant: &TenantName) -> Result<Vec<DecidingRow>, Error> {
        let found = engine!(self, rows(table, tenant))?;
        found.into_iter().map(|stored| self.inner.seal.check(stored)).collect()
    }

    /// So many of them behind a key, in the order of their keys: for tables that grow with time.
    ///
    /// # Errors
    /// As [`Store::rows`].
    pub async fn rows_after(
        &self,
        table: Table,
        (after, limit): (&str, usize),
        tenant: &TenantName,
    ) -> Result<Vec<DecidingRow>, Error> {
        let found = engine!(self, rows_after(table, (after, limit), tenant))?;
        found.into_iter().map(|stored| self.inner.seal.check(stored)).collect()
    }

    /// Every tenant's name; the system's is none.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn tenants(&self) -> Result<Vec<TenantName>, Error> {
        engine!(self, tenants())
    }

    async fn write_heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), Error> {
        engine!(self, write_heartbeat(heartbeat))
    }

    async fn expired_values(&self, now: Timestamp, passed: usize, limit: usize) -> Result<Expired, Error> {
        engine!(self, expired_values(now, passed, limit))
    }

    async fn purge_requests(&self, now: Timestamp, sessions_before: &str) -> Result<Purged, Error> {
        engine!(self, purge_requests(now, sessions_before))
    }

    async fn purge_keys(&self, erased: &[(DataKeyClass, Epoch)]) -> Result<u64, Error> {
        engine!(self, purge_keys(erased))
    }

    /// A row whose key is an id, whosever it is.
    async fn row_by_id(&self, table: Table, key: &str) -> Result<Option<DecidingRow>, Error> {
        let mut found = engine!(self, row_by_id(table, key))?;
        if found.len() > 1 {
            // Only one of them can be what was written; which, the MACs say.
            found.retain(|stored| self.inner.seal.check(stored.clone()).is_ok());
            if found.is_empty() {
                return Err(Error::Tampered(table.as_str()));
            }
        }
        found.pop().map(|stored| self.inner.seal.check(stored)).transpose()
    }
}

/// Reads the newest state version from the exact bytes of the entry that carries it. The column it was found by must say
/// the same: else an older entry could be made to look like the newest.
fn read_value(loaded: LoadedValue) -> Result<ReadValue, Error> {
    let LoadedValue { row, state, newest } = loaded;
    let newest_state_version = match newest {
        None => 0,
        Some(newest) => {
            let entry = Leaf::parse(&newest.leaf).map_err(|_| Error::Tampered("access_log"))?;
            let own = entry.tenant == row.metadata.tenant
                && entry.value_id == Some(row.metadata.value_id)
                && entry.state_version == Some(newest.version);
            if !own {
                tracing::error!(tenant = %row.metadata.tenant, value_id = %row.metadata.value_id, "an index row does not match its leaf");
                return Err(Error::Tampered("access_log"));
            }
            newest.version
        }
    };
    Ok(ReadValue { row: Arc::new(row), state, newest_state_version })
}

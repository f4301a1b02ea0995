//! A vault for one test: keys, a database of its own, a committer, a clock that stands still.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Executor};

use super::postgres::{self, Cluster};

use crate::access_log::{Action, Entry, NodeIdentity, Outcome};
use crate::crypto::DataKey;
use crate::domain::tenant::KeyProviderKind;
use crate::domain::{
    Actor, Binding, CaptureSessionId, Clock, DataKeyId, FieldType, Metadata, RetentionClass, SecretId, Tenant,
    TenantName, Timestamp, ValueId,
};
use crate::keys::{HeldKeys, Keys, RootKeySource};
use crate::store::committer::operation::{Changes, Decision, Generation, Operation, Reads, Rows};
use crate::store::integration::LaneProgress;
use crate::store::records::Body;
use crate::store::rows::{DecidingRow, Table, ValueRow};
use crate::store::{Committed, Committer, DatabaseSettings, Error, Store};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

pub(super) struct Vault {
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    pub(super) settings: DatabaseSettings,
    pub(super) store: Store,
    pub(super) committer: Committer,
    // Dropped last: the files are in it.
    pub(super) folder: tempfile::TempDir,
}

impl Vault {
    pub(super) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::Sqlite { path: folder.path().join("siv.db") };
        Self::on(settings, folder).await
    }

    pub(super) async fn postgres() -> Self {
        Self::of(Cluster::shared()).await
    }

    /// On a database of this server.
    pub(super) async fn of(cluster: &Cluster) -> Self {
        let address = cluster.database().await;
        let settings = DatabaseSettings::Postgres { address, migration_lock: true };
        Self::on(settings, tempfile::tempdir().unwrap()).await
    }

    async fn on(settings: DatabaseSettings, folder: tempfile::TempDir) -> Self {
        let clock = Clock::held(NOW);
        let keys = keys(&folder.path().join("a"), &clock).await;
        let store = Store::open(&settings, keys.clone(), clock.clone()).await.unwrap();
        let committer = start(&store, &keys, &clock).await;
        Self { keys, clock, settings, store, committer, folder }
    }

    /// The process is killed and started again: nothing is closed, nothing is said.
    pub(super) async fn killed_and_started(self) -> Self {
        let Self { keys, clock, settings, store, committer, folder } = self;
        // The old connections stay open, as a killed process leaves its files.
        std::mem::forget((store, committer));
        let store = Store::open(&settings, keys.clone(), clock.clone()).await.unwrap();
        let committer = start(&store, &keys, &clock).await;
        Self { keys, clock, settings, store, committer, folder }
    }

    /// A second node on the same database and key store.
    pub(super) async fn second_node(&self) -> (Store, Committer) {
        let store = Store::open(&self.settings, self.keys.clone(), self.clock.clone()).await.unwrap();
        let committer = start(&store, &self.keys, &self.clock).await;
        (store, committer)
    }

    /// Somebody with the database's password at work, past every check.
    pub(super) async fn tamper(&self, sql: &str) {
        // A test's own text, made once: the architecture allows no other way to a statement put together.
        let sql: &'static str = sql.to_owned().leak();
        match &self.settings {
            DatabaseSettings::Sqlite { path } => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(5));
                let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
                connection.execute(sql).await.unwrap();
                connection.close().await.unwrap();
            }
            DatabaseSettings::Postgres { address, .. } => postgres::run(address, sql).await,
        }
    }

    /// The same without waiting for whoever holds what it is about: whether it was done.
    pub(super) async fn tamper_at_once(&self, sql: &str) -> bool {
        let sql: &'static str = sql.to_owned().leak();
        let (done, is_held) = match &self.settings {
            DatabaseSettings::Sqlite { path } => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::ZERO);
                let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
                (connection.execute(sql).await.map(|_| ()), "database is locked")
            }
            DatabaseSettings::Postgres { address, .. } => {
                let mut connection = postgres::connect(address).await;
                connection.execute("SET lock_timeout = '100ms'").await.unwrap();
                (connection.execute(sql).await.map(|_| ()), "lock timeout")
            }
        };
        let refused = done.err().map(|error| error.to_string());
        assert!(refused.as_ref().is_none_or(|why| why.contains(is_held)), "{refused:?}");
        refused.is_none()
    }

    /// `what` with a text in its bytes replaced, as the engine says it.
    pub(super) fn replaced(&self, what: &str, text: &str, by: &str) -> String {
        match self.settings {
            DatabaseSettings::Sqlite { .. } => format!("CAST(replace({what}, '{text}', '{by}') AS BLOB)"),
            DatabaseSettings::Postgres { .. } => {
                format!("convert_to(replace(convert_from({what}, 'UTF8'), '{text}', '{by}'), 'UTF8')")
            }
        }
    }

    /// Bytes as the engine says them.
    pub(super) fn literal(&self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.settings {
            DatabaseSettings::Sqlite { .. } => format!("X'{hex}'"),
            DatabaseSettings::Postgres { .. } => format!("'\\x{hex}'::bytea"),
        }
    }

    /// A number of a row as different bytes, as the engine says it.
    pub(super) fn blob_of(&self, number: &str) -> String {
        match self.settings {
            DatabaseSettings::Sqlite { .. } => format!("CAST({number} AS BLOB)"),
            DatabaseSettings::Postgres { .. } => format!("convert_to({number}::text, 'UTF8')"),
        }
    }

    pub(super) async fn number(&self, sql: &'static str) -> i64 {
        match &self.settings {
            DatabaseSettings::Sqlite { path } => {
                let options = SqliteConnectOptions::new().filename(path);
                let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
            DatabaseSettings::Postgres { address, .. } => {
                let mut connection = postgres::connect(address).await;
                let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
                connection.close().await.unwrap();
                number
            }
        }
    }

    /// A text that PostgreSQL says.
    pub(super) async fn text(&self, sql: &'static str) -> String {
        let DatabaseSettings::Postgres { address, .. } = &self.settings else {
            panic!("this test is about PostgreSQL")
        };
        let mut connection = postgres::connect(address).await;
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }

    /// Lanes with batches that wait for integration.
    pub(super) async fn waiting_lanes(&self) -> Vec<LaneProgress> {
        let lanes = self.store.all_lanes().await.unwrap();
        lanes.into_iter().filter(|(_, waits)| *waits).map(|(lane, _)| lane).collect()
    }

    /// An operation of the demo tenant.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        reads: Reads,
        decide: impl FnMut(&dyn Rows, &HeldKeys) -> Decision<T> + Send + 'static,
    ) -> Ask<T> {
        Ask {
            tenant: demo(),
            generation: None,
            deadline: self.clock.now().plus(Duration::from_secs(60)),
            moves: false,
            entries: 1,
            reads,
            held: self.keys.held(),
            decide: Box::new(decide),
        }
    }

    /// An operation that writes these changes whatever it reads.
    pub(super) async fn write(&self, changes: impl Fn() -> Changes + Send + 'static) -> Result<Committed<()>, Error> {
        self.committer.submit(self.ask(Reads::default(), move |_, _| Decision::Write(changes(), ()))).await
    }

    /// Writes a row that decides with its entry, and moves the generation on.
    pub(super) async fn decree(&self, row: DecidingRow) -> Result<Committed<()>, Error> {
        self.committer.submit(self.decreed(row)).await
    }

    /// The operation that does so.
    pub(super) fn decreed(&self, row: DecidingRow) -> Ask<()> {
        let mut entry = entry(&row.tenant, Action::Admin("test.decreed"));
        entry.object = Some(row.object(self.keys.realm()));
        let mut ask = self.ask(Reads::default(), move |_, _| {
            let (rows, entries) = (vec![row.clone()], vec![entry.clone().into()]);
            Decision::Write(Changes { rows, entries, bump_generation: true, ..Changes::default() }, ())
        });
        ask.tenant = TenantName::system();
        ask
    }

    /// Makes the demo tenant with its first KEK.
    pub(super) async fn with_tenant(self) -> Self {
        self.make_tenant(&demo()).await;
        self
    }

    pub(super) async fn make_tenant(&self, tenant: &TenantName) {
        let kek = self.keys.create_kek(tenant, NOW).await.unwrap();
        self.decree(kek.to_row(tenant, &kek.row_key(), 1).unwrap()).await.unwrap();
        self.decree(tenant_row(tenant, 1, false)).await.unwrap();
    }

    /// A value row; what is sealed does not matter to the store.
    pub(super) fn value(&self, retention: RetentionClass, lifetime: Option<Duration>) -> ValueRow {
        let now = self.clock.now();
        ValueRow {
            metadata: Metadata {
                realm: self.keys.realm().clone(),
                tenant: demo(),
                app: "demo-shop".parse().unwrap(),
                value_id: ValueId::generate(now),
                field: "card-number".parse().unwrap(),
                kind: FieldType::CardNumber,
                retention,
                created: now,
                expires: lifetime.map(|lifetime| now.plus(lifetime)),
                uses: Some(1),
                session: Some(CaptureSessionId::generate(now)),
                subject: Some([9; 32]),
                binding: Binding {
                    flows: BTreeSet::from(["charge-card".parse().unwrap(), "reveal-card".parse().unwrap()]),
                    purposes: BTreeSet::from(["payment".parse().unwrap()]),
                },
            },
            verifier: [7; 32],
            pepper_id: SecretId::generate(now),
            data_key_id: DataKeyId::generate(now),
            sealed: vec![1; 200],
        }
    }
}

pub(super) fn demo() -> TenantName {
    "demo".parse().unwrap()
}

pub(super) fn tenant_row(tenant: &TenantName, version: u64, sealed: bool) -> DecidingRow {
    let body = Tenant {
        name: tenant.clone(),
        reveal: false,
        sealed,
        key_provider: KeyProviderKind::Local,
        cache_seconds: 60,
        created_at: NOW,
    };
    let row = body.to_row(tenant, tenant.as_str(), version).unwrap();
    assert_eq!(row.table, Table::Tenants);
    row
}

pub(super) fn entry(tenant: &TenantName, action: Action) -> Entry {
    Entry::by(tenant.clone(), NOW, action, Outcome::Allowed, Actor::anonymous())
}

pub(super) async fn keys(folder: &std::path::Path, clock: &Clock) -> Keys {
    std::fs::create_dir_all(folder).unwrap();
    let root = folder.join("root.key");
    let source = RootKeySource::File(root);
    Keys::create_or_open(&folder.join("keys"), source, "eu-1".parse().unwrap(), clock.clone(), true).await.unwrap()
}

async fn start(store: &Store, keys: &Keys, clock: &Clock) -> Committer {
    let identity = NodeIdentity::generate(keys.realm().clone(), "node-1", "test", clock.now()).unwrap();
    Committer::start(store.clone(), keys.clone(), clock.clone(), identity).await.unwrap()
}

type Decide<T> = Box<dyn FnMut(&dyn Rows, &HeldKeys) -> Decision<T> + Send>;

/// An operation whose decision is a closure.
pub(super) struct Ask<T> {
    pub(super) tenant: TenantName,
    pub(super) generation: Option<Generation>,
    pub(super) deadline: Timestamp,
    pub(super) moves: bool,
    pub(super) entries: usize,
    pub(super) reads: Reads,
    held: HeldKeys,
    decide: Decide<T>,
}

impl<T: Send + 'static> Operation for Ask<T> {
    type Output = T;

    fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    fn generation(&self) -> Option<Generation> {
        self.generation
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    // A slow disk is no fault of what is tested.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn moves(&self) -> bool {
        self.moves
    }

    fn entries(&self) -> usize {
        self.entries
    }

    fn reads(&self) -> Reads {
        self.reads.clone()
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<T> {
        (self.decide)(rows, &self.held)
    }
}

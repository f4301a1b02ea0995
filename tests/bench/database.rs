//! The databases of a run: a throw-away PostgreSQL with default durability, or files of SQLite; and a look into them.

use std::path::PathBuf;
use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _, SqliteConnection};
use tests::Postgres;

use super::cost;
use super::flags::Engine;

/// Where all databases of one engine lie.
pub enum Databases {
    /// Files in the vaults' folders.
    Sqlite,
    /// One server.
    Postgres {
        /// The server.
        server: Postgres,
        /// Its first process.
        postmaster: u32,
    },
}

impl Databases {
    /// Starts what the engine needs.
    ///
    /// # Panics
    /// If the server does not make its commits durable: figures without that mean nothing.
    pub async fn start(engine: Engine) -> Self {
        if engine == Engine::Sqlite {
            return Self::Sqlite;
        }
        let server = Postgres::start_with(&["shared_buffers=128MB"]);
        let postmaster = checked(&server).await;
        Self::Postgres { server, postmaster }
    }

    /// The engine.
    pub const fn engine(&self) -> Engine {
        match self {
            Self::Sqlite => Engine::Sqlite,
            Self::Postgres { .. } => Engine::Postgres,
        }
    }

    /// A new database of that name on the server; nothing for files, which their vaults make.
    pub async fn create(&self, name: &str) -> Option<String> {
        let Self::Postgres { server, .. } = self else { return None };
        let mut connection = connect(&server.address()).await;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        Some(server.address_of(name))
    }

    /// CPU seconds that the server has used; a file has none.
    pub fn cpu(&self) -> f64 {
        match self {
            Self::Sqlite => 0.0,
            Self::Postgres { postmaster, .. } => cost::cpu_of_family(*postmaster),
        }
    }

    /// `kill -9` of every process of the server, then its start.
    pub async fn kill_and_start(&mut self) {
        let Self::Postgres { server, postmaster } = self else { return };
        for pid in cost::children(*postmaster).into_iter().chain([*postmaster]) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // Its script finds nobody to end, and buries what is left.
        server.kill();
        server.start_again();
        *postmaster = checked(server).await;
    }
}

/// The first process of a server that makes its commits durable.
async fn checked(server: &Postgres) -> u32 {
    let mut connection = connect(&server.address()).await;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(format!("SHOW {setting}")));
        let value = query.fetch_one(&mut connection).await.unwrap();
        assert_eq!(value, "on", "{setting} is {value}: figures without durable commits mean nothing");
    }
    let own: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    cost::parent(u32::try_from(own).unwrap())
}

async fn connect(address: &str) -> PgConnection {
    PgConnectOptions::from_str(address).unwrap().disable_statement_logging().connect().await.unwrap()
}

/// Where the rows of one vault are, for looking at.
#[derive(Clone)]
pub enum Rows {
    /// A file.
    Sqlite(PathBuf),
    /// An address.
    Postgres(String),
}

/// A connection that only looks.
pub enum Look {
    /// Into a file.
    Sqlite(SqliteConnection),
    /// Into a server.
    Postgres(PgConnection),
}

impl Rows {
    /// A fresh connection.
    pub async fn look(&self) -> Look {
        match self {
            Self::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file).read_only(true).disable_statement_logging();
                Look::Sqlite(options.connect().await.unwrap())
            }
            Self::Postgres(address) => Look::Postgres(connect(address).await),
        }
    }
}

impl Look {
    /// The one number that a query gives.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub async fn number(&mut self, query: &str) -> f64 {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(connection) => {
                let row = sqlx::query(query).fetch_one(connection).await.unwrap();
                row.try_get::<f64, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0) as f64)
            }
            Self::Postgres(connection) => {
                let row = sqlx::query(query).fetch_one(connection).await.unwrap();
                row.try_get::<f64, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0) as f64)
            }
        }
    }
}

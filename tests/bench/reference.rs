//! The reference paths: a capture as it is written without a committer, over HTTP, on a pool of 32 connections.
//!
//! `transaction`: value and entry in one transaction a request. `peer`: what the nearest open-source vault does, a look for
//! the value's hash, then two commits, and no entry. Neither authenticates, checks or traces; both flatter what they stand for.

use std::str::FromStr as _;
use std::sync::Arc;

use aes_gcm_siv::aead::{Aead as _, KeyInit as _};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use uuid::Uuid;

use super::yardstick::Body;

const CONNECTIONS: u32 = 32;
const TABLES: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS captured (id BYTES PRIMARY KEY, created bigint NOT NULL, sealed BYTES NOT NULL)",
    "CREATE TABLE IF NOT EXISTS entries (id BYTES PRIMARY KEY, value_id BYTES NOT NULL, entry BYTES NOT NULL)",
    "CREATE TABLE IF NOT EXISTS hashes (hash BYTES PRIMARY KEY, id varchar(255) NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS lockers (id varchar(255) PRIMARY KEY, created bigint NOT NULL, sealed BYTES NOT NULL)",
];

struct Reference {
    store: Pool,
    cipher: Aes256GcmSiv,
}

enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// What one request writes.
struct Row {
    id: Uuid,
    created: i64,
    sealed: Vec<u8>,
    entry: Vec<u8>,
}

/// The routes of a reference path over a database.
pub async fn router(kind: &str, database: &str) -> Router {
    let store = match database.strip_prefix("sqlite:") {
        Some(file) => sqlite(file).await,
        None => postgres(database).await,
    };
    let reference = Arc::new(Reference { store, cipher: Aes256GcmSiv::new(&[7; 32].into()) });
    let router = match kind {
        "transaction" => Router::new().route("/capture", post(one_transaction)),
        "peer" => Router::new().route("/capture", post(two_commits)),
        other => panic!("there is no yardstick {other}"),
    };
    router.with_state(reference)
}

async fn postgres(address: &str) -> Pool {
    // No ping at check-out: in favour of the reference.
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
    let pool = pool.connect_with(PgConnectOptions::from_str(address).unwrap()).await.unwrap();
    for table in TABLES {
        sqlx::query(sqlx::AssertSqlSafe(table.replace("BYTES", "bytea"))).execute(&pool).await.unwrap();
    }
    Pool::Postgres(pool)
}

async fn sqlite(file: &str) -> Pool {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    // One connection, since one writes at a time: others would only wait for the lock, some of them without end.
    let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = pool.connect_with(options).await.unwrap();
    for table in TABLES {
        sqlx::query(sqlx::AssertSqlSafe(table.replace("BYTES", "blob"))).execute(&pool).await.unwrap();
    }
    Pool::Sqlite(pool)
}

impl Reference {
    fn row(&self, body: &Body) -> Row {
        let (id, created) = (Uuid::now_v7(), jiff::Timestamp::now().as_millisecond());
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).unwrap();
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), body.value.as_bytes()).unwrap();
        let entry = json!({"action": "value.captured", "actor": {"id": Uuid::nil(), "kind": "app"}, "field": body.field,
            "outcome": "allowed", "time": created, "valueId": id});
        let entry = entry.to_string().into_bytes();
        let entry = [&Sha256::digest(&entry)[..], &entry].concat();
        Row { id, created, sealed: [&nonce[..], &sealed].concat(), entry }
    }
}

type Answer = Result<Json<Value>, StatusCode>;

fn failed(why: sqlx::Error) -> StatusCode {
    eprintln!("{why}");
    StatusCode::SERVICE_UNAVAILABLE
}

async fn one_transaction(State(reference): State<Arc<Reference>>, Json(body): Json<Body>) -> Answer {
    let row = reference.row(&body);
    match &reference.store {
        Pool::Postgres(pool) => {
            let mut transaction = pool.begin().await.map_err(failed)?;
            let value = sqlx::query("INSERT INTO captured (id, created, sealed) VALUES ($1, $2, $3)");
            let value = value.bind(&row.id.as_bytes()[..]).bind(row.created).bind(&row.sealed);
            value.execute(&mut *transaction).await.map_err(failed)?;
            let entry = sqlx::query("INSERT INTO entries (id, value_id, entry) VALUES ($1, $2, $3)");
            let entry = entry.bind(&Uuid::now_v7().as_bytes()[..]).bind(&row.id.as_bytes()[..]).bind(&row.entry);
            entry.execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
        Pool::Sqlite(pool) => {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
            let value = sqlx::query("INSERT INTO captured (id, created, sealed) VALUES (?1, ?2, ?3)");
            let value = value.bind(&row.id.as_bytes()[..]).bind(row.created).bind(&row.sealed);
            value.execute(&mut *transaction).await.map_err(failed)?;
            let entry = sqlx::query("INSERT INTO entries (id, value_id, entry) VALUES (?1, ?2, ?3)");
            let entry = entry.bind(&Uuid::now_v7().as_bytes()[..]).bind(&row.id.as_bytes()[..]).bind(&row.entry);
            entry.execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
    }
    Ok(Json(json!({ "id": row.id })))
}

async fn two_commits(State(reference): State<Arc<Reference>>, Json(body): Json<Body>) -> Answer {
    let row = reference.row(&body);
    let hash = Sha512::digest(body.value.as_bytes()).to_vec();
    let [hash_id, record_id] = [(); 2].map(|()| Uuid::new_v4().to_string());
    match &reference.store {
        Pool::Postgres(pool) => {
            let known = sqlx::query("SELECT id FROM hashes WHERE hash = $1").bind(&hash);
            if known.fetch_optional(pool).await.map_err(failed)?.is_none() {
                let hashed = sqlx::query("INSERT INTO hashes (hash, id) VALUES ($1, $2)");
                hashed.bind(&hash).bind(hash_id).execute(pool).await.map_err(failed)?;
            }
            let record = sqlx::query("INSERT INTO lockers (id, created, sealed) VALUES ($1, $2, $3)");
            let record = record.bind(record_id).bind(row.created).bind(&row.sealed);
            record.execute(pool).await.map_err(failed)?;
        }
        Pool::Sqlite(pool) => {
            let known = sqlx::query("SELECT id FROM hashes WHERE hash = ?1").bind(&hash);
            if known.fetch_optional(pool).await.map_err(failed)?.is_none() {
                let hashed = sqlx::query("INSERT INTO hashes (hash, id) VALUES (?1, ?2)");
                hashed.bind(&hash).bind(hash_id).execute(pool).await.map_err(failed)?;
            }
            let record = sqlx::query("INSERT INTO lockers (id, created, sealed) VALUES (?1, ?2, ?3)");
            let record = record.bind(record_id).bind(row.created).bind(&row.sealed);
            record.execute(pool).await.map_err(failed)?;
        }
    }
    Ok(Json(json!({ "id": row.id })))
}

//! A key store in a second PostgreSQL, for several nodes: the medium that keys/ declares. It holds no rows of values, and
//! what comes to it is sealed.

use std::path::Path;

use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use sqlx::{Connection, PgConnection};

use super::column::Columns;
use super::durability::{self, keeps_commits};
use super::reader::Reader;
use super::{PATIENCE, bounded, connect, migrate, within};
use crate::domain::TenantName;
use crate::keys::{Answer, Medium, RootVersion, SecretKind, SecretName};
use crate::store::Error;
use crate::store::settings::PostgresAddress;

/// Connections of a node: keys are cached, so there is little to ask.
const CONNECTIONS: u32 = 4;

/// The key store's database with this node's connections.
pub struct KeyStoreDatabase {
    connections: PgPool,
}

impl KeyStoreDatabase {
    /// Opens it and brings its schema up to date; nothing if there is no key store in it and `create` does not say to make
    /// one.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is the database of the values or does not write as safely as it must, [`Error::Schema`],
    /// [`Error::Database`].
    pub async fn open(address: &PostgresAddress, migration_lock: bool, create: bool) -> Result<Option<Self>, Error> {
        let options = address.options()?;
        let mut connection = connect(&options).await?;
        if is_there("access_log", &mut connection).await? {
            return Err(Error::Setting("it is the database of the values: name another, whose backups hold no values"));
        }
        if !create && !is_there("secrets", &mut connection).await? {
            return Ok(None);
        }
        let _ = within(connection.close()).await;
        migrate(&options, sqlx::migrate!("migrations/key-store-postgres"), migration_lock).await?;
        let connections = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            // The server may have been started with other settings since, or be a standby.
            .after_connect(|connection, _| {
                Box::pin(async move {
                    durability::judge(connection).await?.map_err(|why| sqlx::Error::Configuration(why.into()))
                })
            })
            .connect_lazy_with(bounded(&options));
        Ok(Some(Self { connections }))
    }

    pub(super) async fn reader(&self) -> Result<Reader, Error> {
        Ok(Reader::of(Box::pin(self.connections.acquire()).await?))
    }

    /// The identity is held meanwhile: a rotation of the root key sees this secret, or this statement waits for it.
    async fn insert(&self, root: RootVersion, name: &SecretName, sealed: &[u8]) -> Result<bool, Error> {
        super::reading!(self, |connection| {
            let done = sqlx::query(concat!(
                "WITH held AS (SELECT 1 FROM clear_files WHERE tenant = $7 AND name = 'identity' FOR SHARE) \
                 INSERT INTO secrets (tenant, kind, secret_id, version, sealed, root_version) \
                 SELECT $1, $2, $3, $4, $5, $6 FROM held WHERE ",
                keeps_commits!(),
                " ON CONFLICT DO NOTHING"
            ))
            .bind(name.tenant.as_str())
            .bind(name.kind.as_str())
            .bind(&name.id[..])
            .bind(i64::from(name.version))
            .bind(sealed)
            .bind(i64::from(root.0))
            .bind(TenantName::SYSTEM)
            .execute(&mut *connection)
            .await?;
            written(done.rows_affected(), connection).await
        })
    }

    async fn secret(&self, root: RootVersion, name: &SecretName) -> Result<Option<Vec<u8>>, Error> {
        super::reading!(self, |connection| {
            let sealed = sqlx::query_scalar(
                "SELECT sealed FROM secrets \
                 WHERE tenant = $1 AND kind = $2 AND secret_id = $3 AND version = $4 AND root_version = $5",
            )
            .bind(name.tenant.as_str())
            .bind(name.kind.as_str())
            .bind(&name.id[..])
            .bind(i64::from(name.version))
            .bind(i64::from(root.0))
            .fetch_optional(connection)
            .await?;
            Ok(sealed)
        })
    }

    async fn names(&self, root: RootVersion, kind: SecretKind) -> Result<Vec<SecretName>, Error> {
        super::reading!(self, |connection| {
            let rows =
                sqlx::query("SELECT tenant, secret_id, version FROM secrets WHERE kind = $1 AND root_version = $2")
                    .bind(kind.as_str())
                    .bind(i64::from(root.0))
                    .fetch_all(connection)
                    .await?;
            rows.iter().map(|row| name(kind, row)).collect()
        })
    }

    /// Overwriting is worth little where old versions of rows stay until they are vacuumed, and costs nothing. The identity is
    /// held meanwhile: a rotation of the root key that goes on beside it must not bring the secret back.
    async fn remove(&self, root: RootVersion, name: &SecretName) -> Result<bool, Error> {
        super::reading!(self, |connection| {
            sqlx::query(
                "UPDATE secrets SET sealed = decode(repeat('00', length(sealed)), 'hex') \
                 WHERE tenant = $1 AND kind = $2 AND secret_id = $3 AND version = $4 AND root_version = $5",
            )
            .bind(name.tenant.as_str())
            .bind(name.kind.as_str())
            .bind(&name.id[..])
            .bind(i64::from(name.version))
            .bind(i64::from(root.0))
            .execute(&mut *connection)
            .await?;
            let done = sqlx::query(concat!(
                "WITH held AS (SELECT 1 FROM clear_files WHERE tenant = $6 AND name = 'identity' FOR SHARE) \
                 DELETE FROM secrets WHERE EXISTS (SELECT 1 FROM held) AND tenant = $1 AND kind = $2 AND secret_id = $3 \
                 AND version = $4 AND root_version = $5 AND ",
                keeps_commits!()
            ))
            .bind(name.tenant.as_str())
            .bind(name.kind.as_str())
            .bind(&name.id[..])
            .bind(i64::from(name.version))
            .bind(i64::from(root.0))
            .bind(TenantName::SYSTEM)
            .execute(&mut *connection)
            .await?;
            written(done.rows_affected(), connection).await
        })
    }

    async fn any(&self) -> Result<bool, Error> {
        super::reading!(self, |connection| {
            Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM secrets)").fetch_one(connection).await?)
        })
    }

    async fn file(&self, file: &'static str) -> Result<Option<Vec<u8>>, Error> {
        super::reading!(self, |connection| {
            let content = sqlx::query_scalar("SELECT content FROM clear_files WHERE tenant = $1 AND name = $2")
                .bind(TenantName::SYSTEM)
                .bind(file)
                .fetch_optional(connection)
                .await?;
            Ok(content)
        })
    }

    /// One statement, so that of two nodes that swap the same file one does.
    async fn swap(&self, file: &'static str, old: Option<&[u8]>, new: &[u8]) -> Result<bool, Error> {
        super::reading!(self, |connection| {
            let query = match old {
                None => sqlx::query(concat!(
                    "INSERT INTO clear_files (content, tenant, name) SELECT $1::bytea, $2::text, $3::text WHERE ",
                    keeps_commits!(),
                    " ON CONFLICT DO NOTHING"
                )),
                Some(_) => sqlx::query(concat!(
                    "UPDATE clear_files SET content = $1 WHERE tenant = $2 AND name = $3 AND content = $4 AND ",
                    keeps_commits!()
                )),
            };
            let query = query.bind(new).bind(TenantName::SYSTEM).bind(file);
            let query = match old {
                None => query,
                Some(old) => query.bind(old),
            };
            let done = query.execute(&mut *connection).await?;
            written(done.rows_affected(), connection).await
        })
    }
}

/// Whether a statement did something. If not, it may be because the server no longer keeps what it acknowledges.
async fn written(rows: u64, connection: &mut PgConnection) -> Result<bool, Error> {
    if rows == 0 {
        durability::hold(connection).await?;
    }
    Ok(rows == 1)
}

impl Medium for KeyStoreDatabase {
    fn folder(&self) -> Option<&Path> {
        None
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_empty(&self) -> Answer<'_, bool> {
        answer(async { self.any().await.map(|any| !any) })
    }

    fn create(&self, root: RootVersion, name: &SecretName, sealed: Vec<u8>) -> Answer<'_, bool> {
        let name = name.clone();
        answer(async move { self.insert(root, &name, &sealed).await })
    }

    fn read(&self, root: RootVersion, name: &SecretName) -> Answer<'_, Option<Vec<u8>>> {
        let name = name.clone();
        answer(async move { self.secret(root, &name).await })
    }

    fn list(&self, root: RootVersion, kind: SecretKind) -> Answer<'_, Vec<SecretName>> {
        answer(self.names(root, kind))
    }

    fn destroy(&self, root: RootVersion, name: &SecretName) -> Answer<'_, bool> {
        let name = name.clone();
        answer(async move { self.remove(root, &name).await })
    }

    fn read_clear(&self, file: &'static str) -> Answer<'_, Option<Vec<u8>>> {
        answer(self.file(file))
    }

    fn swap_clear(&self, file: &'static str, old: Option<Vec<u8>>, new: Vec<u8>) -> Answer<'_, bool> {
        answer(async move { self.swap(file, old.as_deref(), &new).await })
    }

    fn switch_root(&self, (old, new): (Vec<u8>, Vec<u8>), from: RootVersion, to: RootVersion) -> Answer<'_, bool> {
        answer(async move { self.switch(&old, &new, (from, to)).await })
    }

    fn root_versions(&self) -> Answer<'_, Vec<RootVersion>> {
        answer(self.versions())
    }

    fn remove_root(&self, root: RootVersion) -> Answer<'_, ()> {
        answer(self.remove_all(root))
    }
}

fn answer<'a, T>(asked: impl Future<Output = Result<T, Error>> + Send + 'a) -> Answer<'a, T> {
    Box::pin(async move {
        asked.await.map_err(|error| match error {
            Error::Unreadable(_) => crate::keys::Error::Damaged("a secret's name cannot be read"),
            error => crate::keys::Error::Unavailable(Box::new(error)),
        })
    })
}

fn name(kind: SecretKind, row: &PgRow) -> Result<SecretName, Error> {
    let columns = Columns::of("secrets", row);
    Ok(SecretName {
        kind,
        tenant: TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?,
        id: columns.get("secret_id")?,
        version: columns.number("version")?,
    })
}

/// Whether a table of this name is there.
pub(super) async fn is_there(table: &str, connection: &mut PgConnection) -> Result<bool, Error> {
    let found = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(connection);
    Ok(within(found).await?)
}

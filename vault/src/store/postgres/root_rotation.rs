//! The switch of a key store's database from one root key to the next.

use sqlx::Connection;

use super::column::Columns;
use super::key_store::KeyStoreDatabase;
use crate::domain::TenantName;
use crate::keys::RootVersion;
use crate::store::Error;

impl KeyStoreDatabase {
    /// In one transaction: the identity is held, so that nobody creates a secret meanwhile (`insert`), the new secrets are
    /// compared with the old by name, and the identity is replaced.
    pub(super) async fn switch(
        &self,
        old: &[u8],
        new: &[u8],
        (from, to): (RootVersion, RootVersion),
    ) -> Result<bool, Error> {
        super::reading!(self, |connection| {
            let mut transaction = connection.begin().await?;
            let held: Option<Vec<u8>> = sqlx::query_scalar(
                "SELECT content FROM clear_files WHERE tenant = $1 AND name = 'identity' FOR UPDATE",
            )
            .bind(TenantName::SYSTEM)
            .fetch_optional(&mut *transaction)
            .await?;
            let missing: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM secrets a WHERE a.root_version = $1 AND NOT EXISTS \
                 (SELECT 1 FROM secrets b WHERE b.tenant = a.tenant AND b.kind = a.kind AND b.secret_id = a.secret_id \
                 AND b.version = a.version AND b.root_version = $2))",
            )
            .bind(i64::from(from.0))
            .bind(i64::from(to.0))
            .fetch_one(&mut *transaction)
            .await?;
            if held.as_deref() != Some(old) || missing {
                transaction.rollback().await?;
                return Ok(false);
            }
            sqlx::query("UPDATE clear_files SET content = $1 WHERE tenant = $2 AND name = 'identity'")
                .bind(new)
                .bind(TenantName::SYSTEM)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(true)
        })
    }

    pub(super) async fn versions(&self) -> Result<Vec<RootVersion>, Error> {
        super::reading!(self, |connection| {
            let rows = sqlx::query("SELECT DISTINCT root_version FROM secrets").fetch_all(connection).await?;
            rows.iter().map(|row| Ok(RootVersion(Columns::of("secrets", row).number("root_version")?))).collect()
        })
    }

    /// Overwritten and removed, as one secret is.
    pub(super) async fn remove_all(&self, root: RootVersion) -> Result<(), Error> {
        super::reading!(self, |connection| {
            sqlx::query(
                "UPDATE secrets SET sealed = decode(repeat('00', length(sealed)), 'hex') WHERE root_version = $1",
            )
            .bind(i64::from(root.0))
            .execute(&mut *connection)
            .await?;
            sqlx::query("DELETE FROM secrets WHERE root_version = $1")
                .bind(i64::from(root.0))
                .execute(connection)
                .await?;
            Ok(())
        })
    }
}

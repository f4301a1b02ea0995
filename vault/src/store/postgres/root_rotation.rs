//! The switch of a key store's database from one root key to the next.

use sqlx::Connection;

use super::column::Columns;
use super::key_store::KeyStoreDatabase;
use crate::domain::TenantName;
use crate::keys::RootVersion;
use crate::store::Error;

impl KeyStoreDatabase {
    /// In one transaction: the identity is held, so that nobody creates or destroys a secret meanwhile (`insert`, `remove`), the
    /// new secrets are compared with the old by name, both ways (one that was destroyed while it was copied must not live
    /// again), and the identity is replaced.
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
            let differs: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM secrets a WHERE a.root_version IN ($1, $2) AND NOT EXISTS \
                 (SELECT 1 FROM secrets b WHERE b.tenant = a.tenant AND b.kind = a.kind AND b.secret_id = a.secret_id \
                 AND b.version = a.version AND b.root_version IN ($1, $2) AND b.root_version <> a.root_version))",
            )
            .bind(i64::from(from.0))
            .bind(i64::from(to.0))
            .fetch_one(&mut *transaction)
            .await?;
            if held.as_deref() != Some(old) || differs {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DataKeyClass, Epoch};
    use crate::keys::{Medium as _, SecretName};
    use crate::store::contract::anew::unordered;
    use crate::store::contract::postgres::{Cluster, run};

    #[tokio::test]
    async fn a_secret_that_was_destroyed_while_it_was_copied_stops_the_switch() {
        let address = Cluster::shared().database().await;
        let store = KeyStoreDatabase::open(&address, true, true).await.unwrap().unwrap();
        let [kept, gone] = [1, 2].map(|epoch| SecretName::erasure(DataKeyClass::Session, Epoch(epoch)));
        let (from, to) = (RootVersion(1), RootVersion(2));
        assert!(store.swap_clear("identity", None, b"one".to_vec()).await.unwrap());
        for (root, name) in [(from, &kept), (from, &gone), (to, &kept), (to, &gone)] {
            assert!(store.create(root, name, b"sealed".to_vec()).await.unwrap());
        }
        assert!(store.destroy(from, &gone).await.unwrap());
        let switched = || store.switch(b"one", b"two", (from, to));
        assert!(!switched().await.unwrap(), "it would live again under the new root key");
        assert!(store.destroy(to, &gone).await.unwrap());
        assert!(switched().await.unwrap());
    }

    #[tokio::test]
    async fn what_could_not_be_ordered_is_done_anew() {
        let address = Cluster::shared().database().await;
        let store = KeyStoreDatabase::open(&address, true, true).await.unwrap().unwrap();
        // A test's own text, made once: the architecture allows no other way to a statement put together.
        let fail = |table, when| run(&address, unordered(table, "40001", when, 2).leak());
        assert!(store.swap_clear("identity", None, b"one".to_vec()).await.unwrap());
        fail("secrets", "").await;
        let name = SecretName::erasure(DataKeyClass::Session, Epoch(1));
        assert!(store.create(RootVersion(1), &name, b"sealed".to_vec()).await.unwrap());
        assert!(store.create(RootVersion(2), &name, b"sealed".to_vec()).await.unwrap());
        for (when, old, new) in [("", b"one", b"two"), ("DEFERRABLE INITIALLY DEFERRED", b"two", b"six")] {
            fail("clear_files", when).await;
            assert!(store.switch(old, new, (RootVersion(1), RootVersion(2))).await.unwrap(), "{when}");
        }
    }
}

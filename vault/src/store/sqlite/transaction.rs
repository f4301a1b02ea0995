//! One batch's transaction: read everything, write everything, commit.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::column::Columns;
use super::{boots, deciding, key_rows, log_write, lost_keys, pin_guesses, requests, values};
use crate::domain::{Clock, Realm, TenantName, ValueId};
use crate::store::batch::{Loaded, Wanted, WriteSet};
use crate::store::committer::operation::Generation;
use crate::store::{Error, old_approvals};

/// A transaction that holds the database's only write lock.
pub(in crate::store) struct SqliteBatch<'c> {
    pub(super) transaction: Transaction<'c, Sqlite>,
    #[cfg(test)]
    pub(super) loses_answer: bool,
}

impl SqliteBatch<'_> {
    /// Reads what the operations asked for.
    pub(in crate::store) async fn load(
        &mut self,
        wanted: &Wanted,
        realm: &Realm,
        clock: &Clock,
    ) -> Result<Loaded, Error> {
        let connection = &mut *self.transaction;
        if !boots::is_open(wanted.boot, connection).await? {
            return Err(Error::Closed);
        }
        let mut loaded = Loaded::at(clock.now());
        for tenant in &wanted.tenants {
            loaded.generations.insert(tenant.clone(), generation(tenant, connection).await?);
        }
        for (tenant, ids) in &wanted.values {
            let ids: Vec<ValueId> = ids.iter().copied().collect();
            loaded.values.extend(values::read(&ids, tenant, realm, connection).await?);
        }
        load_rows(wanted, &mut loaded, connection).await?;
        for (tenant, lookups) in &wanted.idempotency {
            let lookups: Vec<[u8; 32]> = lookups.iter().copied().collect();
            loaded.idempotency.extend(requests::read_records(&lookups, tenant, loaded.now, connection).await?);
        }
        for ((tenant, session), encs) in &wanted.encs {
            let encs: Vec<[u8; 32]> = encs.iter().copied().collect();
            let seen = requests::read_encs(&encs, *session, tenant, connection).await?;
            loaded.encs.extend(seen.into_iter().map(|enc| (tenant.clone(), *session, enc)));
        }
        for (tenant, ids) in &wanted.runs {
            let ids: Vec<_> = ids.iter().copied().collect();
            loaded.runs.extend(requests::read_runs(&ids, tenant, connection).await?);
        }
        for (tenant, tokens) in &wanted.guesses {
            for token in tokens {
                let tried = pin_guesses::tried(tenant, token, connection).await?;
                loaded.guesses.extend(tried.map(|tried| (tenant.clone(), token.clone(), tried)));
            }
        }
        for (tenant, ids) in &wanted.data_keys {
            for id in ids {
                let open = key_rows::is_open(*id, tenant, connection).await?;
                loaded.data_keys.extend(open.map(|open| (tenant.clone(), *id, open)));
            }
        }
        Ok(loaded)
    }

    /// Writes what the operations decided.
    pub(in crate::store) async fn write(&mut self, set: &WriteSet) -> Result<(), sqlx::Error> {
        let connection = &mut *self.transaction;
        let rows: Vec<_> = set.new_values.values().cloned().collect();
        values::insert(&rows, connection).await?;
        let states: Vec<_> = set.states.iter().map(|((tenant, _), row)| (tenant.clone(), row.clone())).collect();
        values::upsert_states(&states, connection).await?;
        values::reseal(&set.resealed, connection).await?;
        for ((tenant, value_id), until) in &set.postponed {
            values::postpone_purge(*value_id, tenant, *until, connection).await?;
        }
        for (tenant, ids) in &set.removed {
            let ids: Vec<ValueId> = ids.iter().copied().collect();
            values::remove(&ids, tenant, connection).await?;
        }
        let encs: Vec<requests::Enc> =
            set.encs.iter().map(|((tenant, session, enc), until)| (tenant.clone(), *session, *enc, *until)).collect();
        requests::insert_encs(&encs, connection).await?;
        let records: Vec<_> = set.idempotency.values().cloned().collect();
        requests::upsert_records(&records, connection).await?;
        let runs: Vec<_> = set.runs.values().cloned().collect();
        requests::upsert_runs(&runs, connection).await?;
        for (base, sealed) in set.rows.values() {
            deciding::write(sealed, *base, connection).await?;
        }
        for row in &set.data_keys {
            key_rows::replace_data_key(row, connection).await?;
        }
        for (tenant, id) in &set.removed_data_keys {
            key_rows::remove_data_key(*id, tenant, connection).await?;
        }
        for (tenant, ids) in &set.closed_data_keys {
            for id in ids {
                key_rows::close_data_key(*id, tenant, connection).await?;
            }
        }
        for (tenant, id) in &set.retired_data_keys {
            key_rows::retire_data_key(*id, tenant, connection).await?;
        }
        lost_keys::write(&set.lost_data_keys, connection).await?;
        for (by, token) in &set.forgotten_guesses {
            pin_guesses::forget(by, token, connection).await?;
        }
        for row in &set.capture_keys {
            key_rows::insert_capture_key(row, connection).await?;
        }
        for (tenant, by) in &set.generations {
            log_write::bump_generation(tenant, *by, connection).await?;
        }
        log_write::insert_entries(&set.entries, connection).await?;
        match &set.batch {
            Some((batch, groups)) => log_write::insert_batch(batch, groups, connection).await,
            None => Ok(()),
        }
    }

    /// Makes it durable. After an error nobody knows whether it is.
    pub(in crate::store) async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await?;
        #[cfg(test)]
        if self.loses_answer {
            return Err(sqlx::Error::WorkerCrashed);
        }
        Ok(())
    }

    /// Commits work that went well, and undoes what did not.
    pub(super) async fn finish<T>(self, done: Result<T, Error>) -> Result<T, Error> {
        match done {
            Ok(output) => self.commit().await.map(|()| output).map_err(Error::Database),
            Err(error) => {
                let _ = self.rollback().await;
                Err(error)
            }
        }
    }

    /// Undoes it.
    pub(in crate::store) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.transaction.rollback().await
    }
}

async fn load_rows(wanted: &Wanted, loaded: &mut Loaded, connection: &mut SqliteConnection) -> Result<(), Error> {
    for ((table, tenant), keys) in &wanted.rows {
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = deciding::read(*table, &asked, tenant, connection).await?;
        for key in keys {
            let there = found.iter().any(|stored| stored.sealed.row.key == *key);
            if there {
                continue;
            }
            let said = deciding::last_words(*table, key, tenant, connection).await?;
            if old_approvals::is_missing(*table, key, &said, loaded.now) {
                loaded.missing.push((*table, tenant.clone(), key.clone()));
            }
        }
        loaded.rows.extend(found);
    }
    Ok(())
}

/// A tenant's generation; 0 before its first change.
pub(super) async fn generation(tenant: &TenantName, connection: &mut SqliteConnection) -> Result<Generation, Error> {
    let row = sqlx::query("SELECT generation FROM generations WHERE tenant = ?")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(Generation::default()), |row| Columns::of("generations", &row).number("generation").map(Generation))
}

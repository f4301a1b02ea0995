//! One batch's transaction: lock and read everything, write everything, commit.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Postgres, Transaction};

use super::{
    batch_write, deciding, generations, key_rows, lost_keys, pin_guesses, requests, values, within, within_any,
};
use crate::domain::{Clock, DataKeyId, Realm, TenantName, ValueId};
use crate::store::batch::{Loaded, LoadedValue, Wanted, WriteSet};
use crate::store::fault::NotWritten;
use crate::store::rows::IdempotencyRow;
use crate::store::{Error, old_approvals};

/// A transaction with what it holds.
pub(in crate::store) struct PostgresBatch<'c> {
    pub(super) transaction: Transaction<'c, Postgres>,
    held: Held,
    /// A statement of it failed: the server answers its COMMIT with ROLLBACK, and sqlx takes that for done.
    has_failed: bool,
    #[cfg(test)]
    loses_answer: bool,
}

/// What a batch knows of the rows that its decisions rest on.
#[derive(Default)]
struct Held {
    /// Values that were read, with the version of their state and the data key that seals them.
    seen: BTreeMap<(TenantName, ValueId), (u64, DataKeyId)>,
    /// Those of them that no other node can change before this batch ends.
    locked: BTreeSet<(TenantName, ValueId)>,
    /// Idempotency records that were asked for and are not there.
    absent: BTreeSet<(TenantName, [u8; 32])>,
}

impl<'c> PostgresBatch<'c> {
    pub(super) fn new(transaction: Transaction<'c, Postgres>, #[cfg(test)] loses_answer: bool) -> Self {
        Self {
            transaction,
            held: Held::default(),
            has_failed: false,
            #[cfg(test)]
            loses_answer,
        }
    }

    /// Locks and reads what the operations asked for.
    pub(in crate::store) async fn load(
        &mut self,
        wanted: &Wanted,
        realm: &Realm,
        clock: &Clock,
    ) -> Result<Loaded, Error> {
        let loaded = within_any(load(wanted, realm, clock, &mut self.held, &mut self.transaction)).await;
        self.has_failed |= loaded.is_err();
        loaded
    }

    /// Writes what the operations decided.
    pub(in crate::store) async fn write(&mut self, set: &WriteSet) -> Result<(), NotWritten> {
        let (held, connection) = (&self.held, &mut *self.transaction);
        let written = tokio::time::timeout(super::PATIENCE, write(set, held, connection)).await;
        let written = written.unwrap_or_else(|_| Err(NotWritten::Database(super::timed_out())));
        self.has_failed |= written.is_err();
        written
    }

    /// Makes it durable. After an error nobody knows whether it is.
    pub(in crate::store) async fn commit(self) -> Result<(), sqlx::Error> {
        if self.has_failed {
            let _ = self.rollback().await;
            return Err(sqlx::Error::Protocol("a transaction of which a part failed is not committed".to_owned()));
        }
        within(self.transaction.commit()).await?;
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
        within(self.transaction.rollback()).await
    }
}

async fn load(
    wanted: &Wanted,
    realm: &Realm,
    clock: &Clock,
    held: &mut Held,
    connection: &mut PgConnection,
) -> Result<Loaded, Error> {
    let mut loaded = generations::hold(wanted, clock, connection).await?;
    for (tenant, ids) in &wanted.values {
        let ids: Vec<ValueId> = ids.iter().copied().collect();
        let found = load_values(&ids, tenant, realm, held, connection).await?;
        loaded.values.extend(found);
    }
    load_rows(wanted, &mut loaded, connection).await?;
    for (tenant, lookups) in &wanted.idempotency {
        let asked: Vec<[u8; 32]> = lookups.iter().copied().collect();
        let found = requests::lock_records(&asked, tenant, connection).await?;
        let absent = asked.iter().filter(|lookup| !found.iter().any(|row| row.lookup == **lookup));
        held.absent.extend(absent.map(|lookup| (tenant.clone(), *lookup)));
        loaded.idempotency.extend(found.into_iter().filter(|row| row.expires > loaded.now));
    }
    let encs = wanted
        .encs
        .iter()
        .flat_map(|((tenant, session), encs)| encs.iter().map(move |enc| (tenant.clone(), *session, *enc)));
    loaded.encs = requests::read_encs(&encs.collect::<Vec<_>>(), connection).await?;
    for (tenant, ids) in &wanted.runs {
        let ids: Vec<_> = ids.iter().copied().collect();
        loaded.runs.extend(requests::lock_runs(&ids, tenant, connection).await?);
    }
    for (tenant, tokens) in &wanted.guesses {
        for token in tokens {
            let tried = pin_guesses::tried(tenant, token, connection).await?;
            loaded.guesses.extend(tried.map(|tried| (tenant.clone(), token.clone(), tried)));
        }
    }
    for (tenant, ids) in &wanted.data_keys {
        let ids: Vec<_> = ids.iter().copied().collect();
        let there = key_rows::hold_data_keys(&ids, tenant, connection).await?;
        loaded.data_keys.extend(there.into_iter().map(|(id, open)| (tenant.clone(), id, open)));
    }
    Ok(loaded)
}

/// Reads a tenant's values. Those that are counted may change with their reading: they are locked, in the order of their
/// ids, and read again as they are then. What turns out to change though it is not counted is locked by [`fence`].
async fn load_values(
    ids: &[ValueId],
    tenant: &TenantName,
    realm: &Realm,
    held: &mut Held,
    connection: &mut PgConnection,
) -> Result<Vec<LoadedValue>, Error> {
    let mut found = values::read(ids, tenant, realm, connection).await?;
    let is_counted = |value: &LoadedValue| value.row.metadata.uses.is_some() || value.state.is_some();
    let counted: Vec<ValueId> =
        found.iter().filter(|value| is_counted(value)).map(|value| value.row.metadata.value_id).collect();
    if !counted.is_empty() {
        let locked = values::lock(&counted, tenant, connection).await?;
        held.locked.extend(locked.into_keys().map(|value_id| (tenant.clone(), value_id)));
        found.retain(|value| !is_counted(value));
        found.extend(values::read(&counted, tenant, realm, connection).await?);
    }
    let version = |value: &LoadedValue| value.state.as_ref().map_or(0, |row| row.state.version);
    let seen = found
        .iter()
        .map(|value| ((tenant.clone(), value.row.metadata.value_id), (version(value), value.row.data_key_id)));
    held.seen.extend(seen);
    Ok(found)
}

async fn write(set: &WriteSet, held: &Held, connection: &mut PgConnection) -> Result<(), NotWritten> {
    fence(set, held, connection).await?;
    let is_new = |row: &IdempotencyRow| held.absent.contains(&(row.tenant.clone(), row.lookup));
    let (new, known): (Vec<_>, Vec<_>) = set.idempotency.values().partition(|row| is_new(row));
    // Another node's request with the same key came first: it is decided anew, on that record.
    if requests::insert_records(&new, connection).await? != new.len() {
        return Err(NotWritten::Raced);
    }
    requests::upsert_records(&known, connection).await?;
    let states: Vec<_> = set.states.iter().map(|((tenant, _), row)| (tenant, row)).collect();
    values::upsert_states(&states, connection).await?;
    values::reseal(&set.resealed, connection).await?;
    for ((tenant, value_id), until) in &set.postponed {
        values::postpone_purge(*value_id, tenant, *until, connection).await?;
    }
    for (tenant, ids) in &set.removed {
        let ids: Vec<ValueId> = ids.iter().copied().collect();
        values::remove(&ids, tenant, connection).await?;
    }
    deciding::write(&set.rows, connection).await?;
    for row in &set.data_keys {
        key_rows::replace_data_key(row, connection).await?;
    }
    for (tenant, id) in &set.removed_data_keys {
        key_rows::remove_data_key(*id, tenant, connection).await?;
    }
    for (tenant, ids) in &set.closed_data_keys {
        let ids: Vec<_> = ids.iter().copied().collect();
        key_rows::close_data_keys(&ids, tenant, connection).await?;
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
    generations::bump(&set.generations, connection).await?;
    Ok(batch_write::write(set, connection).await?)
}

/// Locks the values that change and were not locked when they were read, and compares them with what was read then:
/// else two nodes could each take the last use, or one write a state to a value that another removed or sealed anew.
async fn fence(set: &WriteSet, held: &Held, connection: &mut PgConnection) -> Result<(), NotWritten> {
    let mut changed: BTreeMap<&TenantName, BTreeMap<ValueId, (u64, DataKeyId)>> = BTreeMap::new();
    let removed = set.removed.iter().flat_map(|(tenant, ids)| ids.iter().map(move |value_id| (tenant, *value_id)));
    let rewritten = set.states.keys().chain(set.resealed.keys()).map(|(tenant, value_id)| (tenant, *value_id));
    for (tenant, value_id) in rewritten.chain(removed) {
        let place = (tenant.clone(), value_id);
        if let Some(seen) = held.seen.get(&place)
            && !held.locked.contains(&place)
        {
            changed.entry(tenant).or_default().insert(value_id, *seen);
        }
    }
    for (tenant, values) in changed {
        let ids: Vec<ValueId> = values.keys().copied().collect();
        let there = values::lock(&ids, tenant, connection).await?;
        let versions = values::state_versions(&ids, tenant, connection).await?;
        let as_read = |(value_id, (version, data_key)): (&ValueId, &(u64, DataKeyId))| {
            there.get(value_id) == Some(data_key) && versions.get(value_id).copied().unwrap_or(0) == *version
        };
        if !values.iter().all(as_read) {
            return Err(NotWritten::Raced);
        }
    }
    Ok(())
}

async fn load_rows(wanted: &Wanted, loaded: &mut Loaded, connection: &mut PgConnection) -> Result<(), Error> {
    for ((table, tenant), keys) in &wanted.rows {
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = deciding::lock_and_read(*table, &asked, tenant, connection).await?;
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

//! Rotation of a tenant's KEK, and the rewrap of its data keys under the new version: both online, both repeatable.
//!
//! The new secret lies in the key store before any row speaks of it. Values and states are not touched.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::administration::{Administrator, Record, in_both_logs};
use super::committer::operation::{Changes, Decision, Generation, Operation, Reads, Rows};
use super::key_commit::KeyCommit;
use super::records::Body;
use super::rows::{DataKeyRow, Table};
use super::tenants::Ground;
use super::{Error, Store};
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::DataKey;
use crate::domain::tenant::KeyProviderKind;
use crate::domain::{DataKeyId, Tenant, TenantName, Timestamp};
use crate::keys::{self, HsmWish, KekRecord, KekState, KeyRecords};

/// How many data keys one commit rewraps: few enough that no other request waits for it.
const SLICE: u32 = 64;
/// How long one such commit may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a rewrap did, or (dry) would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrapped {
    /// Data keys now under the active version.
    pub moved: u64,
    /// Data keys that were there already.
    pub kept: u64,
    /// Data keys whose erasure key is gone; their rows are removed.
    pub erased: u64,
    /// Data keys that still name another version: those that do not open. None is the proof that nothing refers to it.
    pub left: u64,
}

/// Where the next version is made.
#[derive(Debug)]
pub enum Target {
    /// Where the present one is.
    Same,
    /// In the built-in KMS.
    Local,
    /// In this token.
    Hsm(HsmWish),
}

impl Target {
    /// Whether it may be another place than the present one's.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        !matches!(self, Self::Same)
    }
}

/// Makes the next version of the tenant's KEK active; the old one is deactivated and still unwraps. In another place than
/// the old one it moves the tenant: what is sealed stays as it is, and a rewrap takes its data keys along.
///
/// # Errors
/// [`Error::Keys`] without an active KEK or a place for the next one; [`Error::Conflict`] if another rotation came first;
/// those of the committer.
pub async fn rotate(
    by: &Administrator,
    target: Target,
    now: Timestamp,
    ground: Ground<'_>,
) -> Result<KekRecord, Error> {
    let Ground { store, keys, .. } = ground;
    let old = active(&by.tenant, store).await?;
    let read = |table, key: String| async move { store.row(table, &by.tenant, &key).await?.ok_or(Error::Conflict) };
    let stored = read(Table::Keks, old.row_key()).await?;
    let made = match target {
        Target::Hsm(wish) => keys.move_to_hsm(store, &by.tenant, &old, wish, now).await?,
        Target::Same if old.hsm.is_some() => keys.rotate_in_hsm(store, &by.tenant, &old, now).await?,
        Target::Same | Target::Local => keys.move_to_local(&by.tenant, &old, now).await?,
    };
    let new = made.record.clone();
    let moves = new.hsm.is_some() != old.hsm.is_some();
    let retired = KekRecord { state: KekState::Deactivated, ..old };
    // Making a key in a token takes its time: the commit has its own.
    let by = Administrator { deadline: store.clock().now().plus(PATIENCE), ..by.clone() };
    let version = stored.version + 1;
    let written = async {
        let commit = KeyCommit::new(by.clone(), new.kek_id)
            .write((&retired.row_key(), version), &retired, Action::Key("kek.deactivated"), Vec::new())?
            .made(&made, "kek.rotated")?;
        if !moves {
            return Ok(commit);
        }
        let row = read(Table::Tenants, by.tenant.to_string()).await?;
        let key_provider = if new.hsm.is_some() { KeyProviderKind::Hsm } else { KeyProviderKind::Local };
        let tenant = Tenant { key_provider, ..Tenant::from_row(&row)? };
        commit.write((by.tenant.as_str(), row.version + 1), &tenant, Action::Admin("tenant.moved"), Vec::new())
    };
    match written.await {
        Ok(commit) => commit.submit(made, ground).await.map(|()| new),
        Err(error) => {
            keys.give_up(made).await;
            Err(error)
        }
    }
}

/// Wraps the tenant's data keys under its active KEK version, slice by slice. Stopped anywhere, it can be run again.
/// `dry` only counts. Not faster than so many data keys a second: a customer's token serves its readers meanwhile. `progress`
/// hears the counts after each slice.
///
/// # Errors
/// [`Error::Keys`] if a key cannot be unwrapped or wrapped; those of the committer.
pub async fn rewrap(
    by: &Administrator,
    (dry, per_second): (bool, Option<NonZeroU32>),
    mut progress: impl FnMut(Rewrapped) + Send,
    ground: Ground<'_>,
) -> Result<Rewrapped, Error> {
    let Ground { store, committer, keys } = ground;
    let kek = active(&by.tenant, store).await?;
    let in_time = || Administrator { deadline: store.clock().now().plus(PATIENCE), ..by.clone() };
    let (mut done, mut after) = (Rewrapped::default(), None::<DataKeyId>);
    loop {
        let rows = store.data_keys_after(&by.tenant, after, SLICE).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.data_key_id);
        let (mut renewed, mut removed) = (Vec::new(), Vec::new());
        for row in rows {
            if (row.kek_id, row.kek_version) == (kek.kek_id, kek.version) {
                done.kept += 1;
                continue;
            }
            match keys.rewrap(store, &row).await {
                Ok(Some(row)) => renewed.push(row),
                Ok(None) => removed.push(row.data_key_id),
                // It opens for nobody: it stays as it is, is counted, and keeps no other.
                Err(error @ (keys::Error::Altered | keys::Error::KekUnusable | keys::Error::Erased)) => {
                    tracing::error!(tenant = %by.tenant, data_key_id = %row.data_key_id, %error, "a data key does not open");
                    done.left += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        done.moved += renewed.len() as u64;
        done.erased += removed.len() as u64;
        let found = !renewed.is_empty() || !removed.is_empty();
        if found && !dry {
            let slice = Slice { by: in_time(), renewed, removed, kek: kek.clone() };
            if !committer.submit(slice).await?.output {
                return Err(Error::Conflict);
            }
        }
        progress(done);
        if let Some(rate) = per_second.filter(|_| !dry && found) {
            tokio::time::sleep(Duration::from_secs(1) * SLICE / rate.get()).await;
        }
    }
    if !dry {
        done.left = store.data_keys_elsewhere(&by.tenant, &kek).await?;
        let by = in_time();
        let mut ended = Entry { count: Some(done.left), ..entry(&by, &kek, "rewrap.ended", store.clock().now()) };
        ended.facts.push(("references", references(&by.tenant, store).await?));
        committer.submit(Record::new(by.tenant, in_both_logs(ended), by.deadline)).await?;
    }
    Ok(done)
}

async fn active(tenant: &TenantName, store: &Store) -> Result<KekRecord, Error> {
    let found = store.active_kek(tenant).await.map_err(keys::Error::from)?;
    Ok(found.ok_or(keys::Error::NoKek)?)
}

/// How many data keys refer to each version, as `id.version=count`: a version that is not named has none.
async fn references(tenant: &TenantName, store: &Store) -> Result<String, Error> {
    let counts = store.data_keys_by_kek(tenant).await?;
    let line = |(kek_id, version, count): &(_, u32, u64)| format!("{}={count}", KekRecord::key_of(*kek_id, *version));
    Ok(counts.iter().map(line).collect::<Vec<_>>().join(" "))
}

/// An entry of one of the acts.
fn entry(by: &Administrator, kek: &KekRecord, act: &'static str, now: Timestamp) -> Entry {
    let mut entry = Entry::new(by.tenant.clone(), now, Action::Key(act), Outcome::Allowed, &by.context);
    entry.kek_id = Some(kek.kek_id);
    entry
}

/// The commit of some rewrapped data keys, and of some that are erased.
struct Slice {
    by: Administrator,
    renewed: Vec<DataKeyRow>,
    removed: Vec<DataKeyId>,
    kek: KekRecord,
}

impl Operation for Slice {
    type Output = bool;

    fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        self.by.deadline
    }

    fn reads(&self) -> Reads {
        // The version it moves to must still be the active one when the slice is written.
        Reads { rows: vec![(Table::Keks, self.kek.row_key())], ..Reads::default() }
    }

    fn hold(&mut self, _: Arc<DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<bool> {
        let now_active = rows
            .row(Table::Keks, &self.kek.row_key())
            .and_then(|row| KekRecord::from_row(row).ok())
            .is_some_and(|kek| kek.state.may_wrap());
        if !now_active {
            return Decision::Answer(false);
        }
        let count = Some(self.renewed.len() as u64);
        let mut entry = Entry { count, ..entry(&self.by, &self.kek, "data-keys.rewrapped", rows.now()) };
        if !self.removed.is_empty() {
            entry.facts.push(("erased", self.removed.len().to_string()));
        }
        let changes = Changes {
            entries: in_both_logs(entry),
            data_keys: self.renewed.clone(),
            removed_data_keys: self.removed.clone(),
            ..Changes::default()
        };
        Decision::Write(changes, true)
    }
}

#[cfg(test)]
mod tests;

//! Rotation of a tenant's KEK, and the rewrap of its data keys under the new version: both online, both repeatable.
//!
//! The new secret lies in the key store before any row speaks of it. Values and states are not touched.

mod leaving;
mod plan;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use leaving::{bound, leaves, permitted};
pub use plan::{Plan, Planned, plan};

use super::administration::{Administrator, Record, in_both_logs};
use super::approvals::{Permit, Place, TwoPersonAct};
use super::committer::operation::{Asker, Changes, Decision, Generation, Operation, Reads, Rows};
use super::kek_states;
use super::key_commit::KeyCommit;
use super::records::{Body, StoredCredential};
use super::refused_pins::Attempt;
use super::rows::{DataKeyRow, Table};
use super::tenants::Ground;
use super::{Error, Store};
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::DataKey;
use crate::domain::tenant::KeyProviderKind;
use crate::domain::{DataKeyId, Tenant, TenantName, Timestamp};
use crate::keys::{self, HsmWish, KekRecord, KekState, KeyRecords, MadeKek, Rewrap};

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
    /// Data keys that still name another version: those that do not open, for now or for good. None is the proof that nothing refers
    /// to it.
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

/// Makes the next version of the tenant's KEK active; the old one is deactivated and still unwraps. In another place than
/// the old one it moves the tenant: what is sealed stays as it is, and a rewrap takes its data keys along. Leaving a
/// customer's token gives that place the tenant's key, so it takes an approval, which is used up by the commit.
///
/// # Errors
/// [`Error::TakesTwo`] without that approval; [`Error::Keys`] without a place for the next version; [`Error::Conflict`] if
/// another rotation came first; those of the committer.
pub async fn rotate(
    by: &Administrator,
    mut target: Target,
    now: Timestamp,
    ground: Ground<'_>,
) -> Result<KekRecord, Error> {
    let old = newest(&by.tenant, ground.store).await?;
    let permit = match leaves(&old.1, &target, by, ground.store).await? {
        Some(act) => {
            let (act, bound) = bound(act, target, &old.1, (by, now), ground).await?;
            target = bound;
            Some(permitted(by, act, ground.store).await?)
        }
        None => None,
    };
    next(by, old, (target, permit), now, ground).await
}

/// The same with an approval that was just given.
pub(in crate::store) async fn rotate_permitted(
    by: &Administrator,
    target: Target,
    permit: Permit,
    now: Timestamp,
    ground: Ground<'_>,
) -> Result<KekRecord, Error> {
    let old = newest(&by.tenant, ground.store).await?;
    match &permit.record.act {
        TwoPersonAct::LeaveToken { kek, .. } if *kek == old.1.row_key() => {}
        _ => return Err(Error::Conflict),
    }
    next(by, old, (target, Some(permit)), now, ground).await
}

/// The successor, where that is made where it is, of exactly this version: if another came first it is a conflict.
pub(in crate::store) async fn succeed(
    by: &Administrator,
    old: &(u64, KekRecord),
    now: Timestamp,
    ground: Ground<'_>,
) -> Result<KekRecord, Error> {
    next(by, old.clone(), (Target::Same, None), now, ground).await
}

/// Whether this is the version that a rotation would succeed to.
pub(in crate::store) async fn is_newest(kek: &str, tenant: &TenantName, store: &Store) -> Result<bool, Error> {
    Ok(newest(tenant, store).await?.1.row_key() == kek)
}

/// Makes the next version and commits it.
async fn next(
    by: &Administrator,
    (version, old): (u64, KekRecord),
    (target, permit): (Target, Option<Permit>),
    now: Timestamp,
    ground: Ground<'_>,
) -> Result<KekRecord, Error> {
    let Ground { store, keys, .. } = ground;
    let elsewhere = match &target {
        Target::Hsm(wish) if old.hsm.is_some() => Some(Place::of(wish)),
        _ => None,
    };
    let made = match target {
        Target::Hsm(wish) => {
            let attempt = Attempt::of(&wish, &by.tenant);
            attempt.ended(keys.move_to_hsm(store, &by.tenant, &old, wish, now).await, by, ground).await?
        }
        Target::Same if old.hsm.is_some() => keys.rotate_in_hsm(store, &by.tenant, &old, now).await?,
        Target::Same | Target::Local => keys.move_to_local(&by.tenant, &old, now).await?,
    };
    let new = made.record.clone();
    // Making a key in a token takes its time: the commit has its own.
    let by = Administrator { deadline: store.clock().now().plus(PATIENCE), ..by.clone() };
    let written = async {
        let permit = match (permit, elsewhere) {
            // It was taken for the token in use, and the present key does not answer there: another token of that name.
            (None, Some(place)) if !made.is_beside => {
                let token = made.provider.as_ref().and_then(|(record, _)| record.token.serial.clone());
                let act = TwoPersonAct::LeaveToken { kek: old.row_key(), place: place.at(token) };
                Some(permitted(&by, act, store).await?)
            }
            (permit, _) => permit,
        };
        succession(&by, (version, &old), &made, permit, store).await
    };
    match written.await {
        Ok(commit) => commit.submit(made, ground).await.map(|()| new),
        Err(error) => {
            keys.give_up(made).await;
            Err(error)
        }
    }
}

/// The rows of a rotation: the old version retired, the new one, the tenant where it moves, the approval that is used up.
async fn succession(
    by: &Administrator,
    (version, old): (u64, &KekRecord),
    made: &MadeKek,
    permit: Option<Permit>,
    store: &Store,
) -> Result<KeyCommit, Error> {
    let new = &made.record;
    let mut commit = KeyCommit::new(by.clone(), new.kek_id);
    commit = match old.state {
        KekState::Active => {
            let retired = KekRecord { state: KekState::Deactivated, ..old.clone() };
            commit.write((&old.row_key(), version + 1), &retired, Action::Key("kek.deactivated"), Vec::new())?
        }
        // Compromised and without a successor until now: it must be so still, since a shredding begins with these rows.
        _ => commit.resting_on::<KekRecord>(old.row_key(), version),
    };
    commit = commit.made(made, "kek.rotated")?;
    if new.hsm.is_some() != old.hsm.is_some() {
        let row = store.row(Table::Tenants, &by.tenant, by.tenant.as_str()).await?.ok_or(Error::Conflict)?;
        let key_provider = if new.hsm.is_some() { KeyProviderKind::Hsm } else { KeyProviderKind::Local };
        let tenant = Tenant { key_provider, ..Tenant::from_row(&row)? };
        let key = (by.tenant.as_str(), row.version + 1);
        commit = commit.write(key, &tenant, Action::Admin("tenant.moved"), Vec::new())?;
    }
    match permit {
        Some(Permit { record, version, act, asked_by }) => {
            commit = commit.until(record.expires_at);
            if let Some((asker, version)) = asked_by {
                commit = commit.resting_on::<StoredCredential>(asker, version);
            }
            let (key, facts) = (record.approval_id.to_string(), record.facts(&by.tenant, &by.realm));
            commit.write((&key, version + 1), &record, Action::Key(act), facts)
        }
        None => Ok(commit),
    }
}

/// The version that the next one succeeds to: the active one, or the newest where none is, because it was said to be compromised
/// without a successor. A tenant whose keys are ended, or being ended, has none.
async fn newest(tenant: &TenantName, store: &Store) -> Result<(u64, KekRecord), Error> {
    let found = kek_states::versions(tenant, store).await?;
    let newest = found.into_iter().max_by_key(|(_, kek)| rank(kek)).filter(|(_, kek)| rank(kek).is_some());
    Ok(newest.ok_or(keys::Error::NoKek)?)
}

/// What a rotation goes by: the highest is succeeded to. None for a version that opens nothing any more.
pub(in crate::store) fn rank(kek: &KekRecord) -> Option<(bool, Timestamp, u32)> {
    kek.state.may_unwrap().then_some((kek.state.may_wrap(), kek.created_at, kek.version))
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
            // Only counted, it is no work of the key provider, which serves readers meanwhile, and the real run beside it.
            let rewrapped = if dry {
                let would = |is_there| if is_there { Rewrap::Renewed(row.clone()) } else { Rewrap::Erased };
                keys.would_rewrap(store, &row).await.map(would)
            } else {
                keys.rewrap(store, &row).await
            };
            match rewrapped {
                Ok(Rewrap::Renewed(row)) => renewed.push(row),
                Ok(Rewrap::Erased) => removed.push(row.data_key_id),
                // It opens for nobody, or not where it was left: it stays as it is, is counted, and keeps no other.
                Ok(Rewrap::LeftBehind(error))
                | Err(error @ (keys::Error::Altered | keys::Error::KekUnusable | keys::Error::Erased)) => {
                    if !dry {
                        tracing::error!(tenant = %by.tenant, data_key_id = %row.data_key_id, %error, "a data key does not open");
                    }
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

    fn asker(&self) -> Option<Asker> {
        self.by.asker()
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

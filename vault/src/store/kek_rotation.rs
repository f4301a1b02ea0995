//! Rotation of a tenant's KEK, and the rewrap of its data keys under the new version: both online, both repeatable.
//!
//! The new secret lies in the key store before any row speaks of it. Values and states are not touched.

mod leaving;
mod plan;
mod rewrapping;

use std::time::Duration;

use leaving::{bound, leaves, permitted};
pub use plan::{Plan, Planned, plan};
pub use rewrapping::{Left, Rewrapped, Stretch, rewrap};

use super::administration::Administrator;
use super::approvals::{Permit, Place, TwoPersonAct};
use super::kek_states;
use super::key_commit::KeyCommit;
use super::records::{Body, StoredCredential};
use super::refused_pins::Attempt;
use super::rows::Table;
use super::tenants::Ground;
use super::{Error, Store};
use crate::access_log::Action;
use crate::domain::tenant::KeyProviderKind;
use crate::domain::{Tenant, TenantName, Timestamp};
use crate::keys::{self, HsmWish, KekRecord, KekState, KeyRecords, MadeKek};

/// How long a commit may take that comes after a key provider was asked.
const PATIENCE: Duration = Duration::from_secs(10);

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
    // From one token to another too: whoever watches for it hears of every other place.
    let place = |kek: &KekRecord| kek.hsm.as_ref().map(|hsm| hsm.provider);
    if place(new) != place(old) {
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

async fn active(tenant: &TenantName, store: &Store) -> Result<KekRecord, Error> {
    let found = store.active_kek(tenant).await.map_err(keys::Error::from)?;
    Ok(found.ok_or(keys::Error::NoKek)?)
}

#[cfg(test)]
mod tests;

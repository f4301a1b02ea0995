//! Transitions of a KEK version that its custodian asks for. Which are possible, the table in keys/ says; what else has to be
//! so (another version wraps, nothing refers to it any more) is asked here.

use super::administration::Administrator;
use super::decree::Decree;
use super::kek_rotation::{self, Target};
use super::records::Body;
use super::rows::Table;
use super::tenants::Ground;
use super::{Error, Store, lost_version, shredding};
use crate::access_log::{Action, Entry};
use crate::domain::{KekId, TenantName};
use crate::keys::{KekEnd, KekRecord, KekState};

/// Which version, and what it shall be.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// The KEK; the tenant's only one where none is named.
    pub kek_id: Option<KekId>,
    /// Its version.
    pub version: u32,
    /// The state.
    pub state: KekState,
    /// What an active version that is compromised leaves.
    pub successor: Successor,
}

/// Whether an active version that is said to be compromised gets a successor first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// It does: without an active version a tenant takes nothing in.
    First,
    /// It does not: it lies in a token that does not answer, and is said to be compromised all the same.
    None,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The version is in that state; in a dry run: it would be.
    Done(KekRecord),
    /// There is no such version, or several KEKs have one of this number.
    Absent,
    /// Its state never becomes that one.
    NotAllowed,
    /// It is needed still.
    InUse(Need),
    /// Another change came first.
    Conflict,
}

/// What a version is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It wraps: rotate first.
    Active,
    /// Data keys refer to it: rewrap first.
    Referred,
}

/// Changes the state of a version. The active one becomes deactivated in the commit that activates another, and gets its
/// successor before it is said to be compromised. `Destroyed` is done in both durable places.
///
/// # Errors
/// [`Error::Keys`]; those of the committer.
pub async fn change(by: &Administrator, wish: Wish, dry: bool, ground: Ground<'_>) -> Result<Changed, Error> {
    let versions = versions(&by.tenant, ground.store).await?;
    let mut meant = versions
        .iter()
        .filter(|(_, kek)| kek.version == wish.version && wish.kek_id.is_none_or(|kek_id| kek.kek_id == kek_id));
    let (Some((at, kek)), None) = (meant.next(), meant.next()) else { return Ok(Changed::Absent) };
    if kek.state == wish.state {
        return Ok(Changed::Done(kek.clone()));
    }
    // Nobody but the vault knows when the secret is gone: what is asked for is the way there.
    let next = if wish.state == KekState::Destroyed { KekState::Destroying } else { wish.state };
    // That a version is lost takes two: `lost_version`.
    if matches!(wish.state, KekState::Destroying | KekState::Lost) || !kek.state.may_become(next) {
        return Ok(Changed::NotAllowed);
    }
    let wraps = |kek: &KekRecord| kek.state.may_wrap();
    match next {
        // What is still needed stays: a successor first, then the rewrap that ends with 0 references.
        KekState::Deactivated | KekState::Destroying if wraps(kek) => return Ok(Changed::InUse(Need::Active)),
        // Its successor takes the next number, whatever became of this one.
        KekState::Destroying if !versions.iter().any(|(_, kek)| wraps(kek)) => {
            return Ok(Changed::InUse(Need::Active));
        }
        KekState::Destroying if refers(kek, &by.tenant, ground.store).await? => {
            return Ok(Changed::InUse(Need::Referred));
        }
        _ => {}
    }
    let changed = KekRecord { state: wish.state, ..kek.clone() };
    if dry {
        return Ok(Changed::Done(changed));
    }
    if next == KekState::Compromised && wraps(kek) && wish.successor == Successor::First {
        // Its successor first: a tenant without an active key would take nothing in, and has nothing to move values to.
        kek_rotation::rotate(by, Target::Same, ground.store.clock().now(), ground).await?;
        let retired = KekRecord { state: KekState::Deactivated, ..kek.clone() };
        return commit(by, (at + 1, &retired), next, changed, ground).await;
    }
    commit(by, (*at, kek), next, changed, ground).await
}

/// Writes the transition, and does what it begins.
async fn commit(
    by: &Administrator,
    (at, kek): (u64, &KekRecord),
    next: KekState,
    changed: KekRecord,
    ground: Ground<'_>,
) -> Result<Changed, Error> {
    let mut decree = Decree::new(Administrator { generation: None, ..by.clone() });
    let said = if next == KekState::Compromised { Some(ground.store.clock().now()) } else { kek.compromised_at };
    push(&mut decree, (at, &KekRecord { compromised_at: said, ..kek.clone() }), next)?;
    if next == KekState::Active {
        for (at, other) in versions(&by.tenant, ground.store).await?.iter().filter(|(_, kek)| kek.state.may_wrap()) {
            push(&mut decree, (*at, other), KekState::Deactivated)?;
        }
    }
    if decree.submit(ground.committer).await?.is_none() {
        return Ok(Changed::Conflict);
    }
    ground.keys.forget_tenant(&by.tenant);
    if next == KekState::Destroying {
        shredding::finish(by, ground).await?;
    }
    Ok(Changed::Done(changed))
}

/// One version's transition in a decree.
pub(in crate::store) fn push(decree: &mut Decree, (at, kek): (u64, &KekRecord), next: KekState) -> Result<(), Error> {
    let act = match next {
        KekState::PreActive => "kek.pre-active",
        KekState::Active => "kek.activated",
        KekState::Deactivated => "kek.deactivated",
        KekState::Compromised => "kek.compromised",
        KekState::Destroying => "kek.destroying",
        KekState::Destroyed => "kek.destroyed",
        KekState::Lost => lost_version::VERSION_LOST,
    };
    let mut entry = Entry { kek_id: Some(kek.kek_id), ..decree.entry(Action::Key(act)) };
    entry.facts = vec![("version", kek.version.to_string()), ("before", kek.state.to_string())];
    entry.facts.extend(kek.ended.iter().flat_map(KekEnd::facts));
    let changed = KekRecord { state: next, ..kek.clone() };
    let row = changed.to_row(&entry.tenant, &changed.row_key(), at + 1)?;
    decree.push(row, entry);
    Ok(())
}

/// A tenant's KEK versions with the versions of their rows, authenticated.
pub(in crate::store) async fn versions(tenant: &TenantName, store: &Store) -> Result<Vec<(u64, KekRecord)>, Error> {
    let rows = store.rows(Table::Keks, tenant).await?;
    rows.iter().map(|row| Ok((row.version, KekRecord::from_row(row)?))).collect()
}

/// Whether a data key is wrapped under the version. Where it does not wrap this can only end: a new data key is refused
/// unless its KEK is active, in the transaction that inserts it.
async fn refers(kek: &KekRecord, tenant: &TenantName, store: &Store) -> Result<bool, Error> {
    let counts = store.data_keys_by_kek(tenant).await?;
    Ok(counts.iter().any(|(kek_id, version, keys)| (*kek_id, *version) == (kek.kek_id, kek.version) && *keys > 0))
}

//! What a second custodian has to approve before a tenant's key leaves a token, bound to exactly the token that it goes to.

use super::Target;
use crate::domain::Timestamp;
use crate::keys::{self, HsmWish, KekRecord, KeyRecords as _, ProviderRecord};
use crate::store::administration::Administrator;
use crate::store::approvals::{self, Permit, Place, TwoPersonAct};
use crate::store::refused_pins::Attempt;
use crate::store::tenants::Ground;
use crate::store::{Error, Store};

/// What a second custodian has to approve before the next version is made there, as far as the request itself tells.
pub(super) async fn leaves(
    old: &KekRecord,
    target: &Target,
    by: &Administrator,
    store: &Store,
) -> Result<Option<TwoPersonAct>, Error> {
    let (Some(hsm), kek) = (&old.hsm, old.row_key()) else { return Ok(None) };
    let place = match target {
        Target::Same => return Ok(None),
        Target::Local => Place::Local,
        Target::Hsm(wish) => {
            let provider = store.key_provider(&by.tenant, hsm.provider).await.map_err(keys::Error::from)?;
            let (_, ProviderRecord { token, .. }) = provider.ok_or(Error::Conflict)?;
            let is_named = |named: &Option<String>, its: &Option<String>| named.is_none() || named == its;
            // Another module or PIN for the token that is in use: that it is that one is seen once its key answers there.
            // A key whose bytes one person may know takes two, though it lies there too.
            if !wish.waive && is_named(&wish.token, &token.label) && is_named(&wish.serial, &token.serial) {
                return Ok(None);
            }
            Place::of(wish)
        }
    };
    Ok(Some(TwoPersonAct::LeaveToken { kek, place }))
}

pub(super) async fn permitted(by: &Administrator, act: TwoPersonAct, store: &Store) -> Result<Permit, Error> {
    approvals::given(by, &act, store).await?.ok_or_else(|| Error::TakesTwo(Box::new(act)))
}

/// The act with the serial number of the token that it names by its label alone: approved is that token, and no other that takes
/// its label later.
pub(super) async fn bound(
    act: TwoPersonAct,
    target: Target,
    old: &KekRecord,
    (by, now): (&Administrator, Timestamp),
    ground: Ground<'_>,
) -> Result<(TwoPersonAct, Target), Error> {
    let wish = match target {
        Target::Hsm(wish) if wish.serial.is_none() => wish,
        target => return Ok((act, target)),
    };
    let attempt = Attempt::of(&wish, &by.tenant);
    let tried = ground.keys.try_hsm(ground.store, &by.tenant, old, wish.clone(), now).await;
    let seen = attempt.ended(tried, by, ground).await?.serial();
    let target = Target::Hsm(HsmWish { serial: seen.clone(), ..wish.clone() });
    let act = TwoPersonAct::LeaveToken { kek: old.row_key(), place: Place::of(&wish).at(seen) };
    Ok((act, target))
}

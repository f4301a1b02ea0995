//! What a rotation would come to, for whoever wants to know before: everything is tried that changes nothing.

use super::{Target, leaves, newest};
use crate::domain::Timestamp;
use crate::keys::{KekRecord, LOCAL_MECHANISM, SeenToken};
use crate::store::administration::Administrator;
use crate::store::approvals::{self, Place, TwoPersonAct};
use crate::store::refused_pins::Attempt;
use crate::store::tenants::Ground;
use crate::store::{Error, Store};

/// What would be done.
#[derive(Debug)]
pub struct Plan {
    /// The present version, which would be succeeded to.
    pub present: KekRecord,
    /// How the next one would wrap.
    pub mechanism: String,
    /// Where it would be made.
    pub place: Planned,
    /// Whether a second custodian would have to approve it first.
    pub takes_two: bool,
}

/// Where a version would be made.
#[derive(Debug)]
pub enum Planned {
    /// Where the present one is.
    Same,
    /// In the built-in KMS.
    Local,
    /// In this token.
    Token(SeenToken),
}

/// Tells what [`super::rotate`] would do now. Nothing is written and no key is made; a token is logged in to once.
///
/// # Errors
/// Those of [`super::rotate`], as far as they show without writing.
pub async fn plan(by: &Administrator, target: Target, now: Timestamp, ground: Ground<'_>) -> Result<Plan, Error> {
    let Ground { store, keys, .. } = ground;
    let (_, present) = newest(&by.tenant, store).await?;
    let act = leaves(&present, &target, by, store).await?;
    let (mechanism, place, act) = match target {
        Target::Same => (present.mechanism.clone(), Planned::Same, act),
        Target::Local => (LOCAL_MECHANISM.to_owned(), Planned::Local, act),
        Target::Hsm(wish) => {
            let place = Place::of(&wish);
            let attempt = Attempt::of(&wish, &by.tenant);
            let tried = attempt.ended(keys.try_hsm(store, &by.tenant, &present, wish, now).await, by, ground).await?;
            // Named as another token than that in use, or the present key does not answer there.
            let leaves = act.is_some() || present.hsm.is_some() && !tried.is_beside;
            let place = place.at(tried.serial());
            let act = leaves.then(|| TwoPersonAct::LeaveToken { kek: present.row_key(), place });
            (tried.profile, Planned::Token(tried.token), act)
        }
    };
    let takes_two = is_missing(act, by, store).await?;
    Ok(Plan { present, mechanism, place, takes_two })
}

/// Whether the act takes an approval that who asks does not have.
async fn is_missing(act: Option<TwoPersonAct>, by: &Administrator, store: &Store) -> Result<bool, Error> {
    match act {
        Some(act) => Ok(approvals::given(by, &act, store).await?.is_none()),
        None => Ok(false),
    }
}

//! The end of a KEK in its token: known by its canary, destroyed once, and looked for again. That it is not there is believed only from a
//! module that was initialised, and a login that was made, after somebody asked for its end.

use serde::{Deserialize, Serialize};

use crate::canary::{Anomaly, Canary, Song};
use crate::error::HsmError;
use crate::failure::{Class, Fault, Moment};
use crate::kek;
use crate::pool::Pool;
use crate::session::Live;
use crate::token::TokenInfo;
use crate::uri::KekSelector;

/// How a token answered when a key was to be destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destruction {
    /// The token that answered.
    pub token: TokenInfo,
    /// Whether it had the key, and has it no more; else it has none of that label and id.
    pub was_there: bool,
}

enum Seen {
    Missing,
    /// What became of the one attempt.
    Tried(Result<(), Fault>),
}

/// Destroys the KEK. Where a canary is given, only the key that it knows is: another one behind label and id stays.
pub(crate) fn destroy(
    pool: &Pool,
    lane: usize,
    selector: &KekSelector,
    canary: Option<&Canary>,
) -> Result<Destruction, HsmError> {
    let before = pool.initialised();
    let look = |live: &Live| {
        let session = live.session(lane);
        let place = match live.find(&session, selector) {
            // A token whose store went away and came back, or is away, shows no keys to a login from before.
            Err(Fault::Told(HsmError::KekNotFound)) if pool.initialised() > before => {
                return Ok((live.token.clone(), Seen::Missing));
            }
            found => found?,
        };
        canary.map_or(Song::Healthy, |canary| canary.ask(place)).heard()?;
        live.forget(selector);
        // An answer in any case: it is not repeated after a failure, because the first attempt may have done it.
        Ok((live.token.clone(), Seen::Tried(kek::destroy(&session, place.kek))))
    };
    let seen = match pool.with_session(Moment::Wrap, look) {
        Err(HsmError::KekNotFound) => {
            pool.initialise_anew()?;
            pool.with_session(Moment::Wrap, look)?
        }
        seen => seen?,
    };
    match seen {
        (token, Seen::Missing) => Ok(Destruction { token, was_there: false }),
        (token, Seen::Tried(tried)) => {
            tried.map_err(refused)?;
            refuse_if_there(pool, lane, selector)?;
            Ok(Destruction { token, was_there: true })
        }
    }
}

/// Whether the key that a canary knows answers. That it does not is believed only from a module that was initialised, and a login that was
/// made, after this began.
pub(crate) fn look(pool: &Pool, lane: usize, canary: &Canary) -> Result<Option<Anomaly>, HsmError> {
    let before = pool.initialised();
    let ask = || {
        Anomaly::found(pool.with_session(Moment::Wrap, |live| {
            let session = live.session(lane);
            canary.ask(live.find(&session, &canary.kek.selector)?).heard()
        }))
    };
    let found = ask()?;
    if found.is_none() || pool.initialised() > before {
        return Ok(found);
    }
    pool.initialise_anew()?;
    ask()
}

/// A module's word that a key is destroyed is not enough.
fn refuse_if_there(pool: &Pool, lane: usize, selector: &KekSelector) -> Result<(), HsmError> {
    let is_there = pool.with_session(Moment::Wrap, |live| match live.find(&live.session(lane), selector) {
        Err(Fault::Told(HsmError::KekNotFound)) => Ok(false),
        Ok(_) | Err(Fault::Told(HsmError::KekAmbiguous(_) | HsmError::KekUnfit(_))) => Ok(true),
        Err(fault) => Err(fault),
    })?;
    if is_there {
        return Err(HsmError::Refused("the module says that it destroyed the key, and shows it still".to_owned()));
    }
    Ok(())
}

/// The token was well a moment before, so a code that could mean anything is its refusal, and no silence.
fn refused(fault: Fault) -> HsmError {
    match fault.class(Moment::Wrap) {
        Class::AskCanary | Class::Busy => HsmError::Refused(fault.reason()),
        _ => fault.into_error(Moment::Wrap),
    }
}

//! Which profile a KEK of this module does: by doing it. What a module advertises is not asked.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::{ALL, Place, Profile, random};
use crate::error::HsmError;
use crate::failure::{Fault, Moment};
use crate::kek_kind::KekKind;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The first profile that works, in the order of preference: the one to pin.
    pub chosen: Option<Profile>,
    /// Every profile tried, in order.
    pub trials: Vec<Trial>,
}

/// One profile tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The profile.
    pub profile: Profile,
    /// Why it cannot be used; absent if it can.
    pub refusal: Option<String>,
}

/// Profiles for a kind of KEK in the order of preference; the SHA-1 one only where tests asked for it.
pub(crate) fn of_kind(kind: KekKind, sha1_for_tests: bool) -> impl Iterator<Item = Profile> {
    ALL.into_iter()
        .map(|(profile, _, _)| profile)
        .filter(move |profile| profile.fits(kind) && (sha1_for_tests || *profile != Profile::TestRsaOaepSha1))
}

/// Tries profiles on `place` until one works. A mode in which the module makes the IV is tried on `scratch`, a throw-away key, first:
/// tried on a module that takes the zero buffer for the IV, it would use that nonce under the KEK.
pub(crate) fn probe(place: Place<'_>, scratch: Option<Place<'_>>, sha1_for_tests: bool) -> Result<ProbeReport, Fault> {
    let mut report = ProbeReport { chosen: None, trials: Vec::new() };
    for profile in of_kind(place.kek.kind, sha1_for_tests) {
        let module_iv = matches!(profile, Profile::AesGcmModuleIv | Profile::AesGcmAppendedIv);
        let tried = match scratch {
            None if module_iv => {
                Err(HsmError::ProfileUnavailable("no throw-away key to try it on first".to_owned()).into())
            }
            Some(scratch) if module_iv => try_out(profile, scratch).and_then(|()| try_out(profile, place)),
            _ => try_out(profile, place),
        };
        let refusal = match tried {
            Ok(()) => None,
            // A session that is gone says nothing about the profile.
            Err(fault) if outage(&fault) => return Err(fault),
            Err(fault) => Some(fault.reason()),
        };
        let works = refusal.is_none();
        report.trials.push(Trial { profile, refusal });
        if works {
            report.chosen = Some(profile);
            break;
        }
    }
    Ok(report)
}

fn outage(fault: &Fault) -> bool {
    use crate::failure::Class;
    matches!(fault.class(Moment::Wrap), Class::FindAgain | Class::LogInAgain | Class::Quarantine)
}

/// Wraps and unwraps random bytes, and holds the module to it that altered bytes and another context do not open.
pub(crate) fn try_out(profile: Profile, place: Place<'_>) -> Result<(), Fault> {
    let wrapped = round_trip(profile, place)?;
    let context = b"siv/v1/hsm-probe";
    for at in [2, wrapped.len() / 2, wrapped.len() - 1] {
        let mut altered = wrapped.clone();
        altered[at] ^= 1;
        if profile.unwrap(place, &altered, context).is_ok() {
            return Err(unavailable("altered bytes are opened"));
        }
    }
    if profile.unwrap(place, &wrapped, b"siv/v1/hsm-another").is_ok() {
        return Err(unavailable("the context is not bound"));
    }
    // The module must still do it after having refused: some leave the operation active.
    let again = round_trip(profile, place)?;
    if profile.has_aad() && again == wrapped {
        return Err(unavailable("an IV was repeated"));
    }
    Ok(())
}

/// Wraps random bytes and unwraps them; what was wrapped.
pub(crate) fn round_trip(profile: Profile, place: Place<'_>) -> Result<Vec<u8>, Fault> {
    let context = b"siv/v1/hsm-probe";
    let key = random::<32>()?;
    let wrapped = profile.wrap(place, &key, context)?;
    let back = profile.unwrap(place, &wrapped, context)?;
    if !bool::from(back[..].ct_eq(&key[..])) {
        return Err(unavailable("what is unwrapped is not what was wrapped"));
    }
    Ok(wrapped)
}

fn unavailable(why: &str) -> Fault {
    HsmError::ProfileUnavailable(why.to_owned()).into()
}

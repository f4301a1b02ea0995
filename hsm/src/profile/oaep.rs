//! `CKM_RSA_PKCS_OAEP` of 64 bytes, both halves of the pair in the token.

use zeroize::Zeroizing;

use super::{Place, Profile};
use crate::failure::Fault;
use crate::raw::{Hash, Mechanism};

pub(super) fn wrap(profile: Profile, place: Place<'_>, both: &[u8; 64]) -> Result<Vec<u8>, Fault> {
    let modulus = place.kek.kind.modulus().ok_or(Fault::Integrity)?;
    let mechanism = Mechanism::Oaep(hash(profile));
    let wrapped =
        place.module.raw.encrypt(place.session.handle(), place.kek.closes.handle(), mechanism, both, modulus)?;
    if wrapped.len() == modulus { Ok(wrapped) } else { Err(Fault::Rubbish("a wrapped key has the wrong length")) }
}

pub(super) fn unwrap(profile: Profile, place: Place<'_>, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let modulus = place.kek.kind.modulus().ok_or(Fault::Integrity)?;
    if payload.len() != modulus {
        return Err(Fault::Integrity);
    }
    let mechanism = Mechanism::Oaep(hash(profile));
    // Some modules want room for a whole modulus, whatever comes out.
    place.module.raw.decrypt(place.session.handle(), place.kek.opens.handle(), mechanism, payload, modulus)
}

fn hash(profile: Profile) -> Hash {
    if profile == Profile::TestRsaOaepSha1 { Hash::Sha1 } else { Hash::Sha256 }
}

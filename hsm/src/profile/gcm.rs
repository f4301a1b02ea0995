//! `CKM_AES_GCM` with the context as additional authenticated data, in three ways of coming by an IV. A zero IV is never used.

use cryptoki_sys as ck;

use super::{KeyBytes, Place, Profile, random};
use crate::failure::Fault;
use crate::raw::{Iv, Mechanism};

/// Ciphertext and tag of 32 bytes.
const SEALED: usize = 48;
const IV: usize = 12;
/// Room for an appended IV of 12 or 16 bytes.
const ROOM: usize = SEALED + 16;

/// The payload: `iv ‖ ciphertext ‖ tag`, or what the module gave where it appends the IV itself.
pub(super) fn wrap(profile: Profile, place: Place<'_>, key: &[u8; 32], context: &[u8]) -> Result<Vec<u8>, Fault> {
    let encrypt = |iv| {
        let mechanism = Mechanism::Gcm { iv, aad: context };
        place.module.raw.encrypt(place.session.handle(), place.kek.closes.handle(), mechanism, key, ROOM)
    };
    if profile == Profile::AesGcmAppendedIv {
        let sealed = encrypt(Iv::Null)?;
        let iv = sealed.get(SEALED..).unwrap_or_default();
        if !matches!(iv.len(), 12 | 16) {
            return Err(Fault::Rubbish("the module appended no IV"));
        }
        return if is_zero(iv) { Err(Fault::ZeroIv) } else { Ok(sealed) };
    }
    let mut iv = [0; IV];
    let sealed = if profile == Profile::AesGcmModuleIv {
        encrypt(Iv::Buffer(&mut iv))?
    } else {
        iv = *random::<IV>()?;
        encrypt(Iv::Given(&iv))?
    };
    // A module that used the zero buffer as it stood would repeat a nonce under one key: what it made is thrown away.
    if is_zero(&iv) {
        return Err(Fault::ZeroIv);
    }
    if sealed.len() != SEALED {
        return Err(Fault::Rubbish("a sealed key has the wrong length"));
    }
    Ok([&iv[..], &sealed].concat())
}

pub(super) fn unwrap(profile: Profile, place: Place<'_>, payload: &[u8], context: &[u8]) -> Result<KeyBytes, Fault> {
    let (iv, sealed) = if profile == Profile::AesGcmAppendedIv {
        let (sealed, iv) = payload.split_at_checked(SEALED).ok_or(Fault::Integrity)?;
        (iv, sealed)
    } else {
        payload.split_at_checked(IV).ok_or(Fault::Integrity)?
    };
    let lengths = sealed.len() == SEALED && (iv.len() == IV || profile == Profile::AesGcmAppendedIv && iv.len() == 16);
    if !lengths || is_zero(iv) {
        return Err(Fault::Integrity);
    }
    let mechanism = Mechanism::Gcm { iv: Iv::Given(iv), aad: context };
    // Room for more than the key: a module that answers with more is caught by the length.
    let open = place.module.raw.decrypt(place.session.handle(), place.kek.opens.handle(), mechanism, sealed, SEALED)?;
    let mut key = KeyBytes::default();
    if open.len() != key.len() {
        return Err(Fault::Integrity);
    }
    key.copy_from_slice(&open);
    Ok(key)
}

/// Encrypts with a zero IV given by the application; `Ok` if the module goes along. Only for the report, only with a throw-away key.
pub(crate) fn accepts_zero_iv(place: Place<'_>) -> Result<(), Fault> {
    let mechanism = Mechanism::Gcm { iv: Iv::Given(&[0; IV]), aad: &[] };
    place.module.raw.encrypt(place.session.handle(), place.kek.closes.handle(), mechanism, &[0; 32], ROOM).map(drop)
}

fn is_zero(iv: &[u8]) -> bool {
    iv.iter().all(|byte| *byte == 0)
}

const _: () =
    assert!(size_of::<ck::CK_GCM_PARAMS>() == 48, "ulIvBits is part of the parameter since PKCS#11 2.40 errata 1");

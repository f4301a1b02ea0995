//! RFC 5649 (key wrap with padding) of 64 bytes: by `C_Encrypt`, or by `C_WrapKey` of a session object where the module has only that.

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki_sys as ck;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Place, Profile};
use crate::failure::Fault;
use crate::raw::Mechanism;

/// 64 bytes wrapped.
const WRAPPED: usize = 72;
/// Room for a module that pads further, which is then refused by the length.
const ROOM: usize = 96;

pub(super) fn encrypt(place: Place<'_>, both: &[u8; 64]) -> Result<Vec<u8>, Fault> {
    let mechanism = Mechanism::Plain(ck::CKM_AES_KEY_WRAP_KWP);
    let wrapped = place.module.raw.encrypt(place.session.handle(), place.kek.closes.handle(), mechanism, both, ROOM)?;
    sized(wrapped)
}

pub(super) fn decrypt(place: Place<'_>, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    if payload.len() != WRAPPED {
        return Err(Fault::Integrity);
    }
    let mechanism = Mechanism::Plain(ck::CKM_AES_KEY_WRAP_KWP);
    place.module.raw.decrypt(place.session.handle(), place.kek.opens.handle(), mechanism, payload, ROOM)
}

pub(super) fn wrap_key(profile: Profile, place: Place<'_>, both: &[u8; 64]) -> Result<Vec<u8>, Fault> {
    let mut template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Extractable(true),
        Attribute::Sensitive(false),
        Attribute::Value(both.to_vec()),
    ];
    let object = place.session.create_object(&template);
    if let [.., Attribute::Value(value)] = &mut template {
        value.zeroize();
    }
    let object = Passing { place, object: object? };
    let wrapped = place.module.raw.wrap_key(
        place.session.handle(),
        mechanism(profile),
        place.kek.closes.handle(),
        object.object.handle(),
        ROOM,
    )?;
    sized(wrapped)
}

pub(super) fn unwrap_key(profile: Profile, place: Place<'_>, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    if payload.len() != WRAPPED {
        return Err(Fault::Integrity);
    }
    let handle =
        place.module.raw.unwrap_key(place.session.handle(), mechanism(profile), place.kek.opens.handle(), payload)?;
    let object = Passing { place, object: crate::raw::object(handle) };
    match place.session.get_attributes(object.object, &[AttributeType::Value])?.into_iter().next() {
        Some(Attribute::Value(value)) => Ok(Zeroizing::new(value)),
        _ => Err(Fault::Rubbish("an unwrapped session object shows no value")),
    }
}

fn mechanism(profile: Profile) -> u64 {
    if profile == Profile::AesKwpWrapKeyPad { ck::CKM_AES_KEY_WRAP_PAD } else { ck::CKM_AES_KEY_WRAP_KWP }
}

fn sized(wrapped: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if wrapped.len() == WRAPPED { Ok(wrapped) } else { Err(Fault::Rubbish("a wrapped key has the wrong length")) }
}

/// A session object that holds a data key for the length of one call.
struct Passing<'a> {
    place: Place<'a>,
    object: ObjectHandle,
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        // If this fails the session is broken, and the object goes with it when it is closed.
        let _ = self.place.session.destroy_object(self.object);
    }
}

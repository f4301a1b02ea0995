//! A value's two layers: inside under its key's own secret, outside under the tenant's data key (docs/formats.md section 2).

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::aead::{self, NONCE};
use super::{DataKey, Error, Held, OpeningGrant, aad, derive, envelope, padding, random};
use crate::domain::{Metadata, Plaintext, SecureValueKey};

/// The inner layer's nonce. Its key seals one message ever, so a repeated commit writes the same bytes.
const INNER_NONCE: [u8; NONCE] = [0; NONCE];

/// Seals a value for the metadata it was captured with.
///
/// # Errors
/// [`Error::TooLong`] if it fits no bucket, [`Error::Random`] if there is no randomness, [`Error::Refused`] if the
/// metadata speak of another value than the key.
pub fn seal_value(
    plaintext: &Plaintext,
    key: &SecureValueKey,
    metadata: &Metadata,
    data_key: &DataKey,
) -> Result<Vec<u8>, Error> {
    seal_value_with_nonce(&random()?, plaintext, key, metadata, data_key)
}

/// Seals a value under a given outer nonce: for [`seal_value`] and for vectors.
#[expect(clippy::disallowed_methods, reason = "the text goes from its wiped buffer into a wiped buffer, to be sealed")]
pub(super) fn seal_value_with_nonce(
    nonce: &[u8; NONCE],
    plaintext: &Plaintext,
    key: &SecureValueKey,
    metadata: &Metadata,
    data_key: &DataKey,
) -> Result<Vec<u8>, Error> {
    if metadata.value_id != key.value_id() {
        return Err(Error::Refused);
    }
    let padded = padding::pad(plaintext.expose_secret())?;
    let mut inner = Vec::new();
    aead::seal_into(&mut inner, &inner_key(key), &INNER_NONCE, &aad::inner(metadata), &padded)?;
    envelope::seal_with_nonce(nonce, &data_key.sealing(aad::OUTER, 1), &aad::outer(metadata, data_key.id()), &inner)
}

/// Opens a value for the run that policy granted it to. What comes back cannot be read before the commit.
///
/// # Errors
/// [`Error::Refused`], one answer for: a grant for another value, another key, other metadata, another data key, an
/// altered record.
pub fn open_value(
    grant: OpeningGrant,
    sealed: &[u8],
    key: &SecureValueKey,
    metadata: &Metadata,
    data_key: &DataKey,
) -> Result<Held, Error> {
    if grant.value_id() != metadata.value_id || key.value_id() != metadata.value_id {
        return Err(Error::Refused);
    }
    let inner = open_outer(sealed, metadata, data_key)?;
    let padded = aead::open(&inner_key(key), &INNER_NONCE, &aad::inner(metadata), &inner)?;
    Ok(Held::new(Plaintext::new(padding::unpad(&padded)?)))
}

/// Replaces the outer layer (after `compromised`): the inner one, and so the plaintext, stays closed.
///
/// # Errors
/// [`Error::Refused`] if the old layer does not open, [`Error::Random`] if there is no randomness.
pub fn reseal_outer(sealed: &[u8], metadata: &Metadata, old: &DataKey, new: &DataKey) -> Result<Vec<u8>, Error> {
    let inner = open_outer(sealed, metadata, old)?;
    envelope::seal(&new.sealing(aad::OUTER, 1), &aad::outer(metadata, new.id()), &inner)
}

/// Whether the record is the one sealed for exactly these metadata: opens the outer layer only and gives nothing out.
///
/// # Errors
/// [`Error::Refused`] for other metadata, another data key, an altered record.
pub fn authenticate(sealed: &[u8], metadata: &Metadata, data_key: &DataKey) -> Result<(), Error> {
    open_outer(sealed, metadata, data_key).map(|_| ())
}

fn open_outer(sealed: &[u8], metadata: &Metadata, data_key: &DataKey) -> Result<Zeroizing<Vec<u8>>, Error> {
    envelope::open(&data_key.derived(aad::OUTER), &aad::outer(metadata, data_key.id()), sealed)
}

fn inner_key(key: &SecureValueKey) -> Zeroizing<[u8; 32]> {
    derive(key.secret(), key.value_id().as_bytes(), aad::INNER)
}

//! version byte ‖ nonce (12 random bytes) ‖ ciphertext ‖ tag: the form of everything sealed under a key that seals often.

use zeroize::Zeroizing;

use super::aead::{self, NONCE, TAG};
use super::{Error, LockedKey};

/// The version byte of all envelopes so far.
pub(crate) const VERSION: u8 = 1;
/// What an envelope is longer than its plaintext.
pub(crate) const OVERHEAD: usize = 1 + NONCE + TAG;

/// Seals under a fresh random nonce.
///
/// # Errors
/// [`Error::Random`] if there is no randomness, [`Error::TooLong`] above the cipher's limit.
pub(crate) fn seal(key: &[u8; 32], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    seal_with_nonce(&super::random::<NONCE>()?, key, aad, plaintext)
}

/// Seals under a given nonce: for [`seal`] and for vectors.
pub(crate) fn seal_with_nonce(
    nonce: &[u8; NONCE],
    key: &[u8; 32],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
    sealed.push(VERSION);
    sealed.extend_from_slice(nonce);
    aead::seal_into(&mut sealed, key, nonce, aad, plaintext)?;
    Ok(sealed)
}

/// Opens an envelope.
///
/// # Errors
/// [`Error::Refused`] for another version, key, AAD, length or content.
pub(crate) fn open(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (nonce, ciphertext) = parts(sealed)?;
    aead::open(key, nonce, aad, ciphertext)
}

/// Opens the envelope of a key, which lies in no other memory on its way.
///
/// # Errors
/// As [`open`], also for what is no 32 bytes long.
pub(crate) fn open_key(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<LockedKey, Error> {
    let (nonce, ciphertext) = parts(sealed)?;
    LockedKey::try_init_with(|bytes| aead::open_into(bytes, key, nonce, aad, ciphertext))
}

fn parts(sealed: &[u8]) -> Result<(&[u8; NONCE], &[u8]), Error> {
    let (version, rest) = sealed.split_first().ok_or(Error::Refused)?;
    let parts = rest.split_first_chunk::<NONCE>().ok_or(Error::Refused)?;
    if *version == VERSION { Ok(parts) } else { Err(Error::Refused) }
}

//! Sealing of short secrets under a tenant's data key: destinations' secrets, openings of the log.

use zeroize::Zeroizing;

use super::aead::NONCE;
use super::{DataKey, Error, envelope};

/// Seals bytes; `info` names the use and gives it a key of its own, `aad` says which record it is.
///
/// # Errors
/// [`Error::Random`] if there is no randomness.
pub fn seal_bytes(data_key: &DataKey, info: &'static str, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    envelope::seal(&data_key.sealing(info, 1), aad, plaintext)
}

/// Seals several texts that belong together, each with its AAD, as [`seal_bytes`] does, under fresh random `nonces`.
///
/// # Errors
/// [`Error::TooLong`] above the cipher's limit.
pub fn seal_each<const N: usize>(
    data_key: &DataKey,
    info: &'static str,
    nonces: [[u8; NONCE]; N],
    texts: [(&[u8], &[u8]); N],
) -> Result<[Vec<u8>; N], Error> {
    let key = data_key.sealing(info, N as u64);
    let mut sealed = [const { Vec::new() }; N];
    for (place, (nonce, (aad, text))) in sealed.iter_mut().zip(nonces.iter().zip(texts)) {
        *place = envelope::seal_with_nonce(nonce, &key, aad, text)?;
    }
    Ok(sealed)
}

/// Opens what [`seal_bytes`] sealed.
///
/// # Errors
/// [`Error::Refused`] for another data key, info, AAD or content.
pub fn open_bytes(
    data_key: &DataKey,
    info: &'static str,
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    envelope::open(&data_key.derived(info), aad, sealed)
}

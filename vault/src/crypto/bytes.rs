//! Sealing of short secrets under a tenant's data key: destinations' secrets, openings of the log.

use zeroize::Zeroizing;

use super::{DataKey, Error, derive, envelope};

/// Seals bytes; `info` names the use and gives it a key of its own, `aad` says which record it is.
///
/// # Errors
/// [`Error::Random`] if there is no randomness.
pub fn seal_bytes(data_key: &DataKey, info: &'static str, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    envelope::seal(&derive(data_key.bytes(), data_key.id().as_bytes(), info), aad, plaintext)
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
    envelope::open(&derive(data_key.bytes(), data_key.id().as_bytes(), info), aad, sealed)
}

//! AES-256-GCM-SIV (RFC 8452): the only place of crypto/ and keys/ that names the cipher.

use aes_gcm_siv::aead::inout::InOutBuf;
use aes_gcm_siv::{AeadInOut, Aes256GcmSiv, KeyInit, Nonce, Tag};
use zeroize::{Zeroize, Zeroizing};

use super::Error;

/// Bytes of a nonce.
pub(crate) const NONCE: usize = 12;
/// Bytes of a tag.
pub(crate) const TAG: usize = 16;

/// Appends ciphertext ‖ tag of `plaintext` to `out`.
///
/// # Errors
/// [`Error::TooLong`] above the cipher's limit of 2^36 bytes.
pub(crate) fn seal_into(
    out: &mut Vec<u8>,
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<(), Error> {
    // Reserved before the plaintext is in it: growing later would leave an unwiped copy behind.
    out.reserve_exact(plaintext.len() + TAG);
    let start = out.len();
    out.extend_from_slice(plaintext);
    let cipher = Aes256GcmSiv::new(key.into());
    match cipher.encrypt_inout_detached(&Nonce::from(*nonce), aad, InOutBuf::from(&mut out[start..])) {
        Ok(tag) => out.extend_from_slice(&tag),
        Err(_) => {
            out[start..].zeroize();
            out.truncate(start);
            return Err(Error::TooLong);
        }
    }
    Ok(())
}

/// Opens ciphertext ‖ tag.
///
/// # Errors
/// [`Error::Refused`] unless every bit of key, nonce, AAD and ciphertext is the sealed one.
pub(crate) fn open(
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut text = Zeroizing::new(vec![0; sealed.len().checked_sub(TAG).ok_or(Error::Refused)?]);
    open_into(&mut text, key, nonce, aad, sealed).map(|()| text)
}

/// The same where the plaintext shall lie; of another length than `text` it is refused.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_into(
    text: &mut [u8],
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    aad: &[u8],
    sealed: &[u8],
) -> Result<(), Error> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG>().ok_or(Error::Refused)?;
    if ciphertext.len() != text.len() {
        return Err(Error::Refused);
    }
    text.copy_from_slice(ciphertext);
    let cipher = Aes256GcmSiv::new(key.into());
    cipher
        .decrypt_inout_detached(&Nonce::from(*nonce), aad, InOutBuf::from(text), &Tag::from(*tag))
        .map_err(|_| Error::Refused)
}

#[cfg(test)]
mod tests {
    /// Compiles only while `aes/zeroize` is on: `aes-gcm-siv/zeroize` alone leaves the round keys in memory.
    #[test]
    fn round_keys_are_wiped_on_drop() {
        fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        wiped::<aes::Aes256>();
    }
}

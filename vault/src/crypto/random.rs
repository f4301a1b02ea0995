//! Bytes from the operating system's CSPRNG, and from nowhere else.

use super::Error;

/// `N` random bytes that are not secret (nonces, ids).
///
/// # Errors
/// [`Error::Random`]: there is no fallback.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

//! Bytes from the operating system's CSPRNG, and from nowhere else.

use zeroize::{Zeroize as _, Zeroizing};

use super::Error;

/// The most that is drawn ahead, in bytes.
const AHEAD: usize = 16 * 1024;

/// `N` random bytes that are not secret (nonces, ids).
///
/// # Errors
/// [`Error::Random`]: there is no fallback.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

/// Random bytes that were drawn for one piece of work, many at a time: a call of the system each is dearer than the bytes.
///
/// No byte is given out twice; what was not needed is wiped. It is not for keys, and not to be kept.
pub struct Drawn {
    bytes: Zeroizing<Vec<u8>>,
    /// What will be needed, as far as is known; nothing is drawn before it is.
    some: usize,
}

impl Drawn {
    /// For work that will need about so many bytes.
    #[must_use]
    pub fn some(bytes: usize) -> Self {
        Self { bytes: Zeroizing::new(Vec::new()), some: bytes }
    }

    /// The next `N` arrays of `M` bytes.
    ///
    /// # Errors
    /// [`Error::Random`]: there is no fallback.
    pub fn take<const M: usize, const N: usize>(&mut self) -> Result<[[u8; M]; N], Error> {
        let mut taken = [[0; M]; N];
        let flat = taken.as_flattened_mut();
        if self.bytes.len() < flat.len() {
            let drawn = self.some.clamp(flat.len(), AHEAD.max(flat.len()));
            self.bytes.clear();
            self.bytes.resize(drawn, 0);
            getrandom::fill(&mut self.bytes).map_err(|error| {
                // Nothing of it may pass for random.
                self.bytes.clear();
                Error::Random(error)
            })?;
        }
        let rest = self.bytes.len() - flat.len();
        flat.copy_from_slice(&self.bytes[rest..]);
        self.bytes[rest..].zeroize();
        self.bytes.truncate(rest);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_byte_is_given_out_twice_however_much_is_drawn_at_once() {
        for some in [0, 1, 100, 5000, 1 << 20] {
            let mut drawn = Drawn::some(some);
            let mut seen = BTreeSet::new();
            for _ in 0..600 {
                seen.extend(drawn.take::<32, 4>().unwrap());
                seen.extend(drawn.take::<12, 4>().unwrap().map(|nonce| {
                    let mut wide = [0; 32];
                    wide[..12].copy_from_slice(&nonce);
                    wide
                }));
            }
            assert_eq!(seen.len(), 600 * 8, "drawn ahead: {some}");
        }
    }
}

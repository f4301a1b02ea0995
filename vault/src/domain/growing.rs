//! A buffer that leaves no copy of what was in it where it was before it grew.

use std::io;

use zeroize::Zeroizing;

/// Bytes that may be a plaintext's. A `Vec` that grows frees the smaller one as it is; this one wipes it (promise 10), so
/// that a buffer need not be as large as the largest content from the beginning.
#[derive(Default)]
pub struct Growing(Zeroizing<Vec<u8>>);

impl Growing {
    /// An empty one with room for so many bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds bytes, in a larger buffer where this one has no room.
    pub fn extend(&mut self, more: &[u8]) {
        if self.0.capacity() - self.0.len() < more.len() {
            let mut larger = Vec::with_capacity((self.0.len() + more.len()).next_power_of_two());
            larger.extend_from_slice(&self.0);
            self.0 = Zeroizing::new(larger);
        }
        self.0.extend_from_slice(more);
    }

    /// The bytes, in the buffer they are in.
    #[must_use]
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl io::Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_in_pieces_is_there_in_order() {
        let mut growing = Growing::with_capacity(4);
        for piece in ["", "ab", "cdefg", "h"] {
            growing.extend(piece.as_bytes());
        }
        assert_eq!((growing.len(), growing.is_empty()), (8, false));
        assert_eq!(growing.into_bytes().as_slice(), b"abcdefgh");
    }
}

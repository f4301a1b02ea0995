//! Frames between host and worker: `length (u32) ‖ number (u64) ‖ fields`, each field `length (u32) ‖ bytes`, big-endian. Bounded, and wiped.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

/// Longest frame in bytes, after its length: a report of `check` is the largest.
const LONGEST: usize = 1 << 20;
/// Fields of a frame.
const FIELDS: usize = 3;

/// One message in either direction. What the fields mean is in `message`.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Pairs an answer with its request.
    pub(crate) number: u64,
    bytes: Zeroizing<Vec<u8>>,
    /// End of each field in `bytes`; a field begins 4 bytes after the end of the one before.
    ends: [usize; FIELDS],
}

impl Frame {
    /// Puts a frame together.
    pub(crate) fn new(number: u64, fields: [&[u8]; FIELDS]) -> Self {
        // Allocated once: a growing buffer would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(fields.iter().map(|f| f.len() + 4).sum()));
        let mut ends = [0; FIELDS];
        for (field, end) in fields.into_iter().zip(&mut ends) {
            bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(field);
            *end = bytes.len();
        }
        Self { number, bytes, ends }
    }

    /// One of the three fields.
    pub(crate) fn field(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start + 4..self.ends[at]]
    }

    /// Writes the frame in one call.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length = self.bytes.len() + 8;
        if length > LONGEST {
            return Err(io::Error::other("a frame is too long"));
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(length + 4));
        whole.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        whole.extend_from_slice(&self.number.to_be_bytes());
        whole.extend_from_slice(&self.bytes);
        to.write_all(&whole)?;
        to.flush()
    }

    /// Reads a frame; nothing at a clean end.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        if from.read(&mut length[..1])? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut length[1..])?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(8..=LONGEST).contains(&length) {
            return Err(malformed());
        }
        let mut number = [0; 8];
        from.read_exact(&mut number)?;
        let mut bytes = Zeroizing::new(vec![0; length - 8]);
        from.read_exact(&mut bytes)?;
        let ends = ends(&bytes).ok_or_else(malformed)?;
        Ok(Some(Self { number: u64::from_be_bytes(number), bytes, ends }))
    }
}

/// The ends of exactly three fields that fill `bytes`.
fn ends(bytes: &[u8]) -> Option<[usize; FIELDS]> {
    let mut ends = [0; FIELDS];
    let mut at = 0_usize;
    for end in &mut ends {
        let length = bytes.get(at..at.checked_add(4)?)?;
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        at = at.checked_add(4)?.checked_add(length)?;
        if at > bytes.len() {
            return None;
        }
        *end = at;
    }
    (at == bytes.len()).then_some(ends)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a frame")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_was_written(number: u64, a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
            let mut wire = Vec::new();
            Frame::new(number, [&a, &b, &c]).write(&mut wire).unwrap();
            let back = Frame::read(&mut &wire[..]).unwrap().unwrap();
            prop_assert_eq!((back.number, back.field(0), back.field(1), back.field(2)), (number, &a[..], &b[..], &c[..]));
        }

        #[test]
        fn rubbish_is_refused_and_nothing_panics(bytes: Vec<u8>) {
            if let Ok(Some(frame)) = Frame::read(&mut &bytes[..]) {
                let _ = (frame.field(0), frame.field(1), frame.field(2));
            }
        }

        #[test]
        fn a_cut_frame_is_an_error_and_not_an_end(cut in 1_usize..30) {
            let mut wire = Vec::new();
            Frame::new(1, [b"abc", b"defgh", b"ijkl"]).write(&mut wire).unwrap();
            wire.truncate(cut);
            prop_assert!(Frame::read(&mut &wire[..]).is_err());
        }
    }

    #[test]
    fn a_frame_longer_than_the_bound_is_refused_before_it_is_read() {
        let wire = u32::MAX.to_be_bytes();
        assert_eq!(Frame::read(&mut &wire[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(Frame::new(1, [&vec![0; LONGEST], b"", b""]).write(&mut Vec::new()).is_err());
    }
}

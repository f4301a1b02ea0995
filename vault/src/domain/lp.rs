//! `lp(a, b, …)`: the one way fields become bytes that are sealed, signed or hashed.

/// Concatenates the fields, each behind its length as an unsigned 32-bit big-endian number.
///
/// Two different lists of fields never give the same bytes.
#[must_use]
pub fn lp(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum());
    for field in fields {
        bytes.extend_from_slice(&lp_length(field));
        bytes.extend_from_slice(field);
    }
    bytes
}

/// What stands before a field in [`lp`]: for who hashes or writes fields one after the other.
#[must_use]
pub fn lp_length(field: &[u8]) -> [u8; 4] {
    // A field over 4 GiB cannot exist: bodies are capped at 64 KiB and documents at 1 MiB.
    u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_between_fields_cannot_be_moved() {
        assert_ne!(lp(&[b"ab", b"c"]), lp(&[b"a", b"bc"]));
        assert_eq!(lp(&[b"ab", b""]), [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0]);
    }
}

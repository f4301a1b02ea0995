//! Crockford's base32, lower case, most significant bits first, without check symbol or padding.

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Appends the text of `bytes`, whose length must be a multiple of five for there to be one spelling.
pub fn encode(bytes: &[u8], text: &mut String) {
    debug_assert!(bytes.len().is_multiple_of(5), "whole groups only");
    for group in bytes.chunks_exact(5) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for symbol in (0..8).rev() {
            text.push(char::from(ALPHABET[(bits >> (symbol * 5) & 31) as usize]));
        }
    }
}

/// Reads `text` into `bytes`; nothing unless it is the one spelling of exactly that many bytes.
#[must_use]
pub fn decode(text: &str, bytes: &mut [u8]) -> Option<()> {
    if !bytes.len().is_multiple_of(5) || text.len() != bytes.len() / 5 * 8 {
        return None;
    }
    for (symbols, group) in text.as_bytes().chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
        let mut bits = 0_u64;
        for symbol in symbols {
            bits = bits << 5 | value(*symbol)?;
        }
        group.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(())
}

/// The value of a symbol, computed without a table look-up that depends on it.
fn value(symbol: u8) -> Option<u64> {
    let found =
        ALPHABET.iter().zip(0_u64..).fold(32, |found, (letter, value)| if *letter == symbol { value } else { found });
    (found < 32).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back() {
        let mut text = String::new();
        encode(&[0, 255, 1, 254, 127, 9, 8, 7, 6, 5], &mut text);
        let mut bytes = [0; 10];
        assert_eq!(decode(&text, &mut bytes), Some(()));
        assert_eq!(bytes, [0, 255, 1, 254, 127, 9, 8, 7, 6, 5]);
        assert_eq!(decode(&text.replace('0', "o"), &mut bytes), None);
    }
}

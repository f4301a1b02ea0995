//! `secureValueKey`: the opaque reference given to the browser (docs/formats.md section 1).

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretBox};
use zeroize::Zeroizing;

use super::{Error, Timestamp, ValueId, text::crockford};

const PREFIX: &str = "svk_";
const SECRET: usize = 20;
const BYTES: usize = 16 + SECRET + 4;

/// `svk_` and 64 characters over valueId (16 bytes) ‖ secret (20) ‖ CRC-32 (4).
///
/// The secret half is kept nowhere by the vault. Debug shows the valueId only; there is no Display.
pub struct SecureValueKey {
    value_id: ValueId,
    secret: SecretBox<[u8; SECRET]>,
}

impl SecureValueKey {
    /// A new key; its secret comes from the operating system's CSPRNG.
    ///
    /// # Errors
    /// The system's generator failed: there is no fallback.
    pub fn generate(now: Timestamp) -> Result<Self, getrandom::Error> {
        // Both halves in one call of the system: it is dearer than the bytes.
        let mut random = Zeroizing::new([0; SECRET + 10]);
        getrandom::fill(&mut *random)?;
        let mut id = [0; 10];
        id.copy_from_slice(&random[SECRET..]);
        let secret = SecretBox::init_with_mut(|place: &mut [u8; SECRET]| place.copy_from_slice(&random[..SECRET]));
        Ok(Self { value_id: ValueId::of(now, &id), secret })
    }

    /// Puts a key together from its parts; for test vectors.
    #[must_use]
    pub fn from_parts(value_id: ValueId, secret: [u8; SECRET]) -> Self {
        Self { value_id, secret: SecretBox::new(Box::new(secret)) }
    }

    /// The public half.
    #[must_use]
    pub const fn value_id(&self) -> ValueId {
        self.value_id
    }

    /// The secret half, for deriving the inner key and the verifier.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the secret half is the input of HKDF in crypto/")]
    pub fn secret(&self) -> &[u8; SECRET] {
        self.secret.expose_secret()
    }

    /// The text to give to the browser, once.
    #[must_use]
    pub fn reveal_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0_u8; BYTES]);
        bytes[..16].copy_from_slice(self.value_id.as_bytes());
        bytes[16..36].copy_from_slice(self.secret());
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_be_bytes());
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 64));
        text.push_str(PREFIX);
        crockford::encode(&bytes[..], &mut text);
        text
    }
}

impl FromStr for SecureValueKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let body = text.strip_prefix(PREFIX).ok_or(Error::SecureValueKey)?;
        let mut bytes = Zeroizing::new([0_u8; BYTES]);
        crockford::decode(body, &mut bytes[..]).ok_or(Error::SecureValueKey)?;
        if crc32fast::hash(&bytes[..36]).to_be_bytes() != bytes[36..] {
            return Err(Error::SecureValueKey);
        }
        let value_id = ValueId::from_slice(&bytes[..16]).map_err(|_| Error::SecureValueKey)?;
        // Version 7 and the RFC 9562 variant: anything else was never given out.
        if bytes[6] >> 4 != 7 || bytes[8] >> 6 != 0b10 {
            return Err(Error::SecureValueKey);
        }
        let secret = SecretBox::init_with_mut(|secret: &mut [u8; SECRET]| secret.copy_from_slice(&bytes[16..36]));
        Ok(Self { value_id, secret })
    }
}

impl fmt::Debug for SecureValueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecureValueKey({}, …)", self.value_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        let key = SecureValueKey::generate(Timestamp::from_millis(1_795_489_236_007)).unwrap();
        let text = key.reveal_text();
        assert_eq!(text.len(), 68);
        let again: SecureValueKey = text.parse().unwrap();
        assert_eq!(again.secret(), key.secret());
        assert!(text.to_uppercase().parse::<SecureValueKey>().is_err());
        assert!(format!("{} ", *text).parse::<SecureValueKey>().is_err());
        assert!(text[..67].parse::<SecureValueKey>().is_err());
    }

    #[test]
    fn a_mistyped_character_is_refused() {
        let text = SecureValueKey::generate(Timestamp::from_millis(1)).unwrap().reveal_text();
        for at in 4..text.len() {
            let mut wrong = text.to_string().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            assert!(std::str::from_utf8(&wrong).unwrap().parse::<SecureValueKey>().is_err());
        }
    }

    #[test]
    fn secrets_are_random_and_never_repeat() {
        const KEYS: usize = 1_000_000;
        let now = Timestamp::from_millis(1_795_489_236_007);
        let mut secrets = std::collections::HashSet::with_capacity(KEYS);
        let mut ids = std::collections::HashSet::with_capacity(KEYS);
        let (mut ones, mut bytes) = ([0_usize; 160], [0_usize; 256]);
        for _ in 0..KEYS {
            let key = SecureValueKey::generate(now).unwrap();
            for (at, byte) in key.secret().iter().enumerate() {
                bytes[usize::from(*byte)] += 1;
                (0..8).for_each(|bit| ones[at * 8 + bit] += usize::from(byte >> bit & 1));
            }
            secrets.insert(*key.secret());
            ids.insert(key.value_id());
        }
        assert_eq!((secrets.len(), ids.len()), (KEYS, KEYS));
        // Monobit: each of the 160 bits is one half of the time, within seven standard deviations (500 each).
        for (bit, ones) in ones.iter().enumerate() {
            assert!(ones.abs_diff(KEYS / 2) < 7 * 500, "bit {bit}: {ones}");
        }
        // Chi-square over the byte values: 255 degrees of freedom, so 255 ± 22.6; beyond 425 once in 10^10 runs.
        let expected = (KEYS * 20 / 256) as f64;
        let chi: f64 = bytes.iter().map(|seen| (*seen as f64 - expected).powi(2) / expected).sum();
        assert!((115.0..425.0).contains(&chi), "{chi}");
    }

    #[test]
    fn no_key_looks_like_a_card_number() {
        let now = Timestamp::from_millis(1_795_489_236_007);
        for _ in 0..10_000 {
            let text = SecureValueKey::generate(now).unwrap().reveal_text();
            assert!(text.starts_with("svk_") && text.bytes().any(|b| b.is_ascii_alphabetic()));
            // Letters first, and 68 characters: no shape a card number has, nor one after blanks and dashes are taken out.
            assert_eq!((text.len(), text.contains([' ', '-'])), (68, false));
        }
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let key = SecureValueKey::from_parts(ValueId::generate(Timestamp::from_millis(1)), [7; 20]);
        assert!(!format!("{key:?}").contains(&key.reveal_text()[30..]));
    }

    #[test]
    fn a_damaged_key_is_refused() {
        let whole = SecureValueKey::generate(Timestamp::from_millis(1_795_489_236_007)).unwrap().reveal_text();
        let flipped = (0..whole.len() * 8).map(|bit| {
            let mut flipped = whole.as_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        });
        let cut = (0..whole.len()).map(|length| whole.as_bytes()[..length].to_vec());
        let extended = ["0", " ", "\0", &whole[4..]].map(|more| format!("{}{more}", *whole).into_bytes());
        // Bytes that are no text reach no parser.
        for damaged in flipped.chain(cut).chain(extended).filter_map(|bytes| String::from_utf8(bytes).ok()) {
            assert!(damaged.parse::<SecureValueKey>().is_err());
        }
    }
}

//! What kind of key may serve as a KEK, and of which size.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of key a KEK is. As text `aes256`, or `rsa` and the bits of the modulus, as in `rsa3072`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum KekKind {
    /// A secret AES key of 256 bits.
    Aes256,
    /// An RSA key pair.
    Rsa(RsaSize),
}

/// The size of an RSA key that may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RsaSize(u16);

/// A size that no KEK may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a KEK is an AES key of 256 bits, or an RSA pair of {} to {} bits in steps of 64",
    RsaSize::LEAST,
    RsaSize::MOST
)]
pub struct UnfitKind;

impl KekKind {
    /// An RSA key pair of 3072 bits: what is made where nobody says otherwise.
    pub const RSA_3072: Self = Self::Rsa(RsaSize(3072));

    /// Length of a modulus in bytes; absent for AES.
    pub(crate) fn modulus(self) -> Option<usize> {
        match self {
            Self::Aes256 => None,
            Self::Rsa(RsaSize(bits)) => Some(usize::from(bits) / 8),
        }
    }
}

impl RsaSize {
    /// Fewer bits would last less long than what they protect (NIST SP 800-57: 3072 for 128 bits of strength).
    const LEAST: u16 = 3072;
    /// A bound to what a module can make us set aside for one wrapped key, and to how long one unwrap takes.
    pub(crate) const MOST: u16 = 8192;

    /// The size of a modulus, big-endian: counted from its highest bit, so that zeros in front make no larger key of it.
    pub(crate) fn of(modulus: &[u8]) -> Option<Self> {
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let first = modulus.get(zeros)?;
        let bits = (modulus.len() - zeros) * 8 - first.leading_zeros() as usize;
        Self::try_from(u16::try_from(bits).ok()?).ok()
    }
}

impl TryFrom<u16> for RsaSize {
    type Error = UnfitKind;

    fn try_from(bits: u16) -> Result<Self, UnfitKind> {
        let may = (Self::LEAST..=Self::MOST).contains(&bits) && bits.is_multiple_of(64);
        if may { Ok(Self(bits)) } else { Err(UnfitKind) }
    }
}

impl fmt::Display for KekKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aes256 => f.write_str("aes256"),
            Self::Rsa(RsaSize(bits)) => write!(f, "rsa{bits}"),
        }
    }
}

impl FromStr for KekKind {
    type Err = UnfitKind;

    fn from_str(text: &str) -> Result<Self, UnfitKind> {
        if text == "aes256" {
            return Ok(Self::Aes256);
        }
        let bits = text.strip_prefix("rsa").and_then(|bits| bits.parse::<u16>().ok()).ok_or(UnfitKind)?;
        RsaSize::try_from(bits).map(Self::Rsa)
    }
}

impl From<KekKind> for String {
    fn from(kind: KekKind) -> Self {
        kind.to_string()
    }
}

impl TryFrom<String> for KekKind {
    type Error = UnfitKind;

    fn try_from(text: String) -> Result<Self, UnfitKind> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rsa_key_may_have_3072_to_8192_bits_in_steps_of_64() {
        for bytes in [384, 392, 512, 640, 1024] {
            let size = RsaSize::of(&vec![0x80; bytes]).map(|size| usize::from(size.0));
            assert_eq!(size, Some(bytes * 8));
        }
        for bytes in [0, 256, 376, 383, 385, 388, 1023, 1032, 8192, 100_000] {
            assert_eq!(RsaSize::of(&vec![0x80; bytes]), None, "{bytes}");
        }
    }

    #[test]
    fn zeros_in_front_are_no_bits_of_a_key() {
        assert_eq!(RsaSize::of(&[vec![0; 8], vec![0xff; 384]].concat()), Some(RsaSize(3072)));
        assert_eq!(RsaSize::of(&[vec![0; 128], vec![0xff; 256]].concat()), None);
        assert_eq!(RsaSize::of(&[vec![0x7f], vec![0xff; 383]].concat()), None, "3071 bits");
    }

    #[test]
    fn a_kind_reads_as_it_is_written_and_no_other_size_reads() {
        for kind in ["aes256", "rsa3072", "rsa4096", "rsa5120", "rsa8192"] {
            assert_eq!(kind.parse::<KekKind>().unwrap().to_string(), kind);
            let json = serde_json::to_string(&kind.parse::<KekKind>().unwrap()).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
        }
        for none in ["aes128", "rsa", "rsa2048", "rsa3100", "rsa8256", "rsa65536", "RSA3072", ""] {
            assert_eq!(none.parse::<KekKind>(), Err(UnfitKind), "{none}");
        }
    }
}

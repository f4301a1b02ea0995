//! How 32 bytes of a data key are wrapped under a KEK. A profile is found once by execution, pinned per KEK version, and never changed silently.
//!
//! Wrapped bytes are `version (1) ‖ profile (1) ‖ payload`. Where the mechanism authenticates further data, that is the context; where it
//! does not, `key (32) ‖ SHA-256(context) (32)` is wrapped and the second half compared in constant time when it comes back.

mod gcm;
mod kwp;
mod oaep;
mod probe;
mod public;

use std::fmt;
use std::str::FromStr;

use cryptoki::session::Session;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub(crate) use gcm::accepts_zero_iv;
pub use probe::{ProbeReport, Trial};
pub(crate) use probe::{of_kind, probe, round_trip, try_out};
pub use public::PublicKek;

use crate::error::HsmError;
use crate::failure::Fault;
use crate::kek::Kek;
use crate::kek_kind::{KekKind, RsaSize};
use crate::module::Module;
use crate::uri::KekSelector;

/// A way of wrapping. Its text form is what a KEK record pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Profile {
    /// `rsa-oaep-sha256`: RSA of 3072 bits and more, MGF1 with SHA-256, empty label.
    RsaOaepSha256,
    /// `aes-gcm-application-iv`: a random IV of this crate's, 12 bytes.
    AesGcmApplicationIv,
    /// `aes-gcm-module-iv`: the module writes its IV into the parameter (CloudHSM, Luna in FIPS mode).
    AesGcmModuleIv,
    /// `aes-gcm-appended-iv`: the module appends its IV to the ciphertext (other set-ups of Luna).
    AesGcmAppendedIv,
    /// `aes-kwp`: RFC 5649 by `C_Encrypt` with `CKM_AES_KEY_WRAP_KWP`.
    AesKwp,
    /// `aes-kwp-wrap-key`: the same by `C_WrapKey` and `C_UnwrapKey` of a session object.
    AesKwpWrapKey,
    /// `aes-kwp-wrap-key-pad`: the same under `CKM_AES_KEY_WRAP_PAD`, which is RFC 5649 on SoftHSM.
    AesKwpWrapKeyPad,
    /// `test-rsa-oaep-sha1`: for tests on SoftHSM 2.6.1, which has no other hash. Refused for every other manufacturer's token.
    TestRsaOaepSha1,
}

/// A KEK and the profile pinned to it: what a KEK version is to this crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekRef {
    /// Label, id or both.
    pub selector: KekSelector,
    /// The pinned profile.
    pub profile: Profile,
}

/// 32 bytes of a data key, wiped on drop.
pub type KeyBytes = Zeroizing<[u8; 32]>;

/// Longest context in bytes.
pub const LONGEST_CONTEXT: usize = 1024;
/// Longest wrapped key in bytes: that of the largest RSA key, and a header.
pub const LONGEST_WRAPPED: usize = RsaSize::MOST as usize / 8 + 2;

/// All profiles in the order they are preferred (the test profile is last), with text form and the byte in wrapped keys.
const ALL: [(Profile, &str, u8); 8] = [
    (Profile::RsaOaepSha256, "rsa-oaep-sha256", 1),
    (Profile::AesGcmApplicationIv, "aes-gcm-application-iv", 2),
    (Profile::AesGcmModuleIv, "aes-gcm-module-iv", 3),
    (Profile::AesGcmAppendedIv, "aes-gcm-appended-iv", 4),
    (Profile::AesKwp, "aes-kwp", 5),
    (Profile::AesKwpWrapKey, "aes-kwp-wrap-key", 6),
    (Profile::AesKwpWrapKeyPad, "aes-kwp-wrap-key-pad", 7),
    (Profile::TestRsaOaepSha1, "test-rsa-oaep-sha1", 255),
];
const VERSION: u8 = 1;

/// Where a wrap happens: a logged-in session of a module, and the KEK found in it.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) module: &'a Module,
    pub(crate) session: &'a Session,
    pub(crate) kek: Kek,
}

impl Profile {
    fn row(self) -> (&'static str, u8) {
        ALL.iter().find(|(p, _, _)| *p == self).map_or(("", 0), |(_, text, byte)| (text, *byte))
    }

    /// True if a KEK of this kind can be used so.
    pub(crate) fn fits(self, kind: KekKind) -> bool {
        matches!(self, Self::RsaOaepSha256 | Self::TestRsaOaepSha1) == (kind != KekKind::Aes256)
    }

    /// True if the mechanism itself binds further data.
    pub(crate) fn has_aad(self) -> bool {
        matches!(self, Self::AesGcmApplicationIv | Self::AesGcmModuleIv | Self::AesGcmAppendedIv)
    }

    /// Wraps `key` bound to `context`.
    pub(crate) fn wrap(self, place: Place<'_>, key: &[u8; 32], context: &[u8]) -> Result<Vec<u8>, Fault> {
        self.must_fit(place.kek.kind)?;
        let payload = match self {
            Self::RsaOaepSha256 | Self::TestRsaOaepSha1 => oaep::wrap(self, place, &with_digest(key, context))?,
            Self::AesGcmApplicationIv | Self::AesGcmModuleIv | Self::AesGcmAppendedIv => {
                gcm::wrap(self, place, key, context)?
            }
            Self::AesKwp => kwp::encrypt(place, &with_digest(key, context))?,
            Self::AesKwpWrapKey | Self::AesKwpWrapKeyPad => kwp::wrap_key(self, place, &with_digest(key, context))?,
        };
        Ok([&header(self)[..], &payload].concat())
    }

    /// Wraps, and gives out only what unwraps to the same key: a value sealed under a data key that does not come back would be lost.
    pub(crate) fn wrap_checked(self, place: Place<'_>, key: &[u8; 32], context: &[u8]) -> Result<Vec<u8>, Fault> {
        let wrapped = self.wrap(place, key, context)?;
        match self.unwrap(place, &wrapped, context) {
            Ok(back) if bool::from(back[..].ct_eq(&key[..])) => Ok(wrapped),
            Ok(_) | Err(Fault::Integrity) => {
                Err(Fault::Rubbish("what the module wrapped does not unwrap to the same key"))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Unwraps what [`Self::wrap`] made with the same context. Altered bytes are [`Fault::Integrity`] or the module's own code.
    pub(crate) fn unwrap(self, place: Place<'_>, wrapped: &[u8], context: &[u8]) -> Result<KeyBytes, Fault> {
        self.must_fit(place.kek.kind)?;
        let payload = wrapped.strip_prefix(&header(self)).ok_or(Fault::Integrity)?;
        match self {
            Self::RsaOaepSha256 | Self::TestRsaOaepSha1 => split(&oaep::unwrap(self, place, payload)?, context),
            Self::AesGcmApplicationIv | Self::AesGcmModuleIv | Self::AesGcmAppendedIv => {
                gcm::unwrap(self, place, payload, context)
            }
            Self::AesKwp => split(&kwp::decrypt(place, payload)?, context),
            Self::AesKwpWrapKey | Self::AesKwpWrapKeyPad => split(&kwp::unwrap_key(self, place, payload)?, context),
        }
    }

    fn must_fit(self, kind: KekKind) -> Result<(), Fault> {
        if self.fits(kind) { Ok(()) } else { Err(HsmError::KekUnfit(format!("its kind does not do {self}")).into()) }
    }
}

/// What stands before the payload.
fn header(profile: Profile) -> [u8; 2] {
    [VERSION, profile.row().1]
}

/// `key ‖ SHA-256(context)`.
fn with_digest(key: &[u8; 32], context: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut both = Zeroizing::new([0; 64]);
    both[..32].copy_from_slice(key);
    both[32..].copy_from_slice(&Sha256::digest(context));
    both
}

/// The key of `key ‖ SHA-256(context)`, if the second half is this context's.
fn split(both: &[u8], context: &[u8]) -> Result<KeyBytes, Fault> {
    let digest = Sha256::digest(context);
    if both.len() != 64 || !bool::from(both[32..].ct_eq(&digest)) {
        return Err(Fault::Integrity);
    }
    let mut key = KeyBytes::default();
    key.copy_from_slice(&both[..32]);
    Ok(key)
}

pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Fault> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut bytes[..])
        .map_err(|_| HsmError::Unavailable("the operating system gives no random bytes".to_owned()))?;
    Ok(bytes)
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().0)
    }
}

impl FromStr for Profile {
    type Err = HsmError;

    fn from_str(text: &str) -> Result<Self, HsmError> {
        ALL.iter()
            .find(|(_, name, _)| *name == text)
            .map(|(profile, _, _)| *profile)
            .ok_or_else(|| HsmError::Configuration("an unknown wrap profile".to_owned()))
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.to_string()
    }
}

impl TryFrom<String> for Profile {
    type Error = HsmError;

    fn try_from(text: String) -> Result<Self, HsmError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_its_text_and_its_byte() {
        for (at, (profile, text, byte)) in ALL.iter().enumerate() {
            assert_eq!(text.parse::<Profile>().unwrap(), *profile);
            assert_eq!(profile.to_string(), *text);
            assert!(ALL[..at].iter().all(|(_, _, other)| other != byte));
        }
        assert!("aes-gcm".parse::<Profile>().is_err());
    }

    #[test]
    fn a_key_under_another_context_does_not_come_out() {
        let both = with_digest(&[7; 32], b"context");
        assert_eq!(split(&both[..], b"context").unwrap()[..], [7; 32]);
        assert!(matches!(split(&both[..], b"Context"), Err(Fault::Integrity)));
        assert!(matches!(split(&both[..63], b"context"), Err(Fault::Integrity)));
    }
}

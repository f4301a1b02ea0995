//! The public half of an RSA KEK, for wrapping without the HSM: a new data key can be wrapped while the HSM is away. Unwrapping needs it.

use std::fmt;

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{KeyBytes, LONGEST_CONTEXT, Profile, header, with_digest};
use crate::error::HsmError;
use crate::kek::hex;
use crate::kek_kind::RsaSize;

/// A public key as its token gave it at onboarding. A caller keeps it authenticated: who can exchange it can read what is wrapped to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicKek {
    /// Big-endian, without leading zeros.
    modulus: Vec<u8>,
    /// Big-endian, without leading zeros.
    exponent: Vec<u8>,
}

impl PublicKek {
    pub(crate) fn new(modulus: &[u8], exponent: &[u8]) -> Self {
        let bare = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
        Self { modulus: bare(modulus), exponent: bare(exponent) }
    }

    /// SHA-256 of modulus and exponent in hexadecimal: the KEK's check value.
    #[must_use]
    pub fn check_value(&self) -> String {
        hex(&Sha256::new().chain_update(&self.modulus).chain_update(&self.exponent).finalize())
    }

    /// Wraps `key` bound to `context`, as [`crate::Host::wrap`] does with [`Profile::RsaOaepSha256`]; that host unwraps it.
    ///
    /// It says nothing about who wrapped: a caller authenticates what is wrapped by other means. Unlike the host's, it was not unwrapped to
    /// see whether it comes back.
    ///
    /// # Errors
    /// [`HsmError::KekUnfit`] if this is no public key of 3072 to 8192 bits, [`HsmError::Refused`] if the context is too long.
    pub fn wrap(&self, key: &KeyBytes, context: &[u8]) -> Result<Vec<u8>, HsmError> {
        if context.len() > LONGEST_CONTEXT {
            return Err(HsmError::Refused("a context has at most 1024 bytes".to_owned()));
        }
        let unfit = || HsmError::KekUnfit("its public half is no RSA key of 3072 to 8192 bits".to_owned());
        RsaSize::of(&self.modulus).ok_or_else(unfit)?;
        let components = PublicKeyComponents { n: &self.modulus[..], e: &self.exponent[..] };
        let public: PublicEncryptingKey = components.try_into().map_err(|_| unfit())?;
        let public = OaepPublicEncryptingKey::new(public).map_err(|_| unfit())?;
        let mut payload = vec![0; self.modulus.len()];
        let both = with_digest(key, context);
        let wrapped = public.encrypt(&OAEP_SHA256_MGF1SHA256, &both[..], &mut payload, None).map_err(|_| unfit())?;
        Ok([&header(Profile::RsaOaepSha256)[..], wrapped].concat())
    }
}

impl fmt::Debug for PublicKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKek({} bits, {})", self.modulus.len() * 8, self.check_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::LONGEST_WRAPPED;

    #[test]
    fn what_is_no_strong_public_key_is_refused() {
        let key = KeyBytes::default();
        for (modulus, exponent) in [
            (vec![], vec![1, 0, 1]),
            (vec![0xff; 256], vec![1, 0, 1]),
            (vec![0xff; 385], vec![1, 0, 1]),
            (vec![0xff; 1032], vec![1, 0, 1]),
            (vec![0xff; 384], vec![]),
            (vec![0xff; 384], vec![2]),
        ] {
            assert!(
                matches!(PublicKek::new(&modulus, &exponent).wrap(&key, b""), Err(HsmError::KekUnfit(_))),
                "{}",
                modulus.len()
            );
        }
    }

    #[test]
    fn a_key_is_wrapped_to_a_modulus_of_any_size_that_may_serve() {
        for bytes in [384, 392, 512, 640, 1024] {
            let wrapped = PublicKek::new(&vec![0xff; bytes], &[1, 0, 1]).wrap(&KeyBytes::default(), b"").unwrap();
            assert_eq!(wrapped.len(), bytes + 2);
            assert!(wrapped.len() <= LONGEST_WRAPPED);
        }
    }

    #[test]
    fn leading_zeros_do_not_make_it_another_key() {
        assert_eq!(PublicKek::new(&[0, 7, 0], &[0, 0, 3]), PublicKek::new(&[7, 0], &[3]));
    }
}

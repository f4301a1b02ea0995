//! What the frame sealed to the tenant's key of the day: HPKE base mode (RFC 9180; docs/formats.md section 6).

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{DataKey, Error, aad, open_bytes, padding, random, seal_bytes};
use crate::domain::{AppName, CaptureSessionId, FieldName};

/// The version byte of a sealed capture: P-256, HKDF-SHA256, AES-256-GCM.
pub const SEALED_CAPTURE_VERSION: u8 = 1;
const INFO: &str = "siv/v1/capture-private";
const SCALAR: usize = 32;
const ENC: usize = 65;
const TAG: usize = 16;
/// Of 2^32 random scalars one is none of the curve's order: so often in a row means that they are not random.
const DRAWS: usize = 4;

/// A tenant's capture key pair of one day. The private half is wiped on drop.
pub struct CaptureKeyPair {
    key_id: [u8; 16],
    private: HpkePrivateKey,
    public: [u8; ENC],
}

impl CaptureKeyPair {
    /// A new pair.
    ///
    /// # Errors
    /// [`Error::Random`] if there is no randomness.
    pub fn generate() -> Result<Self, Error> {
        let key_id = random()?;
        let mut drawn = Err(Error::Refused);
        for _ in 0..DRAWS {
            let mut scalar = Zeroizing::new([0; SCALAR]);
            getrandom::fill(&mut scalar[..]).map_err(Error::Random)?;
            drawn = Self::from_private(key_id, &scalar);
            if drawn.is_ok() {
                break;
            }
        }
        drawn
    }

    /// The public half always comes from the private one, never from storage.
    pub(super) fn from_private(key_id: [u8; 16], scalar: &[u8; SCALAR]) -> Result<Self, Error> {
        let own = agreement::PrivateKey::from_private_key(&ECDH_P256, scalar).map_err(|_| Error::Refused)?;
        let public = own.compute_public_key().map_err(|_| Error::Refused)?;
        let public = public.as_ref().try_into().map_err(|_| Error::Refused)?;
        Ok(Self { key_id, private: HpkePrivateKey::from(scalar.to_vec()), public })
    }

    /// Its id: 16 random bytes.
    #[must_use]
    pub const fn key_id(&self) -> [u8; 16] {
        self.key_id
    }

    /// The public half: an uncompressed point of P-256.
    #[must_use]
    pub const fn public_bytes(&self) -> [u8; ENC] {
        self.public
    }

    /// Seals the private half under the data key of class `capture`.
    ///
    /// # Errors
    /// [`Error::Random`] if there is no randomness.
    pub fn seal_private(&self, data_key: &DataKey, aad: &[u8]) -> Result<Vec<u8>, Error> {
        seal_bytes(data_key, INFO, &private_aad(&self.key_id, aad), self.private.secret_bytes())
    }

    /// Opens a stored private half.
    ///
    /// # Errors
    /// [`Error::Refused`] for another key id, data key, AAD or content.
    pub fn open_private(key_id: [u8; 16], data_key: &DataKey, aad: &[u8], sealed: &[u8]) -> Result<Self, Error> {
        let bytes = open_bytes(data_key, INFO, &private_aad(&key_id, aad), sealed)?;
        let scalar: &[u8; SCALAR] = bytes[..].try_into().map_err(|_| Error::Refused)?;
        Self::from_private(key_id, scalar)
    }

    /// Opens version ‖ keyId ‖ enc ‖ ciphertext; gives the text and SHA-256(enc), which may be used once a session.
    ///
    /// # Errors
    /// [`Error::Refused`], one answer for every failure: version, key, length, curve point, tag, padding, encoding.
    pub fn open(
        &self,
        sealed: &[u8],
        app: &AppName,
        session: CaptureSessionId,
        field: &FieldName,
    ) -> Result<(Zeroizing<String>, [u8; 32]), Error> {
        let (head, rest) = sealed.split_first_chunk::<17>().ok_or(Error::Refused)?;
        let (enc, rest) = rest.split_first_chunk::<ENC>().ok_or(Error::Refused)?;
        let padded_length = rest.len().checked_sub(TAG).ok_or(Error::Refused)?;
        if head[0] != SEALED_CAPTURE_VERSION || head[1..] != self.key_id || !padding::BUCKETS.contains(&padded_length) {
            return Err(Error::Refused);
        }
        let info = aad::capture(&self.key_id, app, session, field);
        let enc_bytes = EncapsulatedSecret(enc.to_vec());
        let mut context = SUITE.setup_opener(&enc_bytes, &info, &self.private).map_err(|_| Error::Refused)?;
        let padded = Zeroizing::new(context.open(&[], rest).map_err(|_| Error::Refused)?);
        Ok((padding::unpad(&padded)?, Sha256::digest(enc).into()))
    }
}

impl fmt::Debug for CaptureKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptureKeyPair(…)")
    }
}

/// Which private half a stored one is, whatever else its row says.
fn private_aad(key_id: &[u8; 16], aad: &[u8]) -> Vec<u8> {
    crate::domain::lp(&[key_id, aad])
}

/// Seals a text as the frame does: for tests and the benchmark.
///
/// # Errors
/// [`Error::TooLong`] if it fits no bucket, [`Error::Refused`] if the public key is none.
pub fn seal_capture(
    public: &[u8; ENC],
    key_id: &[u8; 16],
    app: &AppName,
    session: CaptureSessionId,
    field: &FieldName,
    text: &str,
) -> Result<Vec<u8>, Error> {
    let mut padded = padding::pad(text)?;
    let info = aad::capture(key_id, app, session, field);
    let public = HpkePublicKey(public.to_vec());
    let (enc, mut context) = SUITE.setup_sealer(&info, &public).map_err(|_| Error::Refused)?;
    let ciphertext = context.seal(&[], &padded).map_err(|_| Error::Refused)?;
    let sealed = [&[SEALED_CAPTURE_VERSION][..], key_id, &enc.0, &ciphertext].concat();
    padded.zeroize();
    Ok(sealed)
}

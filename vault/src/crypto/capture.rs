//! What the frame sealed to the tenant's key of the day: HPKE base mode (RFC 9180; docs/formats.md section 6).

use std::fmt;

use hpke::aead::{AeadTag, AesGcm256};
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{DataKey, Error, aad, open_bytes, padding, random, seal_bytes};
use crate::domain::{AppName, CaptureSessionId, FieldName};

/// The version byte of a sealed capture: P-256, HKDF-SHA256, AES-256-GCM.
pub const SEALED_CAPTURE_VERSION: u8 = 1;
const INFO: &str = "siv/v1/capture-private";
const ENC: usize = 65;
const TAG: usize = 16;

type PrivateKey = <DhP256HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <DhP256HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <DhP256HkdfSha256 as Kem>::EncappedKey;

/// A tenant's capture key pair of one day. The private half is wiped on drop.
pub struct CaptureKeyPair {
    key_id: [u8; 16],
    private: PrivateKey,
    public: [u8; ENC],
}

impl CaptureKeyPair {
    /// A new pair.
    ///
    /// # Errors
    /// [`Error::Random`] if there is no randomness.
    pub fn generate() -> Result<Self, Error> {
        // Not `gen_keypair`, which panics when the system has no randomness.
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut seed[..]).map_err(Error::Random)?;
        let (private, _) = DhP256HkdfSha256::derive_keypair(&seed[..]);
        Ok(Self::from_private(random()?, private))
    }

    /// The public half always comes from the private one, never from storage.
    pub(super) fn from_private(key_id: [u8; 16], private: PrivateKey) -> Self {
        let mut public = [0; ENC];
        DhP256HkdfSha256::sk_to_pk(&private).write_exact(&mut public);
        Self { key_id, private, public }
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
        let mut bytes = Zeroizing::new([0_u8; 32]);
        self.private.write_exact(&mut bytes[..]);
        seal_bytes(data_key, INFO, &private_aad(&self.key_id, aad), &bytes[..])
    }

    /// Opens a stored private half.
    ///
    /// # Errors
    /// [`Error::Refused`] for another key id, data key, AAD or content.
    pub fn open_private(key_id: [u8; 16], data_key: &DataKey, aad: &[u8], sealed: &[u8]) -> Result<Self, Error> {
        let bytes = open_bytes(data_key, INFO, &private_aad(&key_id, aad), sealed)?;
        let private = PrivateKey::from_bytes(&bytes).map_err(|_| Error::Refused)?;
        Ok(Self::from_private(key_id, private))
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
        let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(Error::Refused)?;
        if head[0] != SEALED_CAPTURE_VERSION
            || head[1..] != self.key_id
            || !padding::BUCKETS.contains(&ciphertext.len())
        {
            return Err(Error::Refused);
        }
        let point = EncappedKey::from_bytes(enc).map_err(|_| Error::Refused)?;
        let tag = AeadTag::<AesGcm256>::from_bytes(tag).map_err(|_| Error::Refused)?;
        let info = aad::capture(&self.key_id, app, session, field);
        let mut padded = Zeroizing::new(ciphertext.to_vec());
        let mut context = hpke::setup_receiver::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &point,
            &info,
        )
        .map_err(|_| Error::Refused)?;
        context.open_inout_detached(InOutBuf::from(&mut padded[..]), &[], &tag).map_err(|_| Error::Refused)?;
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
    let public = PublicKey::from_bytes(public).map_err(|_| Error::Refused)?;
    let info = aad::capture(key_id, app, session, field);
    let (enc, mut context) =
        hpke::setup_sender::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(&OpModeS::Base, &public, &info)
            .map_err(|_| Error::Refused)?;
    let tag = context.seal_inout_detached(InOutBuf::from(&mut padded[..]), &[]).map_err(|_| Error::Refused)?;
    let sealed = [&[SEALED_CAPTURE_VERSION][..], key_id, &enc.to_bytes(), &padded, &tag.to_bytes()].concat();
    padded.zeroize();
    Ok(sealed)
}

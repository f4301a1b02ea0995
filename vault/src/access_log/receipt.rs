//! Receipts: what a caller holds in the hand from the answer on, and what the log must hold for ever.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};

use super::position::POSITION_BYTES;
use super::{Certificate, Error, Position};
use crate::domain::{Realm, TenantName, lp};

const PREFIX: &str = "siv-receipt.1.";
const BYTES: usize = POSITION_BYTES + 32 + 64;

/// Lane position ‖ leaf hash, signed by the node's key.
///
/// Text: `siv-receipt.1.` and base64url of position (28 bytes) ‖ leaf hash (32) ‖ signature (64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where the entry stands before it has an index.
    pub position: Position,
    /// RFC 6962 hash of its leaf.
    pub leaf_hash: [u8; 32],
    /// The node's signature.
    pub signature: [u8; 64],
}

impl Receipt {
    /// What is signed: lp(`siv/v1/receipt`, realm, tenant, position, leaf hash).
    #[must_use]
    pub fn signed_bytes(realm: &Realm, tenant: &TenantName, position: &Position, leaf_hash: &[u8; 32]) -> Vec<u8> {
        lp(&[b"siv/v1/receipt", realm.as_bytes(), tenant.as_bytes(), &position.to_bytes(), leaf_hash])
    }

    /// Whether the certified boot gave it out for an entry of this tenant.
    ///
    /// # Errors
    /// [`Error::Signature`] if it did not.
    pub fn verify(&self, tenant: &TenantName, certificate: &Certificate) -> Result<(), Error> {
        if certificate.boot != self.position.boot {
            return Err(Error::Signature);
        }
        let bytes = Self::signed_bytes(&certificate.realm, tenant, &self.position, &self.leaf_hash);
        certificate.verify(&bytes, &self.signature)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; BYTES];
        bytes[..POSITION_BYTES].copy_from_slice(&self.position.to_bytes());
        bytes[POSITION_BYTES..POSITION_BYTES + 32].copy_from_slice(&self.leaf_hash);
        bytes[POSITION_BYTES + 32..].copy_from_slice(&self.signature);
        write!(f, "{PREFIX}{}", Base64UrlUnpadded::encode_string(&bytes))
    }
}

impl FromStr for Receipt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let body = text.strip_prefix(PREFIX).ok_or(Error::Receipt)?;
        let bytes = Base64UrlUnpadded::decode_vec(body).map_err(|_| Error::Receipt)?;
        let (position, rest) = bytes.split_first_chunk::<POSITION_BYTES>().ok_or(Error::Receipt)?;
        let (leaf_hash, rest) = rest.split_first_chunk::<32>().ok_or(Error::Receipt)?;
        let signature: [u8; 64] = rest.try_into().map_err(|_| Error::Receipt)?;
        let receipt = Self { position: Position::from_bytes(position), leaf_hash: *leaf_hash, signature };
        // One spelling: unused bits of the last character must be zero.
        if receipt.to_string() == text { Ok(receipt) } else { Err(Error::Receipt) }
    }
}

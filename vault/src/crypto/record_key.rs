//! The key of one idempotency record: needs the data key *and* what the caller authenticates with (docs/formats.md section 7).

use std::fmt;

use zeroize::Zeroizing;

use super::{DataKey, Error, aad, derive, envelope, mac_key};
use crate::domain::{RunId, Timestamp};

const SEAL: &str = "siv/v1/idempotency/seal";
const BODY: &str = "siv/v1/idempotency/body";

/// Seals the stored answer and compares bodies; wiped on drop.
pub struct RecordKey {
    lookup: [u8; 32],
    seal: Zeroizing<[u8; 32]>,
    body: Zeroizing<[u8; 32]>,
}

impl RecordKey {
    /// HKDF(idempotency data key ‖ credential or capture token, salt = lookup).
    #[must_use]
    pub fn derive(data_key: &DataKey, caller_secret: &str, lookup: &[u8; 32]) -> Self {
        let mut secret = Zeroizing::new(Vec::with_capacity(32 + caller_secret.len()));
        secret.extend_from_slice(data_key.bytes());
        secret.extend_from_slice(caller_secret.as_bytes());
        Self { lookup: *lookup, seal: derive(&secret, lookup, SEAL), body: derive(&secret, lookup, BODY) }
    }

    /// The MAC by which a repeat's body is compared with the first one's.
    #[must_use]
    pub fn body_mac(&self, body: &[u8]) -> [u8; 32] {
        mac_key::hmac(&self.body, body)
    }

    /// Seals an answer.
    ///
    /// # Errors
    /// [`Error::Random`] if there is no randomness.
    pub fn seal_answer(
        &self,
        status: u16,
        run_id: Option<RunId>,
        expires: Timestamp,
        body: &[u8],
    ) -> Result<Vec<u8>, Error> {
        envelope::seal(&self.seal, &aad::answer(&self.lookup, status, run_id, expires), body)
    }

    /// Opens a stored answer.
    ///
    /// # Errors
    /// [`Error::Refused`] for another caller, record, status, run, expiry or content.
    pub fn open_answer(
        &self,
        status: u16,
        run_id: Option<RunId>,
        expires: Timestamp,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        envelope::open(&self.seal, &aad::answer(&self.lookup, status, run_id, expires), sealed)
    }

    /// Seals an answer under a given nonce, for vectors.
    #[cfg(test)]
    pub(super) fn seal_answer_with_nonce(
        &self,
        nonce: &[u8; 12],
        (status, run_id, expires): (u16, Option<RunId>, Timestamp),
        body: &[u8],
    ) -> Result<Vec<u8>, Error> {
        envelope::seal_with_nonce(nonce, &self.seal, &aad::answer(&self.lookup, status, run_id, expires), body)
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(…)")
    }
}

//! The stored form of a data key: W ‖ H, sealed under an erasure key where its class has one (docs/formats.md section 3).

use zeroize::Zeroizing;

use super::Error;
use super::records::DataKeyRow;
use crate::crypto::{MacKey, envelope};
use crate::domain::{Realm, lp};

/// The purpose in every context.
const PURPOSE: &str = "siv/v1/data-key";
/// The version byte of a stored data key without an erasure key; with one it is that of the envelope, the same number.
const VERSION: u8 = envelope::VERSION;
const MAC: usize = 32;

/// lp(realm, tenant, purpose, class, epoch, key id, KEK id, KEK version, mechanism).
pub(super) fn context(realm: &Realm, row: &DataKeyRow) -> Vec<u8> {
    lp(&[
        realm.as_bytes(),
        row.tenant.as_bytes(),
        PURPOSE.as_bytes(),
        row.class.as_str().as_bytes(),
        &row.epoch.0.to_be_bytes(),
        row.data_key_id.as_bytes(),
        row.kek_id.as_bytes(),
        &row.kek_version.to_be_bytes(),
        row.mechanism.as_bytes(),
    ])
}

/// The context without KEK id and mechanism: AAD of the erasure seal.
fn erasure_aad(realm: &Realm, row: &DataKeyRow) -> Vec<u8> {
    lp(&[
        realm.as_bytes(),
        row.tenant.as_bytes(),
        PURPOSE.as_bytes(),
        row.class.as_str().as_bytes(),
        &row.epoch.0.to_be_bytes(),
        row.data_key_id.as_bytes(),
        &row.kek_version.to_be_bytes(),
    ])
}

/// W ‖ H behind its version byte, or sealed under the erasure key.
pub(super) fn stored(
    wrapped: &[u8],
    mac: &MacKey,
    erasure: Option<&[u8; 32]>,
    realm: &Realm,
    row: &DataKeyRow,
) -> Result<Vec<u8>, Error> {
    let body = with_mac(wrapped, mac, realm, row);
    match erasure {
        Some(key) => Ok(envelope::seal(key, &erasure_aad(realm, row), &body)?),
        None => Ok([&[VERSION][..], &body].concat()),
    }
}

/// W ‖ H.
fn with_mac(wrapped: &[u8], mac: &MacKey, realm: &Realm, row: &DataKeyRow) -> Vec<u8> {
    let tag = mac.mac(&[&context(realm, row), wrapped].concat());
    [wrapped, &tag].concat()
}

/// W, after the erasure seal and H were checked.
pub(super) fn wrapped<'a>(
    macs: impl IntoIterator<Item = &'a MacKey>,
    erasure: Option<&[u8; 32]>,
    realm: &Realm,
    row: &DataKeyRow,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut body = match erasure {
        Some(key) => envelope::open(key, &erasure_aad(realm, row), &row.sealed)?,
        None => match row.sealed.split_first() {
            Some((&VERSION, body)) => Zeroizing::new(body.to_vec()),
            _ => return Err(Error::Altered),
        },
    };
    let (wrapped, tag) = body.split_last_chunk::<MAC>().ok_or(Error::Altered)?;
    let message = [&context(realm, row), wrapped].concat();
    // The keys of the purpose are few: after a rotation the older ones still verify what they made.
    if !macs.into_iter().any(|mac| mac.verify(&message, tag)) {
        return Err(Error::Altered);
    }
    let length = wrapped.len();
    body.truncate(length);
    Ok(body)
}

/// The stored form under a given nonce, for vectors.
#[cfg(test)]
pub(super) fn stored_with_nonce(
    nonce: &[u8; 12],
    wrapped: &[u8],
    mac: &MacKey,
    erasure: &[u8; 32],
    realm: &Realm,
    row: &DataKeyRow,
) -> Result<Vec<u8>, Error> {
    let body = with_mac(wrapped, mac, realm, row);
    Ok(envelope::seal_with_nonce(nonce, erasure, &erasure_aad(realm, row), &body)?)
}

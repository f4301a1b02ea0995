//! The verifier of a key's secret half: all that the vault keeps of it (docs/formats.md section 1).

use subtle::ConstantTimeEq;

use super::{MacKey, derive};
use crate::domain::{Realm, SecureValueKey, TenantName, lp};

const INFO: &str = "siv/v1/verifier";

/// HMAC(pepper, lp(realm, tenant, valueId, HKDF(secret, salt = valueId, info `siv/v1/verifier`))).
#[must_use]
pub fn verifier(pepper: &MacKey, realm: &Realm, tenant: &TenantName, key: &SecureValueKey) -> [u8; 32] {
    let value_id = key.value_id();
    let derived = derive(key.secret(), value_id.as_bytes(), INFO);
    let message =
        zeroize::Zeroizing::new(lp(&[realm.as_bytes(), tenant.as_bytes(), value_id.as_bytes(), &derived[..]]));
    pepper.mac(&message)
}

/// Whether a row's verifier is that of the key; in constant time.
#[must_use]
pub fn verifier_matches(
    stored: &[u8; 32],
    pepper: &MacKey,
    realm: &Realm,
    tenant: &TenantName,
    key: &SecureValueKey,
) -> bool {
    verifier(pepper, realm, tenant, key).ct_eq(stored).into()
}

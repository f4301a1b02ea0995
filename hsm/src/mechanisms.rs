//! The mechanisms a module advertises, all of them and by name where there is one. Advertised is not usable: profiles are found by execution.

use cryptoki_sys as ck;

use crate::failure::Fault;
use crate::module::Module;

/// Names of the mechanisms that say something about wrapping keys.
const NAMES: [(u64, &str); 15] = [
    (ck::CKM_RSA_PKCS_KEY_PAIR_GEN, "RSA_PKCS_KEY_PAIR_GEN"),
    (ck::CKM_RSA_PKCS, "RSA_PKCS"),
    (ck::CKM_RSA_PKCS_OAEP, "RSA_PKCS_OAEP"),
    (ck::CKM_AES_KEY_GEN, "AES_KEY_GEN"),
    (ck::CKM_AES_ECB, "AES_ECB"),
    (ck::CKM_AES_CBC, "AES_CBC"),
    (ck::CKM_AES_CBC_PAD, "AES_CBC_PAD"),
    (ck::CKM_AES_CTR, "AES_CTR"),
    (ck::CKM_AES_GCM, "AES_GCM"),
    (ck::CKM_AES_CCM, "AES_CCM"),
    (ck::CKM_AES_KEY_WRAP, "AES_KEY_WRAP"),
    (ck::CKM_AES_KEY_WRAP_PAD, "AES_KEY_WRAP_PAD"),
    (ck::CKM_AES_KEY_WRAP_KWP, "AES_KEY_WRAP_KWP"),
    (ck::CKM_SHA256_HMAC, "SHA256_HMAC"),
    (ck::CKM_SHA_1, "SHA_1"),
];

/// Every advertised mechanism in the order of its number.
pub(crate) fn list(module: &Module, slot: u64) -> Result<Vec<String>, Fault> {
    let mut found = module.raw.mechanism_list(slot)?;
    found.sort_unstable();
    found.dedup();
    Ok(found.into_iter().map(name).collect())
}

/// `CKM_` name without its prefix, or the number.
pub(crate) fn name(mechanism: u64) -> String {
    NAMES
        .iter()
        .find(|(number, _)| *number == mechanism)
        .map_or_else(|| format!("{mechanism:#010x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_without_a_name_keeps_its_number() {
        assert_eq!(name(ck::CKM_AES_GCM), "AES_GCM");
        assert_eq!(name(0x8000_1087), "0x80001087");
    }
}

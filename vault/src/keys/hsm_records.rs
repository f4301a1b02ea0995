//! What the database keeps of a tenant's HSM: how it is reached, and what a KEK version in it is known by. Nothing secret:
//! the PIN lies in the key store.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::text::hex;
use crate::domain::{KeyProviderId, Timestamp, lp};

/// How a tenant's token is reached: body of a row of `Table::KeyProviders`, key: its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderRecord {
    /// Its id.
    pub provider_id: KeyProviderId,
    /// The vendor's module, as it was named.
    pub module: String,
    /// SHA-256 of its file when it was onboarded; another file is never loaded in its place.
    pub module_sha256: hsm::ModuleHash,
    /// Exactly this token, by label and serial number.
    pub token: hsm::TokenSelector,
    /// The version of the PIN in the key store.
    pub pin_version: u32,
    /// The PIN was refused. It is not tried again, on no node and after no restart, until a person changes the configuration.
    pub quarantined: bool,
    /// When it was made or changed.
    pub changed_at: Timestamp,
}

/// What is known of a KEK version that lives in a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HsmKek {
    /// The configuration it is reached by.
    pub provider: KeyProviderId,
    /// Label, id and pinned profile, with the known answer that tells it from another key.
    pub canary: hsm::Canary,
    /// Its check value, where the token gives one.
    pub check_value: Option<String>,
    /// The public half of a pair.
    pub public: Option<hsm::PublicKek>,
    /// Serial number of the token, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

impl HsmKek {
    /// The key as the token's worker is told of it.
    pub(super) const fn kek(&self) -> &hsm::KekRef {
        &self.canary.kek
    }

    /// One that no token has, for tests of what is decided about such keys.
    #[cfg(test)]
    pub(crate) fn in_no_token(provider: KeyProviderId) -> Self {
        let selector = hsm::KekSelector { label: Some("siv-demo".to_owned()), id: Some(vec![7]) };
        let kek = hsm::KekRef { selector, profile: hsm::Profile::AesKwp };
        let canary = hsm::Canary { kek, wrapped: vec![1; 40], check: [2; 32] };
        Self { provider, canary, check_value: None, public: None, serial: None }
    }

    /// Whether both stand on one key. The same key in another token, or behind another module, is the same key.
    pub(super) fn is_same_key(&self, other: &Self) -> bool {
        let is_shown = |value: &&String| !value.is_empty();
        let value = self.check_value.as_ref().filter(is_shown);
        (value.is_some() && other.check_value.as_ref() == value)
            || (self.public.is_some() && other.public == self.public)
            || (self.serial.is_some()
                && other.serial == self.serial
                && other.kek().selector.label == self.kek().selector.label)
    }

    /// What a key is known by while it is in its token, as hashes: no second version may claim one of them. A key that was made
    /// for its version claims what only it can show: somebody may find it in the token by its name before its version is
    /// committed. Its label it does not claim, nor its check value beyond its token: its id is random, and a module that lies
    /// about itself could else take the place of another tenant's next key.
    pub(crate) fn claims(&self) -> Vec<String> {
        let (selector, mut claims) = (&self.kek().selector, Vec::new());
        let is_named = selector.id.is_none();
        if let (true, Some(serial), Some(label)) = (is_named, &self.serial, &selector.label) {
            claims.push(claim("place", &[serial.as_bytes(), label.as_bytes()]));
        }
        // That of a pair is a hash of its public half.
        if let Some(value) = self.check_value.as_ref().filter(|value| tells_apart(value)) {
            if is_named {
                claims.push(claim("check value", &[value.as_bytes()]));
            }
            if let Some(serial) = &self.serial {
                claims.push(claim("check value in a token", &[serial.as_bytes(), value.as_bytes()]));
            }
        }
        claims
    }

    /// One that a customer made themselves and named, for the same tests.
    #[cfg(test)]
    pub(crate) fn found(label: &str, serial: &str, check_value: &str) -> Self {
        let mut kek = Self::in_no_token(KeyProviderId::generate(Timestamp::from_millis(0)));
        kek.canary.kek.selector = hsm::KekSelector { label: Some(label.to_owned()), id: None };
        Self { serial: Some(serial.to_owned()), check_value: Some(check_value.to_owned()), ..kek }
    }

    /// Its label in the token.
    #[must_use]
    pub fn label(&self) -> &str {
        self.canary.kek.selector.label.as_deref().unwrap_or("-")
    }
}

/// Whether a check value is one: some modules give the same for every key.
fn tells_apart(value: &str) -> bool {
    let mut characters = value.chars();
    characters.next().is_some_and(|first| characters.any(|next| next != first))
}

fn claim(what: &str, parts: &[&[u8]]) -> String {
    let parts: Vec<&[u8]> = std::iter::once(what.as_bytes()).chain(parts.iter().copied()).collect();
    hex::encode(&Sha256::digest(lp(&parts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_place_and_by_what_it_shows_and_one_that_was_made_claims_no_place() {
        let shares = |one: &HsmKek, other: &HsmKek| one.claims().iter().any(|claim| other.claims().contains(claim));
        let one = HsmKek::found("acme", "17", "a1b2c3");
        for (other, is_same) in [
            (HsmKek::found("acme", "17", "ffffff"), true),
            (HsmKek::found("other", "18", "a1b2c3"), true),
            (HsmKek::found("other", "17", "fffffe"), false),
            (HsmKek::found("acme", "18", "fffffe"), false),
        ] {
            assert_eq!((shares(&one, &other), one.is_same_key(&other)), (is_same, is_same), "{other:?}");
        }
        let mut made = HsmKek::found("siv-acme-2", "17", "a1b2c3");
        made.canary.kek.selector.id = Some(vec![7; 16]);
        // Found by its name while its version is being committed.
        assert!(shares(&made, &HsmKek::found("siv-acme-2", "17", "a1b2c3")));
        assert!(!shares(&made, &HsmKek::found("siv-acme-2", "17", "fffffe")), "its label may be another's next");
        assert!(!shares(&made, &HsmKek::found("siv-acme-2", "18", "a1b2c3")), "a token speaks for itself alone");
        assert!(made.is_same_key(&HsmKek::found("siv-acme-2", "17", "ffffff")), "once it is there it is known");
        // A module that gives one check value for all keys stands in the way of no second one.
        let next = |value: &str| HsmKek { check_value: Some(value.to_owned()), ..made.clone() };
        assert!(next("000000").claims().is_empty() && next("").claims().is_empty());
        let unknown = HsmKek { serial: None, check_value: Some(String::new()), ..one };
        assert!(unknown.claims().is_empty() && !unknown.is_same_key(&unknown));
    }
}

//! What the database keeps of a tenant's HSM: how it is reached, and what a KEK version in it is known by. Nothing secret:
//! the PIN lies in the key store.

use serde::{Deserialize, Serialize};

use crate::domain::{KeyProviderId, Timestamp};

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
        Self { provider, canary, check_value: None, public: None }
    }

    /// Its label in the token.
    #[must_use]
    pub fn label(&self) -> &str {
        self.canary.kek.selector.label.as_deref().unwrap_or("-")
    }
}

/// A version in a token, of any tenant, whose key was not ended.
#[derive(Debug, Clone)]
pub struct TokenKek {
    /// Serial number of the token.
    pub serial: Option<String>,
    /// The version.
    pub kek: HsmKek,
}

//! A customer organisation and its switches.

use serde::{Deserialize, Serialize};

use super::{TenantName, Timestamp};

/// Where a tenant's key-encryption keys live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyProviderKind {
    /// The built-in KMS.
    Local,
    /// The customer's own token over PKCS#11.
    Hsm,
}

/// A tenant as its row holds it; the row is authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// Whether flows of this tenant may reveal.
    pub reveal: bool,
    /// Sealed by its custodian: nothing is captured or opened.
    pub sealed: bool,
    /// Where its keys live.
    pub key_provider: KeyProviderKind,
    /// How long an opened data key may stay in memory, 0 to 300 s.
    pub cache_seconds: u16,
    /// When it was made.
    pub created_at: Timestamp,
}

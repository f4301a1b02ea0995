//! What stands in the bodies of rows that decide: one struct each, as canonical JSON.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use super::rows::{DecidingRow, Table};
use crate::domain::credential::CredentialRecord;
use crate::domain::{AppDocument, AppName, DataKeyId, DestinationName, FlowName, PurposeName, TenantName, Timestamp};

/// A body that a row of its table holds.
pub trait Body: Serialize + DeserializeOwned {
    /// The table.
    const TABLE: Table;

    /// The row of this body.
    ///
    /// # Errors
    /// [`Error::Rule`] if it does not serialise, which no body of ours does.
    fn to_row(&self, tenant: &TenantName, key: &str, version: u64) -> Result<DecidingRow, Error> {
        let body = serde_json::to_vec(self).map_err(|_| Error::Rule("a body must serialise"))?;
        Ok(DecidingRow { table: Self::TABLE, tenant: tenant.clone(), key: key.to_owned(), version, body })
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    fn from_row(row: &DecidingRow) -> Result<Self, Error> {
        serde_json::from_slice(&row.body).map_err(|_| Error::Unreadable(Self::TABLE.as_str()))
    }
}

impl Body for crate::domain::Tenant {
    const TABLE: Table = Table::Tenants;
}

impl Body for AppDocument {
    const TABLE: Table = Table::Apps;
}

/// A flow as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowRecord {
    /// Its name.
    pub name: FlowName,
    /// Its app.
    pub app: AppName,
    /// Its purpose.
    pub purpose: PurposeName,
    /// The document, as it was sent.
    pub toml: String,
    /// When it was applied.
    pub applied_at: Timestamp,
}

impl FlowRecord {
    /// SHA-256 of the document.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.toml.as_bytes()).into()
    }
}

impl Body for FlowRecord {
    const TABLE: Table = Table::Flows;
}

/// A destination with its sealed secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationRecord {
    /// Its name.
    pub name: DestinationName,
    /// The host its secrets may go to.
    pub host: String,
    /// Its secrets by name, each sealed (base64url) under the data key below.
    pub secrets: BTreeMap<String, String>,
    /// The data key (class `configuration`) of the secrets; none where there are none.
    pub data_key_id: Option<DataKeyId>,
}

impl Body for DestinationRecord {
    const TABLE: Table = Table::Destinations;
}

/// A credential with its keyed hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredCredential {
    /// What it is.
    pub record: CredentialRecord,
    /// HMAC under the key store's key `credential`.
    pub hash: [u8; 32],
}

impl Body for StoredCredential {
    const TABLE: Table = Table::Credentials;
}

impl Body for crate::keys::KekRecord {
    const TABLE: Table = Table::Keks;
}

impl Body for crate::keys::ProviderRecord {
    const TABLE: Table = Table::KeyProviders;
}

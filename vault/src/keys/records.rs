//! The records of keys that live in the database, and the trait by which store/ hands them in and out.

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hsm_records::{HsmKek, ProviderRecord};
use super::{KekEnd, KekState, LostDataKey};
use crate::domain::{DataKeyClass, DataKeyId, Epoch, KekId, KeyProviderId, TenantName, Timestamp};

/// A data key's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKeyRow {
    /// Whose it is.
    pub tenant: TenantName,
    /// Its id.
    pub data_key_id: DataKeyId,
    /// What it is for.
    pub class: DataKeyClass,
    /// Of which epoch.
    pub epoch: Epoch,
    /// The KEK that wraps it.
    pub kek_id: KekId,
    /// That KEK's version.
    pub kek_version: u32,
    /// The wrapping mechanism.
    pub mechanism: String,
    /// W ‖ H, sealed under the erasure key where the class has one.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created: Timestamp,
    /// How many of the tenant's KEK versions were compromised by then.
    pub era: u32,
    /// Which of its class, epoch and era: another is begun when one has sealed much.
    pub part: u32,
    /// Whether nothing is sealed under it any more. Not covered by its MAC: whoever writes to the database can so bring about no
    /// more than that another one is begun.
    pub closed: bool,
}

/// A version of a tenant's KEK: body of a row of `Table::Keks`, key `{id}.{version}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KekRecord {
    /// Its id, the same for all versions.
    pub kek_id: KekId,
    /// Its version, from 1.
    pub version: u32,
    /// The wrapping mechanism, pinned for this version.
    pub mechanism: String,
    /// What it may be used for.
    pub state: KekState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was said to be compromised; what stood beside it then stays spoilt when the version is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_at: Option<Timestamp>,
    /// How its key ended, once it is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<KekEnd>,
    /// Where it lies, if not in the built-in KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsm: Option<Box<HsmKek>>,
}

impl KekRecord {
    /// The row's key within its tenant.
    #[must_use]
    pub fn row_key(&self) -> String {
        Self::key_of(self.kek_id, self.version)
    }

    /// The row's key of a version.
    #[must_use]
    pub fn key_of(kek_id: KekId, version: u32) -> String {
        format!("{kek_id}.{version}")
    }
}

/// Why a record could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The database does not answer.
    #[error("the database does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The record was altered.
    #[error("a key's record was altered")]
    Altered,
    /// The KEK that a new data key names is not the active one any more.
    #[error("the key-encryption key is no longer active")]
    Retired,
}

/// Whether one more PIN may be tried at a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// It may, and it is counted: so many more may be tried after it, if it is refused.
    Counted(u32),
    /// No other before this moment.
    NotBefore(Timestamp),
}

/// Where the records of keys are kept; store/ implements it.
pub trait KeyRecords: Send + Sync {
    /// The data keys of a tenant, class and epoch, the newest first: several only where a KEK was compromised or
    /// one sealed much.
    fn find_data_keys(
        &self,
        tenant: &TenantName,
        class: DataKeyClass,
        epoch: Epoch,
    ) -> impl Future<Output = Result<Vec<DataKeyRow>, RecordsError>> + Send;

    /// The data key of an id; another tenant's is absent.
    fn load_data_key(
        &self,
        tenant: &TenantName,
        id: DataKeyId,
    ) -> impl Future<Output = Result<Option<DataKeyRow>, RecordsError>> + Send;

    /// The mark of a data key that ended with a lost KEK version, as it stands there.
    fn lost_data_key(
        &self,
        tenant: &TenantName,
        id: DataKeyId,
    ) -> impl Future<Output = Result<Option<LostDataKey>, RecordsError>> + Send;

    /// Inserts a data key, durably, unless tenant, class, epoch, era and part have one; gives the stored one.
    /// [`RecordsError::Retired`] if its KEK may not wrap by then, judged in the same transaction.
    fn insert_data_key(&self, row: DataKeyRow) -> impl Future<Output = Result<DataKeyRow, RecordsError>> + Send;

    /// The tenant's active KEK (its row authenticated).
    fn active_kek(&self, tenant: &TenantName) -> impl Future<Output = Result<Option<KekRecord>, RecordsError>> + Send;

    /// A version of one of the tenant's KEKs (its row authenticated).
    fn load_kek(
        &self,
        tenant: &TenantName,
        kek_id: KekId,
        version: u32,
    ) -> impl Future<Output = Result<Option<KekRecord>, RecordsError>> + Send;

    /// All versions of the tenant's KEKs (their rows authenticated).
    fn keks(&self, tenant: &TenantName) -> impl Future<Output = Result<Vec<KekRecord>, RecordsError>> + Send;

    /// Every version of any tenant's KEKs whose key is in a token still: asked when a token's key is taken on.
    fn token_keks(&self) -> impl Future<Output = Result<Vec<HsmKek>, RecordsError>> + Send;

    /// Counts one more PIN that was brought by somebody and was never accepted at the token of this serial number, durably and for
    /// all nodes, before it is tried.
    fn guess(&self, by: &TenantName, token: &str) -> impl Future<Output = Result<Guess, RecordsError>> + Send;

    /// One that was counted was not tried: it is taken back.
    fn guess_back(&self, by: &TenantName, token: &str) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// A PIN was accepted: those before are forgotten.
    fn guesses_over(&self, by: &TenantName, token: &str) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// How one of the tenant's HSMs is reached, with the version of its row (authenticated).
    fn key_provider(
        &self,
        tenant: &TenantName,
        id: KeyProviderId,
    ) -> impl Future<Output = Result<Option<(u64, ProviderRecord)>, RecordsError>> + Send;

    /// How long the tenant lets opened keys stay in memory (its row authenticated); nothing if it has no row.
    fn cache_age(&self, tenant: &TenantName) -> impl Future<Output = Result<Option<Duration>, RecordsError>> + Send;
}

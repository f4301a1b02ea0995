//! Rows as the store hands them in and out: domain words, no SQL.

use sha2::{Digest, Sha256};

use crate::access_log::ObjectVersion;
use crate::crypto::ValueState;
use crate::domain::{
    AppName, CaptureSessionId, CredentialId, DataKeyId, Epoch, FlowName, Metadata, Realm, RunId, SecretId, TenantName,
    Timestamp, ValueId, lp,
};
pub use crate::keys::DataKeyRow;

/// A value as it is stored.
#[derive(Debug, Clone)]
pub struct ValueRow {
    /// Everything fixed at capture.
    pub metadata: Metadata,
    /// HMAC of the key's secret half.
    pub verifier: [u8; 32],
    /// The pepper of the verifier.
    pub pepper_id: SecretId,
    /// The data key of the outer seal.
    pub data_key_id: DataKeyId,
    /// The sealed record; opening it takes an `OpeningGrant` (crypto/).
    pub sealed: Vec<u8>,
}

/// A value's state row, with the data key its MAC was made under.
#[derive(Debug, Clone)]
pub struct StateRow {
    /// The value.
    pub value_id: ValueId,
    /// The data key of the MAC.
    pub data_key_id: DataKeyId,
    /// The state.
    pub state: ValueState,
    /// HMAC over it.
    pub mac: [u8; 32],
}

/// The tables of rows that decide (docs/formats.md section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Tenants with their switches; key: the tenant's name, tenant column: the tenant itself.
    Tenants,
    /// Apps; key: name.
    Apps,
    /// Flows; key: name.
    Flows,
    /// Destinations; key: name.
    Destinations,
    /// Credentials; key: id.
    Credentials,
    /// Capture sessions; key: id. Version = number of values captured + 1.
    CaptureSessions,
    /// KEK records and states; key: `{id}.{version}`.
    Keks,
    /// How a tenant's HSM is reached; key: the configuration's id.
    KeyProviders,
    /// Node keys; key: boot id.
    NodeKeys,
    /// Approvals; key: id.
    Approvals,
}

impl Table {
    /// The name in the database, in MACs and in entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Apps => "apps",
            Self::Flows => "flows",
            Self::Destinations => "destinations",
            Self::Credentials => "credentials",
            Self::CaptureSessions => "capture_sessions",
            Self::Keks => "keks",
            Self::KeyProviders => "key_providers",
            Self::NodeKeys => "node_keys",
            Self::Approvals => "approvals",
        }
    }
}

/// A row that decides, its MAC and freshness already checked when it comes from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidingRow {
    /// The table.
    pub table: Table,
    /// Whose it is.
    pub tenant: TenantName,
    /// The key within the tenant.
    pub key: String,
    /// Grows by one with each change.
    pub version: u64,
    /// All columns, as canonical JSON of one Rust struct.
    pub body: Vec<u8>,
}

impl DecidingRow {
    /// The bytes its MAC and its entry's digest are over.
    #[must_use]
    pub fn authenticated_bytes(&self, realm: &Realm) -> Vec<u8> {
        lp(&[
            realm.as_bytes(),
            self.tenant.as_bytes(),
            self.table.as_str().as_bytes(),
            self.key.as_bytes(),
            &self.version.to_be_bytes(),
            &self.body,
        ])
    }

    /// What the `admin.*` or `key.*` entry that makes this version says of it.
    #[must_use]
    pub fn object(&self, realm: &Realm) -> ObjectVersion {
        ObjectVersion {
            table: self.table.as_str(),
            key: self.key.clone(),
            version: self.version,
            digest: Sha256::digest(self.authenticated_bytes(realm)).into(),
        }
    }
}

/// The key pair for captures of one tenant and day.
#[derive(Debug, Clone)]
pub struct CaptureKeyRow {
    /// Whose it is.
    pub tenant: TenantName,
    /// 16 random bytes, named in every sealed body.
    pub key_id: [u8; 16],
    /// The day (epoch of class `capture`).
    pub epoch: Epoch,
    /// The data key that seals the private half.
    pub data_key_id: DataKeyId,
    /// The sealed private half.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created: Timestamp,
}

/// An idempotency record (docs/formats.md section 7).
#[derive(Debug, Clone)]
pub struct IdempotencyRow {
    /// Whose it is.
    pub tenant: TenantName,
    /// HMAC of route, caller and `Idempotency-Key`.
    pub lookup: [u8; 32],
    /// HMAC of the body, under the record's own key.
    pub body_mac: [u8; 32],
    /// The data key of the record.
    pub data_key_id: DataKeyId,
    /// The run, where there is one.
    pub run_id: Option<RunId>,
    /// Until when a running request may still answer.
    pub deadline: Timestamp,
    /// When the record goes.
    pub expires: Timestamp,
    /// The answer: status and sealed body. While it runs, status 102 and nothing sealed; `None` where it is forgotten.
    pub answer: Option<(u16, Vec<u8>)>,
}

impl IdempotencyRow {
    /// The record of a request that had no effect and may come again as if it had never been.
    #[must_use]
    pub fn forgotten(&self, now: Timestamp) -> Self {
        Self { run_id: None, deadline: now, expires: now, answer: None, ..self.clone() }
    }
}

/// One execution of a flow. Never an output, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Whose it is.
    pub tenant: TenantName,
    /// Its id.
    pub run_id: RunId,
    /// The app.
    pub app: AppName,
    /// The flow and its version.
    pub flow: (FlowName, u64),
    /// The credential that invoked it.
    pub credential_id: CredentialId,
    /// When it began.
    pub started: Timestamp,
    /// Until when its outcome may still come.
    pub deadline: Timestamp,
    /// What became of it: `None` while it runs.
    pub outcome: Option<RunOutcome>,
    /// When.
    pub finished: Option<Timestamp>,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// Its outputs were given out.
    Completed,
    /// It failed; the code of the problem given out.
    Failed(&'static str),
    /// Nobody knows (killed node, second commit failed, timeout).
    Unknown,
}

impl RunOutcome {
    /// Every code a run can fail with, so that a stored one reads back as the constant it was.
    const CODES: [&'static str; 14] = [
        "destination.denied",
        "destination.failed",
        "destination.timeout",
        "flow.invalid",
        "flow.outcome_unknown",
        "flow.output_blocked",
        "kms.unavailable",
        "log.unavailable",
        "overloaded",
        "policy.denied",
        "store.unavailable",
        "tenant.sealed",
        "validation",
        "value.not_found",
    ];

    /// A failure by its stored code.
    #[must_use]
    pub fn failed(code: &str) -> Self {
        Self::Failed(Self::CODES.into_iter().find(|known| *known == code).unwrap_or("internal"))
    }
}

/// A capture session's use so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionUse {
    /// The session.
    pub session: CaptureSessionId,
    /// Values captured so far.
    pub used: u32,
}

/// Which data keys a value rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueSeals {
    /// The value.
    pub value_id: ValueId,
    /// The data key of its outer layer.
    pub data_key: DataKeyId,
    /// The data key of its state's MAC, where it has a state.
    pub state: Option<DataKeyId>,
}

impl ValueSeals {
    /// Whether this data key is one of them.
    #[must_use]
    pub fn rest_on(&self, data_key: DataKeyId) -> bool {
        self.data_key == data_key || self.state == Some(data_key)
    }
}

/// The row of a value as a walk over all of them meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealsRow {
    /// Its key as it stands there: the walk goes on behind it, whatever it is.
    pub key: Vec<u8>,
    /// Nothing where the row does not read.
    pub seals: Option<ValueSeals>,
}

impl SealsRow {
    /// Reads the columns; what somebody altered into no id hides no other row.
    pub(in crate::store) fn of((key, data_key, state): (Vec<u8>, Vec<u8>, Option<Vec<u8>>)) -> Self {
        let seals = || {
            let id = |bytes: &[u8]| DataKeyId::from_slice(bytes).ok();
            let state = match &state {
                Some(state) => Some(id(state)?),
                None => None,
            };
            let value_id = ValueId::from_bytes(key.as_slice().try_into().ok()?);
            Some(ValueSeals { value_id, data_key: id(&data_key)?, state })
        };
        Self { seals: seals(), key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{MacKey, vectors};
    use crate::domain::text::hex;

    #[test]
    fn a_row_that_decides_is_authenticated_as_its_vector_says() {
        let vector = vectors::committed("row-mac.json");
        let row = DecidingRow {
            table: Table::Flows,
            tenant: "demo".parse().unwrap(),
            key: "charge-card".to_owned(),
            version: 7,
            body: vector["columns"].as_str().unwrap().into(),
        };
        let message = row.authenticated_bytes(&"eu-1".parse().unwrap());
        assert_eq!(vector["message"], hex::encode(&message));
        let config = MacKey::new(SecretId::from_bytes([0; 16]), &[0xc0; 32]);
        assert_eq!(vector["mac"], hex::encode(&config.mac(&message)));
    }
}

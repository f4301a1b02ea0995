//! What changes about a value: uses, failures, expiry. Authenticated by its data key (docs/formats.md section 2).

use subtle::ConstantTimeEq;

use super::{DataKey, mac_key};
use crate::domain::{Realm, TenantName, Timestamp, ValueId, lp};

const INFO: &str = "siv/v1/state";

/// Whether a value may still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateCode {
    /// It may.
    Active,
    /// Its uses are spent or its failures are too many.
    Spent,
}

impl StateCode {
    /// The number in rows and MACs.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Active => 1,
            Self::Spent => 2,
        }
    }

    /// The code of a number in a row.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Active),
            2 => Some(Self::Spent),
            _ => None,
        }
    }
}

/// The state of a value with counted uses, failures or an extension. Version 0 is "as captured" and has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueState {
    /// Grows by one with each change; the entry that made the change carries it.
    pub version: u64,
    /// Whether it may still be used.
    pub code: StateCode,
    /// Uses left; `None` is not counted.
    pub uses_left: Option<u32>,
    /// When it expires now.
    pub expires: Option<Timestamp>,
    /// Failed verifications so far.
    pub failures: u32,
}

impl ValueState {
    /// HMAC(HKDF(data key, salt = data key id, info `siv/v1/state`), lp(`siv/v1/state`, realm, tenant, valueId, data key
    /// id, state version, state, uses left, expires, failures)).
    #[must_use]
    pub fn mac(&self, data_key: &DataKey, realm: &Realm, tenant: &TenantName, value_id: ValueId) -> [u8; 32] {
        let key = data_key.derived(INFO);
        let uses = self.uses_left.map(u32::to_be_bytes);
        let expires = self.expires.map(Timestamp::to_be_bytes);
        let message = lp(&[
            INFO.as_bytes(),
            realm.as_bytes(),
            tenant.as_bytes(),
            value_id.as_bytes(),
            data_key.id().as_bytes(),
            &self.version.to_be_bytes(),
            &[self.code.as_u8()],
            uses.as_ref().map_or(&[], |bytes| bytes.as_slice()),
            expires.as_ref().map_or(&[], |bytes| bytes.as_slice()),
            &self.failures.to_be_bytes(),
        ]);
        mac_key::hmac(&key, &message)
    }

    /// Whether a row's MAC is that of this state; in constant time.
    #[must_use]
    pub fn verify_mac(
        &self,
        data_key: &DataKey,
        realm: &Realm,
        tenant: &TenantName,
        value_id: ValueId,
        mac: &[u8; 32],
    ) -> bool {
        self.mac(data_key, realm, tenant, value_id).ct_eq(mac).into()
    }
}

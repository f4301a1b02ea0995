//! Data keys that ended with a KEK version whose token is lost. What is left of each is a mark under a MAC: so a data key that
//! is gone for that is told from one that somebody took away, which is an alarm.

use super::records::DataKeyRow;
use super::{Error, KeyRecords, Keys, MacPurpose, RecordsError};
use crate::domain::{DataKeyClass, DataKeyId, Epoch, KekId, TenantName, lp};

/// The mark of a data key that ended so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostDataKey {
    /// Whose it was.
    pub tenant: TenantName,
    /// Its id.
    pub data_key_id: DataKeyId,
    /// The KEK that wrapped it.
    pub kek_id: KekId,
    /// That KEK's version.
    pub kek_version: u32,
    /// What it was for. This and the next serve the purge alone, and stand outside the MAC.
    pub class: DataKeyClass,
    /// When.
    pub epoch: Epoch,
    /// HMAC under the key store's key `data-key`.
    pub mac: [u8; 32],
}

impl Keys {
    /// The mark of a data key that is to end with its KEK version.
    #[must_use]
    pub fn mark_lost(&self, row: &DataKeyRow) -> LostDataKey {
        let DataKeyRow { tenant, data_key_id, kek_id, kek_version, class, epoch, .. } = row.clone();
        let mark = LostDataKey { tenant, data_key_id, kek_id, kek_version, class, epoch, mac: [0; 32] };
        let mac = self.mac(MacPurpose::DataKey).mac(&self.marked(&mark));
        LostDataKey { mac, ..mark }
    }

    /// Why a data key is not there.
    pub(super) async fn absent<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        id: DataKeyId,
    ) -> Result<Error, RecordsError> {
        let mark = records.lost_data_key(tenant, id).await?;
        let is_genuine = |mark: &LostDataKey| {
            let is_its = mark.tenant == *tenant && mark.data_key_id == id;
            is_its && self.verifies(MacPurpose::DataKey, &self.marked(mark), &mark.mac)
        };
        Ok(if mark.as_ref().is_some_and(is_genuine) { Error::Lost } else { Error::NoDataKey })
    }

    /// lp(`siv/v1/lost-data-key`, realm, tenant, data key id, id and version of the KEK).
    fn marked(&self, mark: &LostDataKey) -> Vec<u8> {
        lp(&[
            b"siv/v1/lost-data-key",
            self.realm().as_bytes(),
            mark.tenant.as_bytes(),
            mark.data_key_id.as_bytes(),
            mark.kek_id.as_bytes(),
            &mark.kek_version.to_be_bytes(),
        ])
    }
}

//! The MAC of rows that decide, and the check that none is older than what the log says (docs/formats.md section 5).

use sha2::{Digest, Sha256};

use super::Error;
use super::batch::{Newest, SealedRow, Stored};
use super::rows::DecidingRow;
use crate::access_log::{Leaf, ObjectVersion};
use crate::domain::text::hex;
use crate::keys::{Keys, MacPurpose};

/// Makes and checks rows that decide: one type for all of them.
pub(in crate::store) struct RowSeal {
    keys: Keys,
}

impl RowSeal {
    pub(in crate::store) const fn new(keys: Keys) -> Self {
        Self { keys }
    }

    /// The row with its MAC.
    pub(in crate::store) fn seal(&self, row: DecidingRow) -> SealedRow {
        let key = self.keys.mac(MacPurpose::Config);
        let mac = key.mac(&row.authenticated_bytes(self.keys.realm()));
        SealedRow { row, mac, mac_key_id: key.id() }
    }

    /// The row, if it is what was written and nothing newer was.
    pub(in crate::store) fn check(&self, stored: Stored) -> Result<DecidingRow, Error> {
        let Stored { sealed: SealedRow { row, mac, mac_key_id }, newest } = stored;
        let refused = || {
            tracing::error!(table = row.table.as_str(), key = %row.key, tenant = %row.tenant, "a row was tampered with");
            Error::Tampered(row.table.as_str())
        };
        let bytes = row.authenticated_bytes(self.keys.realm());
        let key = self.keys.mac_by_id(MacPurpose::Config, mac_key_id).ok_or_else(refused)?;
        if !key.verify(&bytes, &mac) {
            return Err(refused());
        }
        let fresh = newest.is_none_or(|newest| is_newest(&row, &bytes, &newest));
        if fresh { Ok(row) } else { Err(refused()) }
    }
}

/// Whether the newest entry of the row's object speaks of this version and these bytes, or of an older version. The column
/// it was found by must say what its leaf says: else an older entry could be made to look like the newest.
fn is_newest(row: &DecidingRow, bytes: &[u8], newest: &Newest) -> bool {
    let digest = Sha256::digest(bytes).into();
    let own = ObjectVersion { table: row.table.as_str(), key: row.key.clone(), version: row.version, digest };
    // Nearly always it is the very entry of this version.
    if newest.version == row.version && Leaf::holds(&newest.leaf, &row.tenant, &own) {
        return true;
    }
    let Ok(entry) = Leaf::parse(&newest.leaf) else { return false };
    let Some(object) = entry.object else { return false };
    let same = entry.tenant == row.tenant && object.table == row.table.as_str() && object.key == row.key;
    same && object.version == newest.version
        && (object.version < row.version || object.version == row.version && object.digest == hex::encode(&own.digest))
}

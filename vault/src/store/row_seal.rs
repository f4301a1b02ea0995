//! The MAC of rows that decide, and the check that none is older than what the log says (docs/formats.md section 5).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::Error;
use super::batch::{SealedRow, Stored};
use super::rows::{DecidingRow, Table};
use crate::access_log::Leaf;
use crate::domain::text::hex;
use crate::keys::{Keys, MacPurpose};

/// So many sessions' versions are remembered before the oldest half goes: far more than live in one hour.
const REMEMBERED: usize = 1 << 18;

/// Makes and checks rows that decide: one type for all of them.
pub(in crate::store) struct RowSeal {
    keys: Keys,
    /// The highest version of each capture session this node has seen. Sessions change with every capture and leave
    /// no version in the log, so a row that is put back shows here.
    sessions: Mutex<HashMap<String, u64>>,
}

impl RowSeal {
    pub(in crate::store) fn new(keys: Keys) -> Self {
        Self { keys, sessions: Mutex::new(HashMap::new()) }
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
        let key = self.keys.mac_by_id(mac_key_id).ok_or_else(refused)?;
        if !key.verify(&bytes, &mac) {
            return Err(refused());
        }
        let fresh = match row.table {
            Table::CaptureSessions => self.saw_session(&row.key, row.version),
            _ => newest.is_none_or(|leaf| is_newest(&row, &bytes, &leaf)),
        };
        if fresh { Ok(row) } else { Err(refused()) }
    }

    /// Remembers a session's version; false if a higher one was seen.
    pub(in crate::store) fn saw_session(&self, key: &str, version: u64) -> bool {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= REMEMBERED {
            forget_older_half(&mut sessions);
        }
        let highest = sessions.entry(key.to_owned()).or_insert(version);
        let fresh = version >= *highest;
        *highest = version.max(*highest);
        fresh
    }
}

/// Ids of sessions are ordered by their time.
fn forget_older_half(sessions: &mut HashMap<String, u64>) {
    let mut keys: Vec<String> = sessions.keys().cloned().collect();
    keys.sort_unstable();
    if let Some(middle) = keys.get(keys.len() / 2) {
        sessions.retain(|key, _| key >= middle);
    }
}

/// Whether the newest entry of the row's object speaks of this version and these bytes, or of an older version.
fn is_newest(row: &DecidingRow, bytes: &[u8], leaf: &[u8]) -> bool {
    let Ok(entry) = Leaf::parse(leaf) else { return false };
    let Some(object) = entry.object else { return false };
    let same = entry.tenant == row.tenant && object.table == row.table.as_str() && object.key == row.key;
    same && (object.version < row.version
        || object.version == row.version && object.digest == hex::encode(&Sha256::digest(bytes)))
}

//! One key of a customer's token stands behind one version of one tenant: what a version's key is known by is claimed in the
//! commit that writes the version, so that of two that name one key in the same moment one comes first. It only keeps them
//! apart: rows of KEKs decide. A tenant's first version is claimed in the same way: of two that make one tenant at once, only
//! one gives it a key.

use sha2::{Digest as _, Sha256};

use super::records::Body as _;
use super::rows::{DecidingRow, Table};
use crate::domain::lp;
use crate::domain::text::hex;
use crate::keys::{KekRecord, KekState};

/// What the write of a version's row does to its claims.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Claims {
    /// It takes these.
    Taken(Vec<String>),
    /// They are free again: its key is gone.
    Over,
}

impl Claims {
    /// What the write of this row changes; nothing for most.
    pub(in crate::store) fn of(row: &DecidingRow, is_new: bool) -> Option<Self> {
        let kek = Some(row).filter(|row| row.table == Table::Keks).and_then(|row| KekRecord::from_row(row).ok())?;
        if is_new {
            let first = (kek.version == 1).then(|| {
                let claim = lp(&[b"first version", row.tenant.as_bytes()]);
                hex::encode(&Sha256::digest(claim))
            });
            let of_token = kek.hsm.as_ref().map(|hsm| hsm.claims()).unwrap_or_default();
            return Some(Self::Taken(of_token.into_iter().chain(first).collect()));
        }
        match &kek.hsm {
            Some(_) if kek.state == KekState::Destroyed => Some(Self::Over),
            _ => None,
        }
    }
}

/// Whose claims they are: tenant and version.
pub(in crate::store) fn owner(row: &DecidingRow) -> String {
    format!("{}/{}", row.tenant, row.key)
}

//! One key of a customer's token stands behind one version of one tenant: what a version's key is known by is claimed in the
//! commit that writes the version, so that of two that name one key in the same moment one comes first. It only keeps them
//! apart: rows of KEKs decide.

use super::records::Body as _;
use super::rows::{DecidingRow, Table};
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
        match &kek.hsm {
            Some(hsm) if is_new => Some(Self::Taken(hsm.claims())),
            Some(_) if kek.state == KekState::Destroyed => Some(Self::Over),
            _ => None,
        }
    }
}

/// Whose claims they are: tenant and version.
pub(in crate::store) fn owner(row: &DecidingRow) -> String {
    format!("{}/{}", row.tenant, row.key)
}

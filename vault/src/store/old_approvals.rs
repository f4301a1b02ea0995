//! Approvals whose end is long ago: their rows go, what was asked and given stays in the log.
//!
//! Until then whoever names one is told why it cannot be given, and a row that somebody took away is missed.

use std::time::Duration;

use super::approvals::{ApprovalRecord, LASTS};
use super::records::Body as _;
use super::rows::{DecidingRow, Table};
use super::{Error, Store, engine};
use crate::domain::{ApprovalId, TenantName, Timestamp};

/// So long after its end an approval is still known.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What was asked for before this moment may be gone.
fn horizon(now: Timestamp) -> Timestamp {
    let back = u64::try_from((KEPT + LASTS).as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(back))
}

/// Whether a row that an entry speaks of may be absent because it went by the clock: an id begins with its time.
pub(in crate::store) fn may_be_gone(table: Table, key: &str, now: Timestamp) -> bool {
    let is_old = |id: ApprovalId| id.time() < horizon(now);
    table == Table::Approvals && key.parse().is_ok_and(is_old)
}

/// Whether nothing can come of it any more, and for so long that nobody need be told why. What is approved and not yet done to
/// its end stays, however old it is: a shredding may wait for a token.
fn is_over(record: &ApprovalRecord, now: Timestamp) -> bool {
    let ended = match record.state(now) {
        "completed" => record.completed_at,
        "expired" => Some(record.expires_at),
        _ => None,
    };
    record.approval_id.time() < horizon(now) && ended.is_some_and(|end| end.plus(KEPT) <= now)
}

impl Store {
    /// Removes approvals whose end is long ago; how many. A tenant whose rows do not read keeps no other's.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn purge_approvals(&self) -> Result<u64, Error> {
        // It cannot be undone.
        let now = self.clock().surely();
        let oldest = ApprovalId::from_bytes(first_bytes(horizon(now))).to_string();
        let mut gone = 0;
        for tenant in engine!(self, tenants_with_approvals_before(&oldest))? {
            match self.purge_approvals_of(&tenant, now).await {
                Ok(count) => gone += count,
                Err(error @ (Error::Tampered(_) | Error::Unreadable(_))) => {
                    tracing::error!(%tenant, %error, "approvals that are over cannot be judged; they stay");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    async fn purge_approvals_of(&self, tenant: &TenantName, now: Timestamp) -> Result<u64, Error> {
        let mut gone = 0;
        for row in self.rows(Table::Approvals, tenant).await? {
            let record = ApprovalRecord::from_row(&row)?;
            let DecidingRow { key, version, .. } = &row;
            // The row's key, not the record's id, is what a later look goes by.
            if is_over(&record, now) && may_be_gone(Table::Approvals, key, now) {
                gone += engine!(self, remove_approval(key, *version, tenant))?;
            }
        }
        Ok(gone)
    }
}

/// The smallest id of this time: its first 48 bits.
fn first_bytes(at: Timestamp) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&at.as_millis().to_be_bytes()[2..]);
    bytes
}

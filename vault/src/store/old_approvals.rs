//! Approvals whose end is long ago: their rows go, what was asked and given stays in the log.
//!
//! Until then whoever names one is told why it cannot be given, and a row that somebody took away is missed.

use std::time::Duration;

use super::approvals::{ApprovalRecord, LASTS};
use super::records::Body as _;
use super::rows::Table;
use super::{Error, Store, engine};
use crate::access_log::{Leaf, ParsedEntry};
use crate::domain::{ApprovalId, TenantName, Timestamp};

/// So long after its end an approval is still known.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// So many are looked at in one reading.
const AT_ONCE: u32 = 256;

/// What was asked for before this moment may be gone.
fn horizon(now: Timestamp) -> Timestamp {
    let back = u64::try_from((KEPT + LASTS).as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(back))
}

/// Whether somebody took away a row that is not there: entries speak of it, `said` the newest of them, and it did not go by the clock.
pub(in crate::store) fn is_missing(table: Table, key: &str, said: &[Vec<u8>], now: Timestamp) -> bool {
    let may_be_gone = || table == Table::Approvals && is_old(key, now) && !is_carried_out_here(said);
    !said.is_empty() && !may_be_gone()
}

/// Whether an approval was asked for before the horizon: an id begins with its time.
fn is_old(key: &str, now: Timestamp) -> bool {
    key.parse().is_ok_and(|id: ApprovalId| id.time() < horizon(now))
}

/// Whether it was given for what the vault then does to its end, and that end was not said: such a row never goes, or who took it
/// away would keep a tenant's end from being finished. What does not read may be what says so.
fn is_carried_out_here(said: &[Vec<u8>]) -> bool {
    let Ok(said) = said.iter().map(|leaf| Leaf::parse(leaf)).collect::<Result<Vec<_>, _>>() else { return true };
    let is_done = |entry: &ParsedEntry| matches!(&*entry.action, "key.approval.used" | "key.tenant.shredded");
    let is_given =
        |entry: &ParsedEntry| entry.action == "key.approval.given" && entry.fact("act") == Some("shred-tenant");
    said.iter().any(is_given) && !said.iter().any(is_done)
}

/// Whether nothing can come of it any more, and for so long that nobody need be told why. What is approved and not yet done to
/// its end stays, however old it is: a shredding may wait for a token.
fn is_over(record: &ApprovalRecord, now: Timestamp) -> bool {
    let ended = match record.state(now) {
        "completed" => record.completed_at,
        "expired" => Some(record.expires_at),
        "withdrawn" => record.withdrawn_at,
        _ => None,
    };
    record.approval_id.time() < horizon(now) && ended.is_some_and(|end| end.plus(KEPT) <= now)
}

impl Store {
    /// Removes approvals whose end is long ago; how many. A tenant whose rows do not read, or of which there are too many, keeps no
    /// other's.
    ///
    /// # Errors
    /// [`Error::Database`] if the tenants cannot be listed.
    pub async fn purge_approvals(&self) -> Result<u64, Error> {
        // It cannot be undone.
        let now = self.clock().surely();
        let mut gone = 0;
        for tenant in self.tenants().await? {
            match self.purge_approvals_of(&tenant, now).await {
                Ok(count) => gone += count,
                Err(error) => {
                    tracing::error!(%tenant, %error, "approvals that are over could not be judged; they stay for now");
                }
            }
        }
        Ok(gone)
    }

    async fn purge_approvals_of(&self, tenant: &TenantName, now: Timestamp) -> Result<u64, Error> {
        let oldest = ApprovalId::from_bytes(first_bytes(horizon(now))).to_string();
        let (mut gone, mut after) = (0, String::new());
        loop {
            let keys = engine!(self, approvals_between((&after, &oldest), AT_ONCE, tenant))?;
            let Some(last) = keys.last() else { return Ok(gone) };
            after.clone_from(last);
            for key in keys {
                // One that does not read stays, and keeps no other.
                match self.purge_approval(&key, tenant, now).await {
                    Ok(count) => gone += count,
                    Err(error @ (Error::Tampered(_) | Error::Unreadable(_))) => {
                        tracing::error!(%tenant, approval = key, %error, "an approval that is over cannot be judged; it stays");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn purge_approval(&self, key: &str, tenant: &TenantName, now: Timestamp) -> Result<u64, Error> {
        let Some(row) = self.row(Table::Approvals, tenant, key).await? else { return Ok(0) };
        // The row's key, not the record's id, is what a later look goes by.
        if is_over(&ApprovalRecord::from_row(&row)?, now) && is_old(key, now) {
            engine!(self, remove_approval(key, row.version, tenant))
        } else {
            Ok(0)
        }
    }
}

/// The smallest id of this time: its first 48 bits.
fn first_bytes(at: Timestamp) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&at.as_millis().to_be_bytes()[2..]);
    bytes
}

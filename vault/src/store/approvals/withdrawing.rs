//! Requests that nothing comes of: those that a custodian takes back, and those that others' acts ended.

use super::{ApprovalRecord, Over, entry};
use crate::domain::{ApprovalId, CredentialId, Timestamp};
use crate::keys::{KekRecord, KekState};
use crate::store::administration::Administrator;
use crate::store::approvals::TwoPersonAct;
use crate::store::decree::Decree;
use crate::store::kek_rotation::rank;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::tenants::Ground;
use crate::store::{Error, TenantCatalog};

/// What a withdrawal came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for each withdrawal and consumed at once")]
pub enum Withdrawn {
    /// Nobody can approve it any more, nor carry it out.
    Done(ApprovalRecord),
    /// No such request.
    Absent,
    /// It cannot be taken back.
    Over(Over),
}

/// Takes a request back, or the approval of one that waits to be carried out. Any custodian of the tenant may: what is destroyed by
/// nobody can be asked for again.
///
/// # Errors
/// Those of the committer.
pub async fn withdraw(
    by: &Administrator,
    custodian: CredentialId,
    id: ApprovalId,
    ground: Ground<'_>,
) -> Result<Withdrawn, Error> {
    let (tenant, store) = (&by.tenant, ground.store);
    let Some(row) = store.row(Table::Approvals, tenant, &id.to_string()).await? else { return Ok(Withdrawn::Absent) };
    let asked = ApprovalRecord::from_row(&row)?;
    let now = store.clock().now();
    match (asked.state(now), &asked.act) {
        ("requested", _) | ("approved", TwoPersonAct::LeaveToken { .. }) => {}
        ("withdrawn", _) => return Ok(Withdrawn::Over(Over::TakenBack)),
        ("expired", _) => return Ok(Withdrawn::Over(Over::Expired)),
        _ => return Ok(Withdrawn::Over(Over::Used)),
    }
    let record = ApprovalRecord { withdrawn_by: Some(custodian), withdrawn_at: Some(now), ..asked };
    let mut decree = Decree::new(by.clone());
    let entry = entry(&decree, "approval.withdrawn", &record, by);
    decree.push(record.to_row(tenant, &row.key, row.version + 1)?, entry);
    match decree.submit(ground.committer).await? {
        Some(_) => Ok(Withdrawn::Done(record)),
        // It was approved in this very moment, or taken back by somebody else.
        None => Ok(Withdrawn::Over(Over::Changed)),
    }
}

/// What became of a request, held to the tenant as it is: one that nobody can approve or carry out any more does not say that it
/// waits. It tells people; what decides is read again where it is approved.
#[must_use]
pub fn standing(record: &ApprovalRecord, settings: &TenantCatalog, now: Timestamp) -> &'static str {
    match record.state(now) {
        waits @ ("requested" | "approved") if record.completed_at.is_none() && !is_begun(record) => {
            let asker = settings.credentials.get(&record.requested_by);
            if !asker.is_some_and(|(_, stored)| stored.record.is_in_force(now)) {
                "withdrawn"
            } else if is_possible(&record.act, settings) {
                waits
            } else {
                "changed"
            }
        }
        over => over,
    }
}

/// Whether the vault itself does what is left of it, whatever becomes of keys and credentials.
fn is_begun(record: &ApprovalRecord) -> bool {
    record.approved_by.is_some() && matches!(record.act, TwoPersonAct::ShredTenant { .. })
}

/// Whether the tenant is still as it was when the act was asked for.
fn is_possible(act: &TwoPersonAct, settings: &TenantCatalog) -> bool {
    match act {
        TwoPersonAct::ShredTenant { keks, .. } => {
            let mut named: Vec<&String> = keks.iter().collect();
            named.sort();
            let alive = settings.keks.iter().filter(|(_, (_, kek))| !kek.state.is_over()).map(|(key, _)| key);
            alive.eq(named)
        }
        TwoPersonAct::LeaveStrict { settings: version, .. } => {
            settings.tenant.cache_seconds == 0 && settings.tenant_version == *version
        }
        TwoPersonAct::LeaveToken { kek, .. } => {
            let newest = settings.keks.values().map(|(_, kek)| kek).max_by_key(|kek| rank(kek));
            newest.is_some_and(|newest| rank(newest).is_some() && newest.row_key() == *kek)
        }
        TwoPersonAct::LoseVersion { kek, row, .. } => {
            let may_end = |kek: &KekRecord| kek.state.may_become(KekState::Lost) && !kek.state.may_wrap();
            settings.keks.get(kek).is_some_and(|(version, kek)| version == row && may_end(kek))
        }
    }
}

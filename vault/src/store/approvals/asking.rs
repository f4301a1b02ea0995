//! How an act is asked for: once, however often it is said, and not without an end.

use std::collections::BTreeSet;

use super::{ApprovalRecord, LASTS, entry, in_force};
use crate::domain::{ApprovalId, CredentialId, TenantName, Timestamp};
use crate::keys::{KekRecord, ProviderRecord};
use crate::store::administration::Administrator;
use crate::store::approvals::TwoPersonAct;
use crate::store::decree::Decree;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::tenants::Ground;
use crate::store::{Error, Store};

/// So many requests of one credential wait for their second person: all that wait are read where one is looked for. They are
/// counted before the commit, so that some that come in the same moment may be more; it is no limit that anything rests on.
const MOST_OPEN: usize = 16;

/// Notes what a custodian asks for. Exactly the same act that waits already, whoever asked for it, is answered with that request: two
/// persons compare one digest, and nobody approves one of two that are about the same.
///
/// # Errors
/// [`Error::TooManyOpen`]; those of the committer.
pub async fn request(
    by: &Administrator,
    custodian: CredentialId,
    act: TwoPersonAct,
    ground: Ground<'_>,
) -> Result<ApprovalRecord, Error> {
    let now = ground.store.clock().now();
    let open = open(&by.tenant, now, ground.store).await?;
    for record in open.iter().filter(|record| record.act == act) {
        if in_force(record.requested_by, &by.tenant, ground.store).await?.is_some() {
            return Ok(record.clone());
        }
    }
    if open.iter().filter(|record| record.requested_by == custodian).count() >= MOST_OPEN {
        return Err(Error::TooManyOpen);
    }
    let record = ApprovalRecord {
        approval_id: ApprovalId::generate(now),
        act,
        requested_by: custodian,
        requested_at: now,
        expires_at: now.plus(LASTS),
        approved_by: None,
        approved_at: None,
        completed_at: None,
        withdrawn_by: None,
        withdrawn_at: None,
    };
    let mut decree = Decree::new(by.clone());
    let mut entry = entry(&decree, "approval.requested", &record, by);
    entry.facts.extend(tokens(&record.act, &by.tenant, ground.store).await?.map(|tokens| ("ofTokens", tokens)));
    decree.push(record.to_row(&by.tenant, &record.approval_id.to_string(), 1)?, entry);
    decree.submit(ground.committer).await?.ok_or(Error::Conflict)?;
    Ok(record)
}

/// The requests that wait for their second person.
async fn open(tenant: &TenantName, now: Timestamp, store: &Store) -> Result<Vec<ApprovalRecord>, Error> {
    let rows = store.rows(Table::Approvals, tenant).await?;
    let all = rows.iter().map(ApprovalRecord::from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|record| record.state(now) == "requested").collect())
}

/// The tokens in which the versions lie that an act is about, by their labels, else their serial numbers: who reads the log years later
/// has no row to look at.
async fn tokens(act: &TwoPersonAct, tenant: &TenantName, store: &Store) -> Result<Option<String>, Error> {
    let mut found = BTreeSet::new();
    for row in store.rows(Table::Keks, tenant).await?.iter().filter(|row| act.names(&row.key)) {
        let Some(hsm) = KekRecord::from_row(row)?.hsm else { continue };
        let Some(row) = store.row(Table::KeyProviders, tenant, &hsm.provider.to_string()).await? else { continue };
        let token = ProviderRecord::from_row(&row)?.token;
        found.extend(token.label.or(token.serial));
    }
    Ok((!found.is_empty()).then(|| found.into_iter().collect::<Vec<_>>().join(", ")))
}

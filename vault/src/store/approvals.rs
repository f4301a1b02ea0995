//! What one custodian asks for and a second one has to approve: bound to exactly the act, used once, over after a day.
//!
//! The rows are authenticated as all rows that decide; that the two are not the same credential is judged on them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::administration::Administrator;
use super::decree::Decree;
use super::records::{Body, StoredCredential};
use super::rows::Table;
use super::tenants::Ground;
use super::{Error, shredding};
use crate::access_log::{Action, Entry, Receipt};
use crate::domain::text::hex;
use crate::domain::{ApprovalId, CredentialId, Realm, Tenant, TenantName, Timestamp, lp};

/// So long a request waits for its second person.
const LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// An act of a tenant that takes two of its custodians.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TwoPersonAct {
    /// Destroy every KEK version of the tenant: these, and no others, are there when it is done.
    ShredTenant {
        /// Their rows' keys, in order.
        keks: Vec<String>,
    },
    /// Let opened data keys stay in memory, where each read asked the key provider before.
    LeaveStrict {
        /// For how long.
        cache_seconds: u16,
    },
}

impl TwoPersonAct {
    /// Its name in answers and entries.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ShredTenant { .. } => "shred-tenant",
            Self::LeaveStrict { .. } => "leave-strict",
        }
    }
}

/// An approval, asked for or given: body of a row of `Table::Approvals`, key: its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalRecord {
    /// Its id.
    pub approval_id: ApprovalId,
    /// What is asked for.
    pub act: TwoPersonAct,
    /// Who asked.
    pub requested_by: CredentialId,
    /// When.
    pub requested_at: Timestamp,
    /// When nobody can approve it any more.
    pub expires_at: Timestamp,
    /// Who approved.
    pub approved_by: Option<CredentialId>,
    /// When.
    pub approved_at: Option<Timestamp>,
    /// When what was approved was done to its end.
    pub completed_at: Option<Timestamp>,
}

impl Body for ApprovalRecord {
    const TABLE: Table = Table::Approvals;
}

impl ApprovalRecord {
    /// SHA-256 over lp(`siv/v1/approval`, realm, tenant, id, the act as canonical JSON): what the second person can compare.
    #[must_use]
    pub fn digest(&self, tenant: &TenantName, realm: &Realm) -> String {
        let act = serde_json::to_vec(&self.act).unwrap_or_default();
        let bytes = lp(&[b"siv/v1/approval", realm.as_bytes(), tenant.as_bytes(), self.approval_id.as_bytes(), &act]);
        hex::encode(&Sha256::digest(bytes))
    }

    /// What became of it by `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> &'static str {
        match (self.completed_at, self.approved_by) {
            (Some(_), _) => "completed",
            (None, Some(_)) => "approved",
            (None, None) if self.expires_at <= now => "expired",
            (None, None) => "requested",
        }
    }
}

/// What an approval came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for each approval and consumed at once")]
pub enum Approved {
    /// It is given, and what it was for is done.
    Done {
        /// As it stands now.
        record: ApprovalRecord,
        /// The receipt of the entry that says that the tenant is shredded.
        receipt: Option<Receipt>,
    },
    /// No such approval.
    Absent,
    /// Whoever asked cannot approve.
    Own,
    /// Expired, used, withdrawn with its requester's credential, or no longer what was asked for.
    Over,
}

/// Notes what a custodian asks for.
///
/// # Errors
/// Those of the committer.
pub async fn request(
    by: &Administrator,
    custodian: CredentialId,
    act: TwoPersonAct,
    ground: Ground<'_>,
) -> Result<ApprovalRecord, Error> {
    let now = ground.store.clock().now();
    let record = ApprovalRecord {
        approval_id: ApprovalId::generate(now),
        act,
        requested_by: custodian,
        requested_at: now,
        expires_at: now.plus(LASTS),
        approved_by: None,
        approved_at: None,
        completed_at: None,
    };
    let mut decree = Decree::new(by.clone());
    let entry = entry(&decree, "approval.requested", &record, by);
    decree.push(record.to_row(&by.tenant, &record.approval_id.to_string(), 1)?, entry);
    decree.submit(ground.committer).await?.ok_or(Error::Conflict)?;
    Ok(record)
}

/// Approves as a second custodian, and does what was asked for. `digest`, where it is given, must be that of the act. The
/// same custodian may ask again: then what was left is finished.
///
/// # Errors
/// [`Error::Stale`] if the tenant's settings moved meanwhile; [`Error::Keys`]; those of the committer.
pub async fn approve(
    by: &Administrator,
    custodian: CredentialId,
    (id, digest): (ApprovalId, Option<&str>),
    ground: Ground<'_>,
) -> Result<Approved, Error> {
    let (tenant, store) = (&by.tenant, ground.store);
    let Some(row) = store.row(Table::Approvals, tenant, &id.to_string()).await? else { return Ok(Approved::Absent) };
    let asked = ApprovalRecord::from_row(&row)?;
    if asked.requested_by == custodian {
        return Ok(Approved::Own);
    }
    if digest.is_some_and(|digest| digest != asked.digest(tenant, &by.realm)) || !holds(&asked, tenant, ground).await? {
        return Ok(Approved::Over);
    }
    match asked.approved_by {
        Some(approver) if approver == custodian => return done(by, asked, ground).await,
        Some(_) => return Ok(Approved::Over),
        None => {}
    }
    let now = store.clock().now();
    let given = ApprovalRecord { approved_by: Some(custodian), approved_at: Some(now), ..asked };
    let mut decree = Decree::new(by.clone()).until(given.expires_at);
    let given = match &given.act {
        TwoPersonAct::ShredTenant { keks } => {
            if !shredding::begin(&mut decree, keks, ground).await? {
                return Ok(Approved::Over);
            }
            given
        }
        TwoPersonAct::LeaveStrict { cache_seconds } => {
            if !leave_strict(&mut decree, *cache_seconds, ground).await? {
                return Ok(Approved::Over);
            }
            ApprovalRecord { completed_at: Some(now), ..given }
        }
    };
    let entry = entry(&decree, "approval.given", &given, by);
    decree.push(given.to_row(tenant, &row.key, row.version + 1)?, entry);
    if decree.submit(ground.committer).await?.is_none() {
        return Ok(Approved::Over);
    }
    done(by, given, ground).await
}

/// Does what is left of an approved act.
async fn done(by: &Administrator, record: ApprovalRecord, ground: Ground<'_>) -> Result<Approved, Error> {
    if record.completed_at.is_some() {
        return Ok(Approved::Done { record, receipt: None });
    }
    ground.keys.forget_tenant(&by.tenant);
    let receipt = shredding::finish(by, ground).await?;
    let row = ground.store.row(Table::Approvals, &by.tenant, &record.approval_id.to_string()).await?;
    let record = row.map_or(Ok(record), |row| ApprovalRecord::from_row(&row))?;
    Ok(Approved::Done { record, receipt })
}

/// Whether the credential that asked still holds: a custodian who was sent away has asked for nothing.
async fn holds(asked: &ApprovalRecord, tenant: &TenantName, ground: Ground<'_>) -> Result<bool, Error> {
    if asked.approved_by.is_some() {
        return Ok(true);
    }
    let row = ground.store.row(Table::Credentials, tenant, &asked.requested_by.to_string()).await?;
    let stored = row.as_ref().map(StoredCredential::from_row).transpose()?;
    let now = ground.store.clock().now();
    Ok(stored.is_some_and(|StoredCredential { record, .. }| {
        record.revoked_at.is_none() && !record.suspended && record.expires_at.is_none_or(|end| end > now)
    }))
}

/// The tenant's row with another cache time, if it is strict still.
async fn leave_strict(decree: &mut Decree, cache_seconds: u16, ground: Ground<'_>) -> Result<bool, Error> {
    let name = decree.tenant().clone();
    let row = ground.store.row(Table::Tenants, &name, name.as_str()).await?.ok_or(Error::Conflict)?;
    let tenant = Tenant::from_row(&row)?;
    if tenant.cache_seconds != 0 {
        return Ok(false);
    }
    push_cache(decree, (row.version, tenant), cache_seconds)?;
    Ok(true)
}

/// Changes how long opened data keys may stay in memory, where that takes no second person.
///
/// # Errors
/// [`Error::Conflict`] if another change came first; those of the committer.
pub async fn set_cache(
    by: &Administrator,
    (version, tenant): (u64, Tenant),
    seconds: u16,
    ground: Ground<'_>,
) -> Result<(), Error> {
    let mut decree = Decree::new(by.clone());
    push_cache(&mut decree, (version, tenant), seconds)?;
    decree.submit(ground.committer).await?.map(|_| ()).ok_or(Error::Conflict)
}

fn push_cache(decree: &mut Decree, (version, tenant): (u64, Tenant), cache_seconds: u16) -> Result<(), Error> {
    let mut entry = decree.entry(Action::Admin("tenant.cache"));
    entry.facts = vec![("before", tenant.cache_seconds.to_string()), ("seconds", cache_seconds.to_string())];
    let name = tenant.name.clone();
    let changed = Tenant { cache_seconds, ..tenant };
    decree.push(changed.to_row(&name, name.as_str(), version + 1)?, entry);
    Ok(())
}

/// What the log says of an approval: enough to know what was asked for without the row.
fn entry(decree: &Decree, act: &'static str, record: &ApprovalRecord, by: &Administrator) -> Entry {
    let mut entry = decree.entry(Action::Key(act));
    entry.facts = vec![
        ("approval", record.approval_id.to_string()),
        ("act", record.act.as_str().to_owned()),
        ("digest", record.digest(&by.tenant, &by.realm)),
        ("requestedBy", record.requested_by.to_string()),
    ];
    match &record.act {
        TwoPersonAct::ShredTenant { keks } => entry.facts.push(("keks", keks.join(" "))),
        TwoPersonAct::LeaveStrict { cache_seconds } => entry.facts.push(("seconds", cache_seconds.to_string())),
    }
    entry
}

//! What one custodian asks for and a second one has to approve: bound to exactly the act, used once, over after a day.
//!
//! The rows are authenticated as all rows that decide; that the two are not the same credential is judged on them.

mod asking;
mod over;
mod withdrawing;

use std::time::Duration;

pub use asking::request;
pub use over::Over;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
pub use withdrawing::{Withdrawn, standing, withdraw};

use super::administration::Administrator;
use super::decree::Decree;
use super::kek_rotation::{self, Target};
use super::records::{Body, StoredCredential};
use super::rows::{DecidingRow, Table};
use super::tenants::Ground;
pub use super::two_person_act::{Place, TwoPersonAct};
use super::{Error, Store, lost_version, shredding};
use crate::access_log::{Action, Entry, Receipt};
use crate::domain::text::hex;
use crate::domain::{ApprovalId, CredentialId, Realm, Tenant, TenantName, Timestamp, lp};

/// So long a request waits for its second person, and what was approved to be carried out.
pub(in crate::store) const LASTS: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// Which custodian took it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_by: Option<CredentialId>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_at: Option<Timestamp>,
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
        let ended = self.expires_at <= now;
        match (self.completed_at, self.approved_by, &self.act) {
            (Some(_), ..) => "completed",
            _ if self.withdrawn_at.is_some() => "withdrawn",
            (None, None, _) if ended => "expired",
            // What a person has to carry out; the vault finishes the rest, however long it takes.
            (None, Some(_), TwoPersonAct::LeaveToken { .. }) if ended => "expired",
            (None, Some(_), _) => "approved",
            (None, None, _) => "requested",
        }
    }

    /// What the log says of it.
    pub(in crate::store) fn facts(&self, tenant: &TenantName, realm: &Realm) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("approval", self.approval_id.to_string()),
            ("act", self.act.as_str().to_owned()),
            ("digest", self.digest(tenant, realm)),
            ("requestedBy", self.requested_by.to_string()),
        ];
        facts.extend(self.act.facts());
        facts
    }
}

/// What an approval came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for each approval and consumed at once")]
pub enum Approved {
    /// It is given, and what it was for is done, or can be done by who asked.
    Done {
        /// As it stands now.
        record: ApprovalRecord,
        /// The receipt of the entry that says that the tenant is shredded.
        receipt: Option<Receipt>,
        /// Why keys that are to end have not ended yet, in words for a person.
        waiting: Option<&'static str>,
    },
    /// No such approval.
    Absent,
    /// Whoever asked cannot approve.
    Own,
    /// It cannot be given any more.
    Over(Over),
}

/// Approves as a second custodian, and does what was asked for; what needs a PIN is done when who asked says it again.
/// `digest`, where it is given, must be that of the act. The same custodian may ask again: then what was left is finished.
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
    let now = store.clock().now();
    if let Some(over) = over(&asked, (custodian, digest), by, ground).await? {
        return Ok(Approved::Over(over));
    }
    if asked.approved_by.is_some() {
        return done(by, asked, ground).await;
    }
    let given = ApprovalRecord { approved_by: Some(custodian), approved_at: Some(now), ..asked };
    let mut decree = Decree::new(by.clone()).until(given.expires_at);
    let given = match &given.act {
        TwoPersonAct::ShredTenant { keks, .. } => {
            if !shredding::begin(&mut decree, keks, ground).await? {
                return Ok(Approved::Over(Over::Changed));
            }
            given
        }
        TwoPersonAct::LeaveStrict { cache_seconds, settings } => {
            if !leave_strict(&mut decree, (*cache_seconds, *settings), ground).await? {
                return Ok(Approved::Over(Over::Changed));
            }
            ApprovalRecord { completed_at: Some(now), ..given }
        }
        TwoPersonAct::LeaveToken { kek, place } => {
            if !kek_rotation::is_newest(kek, tenant, store).await? {
                return Ok(Approved::Over(Over::Changed));
            }
            if *place == Place::Local {
                return moved(by, (row.version, given), ground).await;
            }
            given
        }
        TwoPersonAct::LoseVersion { .. } => return lost_version::end(by, (row.version, given), ground).await,
    };
    let entry = entry(&decree, "approval.given", &given, by);
    decree.push(given.to_row(tenant, &row.key, row.version + 1)?, entry);
    if decree.submit(ground.committer).await?.is_none() {
        let late = given.expires_at <= store.clock().now();
        return Ok(Approved::Over(if late { Over::Expired } else { Over::Changed }));
    }
    done(by, given, ground).await
}

/// Why it cannot be given by this custodian, if it cannot.
async fn over(
    asked: &ApprovalRecord,
    (custodian, digest): (CredentialId, Option<&str>),
    by: &Administrator,
    ground: Ground<'_>,
) -> Result<Option<Over>, Error> {
    let (tenant, now) = (&by.tenant, ground.store.clock().now());
    if digest.is_some_and(|digest| digest != asked.digest(tenant, &by.realm)) {
        return Ok(Some(Over::Digest));
    }
    if asked.withdrawn_at.is_some() {
        return Ok(Some(Over::TakenBack));
    }
    if let Some(approver) = asked.approved_by {
        return Ok(Some(Over::Used).filter(|_| approver != custodian));
    }
    if asked.expires_at <= now {
        return Ok(Some(Over::Expired));
    }
    let asker = in_force(asked.requested_by, tenant, ground.store).await?;
    Ok(Some(Over::Withdrawn).filter(|_| asker.is_none()))
}

/// Makes the next version in the built-in KMS; the approval is given and used in the commit of the move.
async fn moved(
    by: &Administrator,
    (version, given): (u64, ApprovalRecord),
    ground: Ground<'_>,
) -> Result<Approved, Error> {
    let now = ground.store.clock().now();
    let record = ApprovalRecord { completed_at: Some(now), ..given };
    // The credential that asked is judged again where it is written: making a key takes its time.
    let Some(asked_by) = in_force(record.requested_by, &by.tenant, ground.store).await? else {
        return Ok(Approved::Over(Over::Withdrawn));
    };
    let permit = Permit { record: record.clone(), version, act: "approval.given", asked_by: Some(asked_by) };
    match kek_rotation::rotate_permitted(by, Target::Local, permit, now, ground).await {
        Ok(_) => Ok(Approved::Done { record, receipt: None, waiting: None }),
        Err(Error::Conflict) => Ok(Approved::Over(Over::Changed)),
        Err(error) => Err(error),
    }
}

/// An approval that is used up by the commit it permits.
pub(in crate::store) struct Permit {
    /// As it is after that.
    pub(in crate::store) record: ApprovalRecord,
    /// The version of its row that was read.
    pub(in crate::store) version: u64,
    /// What the entry calls it.
    pub(in crate::store) act: &'static str,
    /// Row of the credential that asked, and its version, where that is another than the one that acts.
    pub(in crate::store) asked_by: Option<(String, u64)>,
}

/// The approval of exactly this act that who asks now was given and has not used yet.
pub(in crate::store) async fn given(
    by: &Administrator,
    act: &TwoPersonAct,
    store: &Store,
) -> Result<Option<Permit>, Error> {
    let (Some(asker), now) = (by.asker(), store.clock().now()) else { return Ok(None) };
    for row in store.rows(Table::Approvals, &by.tenant).await? {
        let record = ApprovalRecord::from_row(&row)?;
        let own = record.requested_by.to_string() == asker.key && record.act == *act;
        if own && record.state(now) == "approved" {
            let record = ApprovalRecord { completed_at: Some(now), ..record };
            return Ok(Some(Permit { record, version: row.version, act: "approval.used", asked_by: None }));
        }
    }
    Ok(None)
}

/// The approvals of the tenant's end that are not finished yet, with their rows: several where two persons stated later that
/// a token is lost.
pub(in crate::store) async fn shreddings_under_way(
    tenant: &TenantName,
    store: &Store,
) -> Result<Vec<(DecidingRow, ApprovalRecord)>, Error> {
    let mut found = Vec::new();
    for row in store.rows(Table::Approvals, tenant).await? {
        let record = ApprovalRecord::from_row(&row)?;
        let is_shredding = matches!(record.act, TwoPersonAct::ShredTenant { .. });
        if is_shredding && record.approved_by.is_some() && record.completed_at.is_none() {
            found.push((row, record));
        }
    }
    Ok(found)
}

/// Does what is left of an approved act.
async fn done(by: &Administrator, record: ApprovalRecord, ground: Ground<'_>) -> Result<Approved, Error> {
    let is_shredding = matches!(record.act, TwoPersonAct::ShredTenant { .. });
    if record.completed_at.is_some() || !is_shredding {
        return Ok(Approved::Done { record, receipt: None, waiting: None });
    }
    ground.keys.forget_tenant(&by.tenant);
    let (receipt, waiting) = match shredding::finish(by, ground).await {
        // It is approved and begun, and goes on by itself when the token is back.
        Err(Error::Keys(error)) => {
            tracing::warn!(tenant = %by.tenant, %error, "a tenant's keys are not all ended yet");
            (None, Some(error.why_a_key_waits()))
        }
        receipt => (receipt?, None),
    };
    let row = ground.store.row(Table::Approvals, &by.tenant, &record.approval_id.to_string()).await?;
    let record = row.map_or(Ok(record), |row| ApprovalRecord::from_row(&row))?;
    Ok(Approved::Done { record, receipt, waiting })
}

/// The row of the credential that asked and its version, while it holds: a custodian who was sent away has asked for nothing.
pub(in crate::store) async fn in_force(
    requester: CredentialId,
    tenant: &TenantName,
    store: &Store,
) -> Result<Option<(String, u64)>, Error> {
    let row = store.row(Table::Credentials, tenant, &requester.to_string()).await?;
    let stored = row.as_ref().map(StoredCredential::from_row).transpose()?;
    let now = store.clock().now();
    let is_in_force = stored.is_some_and(|StoredCredential { record, .. }| record.is_in_force(now));
    Ok(row.filter(|_| is_in_force).map(|row| (row.key, row.version)))
}

/// The tenant's row with another cache time, if it is the one that was strict when that was asked for.
async fn leave_strict(
    decree: &mut Decree,
    (cache_seconds, settings): (u16, u64),
    ground: Ground<'_>,
) -> Result<bool, Error> {
    let name = decree.tenant().clone();
    let row = ground.store.row(Table::Tenants, &name, name.as_str()).await?.ok_or(Error::Conflict)?;
    let tenant = Tenant::from_row(&row)?;
    if tenant.cache_seconds != 0 || row.version != settings {
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

fn entry(decree: &Decree, act: &'static str, record: &ApprovalRecord, by: &Administrator) -> Entry {
    Entry { facts: record.facts(&by.tenant, &by.realm), ..decree.entry(Action::Key(act)) }
}

//! The end of a tenant's values: its KEKs are destroyed in the order of docs/formats.md section 4. First the database refuses
//! them, then the key store loses them, then the database says that they are gone. A start finishes what was left.

use super::administration::Administrator;
use super::approvals::{ApprovalRecord, TwoPersonAct};
use super::decree::Decree;
use super::kek_states::{push, versions};
use super::records::Body;
use super::rows::{DecidingRow, Table};
use super::tenants::Ground;
use super::{Error, Store};
use crate::access_log::{Action, Receipt};
use crate::domain::{Tenant, TenantName};
use crate::keys::{KekRecord, KekState};

/// What shredding a tenant destroys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Its KEK versions that are not destroyed yet.
    pub keks: Vec<KekRecord>,
    /// Data keys that they wrap.
    pub data_keys: u64,
    /// Values, spent and expired ones that wait for the purge included; a million says "a million or more".
    pub values: u64,
}

impl Extent {
    /// What would go now.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Tampered`].
    pub async fn of(tenant: &TenantName, store: &Store) -> Result<Self, Error> {
        let keks = alive(versions(tenant, store).await?).map(|(_, kek)| kek).collect();
        let data_keys = store.data_keys_by_kek(tenant).await?.iter().map(|(.., count)| count).sum();
        Ok(Self { keks, data_keys, values: store.count_values(tenant).await? })
    }

    /// The act that a second custodian has to approve.
    #[must_use]
    pub fn act(&self) -> TwoPersonAct {
        TwoPersonAct::ShredTenant { keks: self.keks.iter().map(KekRecord::row_key).collect() }
    }
}

fn alive(versions: Vec<(u64, KekRecord)>) -> impl Iterator<Item = (u64, KekRecord)> {
    versions.into_iter().filter(|(_, kek)| kek.state != KekState::Destroyed)
}

/// Adds to the decree of an approval what makes the tenant's keys useless at once and everywhere: no KEK is used any more,
/// and the tenant is sealed, which all nodes learn by its generation. False if these are not the keys that were named.
pub(in crate::store) async fn begin(decree: &mut Decree, keks: &[String], ground: Ground<'_>) -> Result<bool, Error> {
    let tenant = decree.tenant().clone();
    let found: Vec<_> = alive(versions(&tenant, ground.store).await?).collect();
    if !found.iter().map(|(_, kek)| kek.row_key()).eq(keks.iter().cloned()) {
        return Ok(false);
    }
    for (at, kek) in found.iter().filter(|(_, kek)| kek.state != KekState::Destroying) {
        push(decree, (*at, kek), KekState::Destroying)?;
    }
    let row = ground.store.row(Table::Tenants, &tenant, tenant.as_str()).await?.ok_or(Error::Conflict)?;
    let sealed = Tenant { sealed: true, ..Tenant::from_row(&row)? };
    let entry = decree.entry(Action::Admin("tenant.sealed"));
    decree.push(sealed.to_row(&tenant, tenant.as_str(), row.version + 1)?, entry);
    Ok(true)
}

/// Destroys what is named `destroying`, and completes what was approved. It can be run again from wherever it stopped, on any node.
/// The receipt of the entry that says that the tenant is shredded, if this call wrote it.
///
/// # Errors
/// [`Error::Keys`] if the key store cannot be written; those of the committer.
pub async fn finish(by: &Administrator, ground: Ground<'_>) -> Result<Option<Receipt>, Error> {
    let found = versions(&by.tenant, ground.store).await?;
    let mut failed = None;
    for (at, kek) in found.iter().filter(|(_, kek)| kek.state == KekState::Destroying) {
        // A token that is away keeps its own key, and no other.
        if let Err(error) = destroy((*at, kek), by, ground).await {
            failed = failed.or(Some(error));
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let ended = |(_, kek): &(u64, KekRecord)| matches!(kek.state, KekState::Destroying | KekState::Destroyed);
    if found.is_empty() || !found.iter().all(ended) {
        return Ok(None);
    }
    for row in ground.store.rows(Table::Approvals, &by.tenant).await? {
        let approval = ApprovalRecord::from_row(&row)?;
        if let TwoPersonAct::ShredTenant { keks } = &approval.act
            && approval.approved_by.is_some()
            && approval.completed_at.is_none()
        {
            return complete(by, (&row, &approval, keks), ground).await;
        }
    }
    Ok(None)
}

/// Destroys one version's key, then says so.
async fn destroy((at, kek): (u64, &KekRecord), by: &Administrator, ground: Ground<'_>) -> Result<(), Error> {
    ground.keys.destroy_kek(ground.store, &by.tenant, kek).await?;
    let mut decree = Decree::new(in_time(by, ground));
    push(&mut decree, (at, kek), KekState::Destroyed)?;
    // If another node said so first, it is said.
    decree.submit(ground.committer).await.map(|_| ())
}

/// The entry that a certificate of destruction is made from: all keys are gone by now.
async fn complete(
    by: &Administrator,
    (row, approval, keks): (&DecidingRow, &ApprovalRecord, &[String]),
    ground: Ground<'_>,
) -> Result<Option<Receipt>, Error> {
    let extent = Extent::of(&by.tenant, ground.store).await?;
    if !extent.keks.is_empty() {
        return Err(Error::Conflict);
    }
    let mut decree = Decree::new(in_time(by, ground));
    let mut entry = decree.entry(Action::Key(TENANT_SHREDDED));
    entry.facts = vec![
        ("approval", approval.approval_id.to_string()),
        ("requestedBy", approval.requested_by.to_string()),
        ("approvedBy", approval.approved_by.map(|id| id.to_string()).unwrap_or_default()),
        ("keks", keks.join(" ")),
        ("dataKeys", extent.data_keys.to_string()),
        ("values", extent.values.to_string()),
    ];
    let completed = ApprovalRecord { completed_at: Some(ground.store.clock().now()), ..approval.clone() };
    decree.push(completed.to_row(&by.tenant, &row.key, row.version + 1)?, entry);
    decree.submit(ground.committer).await
}

/// The part after `key.` of the entry that says that a tenant's keys are gone.
pub const TENANT_SHREDDED: &str = "tenant.shredded";

/// The same administrator with time for one more commit, on whatever settings there are by now.
fn in_time(by: &Administrator, ground: Ground<'_>) -> Administrator {
    let deadline = ground.store.clock().now().plus(std::time::Duration::from_secs(10));
    Administrator { generation: None, deadline, ..by.clone() }
}

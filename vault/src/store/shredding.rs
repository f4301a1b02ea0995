//! The end of a tenant's values: its KEKs are destroyed in the order of docs/formats.md section 4. First the database refuses
//! them, then the key store loses them, then the database says that they are gone. A start finishes what was left.

use super::administration::Administrator;
use super::approvals::{self, ApprovalRecord, TwoPersonAct};
use super::decree::Decree;
use super::kek_states::{push, versions};
use super::records::Body;
use super::rows::{DecidingRow, Table};
use super::tenants::Ground;
use super::{Error, Store};
use crate::access_log::{Action, EndOfKek, Entry, Receipt};
use crate::domain::{DataKeyId, Tenant, TenantName};
use crate::keys::{KekEnd, KekRecord, KekState, Statement};

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
    pub fn act(&self, statement: Statement) -> TwoPersonAct {
        let keks = self.keks.iter().map(KekRecord::row_key).collect();
        TwoPersonAct::ShredTenant { keks, token_lost: statement == Statement::TokenLost }
    }

    /// Whether a version of it lies in a token.
    #[must_use]
    pub fn is_in_token(&self) -> bool {
        self.keks.iter().any(|kek| kek.hsm.is_some())
    }
}

fn alive(versions: Vec<(u64, KekRecord)>) -> impl Iterator<Item = (u64, KekRecord)> {
    versions.into_iter().filter(|(_, kek)| !kek.state.is_over())
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
    let mut approved = approvals::shreddings_under_way(&by.tenant, ground.store).await?;
    let lost = |(_, record): &(DecidingRow, ApprovalRecord)| {
        matches!(record.act, TwoPersonAct::ShredTenant { token_lost: true, .. })
    };
    // What says most stands first: the entry names it.
    approved.sort_by_key(|approved| !lost(approved));
    let is_lost = approved.first().is_some_and(lost);
    let statement = if is_lost { Statement::TokenLost } else { Statement::None };
    let mut failed = None;
    for (at, kek) in found.iter().filter(|(_, kek)| kek.state == KekState::Destroying) {
        // A token that is away keeps its own key, and no other.
        if let Err(error) = destroy((*at, kek), statement, by, ground).await {
            failed = failed.or(Some(error));
        }
    }
    ground.keys.destroy_unused_pins(ground.store, &by.tenant).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    let ended = |(_, kek): &(u64, KekRecord)| kek.state == KekState::Destroying || kek.state.is_over();
    if !approved.is_empty() && found.iter().all(ended) { complete(by, &approved, ground).await } else { Ok(None) }
}

/// Destroys one version's key, then says how it ended.
async fn destroy(
    (at, kek): (u64, &KekRecord),
    statement: Statement,
    by: &Administrator,
    ground: Ground<'_>,
) -> Result<(), Error> {
    let ended = ground.keys.destroy_kek(ground.store, &by.tenant, kek, statement).await?;
    let mut decree = Decree::new(in_time(by, ground));
    push(&mut decree, (at, &KekRecord { ended: Some(ended), ..kek.clone() }), KekState::Destroyed)?;
    // If another node said so first, it is said.
    decree.submit(ground.committer).await.map(|_| ())
}

/// The entry that a certificate of destruction is made from: all keys are gone by now. What they had wrapped goes with it.
async fn complete(
    by: &Administrator,
    approved: &[(DecidingRow, ApprovalRecord)],
    ground: Ground<'_>,
) -> Result<Option<Receipt>, Error> {
    let found = versions(&by.tenant, ground.store).await?;
    let Some((_, first)) = approved.first().filter(|_| found.iter().all(|(_, kek)| kek.state.is_over())) else {
        return Err(Error::Conflict);
    };
    let named = |key: &String| {
        let names = |act: &TwoPersonAct| matches!(act, TwoPersonAct::ShredTenant { keks, .. } if keks.contains(key));
        approved.iter().any(|(_, record)| names(&record.act))
    };
    let keks: Vec<String> = found.iter().map(|(_, kek)| kek.row_key()).filter(named).collect();
    let ends: Vec<_> = found.iter().filter_map(end).filter(|end| named(&end.kek)).collect();
    let data_keys = data_keys(&by.tenant, ground.store).await?;
    let mut decree = Decree::new(in_time(by, ground));
    let mut entry = decree.entry(Action::Key(TENANT_SHREDDED));
    entry.facts = vec![
        ("approval", first.approval_id.to_string()),
        ("requestedBy", first.requested_by.to_string()),
        ("approvedBy", first.approved_by.map(|id| id.to_string()).unwrap_or_default()),
        ("keks", keks.join(" ")),
        ("ends", serde_json::to_string(&ends).map_err(|_| Error::Rule("the ends of keys must serialise"))?),
        ("dataKeys", data_keys.len().to_string()),
        ("values", ground.store.count_values(&by.tenant).await?.to_string()),
    ];
    for (row, record) in approved {
        let completed = ApprovalRecord { completed_at: Some(ground.store.clock().now()), ..record.clone() };
        let used = decree.entry(Action::Key("approval.used"));
        let used = Entry { facts: vec![("approval", record.approval_id.to_string())], ..used };
        let entry = if record.approval_id == first.approval_id { entry.clone() } else { used };
        decree.push(completed.to_row(&by.tenant, &row.key, row.version + 1)?, entry);
    }
    decree.erase(data_keys);
    decree.submit(ground.committer).await
}

/// How a version ended, in the words of the certificate.
fn end((_, kek): &(u64, KekRecord)) -> Option<EndOfKek> {
    let KekEnd { how, token, seen } = kek.ended.clone()?;
    let (token_label, token_serial) = token.map(|token| (token.label, token.serial)).unzip();
    let seen = seen.map(|seen| seen.as_str().to_owned());
    Some(EndOfKek { kek: kek.row_key(), how: how.as_str().to_owned(), token_label, token_serial, seen })
}

/// All of a tenant's data keys.
async fn data_keys(tenant: &TenantName, store: &Store) -> Result<Vec<DataKeyId>, Error> {
    let mut found: Vec<DataKeyId> = Vec::new();
    loop {
        let rows = store.data_keys_after(tenant, found.last().copied(), READ_AT_ONCE).await?;
        if rows.is_empty() {
            return Ok(found);
        }
        found.extend(rows.iter().map(|row| row.data_key_id));
    }
}

/// So many records of data keys are read at once.
const READ_AT_ONCE: u32 = 1000;

/// The part after `key.` of the entry that says that a tenant's keys are gone.
pub const TENANT_SHREDDED: &str = "tenant.shredded";

/// The same administrator with time for one more commit, on whatever settings there are by now.
fn in_time(by: &Administrator, ground: Ground<'_>) -> Administrator {
    let deadline = ground.store.clock().now().plus(std::time::Duration::from_secs(10));
    Administrator { generation: None, deadline, ..by.clone() }
}

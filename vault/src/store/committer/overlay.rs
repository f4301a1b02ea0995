//! The rows of a batch as each of its operations sees them: what was read, and over it what earlier operations changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::operation::{Asker, Changes, Generation, ReadValue, Reads, Rows};
use crate::domain::{CaptureSessionId, DataKeyId, RunId, TenantName, Timestamp, ValueId};
use crate::store::Error;
use crate::store::batch::{Loaded, Wanted};
use crate::store::records::{Body as _, StoredCredential};
use crate::store::row_seal::RowSeal;
use crate::store::rows::{DecidingRow, IdempotencyRow, RunRow, Table};

/// One tenant's rows.
#[derive(Default)]
struct TenantRows {
    generation: Generation,
    values: HashMap<ValueId, ReadValue>,
    rows: HashMap<Table, HashMap<String, DecidingRow>>,
    idempotency: HashMap<[u8; 32], IdempotencyRow>,
    encs: HashSet<(CaptureSessionId, [u8; 32])>,
    runs: HashMap<RunId, RunRow>,
    guesses: HashMap<String, u64>,
    /// Whether each is open.
    data_keys: HashMap<DataKeyId, bool>,
    /// Rows and values that are not what was written.
    refused_rows: HashSet<(Table, String)>,
    refused_values: HashSet<ValueId>,
}

/// The rows of a batch.
pub(super) struct Overlay {
    now: Timestamp,
    tenants: BTreeMap<TenantName, TenantRows>,
}

/// The tenant a row stands under: a tenant's own row under its own name, whoever asks.
pub(super) fn owner<'a>(table: Table, key: &str, tenant: &'a TenantName) -> std::borrow::Cow<'a, TenantName> {
    match TenantName::from_store(key) {
        Ok(own) if table == Table::Tenants => std::borrow::Cow::Owned(own),
        _ => std::borrow::Cow::Borrowed(tenant),
    }
}

/// Adds what an operation asks for, and who asks.
pub(super) fn want(wanted: &mut Wanted, (reads, asker): (Reads, Option<Asker>), tenant: &TenantName) {
    wanted.tenants.insert(tenant.clone());
    if let Some(asker) = asker {
        for owner in [tenant.clone(), TenantName::system()] {
            wanted.rows.entry((Table::Credentials, owner)).or_default().insert(asker.key.clone());
        }
    }
    if !reads.values.is_empty() {
        wanted.values.entry(tenant.clone()).or_default().extend(reads.values);
    }
    for session in reads.sessions {
        let place = (Table::CaptureSessions, tenant.clone());
        wanted.rows.entry(place).or_default().insert(session.to_string());
    }
    for (table, key) in reads.rows {
        let place = (table, owner(table, &key, tenant).into_owned());
        wanted.rows.entry(place).or_default().insert(key);
    }
    if !reads.idempotency.is_empty() {
        wanted.idempotency.entry(tenant.clone()).or_default().extend(reads.idempotency);
    }
    for (session, enc) in reads.encs {
        wanted.encs.entry((tenant.clone(), session)).or_default().insert(enc);
    }
    if !reads.runs.is_empty() {
        wanted.runs.entry(tenant.clone()).or_default().extend(reads.runs);
    }
    if !reads.guesses.is_empty() {
        wanted.guesses.entry(tenant.clone()).or_default().extend(reads.guesses);
    }
    if !reads.data_keys.is_empty() {
        wanted.data_keys.entry(tenant.clone()).or_default().extend(reads.data_keys);
    }
}

impl Overlay {
    /// The rows as they were read; those that are not what was written are refused to who asks for them, and only to them.
    pub(super) fn new(loaded: Loaded, now: Timestamp, seal: &RowSeal) -> Self {
        let mut overlay = Self { now, tenants: BTreeMap::new() };
        for (tenant, generation) in loaded.generations {
            overlay.of(&tenant).generation = generation;
        }
        for value in loaded.values {
            let (tenant, value_id) = (value.row.metadata.tenant.clone(), value.row.metadata.value_id);
            match crate::store::read_value(value) {
                Ok(value) => drop(overlay.of(&tenant).values.insert(value_id, value)),
                Err(_) => drop(overlay.of(&tenant).refused_values.insert(value_id)),
            }
        }
        for stored in loaded.rows {
            let (table, tenant, key) =
                (stored.sealed.row.table, stored.sealed.row.tenant.clone(), stored.sealed.row.key.clone());
            match seal.check(stored) {
                Ok(row) => drop(overlay.of(&tenant).rows.entry(table).or_default().insert(key, row)),
                Err(_) => drop(overlay.of(&tenant).refused_rows.insert((table, key))),
            }
        }
        for (table, tenant, key) in loaded.missing {
            overlay.of(&tenant).refused_rows.insert((table, key));
        }
        for row in loaded.idempotency {
            overlay.of(&row.tenant).idempotency.insert(row.lookup, row.clone());
        }
        for (tenant, session, enc) in loaded.encs {
            overlay.of(&tenant).encs.insert((session, enc));
        }
        for row in loaded.runs {
            overlay.of(&row.tenant).runs.insert(row.run_id, row.clone());
        }
        for (tenant, token, tried) in loaded.guesses {
            overlay.of(&tenant).guesses.insert(token, tried);
        }
        for (tenant, id, open) in loaded.data_keys {
            overlay.of(&tenant).data_keys.insert(id, open);
        }
        overlay
    }

    fn of(&mut self, tenant: &TenantName) -> &mut TenantRows {
        self.tenants.entry(tenant.clone()).or_default()
    }

    /// The generation of a tenant, changes of this batch included.
    pub(super) fn generation(&self, tenant: &TenantName) -> Generation {
        self.tenants.get(tenant).map_or_else(Generation::default, |rows| rows.generation)
    }

    /// Whether an operation asked for a row that is not what was written.
    pub(super) fn refusal(&self, reads: &Reads, tenant: &TenantName) -> Option<Error> {
        let refused = |table: Table, key: &str| {
            let rows = self.tenants.get(owner(table, key, tenant).as_ref());
            rows.is_some_and(|rows| rows.refused_rows.contains(&(table, key.to_owned())))
        };
        if let Some((table, _)) = reads.rows.iter().find(|(table, key)| refused(*table, key)) {
            return Some(Error::Tampered(table.as_str()));
        }
        if reads.sessions.iter().any(|session| refused(Table::CaptureSessions, &session.to_string())) {
            return Some(Error::Tampered(Table::CaptureSessions.as_str()));
        }
        let rows = self.tenants.get(tenant)?;
        let value = reads.values.iter().any(|value_id| rows.refused_values.contains(value_id));
        value.then_some(Error::Tampered("access_log"))
    }

    /// Whether the credential that asked is in force now, as its own row says.
    pub(super) fn judge(&self, asker: &Asker, tenant: &TenantName) -> Result<(), Error> {
        let own = [tenant, &TenantName::system()].into_iter().find_map(|owner| {
            let rows = self.tenants.get(owner)?;
            if rows.refused_rows.contains(&(Table::Credentials, asker.key.clone())) {
                return Some(Err(Error::Tampered(Table::Credentials.as_str())));
            }
            rows.rows.get(&Table::Credentials)?.get(&asker.key).map(StoredCredential::from_row)
        });
        let record = own.ok_or(Error::CredentialEnded)??.record;
        if record.kind == asker.kind && record.is_in_force(self.now) { Ok(()) } else { Err(Error::CredentialEnded) }
    }

    /// The rows as an operation of `tenant` sees them.
    pub(super) const fn view<'a>(&'a self, tenant: &'a TenantName) -> View<'a> {
        View { overlay: self, tenant }
    }

    /// The version of a row that decides, if it was read: 0 is "read and not there".
    pub(super) fn version(&self, row: &DecidingRow) -> Option<u64> {
        let rows = self.tenants.get(&row.tenant)?;
        rows.rows.get(&row.table)?.get(&row.key).map(|row| row.version)
    }

    /// Makes an operation's changes visible to those that follow.
    pub(super) fn apply(&mut self, changes: &Changes, bumped: &[TenantName], tenant: &TenantName) {
        for tenant in bumped {
            let generation = &mut self.of(tenant).generation;
            *generation = Generation(generation.0 + 1);
        }
        for row in &changes.rows {
            self.of(&row.tenant).rows.entry(row.table).or_default().insert(row.key.clone(), row.clone());
        }
        let rows = self.of(tenant);
        for row in &changes.new_values {
            let value = ReadValue { row: Arc::clone(row), state: None, newest_state_version: 0 };
            rows.values.insert(row.metadata.value_id, value);
        }
        for row in &changes.resealed {
            if let Some(value) = rows.values.get_mut(&row.metadata.value_id) {
                value.row = Arc::clone(row);
            }
        }
        for state in &changes.states {
            if let Some(value) = rows.values.get_mut(&state.value_id) {
                value.state = Some(state.clone());
            }
        }
        for entry in changes.entries.iter().filter(|entry| entry.tenant == *tenant) {
            if let (Some(value_id), Some(version)) = (entry.value_id, entry.state_version)
                && let Some(value) = rows.values.get_mut(&value_id)
            {
                value.newest_state_version = value.newest_state_version.max(version);
            }
        }
        for value_id in &changes.removed {
            rows.values.remove(value_id);
        }
        rows.encs.extend(changes.encs.iter().map(|(session, enc, _)| (*session, *enc)));
        rows.idempotency.extend(changes.idempotency.iter().map(|row| (row.lookup, row.clone())));
        rows.runs.extend(changes.runs.iter().map(|row| (row.run_id, row.clone())));
        for token in &changes.forgotten_guesses {
            rows.guesses.remove(token);
        }
        for id in &changes.closed_data_keys {
            rows.data_keys.entry(*id).and_modify(|open| *open = false);
        }
        let lost = changes.lost_data_keys.iter().map(|mark| &mark.data_key_id);
        for id in changes.removed_data_keys.iter().chain(&changes.retired_data_keys).chain(lost) {
            rows.data_keys.remove(id);
        }
    }
}

/// The overlay as one tenant's operation sees it: another tenant's rows are absent.
pub(super) struct View<'a> {
    overlay: &'a Overlay,
    tenant: &'a TenantName,
}

impl View<'_> {
    fn rows(&self) -> Option<&TenantRows> {
        self.overlay.tenants.get(self.tenant)
    }
}

impl Rows for View<'_> {
    fn now(&self) -> Timestamp {
        self.overlay.now
    }

    fn value(&self, value_id: ValueId) -> Option<&ReadValue> {
        self.rows()?.values.get(&value_id)
    }

    fn session(&self, session: CaptureSessionId) -> Option<&DecidingRow> {
        self.row(Table::CaptureSessions, &session.to_string())
    }

    fn idempotency(&self, lookup: &[u8; 32]) -> Option<&IdempotencyRow> {
        // What this very batch took back is over too.
        self.rows()?.idempotency.get(lookup).filter(|row| row.expires > self.overlay.now)
    }

    fn enc_seen(&self, session: CaptureSessionId, enc: &[u8; 32]) -> bool {
        self.rows().is_some_and(|rows| rows.encs.contains(&(session, *enc)))
    }

    fn row(&self, table: Table, key: &str) -> Option<&DecidingRow> {
        let owner = owner(table, key, self.tenant);
        self.overlay.tenants.get(owner.as_ref())?.rows.get(&table)?.get(key)
    }

    fn run(&self, run_id: RunId) -> Option<&RunRow> {
        self.rows()?.runs.get(&run_id)
    }

    fn guesses(&self, token: &str) -> Option<u64> {
        self.rows()?.guesses.get(token).copied()
    }

    fn has_data_key(&self, id: DataKeyId) -> bool {
        self.rows().is_some_and(|rows| rows.data_keys.contains_key(&id))
    }

    fn may_seal_under(&self, id: DataKeyId) -> bool {
        self.rows().is_some_and(|rows| rows.data_keys.get(&id) == Some(&true))
    }
}

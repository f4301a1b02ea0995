//! A batch in the store's words: what it reads before it decides and what it writes after.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::committer::operation::Generation;
use super::rows::{CaptureKeyRow, DataKeyRow, DecidingRow, IdempotencyRow, RunRow, StateRow, Table, ValueRow};
use crate::access_log::{Batch, Entry, Group, Position};
use crate::domain::{AppName, BootId, CaptureSessionId, DataKeyId, RunId, SecretId, TenantName, Timestamp, ValueId};
use crate::keys::LostDataKey;

/// A row that decides with its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct SealedRow {
    pub(in crate::store) row: DecidingRow,
    pub(in crate::store) mac: [u8; 32],
    pub(in crate::store) mac_key_id: SecretId,
}

/// The entry that looks newest: its exact bytes, and the version in the column it was found by. The column is nobody's
/// word: whoever relies on the leaf compares the two first.
#[derive(Debug, Clone)]
pub(in crate::store) struct Newest {
    pub(in crate::store) leaf: Vec<u8>,
    pub(in crate::store) version: u64,
}

/// A row that decides as it was read, with its newest entry; nothing of it is checked yet.
#[derive(Debug, Clone)]
pub(in crate::store) struct Stored {
    pub(in crate::store) sealed: SealedRow,
    pub(in crate::store) newest: Option<Newest>,
}

/// A value as it was read, with the newest entry that carries a state version; not yet checked.
#[derive(Debug, Clone)]
pub(in crate::store) struct LoadedValue {
    pub(in crate::store) row: ValueRow,
    pub(in crate::store) state: Option<StateRow>,
    pub(in crate::store) newest: Option<Newest>,
}

/// So many entries of a value are looked at for when it ends: one that is used without end holds no purge up. An end that stands further
/// back is not known.
pub(in crate::store) const ENTRIES_OF_END: i64 = 64;

/// Values whose uses are counted, found on a walk through all.
#[derive(Debug)]
pub struct CountedValues {
    /// Them.
    pub found: Vec<(TenantName, ValueId)>,
    /// Rows among them that do not read back.
    pub unreadable: usize,
    /// The key of the last one walked past, as it is stored, where there may be more behind it.
    pub last: Option<StoredKey>,
}

/// Tenant and id of a value's row, whatever stands there.
pub type StoredKey = (String, Vec<u8>);

impl CountedValues {
    /// Of up to `limit` values that were walked past, each with whether it is counted. One that does not read hides no other.
    pub(in crate::store) fn of(walked: Vec<(StoredKey, bool)>, limit: usize) -> Self {
        let (mut found, mut unreadable) = (Vec::new(), 0);
        for ((tenant, value_id), _) in walked.iter().filter(|(_, is_counted)| *is_counted) {
            let value_id = <[u8; 16]>::try_from(value_id.as_slice()).map(ValueId::from_bytes);
            match (TenantName::from_store(tenant), value_id) {
                (Ok(tenant), Ok(value_id)) => found.push((tenant, value_id)),
                _ => unreadable += 1,
            }
        }
        let is_full = walked.len() >= limit;
        Self { found, unreadable, last: walked.into_iter().next_back().filter(|_| is_full).map(|(key, _)| key) }
    }
}

/// What one step of the purge took of the rows of requests.
#[derive(Debug, Default)]
pub(in crate::store) struct Purged {
    pub(in crate::store) rows: u64,
    /// Whether there may be more of them.
    pub(in crate::store) more: bool,
}

impl Purged {
    /// So many rows of a table have one step, as the LIMIT of its statements says: of a parameter PostgreSQL would not know how few they
    /// are, and might join all of the table.
    pub(in crate::store) const STEP: u64 = 1000;

    /// Of one table.
    pub(in crate::store) const fn add(&mut self, rows: u64) {
        self.rows += rows;
        self.more |= rows >= Self::STEP;
    }
}

/// Values that seem to be past their time.
#[derive(Debug, Default)]
pub(in crate::store) struct Expired {
    pub(in crate::store) values: Vec<(TenantName, ValueId)>,
    /// Rows among them that do not read back.
    pub(in crate::store) unreadable: usize,
}

/// What the operations of a batch asked to read. Sorted, so that locks are taken in one order.
#[derive(Debug)]
pub(in crate::store) struct Wanted {
    /// Who asks: it must be open still.
    pub(in crate::store) boot: BootId,
    pub(in crate::store) tenants: BTreeSet<TenantName>,
    /// Those whose generation will move on: then all are held by this batch alone.
    pub(in crate::store) moving: BTreeSet<TenantName>,
    pub(in crate::store) values: BTreeMap<TenantName, BTreeSet<ValueId>>,
    pub(in crate::store) rows: BTreeMap<(Table, TenantName), BTreeSet<String>>,
    pub(in crate::store) idempotency: BTreeMap<TenantName, BTreeSet<[u8; 32]>>,
    pub(in crate::store) encs: BTreeMap<(TenantName, CaptureSessionId), BTreeSet<[u8; 32]>>,
    pub(in crate::store) runs: BTreeMap<TenantName, BTreeSet<RunId>>,
    pub(in crate::store) guesses: BTreeMap<TenantName, BTreeSet<String>>,
    pub(in crate::store) data_keys: BTreeMap<TenantName, BTreeSet<DataKeyId>>,
}

impl Wanted {
    /// Nothing yet.
    pub(in crate::store) const fn by(boot: BootId) -> Self {
        Self {
            boot,
            tenants: BTreeSet::new(),
            moving: BTreeSet::new(),
            values: BTreeMap::new(),
            rows: BTreeMap::new(),
            idempotency: BTreeMap::new(),
            encs: BTreeMap::new(),
            runs: BTreeMap::new(),
            guesses: BTreeMap::new(),
            data_keys: BTreeMap::new(),
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(in crate::store) struct Loaded {
    /// The moment the batch is judged by.
    pub(in crate::store) now: Timestamp,
    pub(in crate::store) generations: BTreeMap<TenantName, Generation>,
    /// Tenants whose generation another node waits to move on: it is not held, and nothing of theirs is decided.
    pub(in crate::store) awaited: BTreeSet<TenantName>,
    pub(in crate::store) values: Vec<LoadedValue>,
    pub(in crate::store) rows: Vec<Stored>,
    /// Rows that are not there although an entry speaks of them.
    pub(in crate::store) missing: Vec<(Table, TenantName, String)>,
    pub(in crate::store) idempotency: Vec<IdempotencyRow>,
    pub(in crate::store) encs: Vec<(TenantName, CaptureSessionId, [u8; 32])>,
    pub(in crate::store) runs: Vec<RunRow>,
    /// Those that are there; they stay as they are until the batch ends.
    pub(in crate::store) guesses: Vec<(TenantName, String, u64)>,
    /// Those that are there, and whether each is open: so they stay until the batch ends.
    pub(in crate::store) data_keys: Vec<(TenantName, DataKeyId, bool)>,
}

impl Loaded {
    /// Nothing yet.
    pub(in crate::store) const fn at(now: Timestamp) -> Self {
        Self {
            now,
            generations: BTreeMap::new(),
            awaited: BTreeSet::new(),
            values: Vec::new(),
            rows: Vec::new(),
            missing: Vec::new(),
            idempotency: Vec::new(),
            encs: Vec::new(),
            runs: Vec::new(),
            guesses: Vec::new(),
            data_keys: Vec::new(),
        }
    }
}

/// An entry with its leaf, the columns of it that serve look-ups, and the seals of its openings.
#[derive(Debug, Clone)]
pub(in crate::store) struct EntryRow {
    pub(in crate::store) entry: Arc<Entry>,
    pub(in crate::store) position: Position,
    pub(in crate::store) action: Cow<'static, str>,
    pub(in crate::store) object: Option<(String, u64)>,
    pub(in crate::store) leaf: Vec<u8>,
    pub(in crate::store) leaf_hash: [u8; 32],
    pub(in crate::store) openings: Option<(DataKeyId, [Vec<u8>; 4])>,
}

impl EntryRow {
    pub(in crate::store) fn app(&self) -> Option<&str> {
        self.entry.app.as_ref().map(AppName::as_str)
    }

    pub(in crate::store) fn flow(&self) -> Option<&str> {
        self.entry.flow.as_ref().map(|(name, _)| name.as_str())
    }

    pub(in crate::store) fn value_id(&self) -> Option<&[u8]> {
        self.entry.value_id.as_ref().map(|id| &id.as_bytes()[..])
    }
}

/// Everything a batch writes, each key once: later operations of the batch have the last word.
#[derive(Debug, Default)]
pub(in crate::store) struct WriteSet {
    pub(in crate::store) new_values: BTreeMap<(TenantName, ValueId), Arc<ValueRow>>,
    pub(in crate::store) resealed: BTreeMap<(TenantName, ValueId), Arc<ValueRow>>,
    pub(in crate::store) states: BTreeMap<(TenantName, ValueId), StateRow>,
    /// Values whose expiry changes, for the purge.
    pub(in crate::store) postponed: BTreeMap<(TenantName, ValueId), Option<Timestamp>>,
    pub(in crate::store) removed: BTreeMap<TenantName, BTreeSet<ValueId>>,
    pub(in crate::store) encs: BTreeMap<(TenantName, CaptureSessionId, [u8; 32]), Timestamp>,
    pub(in crate::store) idempotency: BTreeMap<(TenantName, [u8; 32]), IdempotencyRow>,
    pub(in crate::store) runs: BTreeMap<(TenantName, RunId), RunRow>,
    /// With the version that must be there now; 0 is none.
    pub(in crate::store) rows: BTreeMap<(Table, TenantName, String), (u64, SealedRow)>,
    pub(in crate::store) data_keys: Vec<DataKeyRow>,
    pub(in crate::store) removed_data_keys: Vec<(TenantName, DataKeyId)>,
    pub(in crate::store) closed_data_keys: BTreeMap<TenantName, BTreeSet<DataKeyId>>,
    pub(in crate::store) retired_data_keys: Vec<(TenantName, DataKeyId)>,
    /// Of each tenant one after the other.
    pub(in crate::store) lost_data_keys: Vec<LostDataKey>,
    pub(in crate::store) forgotten_guesses: Vec<(TenantName, String)>,
    pub(in crate::store) capture_keys: Vec<CaptureKeyRow>,
    /// By how much each tenant's generation grows.
    pub(in crate::store) generations: BTreeMap<TenantName, u64>,
    pub(in crate::store) entries: Vec<EntryRow>,
    pub(in crate::store) batch: Option<(Batch, Vec<Group>)>,
}

impl WriteSet {
    /// True if there is nothing to commit. Each member is named, so that a new one is thought of.
    pub(in crate::store) fn is_empty(&self) -> bool {
        // Entries stand in their batch.
        let Self {
            entries: _,
            new_values,
            resealed,
            states,
            postponed,
            removed,
            encs,
            idempotency,
            runs,
            rows,
            data_keys,
            removed_data_keys,
            closed_data_keys,
            retired_data_keys,
            lost_data_keys,
            forgotten_guesses,
            capture_keys,
            generations,
            batch,
        } = self;
        batch.is_none()
            && new_values.is_empty()
            && resealed.is_empty()
            && states.is_empty()
            && postponed.is_empty()
            && removed.is_empty()
            && encs.is_empty()
            && idempotency.is_empty()
            && runs.is_empty()
            && rows.is_empty()
            && data_keys.is_empty()
            && removed_data_keys.is_empty()
            && closed_data_keys.is_empty()
            && retired_data_keys.is_empty()
            && lost_data_keys.is_empty()
            && forgotten_guesses.is_empty()
            && capture_keys.is_empty()
            && generations.is_empty()
    }
}

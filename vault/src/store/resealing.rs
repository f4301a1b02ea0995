//! After a key was said to be compromised: the outer layer of every value that was there is made anew under data keys that
//! never stood beside that key. No plaintext is seen, nothing lives longer and no use comes back (docs/formats.md section 2).
//!
//! It goes on while values are read and used; stopped anywhere, it is run again and finds what is left.

mod over;
mod retiring;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use super::administration::{Administrator, in_both_logs};
use super::committer::operation::{Changes, Decision, Generation, Operation, ReadValue, Reads, Rows, current_state};
use super::rows::{DataKeyRow, SealsRow, StateRow, ValueRow, ValueSeals};
use super::tenants::Ground;
use super::{Error, Store, engine};
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::{DataKey, ValueState, reseal_outer};
use crate::domain::text::hex;
use crate::domain::{DataKeyId, TenantName, Timestamp, ValueId};
use crate::keys::{self, Compromise, HeldKeys, KeyRecords};

pub use over::left;
pub(in crate::store) use retiring::close;

/// So many values go in one commit: few enough that no request waits for it.
const SLICE: usize = 128;
/// So many values are looked at in one reading, whether or not they are to be moved: no reading takes long, however many values
/// a day has. In tests a few, so that a day has several parts.
const LOOK: u32 = if cfg!(test) { 64 } else { 4096 };
/// So many data keys are looked at in one reading.
const DATA_KEYS: u32 = 256;
/// So many rows that do not read are told apart and named.
const MOST_COUNTED: usize = 10_000;
/// How long one commit may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time in a value's id, by which its epoch was chosen, is a minute off at most.
const NEAR: Duration = Duration::from_secs(10 * 60);

/// What a pass came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Values sealed anew.
    pub moved: u64,
    /// Values that are not what was written, and stay as they are.
    pub refused: u64,
    /// Data keys of before that nothing refers to any more; removed, if the pass was told to.
    pub idle: u64,
    /// Data keys of before that values may still need.
    pub left: u64,
}

/// Seals anew what data keys of before a compromise sealed. `remove` takes away those that nothing refers to any more: only
/// once no request can hold one that was opened before the key was said to be compromised. Each part of the work waits for one
/// of `turns`, so that a tenant of many values keeps no other's waiting.
///
/// # Errors
/// [`Error::Keys`]; those of the committer.
pub async fn pass(by: &Administrator, remove: bool, turns: &Semaphore, ground: Ground<'_>) -> Result<Passed, Error> {
    let keks = ground.store.keks(&by.tenant).await.map_err(keys::Error::from)?;
    let compromise = Compromise::of(&keks);
    let (mut walk, mut after, mut idle) = (Walk::new(turns), None, Vec::new());
    if !compromise.is_known() {
        return Ok(walk.passed);
    }
    loop {
        let rows = {
            let _turn = walk.turn().await?;
            ground.store.data_keys_after(&by.tenant, after, DATA_KEYS).await?
        };
        let Some(last) = rows.last() else { break };
        after = Some(last.data_key_id);
        for row in rows.into_iter().filter(|row| row.class.is_of_values() && compromise.spoils(row)) {
            match empty(by, &row, &mut walk, ground).await {
                Ok(true) => idle.push(row),
                Ok(false) => walk.passed.left += 1,
                // One that does not open keeps no other: its row may be altered, or its token away.
                Err(Error::Keys(error)) => {
                    tracing::warn!(tenant = %by.tenant, data_key_id = %row.data_key_id, %error, "values are not sealed anew yet");
                    walk.passed.left += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
    walk.passed.idle = idle.len() as u64;
    if remove && !idle.is_empty() {
        retiring::retire(by, idle, &mut walk, ground).await?;
    }
    Ok(walk.passed())
}

/// A pass under way.
struct Walk<'t> {
    turns: &'t Semaphore,
    passed: Passed,
    /// Keys of rows that do not read: each is met once for each data key of its time.
    unreadable: BTreeSet<Vec<u8>>,
}

impl<'t> Walk<'t> {
    fn new(turns: &'t Semaphore) -> Self {
        Self { turns, passed: Passed::default(), unreadable: BTreeSet::new() }
    }

    async fn turn(&self) -> Result<SemaphorePermit<'t>, Error> {
        self.turns.acquire().await.map_err(|_: AcquireError| Error::Unavailable)
    }

    /// The rows that read; whether there were others.
    fn readable(&mut self, rows: &[SealsRow], tenant: &TenantName) -> (Vec<ValueSeals>, bool) {
        let mut hides = false;
        for row in rows.iter().filter(|row| row.seals.is_none()) {
            hides = true;
            if self.unreadable.len() < MOST_COUNTED && self.unreadable.insert(row.key.clone()) {
                let key = hex::encode(&row.key);
                tracing::error!(%tenant, key, "a row of secure_values does not say which data key it rests on");
            }
        }
        (rows.iter().filter_map(|row| row.seals).collect(), hides)
    }

    fn passed(self) -> Passed {
        Passed { refused: self.passed.refused + self.unreadable.len() as u64, ..self.passed }
    }
}

/// Moves everything that one data key sealed; true if there was nothing, and nothing that might be its.
async fn empty(by: &Administrator, row: &DataKeyRow, walk: &mut Walk<'_>, ground: Ground<'_>) -> Result<bool, Error> {
    let (after, before) = ids_of(row);
    let (mut after, mut is_empty, mut hidden) = (after.as_bytes().to_vec(), true, false);
    loop {
        let _turn = walk.turn().await?;
        let seen = ground.store.seals((&after, before.as_bytes()), LOOK, &by.tenant).await?;
        let Some(last) = seen.last() else { return Ok(is_empty && !hidden) };
        after.clone_from(&last.key);
        let (readable, hides) = walk.readable(&seen, &by.tenant);
        hidden |= hides;
        let its = readable.into_iter().filter(|seals| seals.rest_on(row.data_key_id));
        let ids: Vec<ValueId> = its.map(|seals| seals.value_id).collect();
        for slice in ids.chunks(SLICE) {
            is_empty = false;
            // Asked for each slice: a pass may take long, and another node may retire meanwhile what this one began with.
            let new = replacement(row, ground).await?;
            move_slice(by, (row, new), slice.to_vec(), &mut walk.passed, ground).await?;
        }
    }
}

/// One commit, or one for each value where one of them is not what was written: it keeps no other.
async fn move_slice(
    by: &Administrator,
    (old, new): (&DataKeyRow, DataKeyId),
    ids: Vec<ValueId>,
    passed: &mut Passed,
    ground: Ground<'_>,
) -> Result<(), Error> {
    let slice = |values: Vec<ValueId>| Slice {
        by: Administrator { generation: None, deadline: deadline(ground), ..by.clone() },
        old: old.clone(),
        new,
        values,
        held: ground.keys.held(),
    };
    match ground.committer.submit(slice(ids.clone())).await {
        Ok(done) => passed.add(done.output),
        Err(Error::Tampered(_) | Error::Unreadable(_)) => {
            for value_id in ids {
                match ground.committer.submit(slice(vec![value_id])).await {
                    Ok(done) => passed.add(done.output),
                    Err(Error::Tampered(_) | Error::Unreadable(_)) => passed.refused += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Passed {
    const fn add(&mut self, (moved, refused): (u64, u64)) {
        self.moved += moved;
        self.refused += refused;
    }
}

/// The data key of the same class and epoch that was made after the compromise; made if there is none.
async fn replacement(row: &DataKeyRow, ground: Ground<'_>) -> Result<DataKeyId, keys::Error> {
    // First the old one: what does not open is not replaced.
    ground.keys.data_key(ground.store, &row.tenant, row.data_key_id).await?;
    let new = ground.keys.data_key_to_seal(ground.store, &row.tenant, row.class, begin(row)).await?;
    // One that was opened for sealing before this node heard of the compromise is none.
    if new.id() == row.data_key_id { Err(keys::Error::KekUnusable) } else { Ok(new.id()) }
}

fn begin(row: &DataKeyRow) -> Timestamp {
    Timestamp::from_millis(row.epoch.0.saturating_mul(millis(row.class.epoch_length())))
}

/// All ids that values of the data key's epoch can have lie between these: ids begin with their time.
pub(in crate::store) fn ids_of(row: &DataKeyRow) -> (ValueId, ValueId) {
    let id = |millis: u64| {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        ValueId::from_bytes(bytes)
    };
    let (begin, near) = (begin(row).as_millis(), millis(NEAR));
    (id(begin.saturating_sub(near)), id(begin.saturating_add(millis(row.class.epoch_length())).saturating_add(near)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn deadline(ground: Ground<'_>) -> Timestamp {
    ground.store.clock().now().plus(PATIENCE)
}

impl Store {
    /// Which data keys seal up to `limit` of a tenant's values, with keys between these two, in the order of keys.
    pub(in crate::store) async fn seals(
        &self,
        between: (&[u8], &[u8]),
        limit: u32,
        tenant: &TenantName,
    ) -> Result<Vec<SealsRow>, Error> {
        engine!(self, seals(between, limit, tenant))
    }
}

fn entry(by: &Administrator, row: &DataKeyRow, act: &'static str, now: Timestamp) -> Entry {
    let mut entry = Entry::new(by.tenant.clone(), now, Action::Key(act), Outcome::Allowed, &by.context);
    (entry.kek_id, entry.data_key_id) = (Some(row.kek_id), Some(row.data_key_id));
    entry.facts.push(("version", row.kek_version.to_string()));
    entry
}

/// The commit of some values sealed anew: how many, and how many are not what was written.
struct Slice {
    by: Administrator,
    old: DataKeyRow,
    new: DataKeyId,
    values: Vec<ValueId>,
    held: HeldKeys,
}

impl Slice {
    /// A value with its outer layer, data key id, state version and MAC made anew; nothing if old MAC, newest entry or
    /// record do not agree.
    fn resealed(&self, value: &ReadValue, old: &DataKey, new: &DataKey) -> Option<(Arc<ValueRow>, Option<StateRow>)> {
        let (metadata, tenant, realm) = (&value.row.metadata, &self.by.tenant, &self.by.realm);
        let before = current_state(value);
        if before.version != value.newest_state_version {
            return None;
        }
        let state = match &value.state {
            None => None,
            Some(row) => {
                let genuine =
                    row.data_key_id == old.id() && before.verify_mac(old, realm, tenant, metadata.value_id, &row.mac);
                if !genuine {
                    return None;
                }
                let state = ValueState { version: before.version + 1, ..before };
                let mac = state.mac(new, realm, tenant, metadata.value_id);
                Some(StateRow { value_id: metadata.value_id, data_key_id: new.id(), state, mac })
            }
        };
        let sealed = reseal_outer(&value.row.sealed, metadata, old, new).ok()?;
        Some((Arc::new(ValueRow { data_key_id: new.id(), sealed, ..(*value.row).clone() }), state))
    }

    /// What the log says of a value whose state version moved on.
    fn moved(&self, row: &ValueRow, state: &StateRow, now: Timestamp) -> Entry {
        Entry {
            value_id: Some(row.metadata.value_id),
            app: Some(row.metadata.app.clone()),
            field: Some(row.metadata.field.clone()),
            kind: Some(row.metadata.kind),
            retention: Some(row.metadata.retention),
            data_key_id: Some(row.data_key_id),
            state_version: Some(state.state.version),
            uses: state.state.uses_left,
            expires_at: state.state.expires,
            ..entry(&self.by, &self.old, "value.resealed", now)
        }
    }
}

impl Operation for Slice {
    type Output = (u64, u64);

    fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    fn generation(&self) -> Option<Generation> {
        // The rows themselves say all that it is decided on.
        None
    }

    fn deadline(&self) -> Timestamp {
        self.by.deadline
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn reads(&self) -> Reads {
        Reads { values: self.values.clone(), data_keys: vec![self.new], ..Reads::default() }
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<(u64, u64)> {
        let (old, new) = (self.old.data_key_id, self.new);
        let key = |id| self.held.get(&self.by.tenant, id);
        // It ended or was closed since the walk chose it: its values wait for the next pass, which finds another.
        if !rows.may_seal_under(new) {
            return Decision::Answer((0, 0));
        }
        let (Some(old), Some(new)) = (key(old), key(new)) else { return Decision::NeedDataKeys(vec![old, new]) };
        let mut changes = Changes::default();
        let mut refused = 0;
        for value in self.values.iter().filter_map(|value_id| rows.value(*value_id)) {
            // Deleted, spent or moved by another node meanwhile: it is no business of this slice any more.
            if value.row.data_key_id != old.id() {
                continue;
            }
            let Some((row, state)) = self.resealed(value, &old, &new) else {
                refused += 1;
                continue;
            };
            if let Some(state) = state {
                changes.entries.push(self.moved(&row, &state, rows.now()).into());
                changes.states.push(state);
            }
            changes.resealed.push(row);
        }
        let moved = changes.resealed.len() as u64;
        if moved == 0 {
            return Decision::Answer((0, refused));
        }
        let mut summary = Entry { count: Some(moved), ..entry(&self.by, &self.old, "values.resealed", rows.now()) };
        summary.facts.push(("newDataKey", new.id().to_string()));
        changes.entries.extend(in_both_logs(summary));
        Decision::Write(changes, (moved, refused))
    }
}

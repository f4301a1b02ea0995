//! What this process signed and committed and did not integrate yet: whoever reads it back compares it with what is known
//! here, which says more than the signature it would else have to check.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::batch::WriteSet;
use super::integration::PendingBatch;
use crate::access_log::{Batch, Group, leaf_hash};
use crate::domain::TenantName;

/// So many entries are remembered, 32 bytes of each and some hundred of each batch: of what waits longer than they took, the
/// signatures are checked.
const ENTRIES: usize = 8 * 1024;

/// The batches of this process that are not integrated yet, as far as they are remembered.
#[derive(Debug, Default)]
pub struct OwnBatches {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<OwnBatch>,
    entries: usize,
}

#[derive(Debug)]
struct OwnBatch {
    batch: Batch,
    groups: Vec<Group>,
    /// Of the leaves, in the order of groups and numbers.
    hashes: Vec<[u8; 32]>,
}

impl OwnBatches {
    /// Remembers what was committed.
    pub(in crate::store) fn remember(&self, set: &WriteSet) {
        let Some((batch, groups)) = &set.batch else { return };
        let mut by_tenant: BTreeMap<&TenantName, Vec<[u8; 32]>> = BTreeMap::new();
        for row in &set.entries {
            by_tenant.entry(&row.entry.tenant).or_default().push(row.leaf_hash);
        }
        let hashes: Vec<_> = by_tenant.into_values().flatten().collect();
        if hashes.len() > ENTRIES {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.entries += hashes.len();
        inner.batches.push_back(OwnBatch { batch: batch.clone(), groups: groups.clone(), hashes });
        while inner.entries > ENTRIES {
            inner.pop();
        }
    }

    /// The hashes of a batch's leaves, if it is, to the last byte of each of them, what this process committed. What was
    /// committed before it is forgotten, and so is it.
    pub(crate) fn take(&self, pending: &PendingBatch) -> Option<Vec<[u8; 32]>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // They came in the order of one writer's lanes and numbers; batches of other boots are many, and not looked for.
        if inner.batches.front().is_none_or(|own| own.batch.boot != pending.batch.boot) {
            return None;
        }
        let place = |batch: &Batch| (batch.lane, batch.first);
        let at = inner.batches.binary_search_by_key(&place(&pending.batch), |own| place(&own.batch)).ok()?;
        if inner.batches.get(at).is_none_or(|own| own.batch != pending.batch) {
            return None;
        }
        for _ in 0..at {
            inner.pop();
        }
        let own = inner.pop()?;
        drop(inner);
        let mut places = own.groups.iter().flat_map(|group| {
            (group.first..group.first.saturating_add(group.count)).map(move |number| (&group.tenant, number))
        });
        let (boot, lane) = (own.batch.boot, own.batch.lane);
        let is_own = own.groups == pending.groups
            && own.hashes.len() == pending.entries.len()
            && own.hashes.iter().zip(&pending.entries).all(|(hash, (tenant, position, leaf))| {
                places.next() == Some((tenant, position.number))
                    && (position.boot, position.lane) == (boot, lane)
                    && leaf_hash(leaf) == *hash
            });
        is_own.then_some(own.hashes)
    }
}

impl Inner {
    fn pop(&mut self) -> Option<OwnBatch> {
        let first = self.batches.pop_front()?;
        self.entries -= first.hashes.len();
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access_log::{Action, Entry, Outcome, Position};
    use crate::domain::{Actor, BootId, Timestamp};
    use crate::store::batch::EntryRow;

    const BOOT: BootId = BootId::from_bytes([7; 16]);

    /// A batch of so many entries: as it was written, and as it is read back.
    fn batch((lane, first): (u32, u64), count: usize) -> (WriteSet, PendingBatch) {
        let (tenant, time) = (TenantName::system(), Timestamp::from_millis(0));
        let entry = Arc::new(Entry::by(tenant.clone(), time, Action::LogRead, Outcome::Allowed, Actor::anonymous()));
        let counted = u64::try_from(count).unwrap();
        let batch = Batch {
            boot: BOOT,
            lane,
            first,
            count: counted,
            time,
            previous: [0; 32],
            root: [0; 32],
            signature: [0; 64],
        };
        let groups = vec![Group { tenant: tenant.clone(), first, count: counted, salt: [0; 16], digest: [0; 32] }];
        let leaf = |number: u64| format!("{lane}/{number}").into_bytes();
        let position = |number| Position { boot: BOOT, lane, number };
        let numbers = || first..first + counted;
        let row = |number| EntryRow {
            entry: Arc::clone(&entry),
            position: position(number),
            action: entry.action.text(),
            object: None,
            leaf: leaf(number),
            leaf_hash: leaf_hash(&leaf(number)),
            openings: None,
        };
        let set = WriteSet {
            entries: numbers().map(row).collect(),
            batch: Some((batch.clone(), groups.clone())),
            ..WriteSet::default()
        };
        let entries = numbers().map(|number| (tenant.clone(), position(number), leaf(number))).collect();
        (set, PendingBatch { batch, groups, entries })
    }

    #[test]
    fn the_newest_entries_are_remembered_up_to_a_bound_and_of_each_lane() {
        let own = OwnBatches::default();
        let places = (0..40).map(|at| ((0, at * 256), 256)).chain([((1, 0), 10), ((1, 10), 10)]);
        let (written, read): (Vec<_>, Vec<_>) = places.map(|(place, count)| batch(place, count)).unzip();
        for (at, set) in written.iter().enumerate() {
            own.remember(set);
            let inner = own.inner.lock().unwrap();
            assert!(inner.entries <= ENTRIES, "after {at}");
            assert_eq!(inner.entries, inner.batches.iter().map(|own| own.hashes.len()).sum::<usize>());
        }
        assert!(own.take(&read[0]).is_none(), "it is forgotten: its signature is checked");
        let hashes = own.take(&read[20]).unwrap();
        assert_eq!(hashes, written[20].entries.iter().map(|row| row.leaf_hash).collect::<Vec<_>>());
        assert!(own.take(&read[20]).is_none() && own.take(&read[15]).is_none(), "once, and nothing before it");
        // The next lane, after a commit of which nobody knows the result.
        assert!(own.take(&read[40]).is_some() && own.take(&read[39]).is_none() && own.take(&read[41]).is_some());
        assert_eq!(own.inner.lock().unwrap().entries, 0);
    }

    #[test]
    fn a_batch_larger_than_all_that_is_remembered_drives_nothing_out() {
        let own = OwnBatches::default();
        let (small, read) = batch((0, 0), 10);
        own.remember(&small);
        own.remember(&batch((0, 10), ENTRIES + 1).0);
        assert!(own.take(&read).is_some());
    }

    #[test]
    fn what_differs_anywhere_is_not_known() {
        let changes: [fn(&mut PendingBatch); 7] = [
            |read| read.batch.signature[63] ^= 1,
            |read| read.batch.time = Timestamp::from_millis(1),
            |read| read.groups[0].salt[0] ^= 1,
            |read| read.entries[3].2.push(0),
            |read| read.entries[3].1.number += 1,
            |read| read.entries[3].1.lane += 1,
            |read| drop(read.entries.pop()),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let own = OwnBatches::default();
            let (written, mut read) = batch((0, 0), 10);
            own.remember(&written);
            change(&mut read);
            assert!(own.take(&read).is_none(), "change {at}");
        }
    }
}

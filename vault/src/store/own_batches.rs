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

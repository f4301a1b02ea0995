//! Whether a batch may be integrated: its place in its lane, its signature, its groups, every entry.

use std::collections::BTreeMap;

use crate::access_log::{Certificate, Error, Group, Leaf, leaf_hash};
use crate::domain::TenantName;
use crate::store::integration::{LaneProgress, PendingBatch};
use crate::store::own_batches::OwnBatches;

/// Numbers of each tenant in one lane up to which its entries are integrated.
pub(super) type Numbers = BTreeMap<TenantName, u64>;

/// Judges the next batch of a lane: gives the hashes of its leaves and moves lane and numbers on if it holds, leaves them
/// alone if not. Of a batch that this process is known to have committed (`own`) no signature is asked: it is compared.
pub(super) fn judge(
    pending: &PendingBatch,
    own: Option<&OwnBatches>,
    certificate: &Certificate,
    lane: &mut LaneProgress,
    numbers: &mut Numbers,
) -> Result<Vec<[u8; 32]>, Error> {
    let batch = &pending.batch;
    let place = (batch.boot, batch.lane, batch.first, batch.previous);
    if place != (lane.boot, lane.lane, lane.next, lane.previous) {
        return Err(Error::Batch);
    }
    let follows = |group: &Group| group.first == numbers.get(&group.tenant).copied().unwrap_or(0);
    if !pending.groups.iter().all(follows) {
        return Err(Error::Batch);
    }
    let hashes = match own.and_then(|own| own.take(pending)) {
        Some(hashes) => hashes,
        None => judge_foreign(pending, certificate)?,
    };
    for group in &pending.groups {
        numbers.insert(group.tenant.clone(), group.first.saturating_add(group.count));
    }
    let end = batch.end();
    (lane.next, lane.previous) = (end.next, end.previous);
    Ok(hashes)
}

/// Signature, groups and every entry.
fn judge_foreign(pending: &PendingBatch, certificate: &Certificate) -> Result<Vec<[u8; 32]>, Error> {
    pending.batch.verify(&pending.groups, certificate)?;
    let mut entries = pending.entries.as_slice();
    for group in &pending.groups {
        let count = usize::try_from(group.count).map_err(|_| Error::Batch)?;
        let (own, rest) = entries.split_at_checked(count).ok_or(Error::Batch)?;
        judge_group(group, own, pending.batch.lane)?;
        entries = rest;
    }
    if !entries.is_empty() {
        return Err(Error::Batch);
    }
    Ok(pending.entries.iter().map(|(.., leaf)| leaf_hash(leaf)).collect())
}

type Entries<'a> = &'a [(TenantName, crate::access_log::Position, Vec<u8>)];

/// The group's entries are there, all of them, as signed, each sealed for its place.
fn judge_group(group: &Group, entries: Entries<'_>, lane: u32) -> Result<(), Error> {
    if Group::digest_of(entries.iter().map(|(.., leaf)| leaf.as_slice())) != group.digest {
        return Err(Error::Batch);
    }
    for ((tenant, position, leaf), number) in entries.iter().zip(group.first..) {
        let in_order = *tenant == group.tenant && position.number == number && position.lane == lane;
        if !in_order || !Leaf::is_placed(leaf, tenant, position) {
            return Err(Error::Batch);
        }
    }
    Ok(())
}

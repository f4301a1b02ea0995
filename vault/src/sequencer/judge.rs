//! Whether a batch may be integrated: its place in its lane, its signature, its groups, every entry.

use std::collections::BTreeMap;

use crate::access_log::{Certificate, Error, Group, Leaf};
use crate::domain::TenantName;
use crate::store::integration::{LaneProgress, PendingBatch};

/// Numbers of each tenant in one lane up to which its entries are integrated.
pub(super) type Numbers = BTreeMap<TenantName, u64>;

/// Judges the next batch of a lane. Moves lane and numbers on if it holds, leaves them alone if not.
pub(super) fn judge(
    pending: &PendingBatch,
    certificate: &Certificate,
    lane: &mut LaneProgress,
    numbers: &mut Numbers,
) -> Result<(), Error> {
    let batch = &pending.batch;
    let place = (batch.boot, batch.lane, batch.first, batch.previous);
    if place != (lane.boot, lane.lane, lane.next, lane.previous) {
        return Err(Error::Batch);
    }
    batch.verify(&pending.groups, certificate)?;
    let mut entries = pending.entries.as_slice();
    let mut moved = numbers.clone();
    for group in &pending.groups {
        let count = usize::try_from(group.count).map_err(|_| Error::Batch)?;
        let (own, rest) = entries.split_at_checked(count).ok_or(Error::Batch)?;
        judge_group(group, own, batch.lane, numbers.get(&group.tenant).copied().unwrap_or(0))?;
        moved.insert(group.tenant.clone(), group.first.saturating_add(group.count));
        entries = rest;
    }
    if !entries.is_empty() {
        return Err(Error::Batch);
    }
    *numbers = moved;
    let end = batch.end();
    (lane.next, lane.previous) = (end.next, end.previous);
    Ok(())
}

type Entries<'a> = &'a [(TenantName, crate::access_log::Position, Vec<u8>)];

/// The group's entries are there, all of them, as signed, each sealed for its place.
fn judge_group(group: &Group, entries: Entries<'_>, lane: u32, next: u64) -> Result<(), Error> {
    if group.first != next || Group::digest_of(entries.iter().map(|(.., leaf)| leaf.as_slice())) != group.digest {
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

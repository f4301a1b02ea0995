//! How far a lane is integrated. Its row in `log_lanes` is the word of whoever can write the database; the signed batches
//! and the signed trees are not.

use std::collections::BTreeMap;

use super::judge::judge;
use super::self_check::is_proven;
use super::{Error, checkpoints, tiles};
use crate::access_log::tree::Hash;
use crate::access_log::tree::tiles::TILE_WIDTH;
use crate::access_log::{Certificate, leaf_hash};
use crate::domain::TenantName;
use crate::keys::Keys;
use crate::store::Store;
use crate::store::integration::{LaneProgress, PlacedBatch};

/// Holds a lane's row against what was signed.
pub(super) struct Progress {
    pub(super) store: Store,
    pub(super) keys: Keys,
}

impl Progress {
    /// Whether the lane is integrated up to where `row` says. Batch by batch backwards: each is there as its boot signed
    /// it, ends where the next one begins, and the signed trees hold all its entries. Down to where the lane is remembered
    /// to have stood; where nothing is remembered the last batch must do, since nobody integrated it before those below.
    ///
    /// # Errors
    /// [`Error::Lane`] and other evidence if not.
    pub(super) async fn check(
        &self,
        row: &LaneProgress,
        remembered: Option<&LaneProgress>,
        certificate: &Certificate,
    ) -> Result<(), Error> {
        let mut end = *row;
        loop {
            let stop = remembered.map_or((0, [0; 32]), |lane| (lane.next, lane.previous));
            if end.next <= stop.0 {
                return if (end.next, end.previous) == stop { Ok(()) } else { Err(Error::Lane) };
            }
            let (batch, indices) = self.store.batch_before(row.boot, row.lane, end.next).await?.ok_or(Error::Lane)?;
            let found = batch.batch.end();
            if (found.next, found.previous) != (end.next, end.previous) {
                return Err(Error::Lane);
            }
            let begin = LaneProgress { next: batch.batch.first, previous: batch.batch.previous, ..*row };
            let mut numbers = batch.groups.iter().map(|group| (group.tenant.clone(), group.first)).collect();
            judge(&batch, None, certificate, &mut begin.clone(), &mut numbers)?;
            self.hold(&(batch, indices)).await?;
            if remembered.is_none() {
                return Ok(());
            }
            end = begin;
        }
    }

    /// The signed trees hold every entry of the batch at its index: a row in `log_index` alone is no better than another.
    async fn hold(&self, (batch, indices): &PlacedBatch) -> Result<(), Error> {
        let mut logs: BTreeMap<&TenantName, Vec<(u64, Hash)>> = BTreeMap::new();
        for ((log, _, leaf), index) in batch.entries.iter().zip(indices) {
            logs.entry(log).or_default().push((index.ok_or(Error::Lane)?, leaf_hash(leaf)));
        }
        for (log, mut leaves) in logs {
            let head = self.store.head(log).await?.ok_or(Error::Lane)?;
            if !checkpoints::is_signed(log, head, &self.store, &self.keys).await? {
                return Err(Error::History(log.clone()));
            }
            leaves.sort_unstable();
            for part in leaves.chunk_by(|one, other| one.0 / TILE_WIDTH == other.0 / TILE_WIDTH) {
                let (first, hash) = part[0];
                let tiles = tiles::beside(first, head.size, log, &self.store).await?;
                // The proof of one leaf reads every hash of its tile, so it authenticates the whole tile.
                let holds = is_proven(hash, first, head, &tiles)
                    && part.iter().all(|(index, hash)| *index < head.size && tiles.leaf(*index) == Some(*hash));
                if !holds {
                    return Err(Error::Lane);
                }
            }
        }
        Ok(())
    }
}

//! The self-check: every integrated entry is hashed again and held against the signed tree, its columns against its leaf.

use std::time::Duration;

use super::{Error, LogReader, checkpoints, tiles};
use crate::access_log::tree::tiles::{TILE_WIDTH, TileId, Tiles};
use crate::access_log::tree::{inclusion_proof, leaf_hash, verify_inclusion};
use crate::access_log::{Checkpoint, LogHealth};
use crate::domain::{TenantName, Timestamp};

/// What counts as recent: values of class `session` and their erasure keys live no longer.
const RECENT: Duration = Duration::from_secs(8 * 24 * 3600);

/// Which entries a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Those younger than eight days.
    Recent,
    /// All.
    All,
}

impl LogReader {
    /// Looks at every log once. What is altered becomes an alarm; a store that does not answer is an error.
    ///
    /// # Errors
    /// The store's.
    pub async fn self_check(&self, pass: Pass, health: &LogHealth) -> Result<(), Error> {
        for (log, _) in self.store.heads().await? {
            let (_, checkpoint) = match checkpoints::newest(&log, &self.store, &self.keys).await {
                Ok(found) => found,
                Err(Error::Pending) => continue,
                Err(Error::Log(fault)) => {
                    health.alarm(&format!("log {log}: the newest checkpoint: {fault}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let start = match pass {
                Pass::All => 0,
                Pass::Recent => self.recent(&log, checkpoint.size).await,
            };
            for tile in start / TILE_WIDTH..checkpoint.size.div_ceil(TILE_WIDTH) {
                self.check_tile(tile, &checkpoint, &log, health).await?;
                // The pass may take its time; requests may not wait for it.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        health.passed(pass == Pass::All, self.store.clock().now());
        Ok(())
    }

    /// Where the recent entries begin; an entry that does not read is found by looking at everything.
    async fn recent(&self, log: &TenantName, size: u64) -> u64 {
        let now = self.store.clock().now().as_millis();
        let since = Timestamp::from_millis(now.saturating_sub(u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX)));
        self.first_since(log, since, size).await.unwrap_or(0)
    }

    async fn check_tile(
        &self,
        tile: u64,
        signed: &Checkpoint,
        log: &TenantName,
        health: &LogHealth,
    ) -> Result<(), Error> {
        let Some(id) = TileId::entries(tile, signed.size) else { return Ok(()) };
        let start = tile * TILE_WIDTH;
        let indices = start..start + u64::from(id.width);
        let tiles = tiles::read(&Tiles::for_inclusion(start, signed.size), log, &self.store).await?;
        // The proof of one leaf reads every hash of its tile, so it authenticates the whole tile.
        let first = tiles.leaf(start);
        let proven = inclusion_proof(start, signed.size, &tiles)
            .ok()
            .zip(first)
            .is_some_and(|(proof, leaf)| verify_inclusion(&leaf, start, signed.size, &proof, &signed.root).is_ok());
        if !proven {
            health.alarm(&format!("log {log}: hash tile {id} does not lead to the signed root"));
        }
        let leaves = self.store.leaves(log, indices.clone()).await?;
        let mut found = leaves.iter().peekable();
        for index in indices.clone() {
            let entry = found.next_if(|(at, ..)| *at == index);
            match entry {
                None => health.alarm(&format!("log {log}: entry {index} is missing")),
                Some((.., leaf)) if Some(leaf_hash(leaf)) != tiles.leaf(index) => {
                    health.alarm(&format!("log {log}: entry {index} is not the one that was signed"));
                }
                Some(_) => {}
            }
        }
        for (index, position) in self.store.contradictions(log, indices).await? {
            health.alarm(&format!("log {log}: entry {index} at {position}: its index columns contradict its bytes"));
        }
        Ok(())
    }
}

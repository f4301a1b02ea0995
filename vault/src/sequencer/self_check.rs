//! The self-check: every integrated entry is hashed again and held against the signed tree, its columns against its leaf.

use std::time::Duration;

use super::export::OVERLAP;
use super::{Error, LogReader, checkpoints, heads, tiles};
use crate::access_log::tree::tiles::{TILE_WIDTH, TileId, Tiles};
use crate::access_log::tree::{Hash, inclusion_proof, leaf_hash, verify_inclusion};
use crate::access_log::{Leaf, LogHealth};
use crate::domain::{TenantName, Timestamp};
use crate::store::integration::LogHead;

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

impl Pass {
    /// How often it is due, after the one at the start.
    #[must_use]
    pub const fn period(self) -> Duration {
        Duration::from_secs(match self {
            Self::Recent => 60 * 60,
            Self::All => 24 * 60 * 60,
        })
    }
}

impl LogReader {
    /// Looks at every log once. What is altered becomes an alarm and hides nothing else; a store that does not answer is
    /// an error.
    ///
    /// # Errors
    /// The store's and the key store's.
    pub async fn self_check(&self, pass: Pass, health: &LogHealth) -> Result<(), Error> {
        for (log, head) in self.store.heads().await? {
            let Some(signed) = self.signed(&log, head, health).await? else { continue };
            let start = match pass {
                Pass::All => 0,
                Pass::Recent => self.recent(&log, signed).await?,
            };
            for tile in start / TILE_WIDTH..signed.size.div_ceil(TILE_WIDTH) {
                self.check_tile(tile, signed, &log, health).await?;
                // The pass may take its time; requests may not wait for it.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        health.passed(pass == Pass::All, self.store.clock().now());
        Ok(())
    }

    /// The head to check against: that of the newest checkpoint. Where that is not what it must be, the signed file outside
    /// the database has the newest one.
    async fn signed(&self, log: &TenantName, head: LogHead, health: &LogHealth) -> Result<Option<LogHead>, Error> {
        let fault = match checkpoints::newest(log, &self.store, &self.keys).await {
            Ok((_, newest)) if newest.size >= head.size => {
                return Ok(Some(LogHead { size: newest.size, root: newest.root }));
            }
            Ok(_) => "the newest checkpoint is older than the log".to_owned(),
            Err(Error::Pending) => "there is no checkpoint".to_owned(),
            Err(error) if error.is_evidence() => format!("the newest checkpoint: {}", error.words()),
            Err(error) => return Err(error),
        };
        health.alarm(&format!("log {log}: {fault}"));
        let noted = self.keys.read_heads().await?.into_iter().map(heads::of_file);
        Ok(noted.into_iter().find(|(of, _)| of == log).map(|(_, head)| head))
    }

    /// Where the recent entries begin. Only an entry that the signed tree holds is believed to be old.
    async fn recent(&self, log: &TenantName, signed: LogHead) -> Result<u64, Error> {
        let back = u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX).saturating_add(OVERLAP);
        let since = Timestamp::from_millis(self.store.clock().now().as_millis().saturating_sub(back));
        let (mut low, mut high) = (0, signed.size);
        while low < high {
            let middle = low + (high - low) / 2;
            let time = self.proven_time(middle, signed, log).await?;
            if time.is_some_and(|time| time < since) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The time of an entry that is the one the signed tree holds at this index.
    async fn proven_time(&self, at: u64, signed: LogHead, log: &TenantName) -> Result<Option<Timestamp>, Error> {
        let found = match self.store.leaves(log, at..at + 1).await.map_err(Error::from) {
            Err(error) if error.is_evidence() => return Ok(None),
            found => found?,
        };
        let Some((.., leaf)) = found.first() else { return Ok(None) };
        let tiles = tiles::read(&Tiles::for_inclusion(at, signed.size), log, &self.store).await?;
        let time = is_proven(leaf_hash(leaf), at, signed, &tiles).then(|| Leaf::parse(leaf).ok()).flatten();
        Ok(time.map(|entry| entry.time))
    }

    async fn check_tile(&self, tile: u64, signed: LogHead, log: &TenantName, health: &LogHealth) -> Result<(), Error> {
        let Some(id) = TileId::entries(tile, signed.size) else { return Ok(()) };
        let start = tile * TILE_WIDTH;
        let tiles = tiles::beside(start, signed.size, log, &self.store).await?;
        // The proof of one leaf reads every hash of its tile, so it authenticates the whole tile.
        if !tiles.leaf(start).is_some_and(|leaf| is_proven(leaf, start, signed, &tiles)) {
            health.alarm(&format!("log {log}: hash tile {id} does not lead to the signed root"));
        }
        let checked = self.check_entries(start..start + u64::from(id.width), &tiles, log, health).await;
        match checked {
            Err(error) if error.is_evidence() => {
                health.alarm(&format!("log {log}: {id}: {}", error.words()));
                Ok(())
            }
            checked => checked,
        }
    }

    async fn check_entries(
        &self,
        indices: std::ops::Range<u64>,
        tiles: &Tiles,
        log: &TenantName,
        health: &LogHealth,
    ) -> Result<(), Error> {
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
        if let Some((index, ..)) = found.next() {
            health.alarm(&format!("log {log}: entry {index} stands there twice"));
        }
        for (index, position) in self.store.contradictions(log, indices).await? {
            health.alarm(&format!("log {log}: entry {index} at {position}: its index columns contradict its bytes"));
        }
        Ok(())
    }
}

/// Whether the tiles prove that this leaf stands at this index of the signed tree.
pub(super) fn is_proven(leaf: Hash, index: u64, signed: LogHead, tiles: &Tiles) -> bool {
    inclusion_proof(index, signed.size, tiles)
        .is_ok_and(|proof| verify_inclusion(&leaf, index, signed.size, &proof, &signed.root).is_ok())
}

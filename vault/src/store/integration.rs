//! What the sequencer takes from the store and gives back: lanes, pending batches, index, tiles, heads, checkpoints.

use crate::access_log::node::LaneEnd;
use crate::access_log::{Batch, Group, Position};
use crate::domain::{BootId, TenantName, Timestamp};
use crate::store::Error;

/// How far a lane is integrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneProgress {
    /// The start of the node.
    pub boot: BootId,
    /// The lane.
    pub lane: u32,
    /// When its first batch was written.
    pub opened: Timestamp,
    /// The lane's number from which on nothing is integrated: first number of the next batch.
    pub next: u64,
    /// SHA-256 of the signature of the last integrated batch; zeros before the first.
    pub previous: [u8; 32],
}

/// A lane's row, and whether batches wait behind what it says.
pub type LaneRow = (LaneProgress, bool);

/// A lane by the raw key of its row. Before all others by default.
#[derive(Debug, Clone)]
pub(in crate::store) struct LaneKey {
    pub(in crate::store) boot: Vec<u8>,
    pub(in crate::store) lane: i64,
}

impl Default for LaneKey {
    fn default() -> Self {
        Self { boot: Vec::new(), lane: -1 }
    }
}

/// Some of many rows; one that does not read is one fault among them, and hides none that comes after it.
#[derive(Debug)]
pub(in crate::store) struct Piece<T> {
    pub(in crate::store) rows: Vec<Result<T, Error>>,
    /// Behind what the next piece begins, if there may be one.
    pub(in crate::store) next: Option<LaneKey>,
}

/// A batch that waits for integration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingBatch {
    /// The batch as its node signed it.
    pub batch: Batch,
    /// Each tenant's share, sorted by tenant.
    pub groups: Vec<Group>,
    /// The entries that are there, sorted by tenant and number; whether they are all is for the groups to say.
    pub entries: Vec<(TenantName, Position, Vec<u8>)>,
}

/// A batch with the index that `log_index` names for each of its entries.
pub type PlacedBatch = (PendingBatch, Vec<Option<u64>>);

/// How much of a lane is there, by its own signed batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneTail {
    /// Where its last batch ends.
    pub end: LaneEnd,
    /// Whether that batch's entries are there: with an index, or waiting for one.
    pub is_whole: bool,
}

/// The head of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree.
    pub root: [u8; 32],
}

/// A lane that moves on, compared and swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneAdvance {
    /// The start of the node.
    pub boot: BootId,
    /// The lane.
    pub lane: u32,
    /// Where it must stand now.
    pub from: u64,
    /// Where it stands then.
    pub next: u64,
    /// SHA-256 of the last integrated batch's signature.
    pub previous: [u8; 32],
}

/// A hash tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileRow {
    /// Its level.
    pub level: u8,
    /// Its index within the level.
    pub tile: u64,
    /// Its hashes: 256 when full, fewer at the right edge; an older, narrower one is replaced.
    pub hashes: Vec<u8>,
}

/// A log that grows, its head compared and swapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogAdvance {
    /// Whose log.
    pub log: TenantName,
    /// The head that must be there now; none for a log's first entries.
    pub from: Option<LogHead>,
    /// The head then.
    pub to: LogHead,
    /// The entries of the new leaves, from index `from.size` on.
    pub positions: Vec<Position>,
    /// Tiles that are new or wider.
    pub tiles: Vec<TileRow>,
    /// The signed note of the new head, where it is signed at once.
    pub checkpoint: Option<Checkpointed>,
}

/// Entries that follow each other in a lane, at leaves that follow each other in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Index of the first leaf.
    pub index: u64,
    /// How many.
    pub count: u64,
    /// Position of the first entry.
    pub begin: Position,
}

impl LogAdvance {
    /// The new leaves in as few stretches as there are.
    #[must_use]
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (index, position) in (self.from.map_or(0, |head| head.size)..).zip(&self.positions) {
            match stretches.last_mut() {
                Some(Stretch { count, begin, .. })
                    if *position == (Position { number: begin.number + *count, ..*begin }) =>
                {
                    *count += 1;
                }
                _ => stretches.push(Stretch { index, count: 1, begin: *position }),
            }
        }
        stretches
    }
}

/// A signed tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpointed {
    /// Number of leaves.
    pub size: u64,
    /// When it was signed.
    pub time: Timestamp,
    /// The signed note.
    pub note: String,
}

/// One step of integration: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Integration {
    /// Lanes that move on.
    pub lanes: Vec<LaneAdvance>,
    /// Logs that grow.
    pub logs: Vec<LogAdvance>,
}

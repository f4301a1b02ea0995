//! What the sequencer takes from the store and gives back: lanes, pending batches, index, tiles, heads, checkpoints.

use crate::access_log::node::LaneEnd;
use crate::access_log::{Batch, Group, Position};
use crate::domain::{BootId, TenantName, Timestamp};
use crate::store::Error;

/// Of the batches of a lane ($1 boot, $2 lane) that begin from $3 on and before $4: how many of their entries are there, and
/// how many of those that begin before $5, which is said to be integrated, have no index. One walk through each tenant's
/// stretch of the log, not one for each entry: a busy node asks for fifty thousand of them every five seconds. Stretches of
/// the index are cut where the next one begins, so that none counts for another.
pub(super) const THERE: &str = "WITH shares AS (SELECT tenant, min(first) AS low, max(first + count) AS high, \
     sum(count) AS entries, max(CASE WHEN batch < $5 THEN first + count ELSE 0 END) AS placed FROM log_groups \
     WHERE boot = $1 AND lane = $2 AND batch >= $3 AND batch < $4 GROUP BY tenant) \
     SELECT CAST(coalesce(sum(CASE WHEN s.high - s.low = s.entries THEN (SELECT count(*) FROM access_log a \
     WHERE a.tenant = s.tenant AND a.boot = $1 AND a.lane = $2 AND a.number >= s.low AND a.number < s.high) ELSE 0 END), 0) \
     AS bigint), \
     CAST(coalesce(sum(CASE WHEN s.placed > s.low THEN s.placed - s.low - (SELECT coalesce(sum(c.high - c.low), 0) FROM (\
     SELECT CASE WHEN i.number < s.low THEN s.low ELSE i.number END AS low, \
     CASE WHEN i.stop < s.placed THEN i.stop ELSE s.placed END AS high FROM (\
     SELECT n.number, CASE WHEN lead(n.number) OVER (ORDER BY n.number) < n.number + n.count \
     THEN lead(n.number) OVER (ORDER BY n.number) ELSE n.number + n.count END AS stop FROM log_index n \
     WHERE n.tenant = s.tenant AND n.boot = $1 AND n.lane = $2 AND n.number < s.placed AND n.number >= coalesce((\
     SELECT max(b.number) FROM log_index b WHERE b.tenant = s.tenant AND b.boot = $1 AND b.lane = $2 \
     AND b.number <= s.low), 0)) AS i) AS c WHERE c.high > c.low) ELSE 0 END), 0) AS bigint) FROM shares s";

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

//! Lanes as the sequencer reads them: how far each is integrated, what waits in it, how much of it is there. And who
//! writes them: boots and their signs of life.

use super::integration::{LaneKey, LaneProgress, LaneRow, LaneTail, PendingBatch, PlacedBatch};
use super::{Error, Store, engine};
use crate::access_log::Heartbeat;
use crate::access_log::node::LaneEnd;
use crate::domain::{BootId, TenantName};

/// So many lanes are read in one statement, however many there are: far from what the server gives up on.
const LANES: u32 = 4096;
/// So many lanes with batches are stepped through in one snapshot.
const STEPS: u32 = 512;

/// How far lanes with batches were counted.
#[derive(Debug, Clone, Default)]
pub struct Counted(LaneKey);

impl Store {
    /// Every lane that ever was, and whether batches behind what its row says wait for integration: there is at least one
    /// for each start of a node. A row that does not read is an alarm and hides no other.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn all_lanes(&self) -> Result<Vec<LaneRow>, Error> {
        let (mut found, mut after) = (Vec::new(), Some(LaneKey::default()));
        while let Some(key) = after {
            let piece = engine!(self, lanes_after(&key, LANES))?;
            found.extend(self.readable(piece.rows));
            after = piece.next;
        }
        Ok(found)
    }

    /// The lanes of boots that may write, likewise.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn lanes_of_open_boots(&self) -> Result<Vec<LaneRow>, Error> {
        Ok(self.readable(engine!(self, lanes_of_open_boots())?))
    }

    /// The lanes of one boot, likewise.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn lanes_of(&self, boot: BootId) -> Result<Vec<LaneRow>, Error> {
        Ok(self.readable(engine!(self, lanes_of(boot))?))
    }

    /// Lanes that have batches and no row, among the next few that have batches; and where to go on, if there may be more.
    /// A batch that does not read is an alarm and hides no other.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn lanes_without_row(&self, after: &Counted) -> Result<(Vec<(BootId, u32)>, Option<Counted>), Error> {
        let piece = engine!(self, lanes_without_row(&after.0, STEPS))?;
        Ok((self.readable(piece.rows), piece.next.map(Counted)))
    }

    /// The number of a log's last entry in a lane, by the groups of its signed batches; nothing if it has none there.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn last_number(&self, log: &TenantName, boot: BootId, lane: u32) -> Result<Option<u64>, Error> {
        engine!(self, last_number(log, boot, lane))
    }

    /// The last batch of a lane that begins before its number `next`, with the indices of its entries.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn batch_before(&self, boot: BootId, lane: u32, next: u64) -> Result<Option<PlacedBatch>, Error> {
        engine!(self, batch_before(boot, lane, next))
    }

    /// Whether the batches of a lane from one of its ends on are there, each chained to the one before it, with their
    /// entries: with an index, or waiting for one. Looks at batches with so many entries, at least one, on the way to the
    /// end `to`, and gives the end it came to; nothing if something is missing.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn chained(&self, boot: BootId, from: LaneEnd, to: LaneEnd, most: u64) -> Result<Option<LaneEnd>, Error> {
        engine!(self, chained(boot, from, to, most))
    }

    /// Where one lane stands.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn lane(&self, boot: BootId, lane: u32) -> Result<Option<LaneProgress>, Error> {
        engine!(self, lane(boot, lane))
    }

    /// What is there of a lane up to its number `next`: its last batch before it, and whether that batch's entries are.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn lane_tail(&self, boot: BootId, lane: u32, next: u64) -> Result<Option<LaneTail>, Error> {
        engine!(self, lane_tail(boot, lane, next))
    }

    /// Where every lane of a boot ends by its newest batch, and whether that batch's entries are there.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn lane_ends(&self, boot: BootId) -> Result<Vec<LaneTail>, Error> {
        engine!(self, lane_ends(boot))
    }

    /// The exact bytes of every `node.stopped` of the system log.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn farewells(&self) -> Result<Vec<Vec<u8>>, Error> {
        engine!(self, farewells())
    }

    /// Batches of a lane from its number `from` on, until they hold `most` entries; at least one, if there is one. With
    /// them, whether more may wait behind.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn pending(
        &self,
        boot: BootId,
        lane: u32,
        from: u64,
        most: u64,
    ) -> Result<(Vec<PendingBatch>, bool), Error> {
        engine!(self, pending(boot, lane, from, most))
    }

    /// Boots that may write. A row that does not read is an alarm.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn open_boots(&self) -> Result<Vec<BootId>, Error> {
        Ok(self.readable(engine!(self, open_boots())?))
    }

    /// The last sign of life of each boot that may write; signatures are for the reader to check. A row that does not read
    /// is an alarm.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn open_heartbeats(&self) -> Result<Vec<Heartbeat>, Error> {
        Ok(self.readable(engine!(self, open_heartbeats())?))
    }

    /// The last sign of life of every boot that ever was; signatures are for the reader to check. A row that does not read is an alarm.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn heartbeats(&self) -> Result<Vec<Heartbeat>, Error> {
        Ok(self.readable(engine!(self, heartbeats())?))
    }
}

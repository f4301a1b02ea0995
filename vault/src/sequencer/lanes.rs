//! Which lanes a sequencer looks at. There is a lane for every start of a node that ever was, and few of them live: five
//! times a second those are read in which something may come, once a minute all.
//!
//! What is closed and integrated rests in the signed trees; that its row says so no more is found within the minute.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::Instant;

use super::{Error, MINUTE};
use crate::access_log::{Distrust, LogHealth};
use crate::domain::BootId;
use crate::store::Store;
use crate::store::integration::{LaneProgress, LaneRow};
use crate::store::lane_reads::Counted;

/// So many lanes at rest are proven in one round at most: after a start there may be very many.
const PROVEN_AT_ONCE: usize = 256;

/// A lane of a boot.
pub(super) type Place = (BootId, u32);

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Every lane there is.
    All,
    /// Lanes in which something may come; the others when it is time for them again.
    Living,
}

/// What is known of lanes, and of which more must be known.
pub(super) struct Lanes {
    store: Store,
    health: LogHealth,
    /// Where each lane stands, as proven or integrated here: its row is anybody's word.
    pub(super) known: BTreeMap<Place, LaneProgress>,
    /// Lanes that are not integrated any more because something in them was altered.
    pub(super) refused: BTreeSet<Place>,
    /// Boots that may write, or that left something to be integrated.
    living: BTreeSet<BootId>,
    /// Lanes at rest of which nothing is known yet.
    unproven: VecDeque<LaneRow>,
    /// When all lanes were read.
    read_all: Option<Instant>,
    /// How far lanes without a row were looked for; nothing at the end.
    counted: Option<Counted>,
}

impl Lanes {
    pub(super) fn new(store: Store, health: LogHealth) -> Self {
        Self {
            store,
            health,
            known: BTreeMap::new(),
            refused: BTreeSet::new(),
            living: BTreeSet::new(),
            unproven: VecDeque::new(),
            read_all: None,
            counted: Some(Counted::default()),
        }
    }

    /// Lanes to look at: those where batches wait, then those whose row says something else than is known.
    pub(super) async fn look(&mut self, sight: Sight) -> Result<VecDeque<LaneRow>, Error> {
        self.count(sight).await?;
        let is_due = self.read_all.is_none_or(|at| at.elapsed() >= MINUTE);
        let rows = if sight == Sight::All || is_due { self.all().await? } else { self.of_the_living().await? };
        let (waiting, moved): (Vec<LaneRow>, Vec<LaneRow>) = rows.into_iter().partition(|(_, waits)| *waits);
        let mut lanes: VecDeque<LaneRow> = waiting.into_iter().chain(moved).collect();
        self.living.extend(lanes.iter().map(|(lane, _)| lane.boot));
        let most = if sight == Sight::All { self.unproven.len() } else { PROVEN_AT_ONCE.min(self.unproven.len()) };
        let there: BTreeSet<Place> = lanes.iter().map(|(lane, _)| place(lane)).collect();
        let (known, refused) = (&self.known, &self.refused);
        // Read before the others: of a lane that was looked at since, what it says is old.
        let is_old = |at: &Place| there.contains(at) || known.contains_key(at) || refused.contains(at);
        lanes.extend(self.unproven.drain(..most).filter(|(lane, _)| !is_old(&place(lane))));
        Ok(lanes)
    }

    /// Takes back what was not come to; what waits is found again by itself.
    pub(super) fn put_back(&mut self, lanes: impl IntoIterator<Item = LaneRow>) {
        let known = &self.known;
        self.unproven.extend(lanes.into_iter().filter(|(lane, waits)| !waits && !known.contains_key(&place(lane))));
    }

    /// Reads every lane. Those at rest of which nothing is known are proven little by little.
    async fn all(&mut self) -> Result<Vec<LaneRow>, Error> {
        let rows = self.store.all_lanes().await?;
        self.read_all = Some(Instant::now());
        self.miss(&rows, self.known.keys().copied().collect());
        let (new, rows): (Vec<_>, Vec<_>) =
            self.unlike_known(rows).into_iter().partition(|(lane, waits)| self.is_new_at_rest(lane, *waits));
        self.unproven = new.into();
        Ok(rows)
    }

    /// Reads the lanes of boots that may write, and of those that did when they were last looked at, until all of theirs
    /// is integrated.
    async fn of_the_living(&mut self) -> Result<Vec<LaneRow>, Error> {
        let mut rows = self.store.lanes_of_open_boots().await?;
        let open: BTreeSet<BootId> = rows.iter().map(|(lane, _)| lane.boot).collect();
        // Read after the others: one that was closed in between wrote its last before.
        let closed: Vec<BootId> = self.living.difference(&open).copied().collect();
        for boot in closed {
            rows.extend(self.store.lanes_of(boot).await?);
        }
        let read = open.union(&self.living);
        let known = read.flat_map(|boot| self.known.range((*boot, 0)..=(*boot, u32::MAX))).map(|(place, _)| *place);
        let known = known.collect();
        self.living = open;
        self.miss(&rows, known);
        Ok(self.unlike_known(rows))
    }

    /// Rows with something to do.
    fn unlike_known(&self, mut rows: Vec<LaneRow>) -> Vec<LaneRow> {
        rows.retain(|(lane, waits)| {
            let place = place(lane);
            !self.refused.contains(&place) && (*waits || self.known.get(&place) != Some(lane))
        });
        rows
    }

    fn is_new_at_rest(&self, lane: &LaneProgress, waits: bool) -> bool {
        !waits && !self.known.contains_key(&place(lane))
    }

    /// Known lanes whose row is not there any more.
    fn miss(&mut self, rows: &[LaneRow], known: Vec<Place>) {
        let there: BTreeSet<Place> = rows.iter().map(|(lane, _)| place(lane)).collect();
        for place in known.into_iter().filter(|place| !there.contains(place)) {
            self.refuse_without_row(place);
            self.health.set(Some(Distrust::Pending));
        }
    }

    /// After the start: lanes that have batches and no row, some of them at a time.
    async fn count(&mut self, sight: Sight) -> Result<(), Error> {
        while let Some(counted) = &self.counted {
            let (without, next) = self.store.lanes_without_row(counted).await?;
            self.counted = next;
            without.into_iter().for_each(|place| self.refuse_without_row(place));
            if sight == Sight::Living {
                break;
            }
        }
        Ok(())
    }

    fn refuse_without_row(&mut self, place: Place) {
        if self.refused.insert(place) {
            self.health.alarm(&format!("lane {} of boot {}: its row is gone", place.1, place.0));
        }
    }
}

const fn place(lane: &LaneProgress) -> Place {
    (lane.boot, lane.lane)
}

#[cfg(test)]
impl Lanes {
    /// As a minute later.
    pub(super) fn age(&mut self) {
        self.read_all = None;
    }
}

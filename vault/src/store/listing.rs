//! Entries of the access log as lists: what is asked, how far it is searched for, what comes back.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::access_log::{Leaf, Opening, ParsedEntry, Position};
use crate::domain::{AppName, DataKeyId, FlowName, TenantName, Timestamp, ValueId};

/// Which entries are asked for; an empty filter is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Entries of this value.
    pub value_id: Option<ValueId>,
    /// Entries of this actor's id.
    pub actor: Option<String>,
    /// Entries of this flow.
    pub flow: Option<FlowName>,
    /// Entries of this app.
    pub app: Option<AppName>,
    /// Entries of this action, as the log spells it.
    pub action: Option<String>,
    /// Entries of this outcome, as the log spells it.
    pub outcome: Option<String>,
    /// From this moment on.
    pub from: Option<Timestamp>,
    /// Until just before this moment.
    pub to: Option<Timestamp>,
}

/// An entry as it is stored, with what is left of the openings of its personal members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place in its lane.
    pub position: Position,
    /// Its index in the tenant's log; none before integration.
    pub index: Option<u64>,
    /// The exact bytes.
    pub leaf: Vec<u8>,
    /// The openings that are neither erased nor out of reach.
    pub openings: Vec<Opening>,
    /// There are openings whose key provider does not answer now: nobody may take them for erased.
    pub is_out_of_reach: bool,
    /// And nobody should wait for it: their key is in a token that was left, or that refuses.
    pub is_left_behind: bool,
}

/// The columns beside a leaf that serve look-ups; the leaf has the last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct EntryColumns {
    pub(in crate::store) time: Timestamp,
    pub(in crate::store) action: String,
    pub(in crate::store) outcome: String,
    pub(in crate::store) value_id: Option<ValueId>,
    pub(in crate::store) actor_id: String,
    pub(in crate::store) flow: Option<String>,
    pub(in crate::store) app: Option<String>,
    pub(in crate::store) object: Option<(String, u64)>,
    pub(in crate::store) state_version: Option<u64>,
}

impl EntryColumns {
    /// What the columns beside this leaf must be.
    pub(in crate::store) fn of(entry: &ParsedEntry) -> Self {
        Self {
            time: entry.time,
            action: entry.action.clone().into_owned(),
            outcome: entry.outcome.clone().into_owned(),
            value_id: entry.value_id,
            actor_id: entry.actor.id.clone().into_owned(),
            flow: entry.flow.as_ref().map(|flow| flow.name.to_string()),
            app: entry.app.as_ref().map(ToString::to_string),
            object: entry.object.as_ref().map(|object| (format!("{}/{}", object.table, object.key), object.version)),
            state_version: entry.state_version,
        }
    }
}

/// An entry as it lies in the database.
#[derive(Debug, Clone)]
pub(in crate::store) struct RawEntry {
    pub(in crate::store) tenant: TenantName,
    pub(in crate::store) position: Position,
    pub(in crate::store) index: Option<u64>,
    pub(in crate::store) leaf: Vec<u8>,
    pub(in crate::store) columns: EntryColumns,
    pub(in crate::store) openings: Option<(DataKeyId, [Option<Vec<u8>>; 4])>,
}

impl RawEntry {
    /// Whether leaf and columns say the same, and the leaf stands where it was sealed for.
    pub(in crate::store) fn holds_together(&self) -> bool {
        Leaf::parse(&self.leaf).is_ok_and(|entry| {
            EntryColumns::of(&entry) == self.columns && entry.tenant == self.tenant && entry.position == self.position
        })
    }
}

/// A part of a list, oldest first, and where the next part begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries: in the order of the log's index, then those that wait for integration.
    pub entries: Vec<StoredEntry>,
    /// Where the next part begins; none at the end.
    pub next: Option<String>,
}

/// What a page is cut from, of one moment: no entry is between the two lists, and none is in both.
#[derive(Debug)]
pub(in crate::store) struct Listing {
    /// The log's size; newest first, the end of what was looked at.
    pub(in crate::store) size: u64,
    /// Up to here it was looked; newest first, down to here.
    pub(in crate::store) searched: u64,
    pub(in crate::store) integrated: Vec<RawEntry>,
    pub(in crate::store) waiting: Vec<RawEntry>,
}

/// So many indices a search looks at first, and so much longer each next stretch of it is. A stretch that begins just before
/// [`SEARCHING`] is over takes no longer than all before it and a little: so a page ends within its reading's time on any machine
/// that reads the first one in it.
const FIRST: u64 = 1_000;
const LONGER: u64 = 2;
/// A search that took so long begins no other stretch: a short page now, with a place to go on from, is worth more than a
/// full one that the engine gives up on.
const SEARCHING: Duration = Duration::from_millis(500);

/// The indices a page is searched in, one stretch after the other. An engine that sorts before it counts reads a stretch to
/// its end for the few entries of a page.
pub(in crate::store) struct Stretches {
    rest: Range<u64>,
    next: u64,
    until: Option<Instant>,
}

impl Stretches {
    /// Where every entry passes, as many indices as the page has entries; where an index names the entries, all at once.
    pub(in crate::store) fn of(indices: Range<u64>, filter: &EntryFilter, limit: usize) -> Self {
        let next = if *filter == EntryFilter::default() {
            limit as u64
        } else if filter.value_id.is_some() {
            u64::MAX
        } else {
            FIRST
        };
        Self { rest: indices, next, until: None }
    }

    /// The next one, from the oldest on.
    pub(in crate::store) fn oldest(&mut self) -> Option<Range<u64>> {
        let from = self.rest.start;
        self.rest.start = from.saturating_add(self.length()?);
        Some(from..self.rest.start)
    }

    /// The next one, from the newest on.
    pub(in crate::store) fn newest(&mut self) -> Option<Range<u64>> {
        let to = self.rest.end;
        self.rest.end = to.saturating_sub(self.length()?);
        Some(self.rest.end..to)
    }

    /// What was not looked at.
    pub(in crate::store) const fn rest(&self) -> &Range<u64> {
        &self.rest
    }

    fn length(&mut self) -> Option<u64> {
        let left = self.rest.end.saturating_sub(self.rest.start);
        let now = Instant::now();
        if left == 0 || now > *self.until.get_or_insert(now + SEARCHING) {
            return None;
        }
        let length = self.next.min(left);
        self.next = self.next.saturating_mul(LONGER);
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searched(mut stretches: Stretches, next: impl Fn(&mut Stretches) -> Option<Range<u64>>) -> Vec<Range<u64>> {
        std::iter::from_fn(|| next(&mut stretches)).collect()
    }

    fn denied() -> EntryFilter {
        EntryFilter { outcome: Some("denied".into()), ..EntryFilter::default() }
    }

    #[test]
    fn a_page_of_everything_is_as_many_indices_as_it_has_entries() {
        let mut all = Stretches::of(7..50_007, &EntryFilter::default(), 100);
        assert_eq!(all.oldest(), Some(7..107));
        assert_eq!(all.rest(), &(107..50_007));
    }

    #[test]
    fn a_search_grows_until_it_is_as_long_as_it_may_be() {
        let oldest = searched(Stretches::of(10..6_010, &denied(), 100), Stretches::oldest);
        assert_eq!(oldest, [10..1_010, 1_010..3_010, 3_010..6_010]);
        let newest = searched(Stretches::of(10..6_010, &denied(), 100), Stretches::newest);
        assert_eq!(newest, [5_010..6_010, 3_010..5_010, 10..3_010]);
        assert!(searched(Stretches::of(5..5, &denied(), 100), Stretches::oldest).is_empty());
    }

    #[test]
    fn a_search_whose_time_is_over_stops_where_it_is() {
        let mut slow = Stretches::of(0..50_000, &denied(), 100);
        assert_eq!(slow.oldest(), Some(0..1_000));
        slow.until = Some(Instant::now());
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(slow.oldest(), None);
        assert_eq!(slow.rest().start, 1_000);
    }

    #[test]
    fn what_an_index_names_is_not_searched_for() {
        let of_value = EntryFilter { value_id: Some(ValueId::from_bytes([7; 16])), ..denied() };
        let mut at_once = Stretches::of(0..50_000, &of_value, 1);
        assert_eq!((at_once.oldest(), at_once.oldest()), (Some(0..50_000), None));
    }
}

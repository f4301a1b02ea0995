//! Entries of the access log as lists: what is asked, what comes back.

use super::Error;
use crate::access_log::{Leaf, Opening, ParsedEntry, Position};
use crate::domain::text::hex;
use crate::domain::{AppName, DataKeyId, FlowName, TenantName, Timestamp, ValueId};

/// Which entries are asked for; an empty filter is all of them.
#[derive(Debug, Clone, Default)]
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
    pub(in crate::store) integrated: Vec<RawEntry>,
    pub(in crate::store) waiting: Vec<RawEntry>,
}

/// Where a list goes on: the next index, and the place after which entries wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct Cursor {
    pub(in crate::store) index: u64,
    pub(in crate::store) after: Option<Position>,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.index)?;
        self.after.map_or(Ok(()), |after| write!(f, ".{}", hex::encode(&after.to_bytes())))
    }
}

impl std::str::FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Cursor;
        let (index, after) = text.split_once('.').map_or((text, None), |(index, after)| (index, Some(after)));
        let index = index.parse().map_err(|_| refused())?;
        let read = |after: &str| -> Result<Position, Error> {
            let bytes = hex::decode(after).ok_or_else(refused)?;
            let bytes = bytes.as_slice().try_into().map_err(|_| refused())?;
            Ok(Position::from_bytes(bytes))
        };
        Ok(Self { index, after: after.map(read).transpose()? })
    }
}

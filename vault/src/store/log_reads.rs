//! The access log as readers see it: lists with filters, entries by index or place, the logs' trees.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::batch::{CountedValues, StoredKey};
use super::cursor::Cursor;
use super::integration::{Checkpointed, Integration, LogHead};
use super::listing::{Listing, RawEntry};
use super::{EntryFilter, Error, Page, Store, StoredEntry, engine};
use crate::access_log::{Leaf, Opening, Personal, Position};
use crate::crypto::{DataKey, open_bytes};
use crate::domain::{DataKeyId, TenantName, Timestamp, ValueId};
use crate::keys;

/// The longest page.
const LONGEST_PAGE: usize = 1000;
/// So many entries are looked through for a page at most: a filter that matches little gives a short page with a cursor.
const LONGEST_SEARCH: u64 = 50_000;

/// So many lists are read at once: the other connections that read are for requests.
pub(in crate::store) const LISTS: usize = 3;
/// How long a list waits for its turn.
const TURN: Duration = Duration::from_secs(1);

/// What an opening's seal is for, as HKDF info.
pub(in crate::store) const OPENING: &str = "siv/v1/log-opening";

/// How many indices are looked through for a page. Where an index names the entries, none is looked at for nothing.
const fn longest(filter: &EntryFilter) -> u64 {
    if filter.value_id.is_some() { u64::MAX } else { LONGEST_SEARCH }
}

impl Store {
    /// Entries of a tenant's log (the system's under its name), oldest first: in the order of the log's index, then those
    /// that wait for integration. At most `limit`, and at most 1,000; a page may be short and yet have a next one.
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::Cursor`] for a cursor that is none of ours; [`Error::Overloaded`] while too many lists
    /// are read.
    pub async fn entries(
        &self,
        tenant: &TenantName,
        filter: &EntryFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Error> {
        let limit = limit.clamp(1, LONGEST_PAGE);
        let start: Cursor = cursor.map_or(Ok(Cursor::default()), str::parse)?;
        let _turn = self.turn().await?;
        let listed = match &self.inner.replica {
            Some(replica) => replica.listing(tenant, filter, (&start, limit, longest(filter))).await,
            None => None,
        };
        let Listing { size, searched, integrated: mut raw, waiting } = match listed {
            Some(listing) => listing,
            None => engine!(self, listing(tenant, filter, &start, limit, longest(filter)))?,
        };
        let full = raw.len() >= limit;
        let index = raw.last().filter(|_| full).and_then(|entry| entry.index).map_or(searched, |last| last + 1);
        // What stood on an earlier page while it waited is not shown once more.
        raw.retain(|entry| !start.has_shown(&entry.position));
        let is_end = !full && index >= size;
        let waiting: Vec<RawEntry> = waiting.into_iter().take(if is_end { limit - raw.len() } else { 0 }).collect();
        let more = !is_end || raw.len() + waiting.len() >= limit;
        let next = start.showing(index, waiting.iter().map(|entry| entry.position));
        raw.extend(waiting);
        let entries = self.opened(raw).await;
        Ok(Page { entries, next: more.then(|| next.to_string()) })
    }

    /// Waits until few enough lists are read.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        let turn = tokio::time::timeout(TURN, self.inner.lists.acquire()).await;
        turn.map_err(|_| Error::Overloaded)?.map_err(|_| Error::Unavailable)
    }

    /// Entries newest first, for persons: those that wait, then integrated ones from the end of the log or from just below
    /// `before`; and the index below which the next page begins. A page may be short and yet have a next one.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`]; [`Error::Overloaded`] while too many lists are read.
    pub async fn newest_entries(
        &self,
        tenant: &TenantName,
        filter: &EntryFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<StoredEntry>, Option<u64>), Error> {
        let limit = limit.clamp(1, LONGEST_PAGE);
        let _turn = self.turn().await?;
        let listed = match &self.inner.replica {
            Some(replica) => replica.newest(tenant, filter, (before, limit, longest(filter))).await,
            None => None,
        };
        let Listing { searched, integrated, waiting, .. } = match listed {
            Some(listing) => listing,
            None => engine!(self, newest(tenant, filter, before, limit, longest(filter)))?,
        };
        let full = integrated.len() == limit;
        let from = if full { integrated.last().and_then(|entry| entry.index).unwrap_or(searched) } else { searched };
        let raw = waiting.into_iter().rev().chain(integrated).collect();
        Ok((self.opened(raw).await, (from > 0).then_some(from)))
    }

    /// Integrated entries with an index in `indices`, in order.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn entries_by_index(
        &self,
        log: &TenantName,
        indices: std::ops::Range<u64>,
    ) -> Result<Vec<StoredEntry>, Error> {
        let limit = usize::try_from(indices.end.saturating_sub(indices.start)).unwrap_or(usize::MAX);
        let raw = engine!(self, integrated(log, &EntryFilter::default(), indices, limit))?;
        Ok(self.opened(raw).await)
    }

    /// Exact bytes and places of integrated entries with an index in `indices`, in order.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn leaves(
        &self,
        log: &TenantName,
        indices: std::ops::Range<u64>,
    ) -> Result<Vec<(u64, Position, Vec<u8>)>, Error> {
        // One more than there are: where index rows overlap, whoever counts them must see it.
        let limit = usize::try_from(indices.end.saturating_sub(indices.start)).unwrap_or(usize::MAX).saturating_add(1);
        let raw = engine!(self, integrated(log, &EntryFilter::default(), indices, limit))?;
        Ok(raw.into_iter().filter_map(|entry| Some((entry.index?, entry.position, entry.leaf))).collect())
    }

    /// When values end by the newest entry that says so; `None` is until deleted. A value of which none is found among its
    /// newest entries is not named.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(in crate::store) async fn logged_ends(
        &self,
        tenant: &TenantName,
        values: &[ValueId],
    ) -> Result<BTreeMap<ValueId, Option<Timestamp>>, Error> {
        let leaves = engine!(self, leaves_of_ends(tenant, values))?;
        let mut newest: BTreeMap<ValueId, (u64, Option<Timestamp>)> = BTreeMap::new();
        // One that does not read is the self-check's to find.
        for entry in leaves.iter().filter_map(|leaf| Leaf::parse(leaf).ok()) {
            let Some(value_id) = entry.value_id else { continue };
            let said = (entry.state_version.unwrap_or(0), entry.expires_at);
            let known = newest.entry(value_id).or_insert(said);
            if known.0 < said.0 {
                *known = said;
            }
        }
        Ok(newest.into_iter().map(|(value_id, (_, end))| (value_id, end)).collect())
    }

    /// Places of integrated entries whose look-up columns contradict their leaf: for the self-check.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn contradictions(
        &self,
        log: &TenantName,
        indices: std::ops::Range<u64>,
    ) -> Result<Vec<(u64, Position)>, Error> {
        let limit = usize::try_from(indices.end.saturating_sub(indices.start)).unwrap_or(usize::MAX);
        let raw = engine!(self, integrated(log, &EntryFilter::default(), indices, limit))?;
        let wrong = raw.into_iter().filter(|entry| !entry.holds_together());
        Ok(wrong.filter_map(|entry| Some((entry.index?, entry.position))).collect())
    }

    /// Whether the entry at a place is there and has its index. Nothing of it is opened: no key provider is asked for it.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn is_integrated(&self, log: &TenantName, position: &Position) -> Result<bool, Error> {
        let raw = engine!(self, entry_at(position, log))?;
        Ok(raw.is_some_and(|entry| entry.index.is_some()))
    }

    /// The entry at a place, with its index once it has one.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn entry_at(&self, log: &TenantName, position: &Position) -> Result<Option<StoredEntry>, Error> {
        let raw = engine!(self, entry_at(position, log))?;
        Ok(self.opened(raw.into_iter().collect()).await.pop())
    }

    /// Erases the openings of an entry's personal members; the leaf and its proofs stay.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn erase_openings(&self, log: &TenantName, position: &Position) -> Result<(), Error> {
        engine!(self, erase_openings(position, log))
    }

    /// One step of integration, durably: all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another sequencer came first, [`Error::Database`].
    pub async fn integrate(&self, step: &Integration) -> Result<(), Error> {
        engine!(self, integrate(step))?;
        self.meter().integrated(step);
        Ok(())
    }

    /// Stores a signed tree head, durably; gives the one that is stored for its size, were it another.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn insert_checkpoint(&self, log: &TenantName, checkpoint: &Checkpointed) -> Result<Checkpointed, Error> {
        engine!(self, insert_checkpoint(checkpoint, log))
    }

    /// The newest checkpoint of a log, or the one of a size.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn checkpoint(&self, log: &TenantName, size: Option<u64>) -> Result<Option<Checkpointed>, Error> {
        engine!(self, checkpoint(log, size))
    }

    /// The heads of all logs. A row that does not read is an alarm and as good as missing.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn heads(&self) -> Result<Vec<(TenantName, LogHead)>, Error> {
        Ok(self.readable(engine!(self, heads())?))
    }

    /// The head of a log.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn head(&self, log: &TenantName) -> Result<Option<LogHead>, Error> {
        engine!(self, head(log))
    }

    /// A hash tile, as wide as it is.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn tile(&self, log: &TenantName, level: u8, tile: u64) -> Result<Option<Vec<u8>>, Error> {
        engine!(self, tile(level, tile, log))
    }

    /// Of up to `limit` values behind this one, of all tenants and in the order of their keys, those whose uses are counted:
    /// what a recovery makes void. Few are: all are walked through, in steps that take their time however many there are.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn counted_values(&self, after: Option<&StoredKey>, limit: usize) -> Result<CountedValues, Error> {
        engine!(self, counted_values(after, limit))
    }

    /// The rows that read. One that does not is evidence, and may not hide its neighbours.
    pub(super) fn readable<T>(&self, rows: Vec<Result<T, Error>>) -> Vec<T> {
        let read = |row: Result<T, Error>| row.inspect_err(|fault| self.log_health().alarm(&fault.to_string())).ok();
        rows.into_iter().filter_map(read).collect()
    }

    /// Opens what is left of the openings. What is erased or out of reach is left out: the entry itself is never withheld for
    /// it.
    async fn opened(&self, raw: Vec<RawEntry>) -> Vec<StoredEntry> {
        let mut entries = Vec::with_capacity(raw.len());
        let mut last: Option<(TenantName, DataKeyId, Result<std::sync::Arc<DataKey>, Away>)> = None;
        for entry in raw {
            let (mut openings, mut away) = (Vec::new(), Away::default());
            if let Some((id, sealed)) = &entry.openings {
                if last.as_ref().is_none_or(|(tenant, key, _)| *tenant != entry.tenant || key != id) {
                    let key = match self.inner.keys.data_key(self, &entry.tenant, *id).await {
                        Ok(key) => Ok(key),
                        Err(error) => Err(self.reach(&entry.tenant, *id, &error).await),
                    };
                    last = Some((entry.tenant.clone(), *id, key));
                }
                match &last {
                    Some((_, _, Ok(key))) => openings = open(sealed, &entry, key),
                    Some((_, _, Err(reach))) => away = *reach,
                    None => {}
                }
            }
            let (position, index, leaf) = (entry.position, entry.index, entry.leaf);
            let Away { is_out_of_reach, is_left_behind } = away;
            entries.push(StoredEntry { position, index, leaf, openings, is_out_of_reach, is_left_behind });
        }
        entries
    }

    /// Whether what a data key sealed is out of reach, not erased; and whether nobody should wait for it.
    async fn reach(&self, tenant: &TenantName, id: DataKeyId, error: &keys::Error) -> Away {
        if !error.may_pass() {
            return Away::default();
        }
        // Where that cannot be asked, it is waited for.
        let is_left_behind = self.inner.keys.is_out_of_reach(self, (tenant, id), error).await;
        Away { is_out_of_reach: true, is_left_behind: is_left_behind.unwrap_or(false) }
    }
}

/// Whether openings are there that do not open now, as an entry says it.
#[derive(Debug, Clone, Copy, Default)]
struct Away {
    is_out_of_reach: bool,
    is_left_behind: bool,
}

fn open(sealed: &[Option<Vec<u8>>; 4], entry: &RawEntry, key: &DataKey) -> Vec<Opening> {
    let open = |(member, sealed): (Personal, &Option<Vec<u8>>)| {
        let aad = Opening::aad(member, &entry.position, &entry.tenant);
        let bytes = open_bytes(key, OPENING, &aad, sealed.as_ref()?).ok()?;
        Opening::from_bytes(member, &bytes).ok()
    };
    Personal::ALL.into_iter().zip(sealed).filter_map(open).collect()
}

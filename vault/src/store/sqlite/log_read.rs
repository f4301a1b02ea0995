//! Reading the access log: by index, by place, by filter.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::column::{Columns, int, millis};
use super::integration;
use crate::access_log::Position;
use crate::domain::{BootId, DataKeyId, TenantName};
use crate::store::Error;
use crate::store::cursor::Cursor;
use crate::store::listing::{EntryColumns, EntryFilter, Listing, RawEntry};

macro_rules! columns {
    () => {
        "a.tenant, a.boot, a.lane, a.number, a.time, a.action, a.outcome, a.value_id, a.actor_id, a.flow, a.app, \
         a.object, a.object_version, a.state_version, a.leaf, a.opening_key, a.on_behalf_of, a.address, a.actor_name, \
         a.reference"
    };
}
/// The index of an entry, by the stretch that holds it.
macro_rules! index {
    () => {
        "i.leaf_index + (a.number - i.number)"
    };
}
/// The stretch that holds an entry, by a step through the key: those of one lane follow each other.
macro_rules! stretch_of_entry {
    () => {
        "i.tenant = a.tenant AND i.boot = a.boot AND i.lane = a.lane AND i.number = (SELECT max(n.number) FROM log_index n \
         WHERE n.tenant = a.tenant AND n.boot = a.boot AND n.lane = a.lane AND n.number <= a.number) \
         AND a.number < i.number + i.count"
    };
}
/// The stretches that hold indices of a range, and their entries in it.
macro_rules! of_stretches {
    () => {
        concat!(
            " FROM log_index i CROSS JOIN access_log a ON a.tenant = i.tenant AND a.boot = i.boot AND a.lane = i.lane \
             AND a.number >= i.number AND a.number < i.number + i.count WHERE i.tenant = ?1 AND i.leaf_index < ?11 \
             AND i.leaf_index >= coalesce((SELECT max(f.leaf_index) FROM log_index f WHERE f.tenant = ?1 \
             AND f.leaf_index <= ?10), 0) AND ",
            index!(),
            " >= ?10 AND ",
            index!(),
            " < ?11"
        )
    };
}
macro_rules! filter {
    () => {
        " AND (?2 IS NULL OR a.value_id = ?2) AND (?3 IS NULL OR a.actor_id = ?3) AND (?4 IS NULL OR a.flow = ?4) \
         AND (?5 IS NULL OR a.app = ?5) AND (?6 IS NULL OR a.action = ?6) AND (?7 IS NULL OR a.outcome = ?7) \
         AND (?8 IS NULL OR a.time >= ?8) AND (?9 IS NULL OR a.time < ?9)"
    };
}
/// In the order of the index; the planner may not turn the join around.
pub(super) const INTEGRATED: &str = concat!(
    "SELECT ",
    index!(),
    " AS leaf_index, ",
    columns!(),
    of_stretches!(),
    filter!(),
    " ORDER BY i.leaf_index, a.number LIMIT ?12"
);
/// The same, newest first.
pub(super) const INTEGRATED_NEWEST: &str = concat!(
    "SELECT ",
    index!(),
    " AS leaf_index, ",
    columns!(),
    of_stretches!(),
    filter!(),
    " ORDER BY i.leaf_index DESC, a.number DESC LIMIT ?12"
);
/// One value's entries, by the value's index.
macro_rules! of_value {
    ($order:literal) => {
        concat!(
            "SELECT ",
            index!(),
            " AS leaf_index, ",
            columns!(),
            " FROM access_log a INDEXED BY access_log_by_value CROSS JOIN log_index i ON ",
            stretch_of_entry!(),
            " WHERE a.tenant = ?1 AND a.value_id = ?2 AND ",
            index!(),
            " >= ?10 AND ",
            index!(),
            " < ?11",
            filter!(),
            " ORDER BY leaf_index",
            $order,
            " LIMIT ?12"
        )
    };
}
pub(super) const INTEGRATED_OF_VALUE: &str = of_value!("");
pub(super) const NEWEST_OF_VALUE: &str = of_value!(" DESC");
/// Entries of batches that are not yet integrated.
pub(super) const PENDING: &str = concat!(
    "SELECT NULL AS leaf_index, ",
    columns!(),
    " FROM log_lanes l CROSS JOIN log_groups g INDEXED BY log_groups_by_batch ON g.boot = l.boot AND g.lane = l.lane AND g.batch >= l.next \
     CROSS JOIN access_log a ON a.tenant = g.tenant AND a.boot = g.boot AND a.lane = g.lane AND a.number >= g.first \
     AND a.number < g.first + g.count WHERE l.tenant = '-system' AND g.tenant = ?1 \
     AND (a.boot, a.lane, a.number) > (?10, ?11, ?12)",
    filter!(),
    " ORDER BY a.boot, a.lane, a.number LIMIT ?13"
);
pub(super) const AT: &str = concat!(
    "SELECT ",
    index!(),
    " AS leaf_index, ",
    columns!(),
    " FROM access_log a LEFT JOIN log_index i ON ",
    stretch_of_entry!(),
    " WHERE a.tenant = ? AND a.boot = ? AND a.lane = ? AND a.number = ?"
);

const ERASE: &str = "UPDATE access_log SET opening_key = NULL, on_behalf_of = NULL, address = NULL, actor_name = NULL, \
     reference = NULL WHERE tenant = ? AND boot = ? AND lane = ? AND number = ?";

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn filtered<'q>(text: &'static str, log: &'q TenantName, filter: &'q EntryFilter) -> Query<'q> {
    sqlx::query(text)
        .bind(log.as_str())
        .bind(filter.value_id.as_ref().map(|id| &id.as_bytes()[..]))
        .bind(filter.actor.as_deref())
        .bind(filter.flow.as_ref().map(|name| name.as_str()))
        .bind(filter.app.as_ref().map(|name| name.as_str()))
        .bind(filter.action.as_deref())
        .bind(filter.outcome.as_deref())
        .bind(filter.from.map(millis))
        .bind(filter.to.map(millis))
}

impl SqliteStore {
    /// Integrated entries with an index in `from..to` that pass the filter.
    pub(in crate::store) async fn integrated(
        &self,
        log: &TenantName,
        filter: &EntryFilter,
        indices: std::ops::Range<u64>,
        limit: usize,
    ) -> Result<Vec<RawEntry>, Error> {
        let text = if filter.value_id.is_some() { INTEGRATED_OF_VALUE } else { INTEGRATED };
        integrated(text, log, filter, indices, limit, &mut *self.reader().await?).await
    }

    /// A page's entries from `start` on: integrated ones of at most `longest` indices, then those that wait. All of one
    /// snapshot: an entry that is integrated meanwhile is in one of the two lists, and in one only.
    pub(in crate::store) async fn listing(
        &self,
        log: &TenantName,
        filter: &EntryFilter,
        start: &Cursor,
        limit: usize,
        longest: u64,
    ) -> Result<Listing, Error> {
        let mut reader = self.reader().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *reader).await?;
        let size = integration::head(log, &mut snapshot).await?.map_or(0, |head| head.size);
        let end = size.min(start.index.saturating_add(longest));
        let text = if filter.value_id.is_some() { INTEGRATED_OF_VALUE } else { INTEGRATED };
        let integrated = integrated(text, log, filter, start.index..end, limit, &mut snapshot).await?;
        let is_last = integrated.len() < limit && end >= size;
        let waiting = if is_last { waiting(log, filter, start, limit, &mut snapshot).await? } else { Vec::new() };
        snapshot.commit().await?;
        Ok(Listing { size, searched: end, integrated, waiting })
    }

    /// A page's entries, newest first: those below `before` of at most `longest` indices; without it the newest, and
    /// all that wait. All of one snapshot.
    pub(in crate::store) async fn newest(
        &self,
        log: &TenantName,
        filter: &EntryFilter,
        before: Option<u64>,
        limit: usize,
        longest: u64,
    ) -> Result<Listing, Error> {
        let mut reader = self.reader().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *reader).await?;
        let size = integration::head(log, &mut snapshot).await?.map_or(0, |head| head.size);
        let end = before.map_or(size, |before| before.min(size));
        let from = end.saturating_sub(longest);
        let text = if filter.value_id.is_some() { NEWEST_OF_VALUE } else { INTEGRATED_NEWEST };
        let integrated = integrated(text, log, filter, from..end, limit, &mut snapshot).await?;
        let waiting = match before {
            None => waiting(log, filter, &Cursor::default(), limit, &mut snapshot).await?,
            Some(_) => Vec::new(),
        };
        snapshot.commit().await?;
        Ok(Listing { size: end, searched: from, integrated, waiting })
    }

    /// The entry at a place.
    pub(in crate::store) async fn entry_at(
        &self,
        position: &Position,
        log: &TenantName,
    ) -> Result<Option<RawEntry>, Error> {
        let row = sqlx::query(AT)
            .bind(log.as_str())
            .bind(&position.boot.as_bytes()[..])
            .bind(position.lane)
            .bind(int(position.number))
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        row.map(|row| entry(&row)).transpose()
    }

    /// Erases what is left of the openings of an entry's personal members; the leaf and its proofs stay.
    pub(in crate::store) async fn erase_openings(&self, position: &Position, log: &TenantName) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let erased = erase(position, log, &mut batch.transaction).await;
        let done = batch.finish(erased).await;
        writer.settle(done).await
    }
}

async fn integrated(
    text: &'static str,
    log: &TenantName,
    filter: &EntryFilter,
    indices: std::ops::Range<u64>,
    limit: usize,
    connection: &mut SqliteConnection,
) -> Result<Vec<RawEntry>, Error> {
    let rows = filtered(text, log, filter)
        .bind(int(indices.start))
        .bind(int(indices.end))
        .bind(int(limit as u64))
        .fetch_all(connection)
        .await?;
    rows.iter().map(entry).collect()
}

/// Entries that wait for integration, pass the filter, and were not shown yet.
async fn waiting(
    log: &TenantName,
    filter: &EntryFilter,
    start: &Cursor,
    limit: usize,
    connection: &mut SqliteConnection,
) -> Result<Vec<RawEntry>, Error> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let part = waiting_after(after, log, filter, limit, connection).await?;
        let is_last = part.len() < limit;
        after = part.last().map(|entry| entry.position);
        found.extend(part.into_iter().filter(|entry| !start.has_shown(&entry.position)));
        if is_last || found.len() >= limit {
            return Ok(found);
        }
    }
}

/// The same after a place, whether or not they were shown.
async fn waiting_after(
    after: Option<Position>,
    log: &TenantName,
    filter: &EntryFilter,
    limit: usize,
    connection: &mut SqliteConnection,
) -> Result<Vec<RawEntry>, Error> {
    let boot = after.map_or([0; 16], |place| *place.boot.as_bytes());
    let rows = filtered(PENDING, log, filter)
        .bind(&boot[..])
        .bind(after.map_or(-1, |place| i64::from(place.lane)))
        .bind(after.map_or(-1, |place| int(place.number)))
        .bind(int(limit as u64))
        .fetch_all(connection)
        .await?;
    rows.iter().map(entry).collect()
}

async fn erase(position: &Position, log: &TenantName, connection: &mut SqliteConnection) -> Result<(), Error> {
    sqlx::query(ERASE)
        .bind(log.as_str())
        .bind(&position.boot.as_bytes()[..])
        .bind(position.lane)
        .bind(int(position.number))
        .execute(connection)
        .await?;
    Ok(())
}

fn entry(row: &SqliteRow) -> Result<RawEntry, Error> {
    let columns = Columns::of("access_log", row);
    let object: Option<String> = columns.get("object")?;
    let sealed: [Option<Vec<u8>>; 4] =
        [columns.get("on_behalf_of")?, columns.get("address")?, columns.get("actor_name")?, columns.get("reference")?];
    Ok(RawEntry {
        tenant: TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?,
        position: Position {
            boot: columns.id("boot", BootId::from_bytes)?,
            lane: columns.number("lane")?,
            number: columns.number("number")?,
        },
        index: columns.number_or_none("leaf_index")?,
        leaf: columns.get("leaf")?,
        columns: EntryColumns {
            time: columns.time("time")?,
            action: columns.get("action")?,
            outcome: columns.get("outcome")?,
            value_id: columns.id_or_none("value_id", crate::domain::ValueId::from_bytes)?,
            actor_id: columns.get("actor_id")?,
            flow: columns.get("flow")?,
            app: columns.get("app")?,
            object: object.zip(columns.number_or_none("object_version")?),
            state_version: columns.number_or_none("state_version")?,
        },
        openings: columns.id_or_none("opening_key", DataKeyId::from_bytes)?.map(|id| (id, sealed)),
    })
}

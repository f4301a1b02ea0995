//! Lanes' rows: how far each is said to be integrated. Few are read often, and all of them in pieces: there is one for every
//! start of a node that ever was.

use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::column::Columns;
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::integration::{LaneKey, LaneProgress, LaneRow, Piece};

/// Lanes, and whether batches wait behind what the row says.
macro_rules! lanes {
    ($which:literal) => {
        concat!(
            "SELECT l.*, EXISTS (SELECT 1 FROM log_batches b WHERE b.tenant = $1 AND b.boot = l.boot AND b.lane = l.lane \
             AND b.first >= l.next) AS waits FROM log_lanes AS l WHERE l.tenant = $1 AND ",
            $which
        )
    };
}
const AFTER: &str = lanes!("(l.boot, l.lane) > ($2, $3) ORDER BY l.boot, l.lane LIMIT $4");
const OF_OPEN_BOOTS: &str =
    lanes!("l.boot = ANY (ARRAY(SELECT boot FROM open_boots WHERE tenant = $1)) ORDER BY l.boot, l.lane");
const OF_BOOT: &str = lanes!("l.boot = $2 ORDER BY l.lane");

/// Lanes that have batches, one after the other by a step through the key: batches are many, lanes are few.
const NEXT_WITH_BATCHES: &str = "SELECT boot, lane, EXISTS (SELECT 1 FROM log_lanes l WHERE l.tenant = $1 AND l.boot = b.boot \
     AND l.lane = b.lane) AS has_row FROM log_batches b WHERE tenant = $1 AND (boot, lane) > ($2, $3) \
     ORDER BY boot, lane LIMIT 1";

impl PostgresStore {
    /// So many lanes behind one; a row that does not read is one fault among them.
    pub(in crate::store) async fn lanes_after(&self, after: &LaneKey, most: u32) -> Result<Piece<LaneRow>, Error> {
        super::reading!(self, |connection| {
            let rows = sqlx::query(AFTER)
                .bind(TenantName::SYSTEM)
                .bind(&after.boot[..])
                .bind(after.lane)
                .bind(i64::from(most))
                .fetch_all(connection)
                .await?;
            let next = rows.last().filter(|_| rows.len() == most as usize).map(key).transpose()?;
            Ok(Piece { rows: rows.iter().map(lane_row).collect(), next })
        })
    }

    /// The lanes of the boots that may write.
    pub(in crate::store) async fn lanes_of_open_boots(&self) -> Result<Vec<Result<LaneRow, Error>>, Error> {
        super::reading!(self, |connection| {
            let rows = sqlx::query(OF_OPEN_BOOTS).bind(TenantName::SYSTEM).fetch_all(connection).await?;
            Ok(rows.iter().map(lane_row).collect())
        })
    }

    /// The lanes of one boot.
    pub(in crate::store) async fn lanes_of(&self, boot: BootId) -> Result<Vec<Result<LaneRow, Error>>, Error> {
        super::reading!(self, |connection| {
            let query = sqlx::query(OF_BOOT).bind(TenantName::SYSTEM).bind(&boot.as_bytes()[..]);
            let rows = query.fetch_all(connection).await?;
            Ok(rows.iter().map(lane_row).collect())
        })
    }

    /// Those of so many lanes with batches, behind one, that have no row.
    pub(in crate::store) async fn lanes_without_row(
        &self,
        after: &LaneKey,
        most: u32,
    ) -> Result<Piece<(BootId, u32)>, Error> {
        super::snapshot!(self, |connection| {
            let (mut rows, mut last) = (Vec::new(), Some(after.clone()));
            for _ in 0..most {
                let Some(before) = &last else { break };
                let query = sqlx::query(NEXT_WITH_BATCHES).bind(TenantName::SYSTEM).bind(&before.boot[..]);
                let row = query.bind(before.lane).fetch_optional(&mut *connection).await?;
                last = row.as_ref().map(key).transpose()?;
                let Some(row) = row else { break };
                let columns = Columns::of("log_batches", &row);
                if !columns.get::<bool, _>("has_row")? {
                    rows.push(
                        columns.id("boot", BootId::from_bytes).and_then(|boot| Ok((boot, columns.number("lane")?))),
                    );
                }
            }
            Ok(Piece { rows, next: last })
        })
    }

    /// Where one lane stands.
    pub(in crate::store) async fn lane(&self, boot: BootId, number: u32) -> Result<Option<LaneProgress>, Error> {
        super::reading!(self, |connection| {
            let row = sqlx::query("SELECT * FROM log_lanes WHERE tenant = $1 AND boot = $2 AND lane = $3")
                .bind(TenantName::SYSTEM)
                .bind(&boot.as_bytes()[..])
                .bind(i64::from(number))
                .fetch_optional(connection)
                .await?;
            row.map(|row| lane(&row)).transpose()
        })
    }
}

fn lane_row(row: &PgRow) -> Result<LaneRow, Error> {
    Ok((lane(row)?, Columns::of("log_lanes", row).get("waits")?))
}

/// Where a row stands, whatever stands there.
fn key(row: &PgRow) -> Result<LaneKey, Error> {
    let columns = Columns::of("log_lanes", row);
    Ok(LaneKey { boot: columns.get("boot")?, lane: columns.get("lane")? })
}

pub(super) fn lane(row: &PgRow) -> Result<LaneProgress, Error> {
    let columns = Columns::of("log_lanes", row);
    Ok(LaneProgress {
        boot: columns.id("boot", BootId::from_bytes)?,
        lane: columns.number("lane")?,
        opened: columns.time("opened")?,
        next: columns.number("next")?,
        previous: columns.bytes("previous")?,
    })
}

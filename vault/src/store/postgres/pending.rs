//! The batches that wait for integration, read in as many statements as they have tenants and two.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::PostgresStore;
use super::column::{Columns, int};
use super::integration::{batch, group};
use crate::access_log::{Batch, Group, Position};
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::integration::PendingBatch;

/// Numbers of a lane count entries: so many of them are so many entries, and one batch if it has more.
const BATCHES: &str = "SELECT * FROM log_batches WHERE tenant = $1 AND boot = $2 AND lane = $3 AND first >= $4 \
     AND first < $5 ORDER BY first";
/// Of batches that follow each other. A list of their numbers would be looked for in all rows of the lane: an index that gives
/// the order cannot be entered by a list.
const GROUPS: &str = "SELECT * FROM log_groups WHERE boot = $1 AND lane = $2 AND batch >= $3 AND batch <= $4 \
     ORDER BY batch, tenant, first";
const ENTRIES: &str = "SELECT number, leaf FROM access_log WHERE tenant = $1 AND boot = $2 AND lane = $3 AND number >= $4 \
     AND number < $5 ORDER BY number";

/// A tenant's leaves by their numbers.
type Leaves = BTreeMap<u64, Vec<u8>>;

impl PostgresStore {
    /// Batches of a lane from its number `from` on, until they hold `most` entries (at least one batch), and whether more
    /// may wait behind them.
    pub(in crate::store) async fn pending(
        &self,
        boot: BootId,
        lane: u32,
        from: u64,
        most: u64,
    ) -> Result<(Vec<PendingBatch>, bool), Error> {
        super::snapshot!(self, |connection| {
            let rows = sqlx::query(BATCHES)
                .bind(TenantName::SYSTEM)
                .bind(&boot.as_bytes()[..])
                .bind(i64::from(lane))
                .bind(int(from))
                .bind(int(from.saturating_add(most)))
                .fetch_all(&mut *connection)
                .await?;
            let (mut batches, mut sum) = (Vec::new(), 0_u64);
            for row in &rows {
                let batch = batch(row, boot, lane)?;
                sum = sum.saturating_add(batch.count);
                if sum > most && !batches.is_empty() {
                    break;
                }
                batches.push(batch);
            }
            Ok((with_entries(batches, (boot, lane), connection).await?, sum >= most))
        })
    }
}

/// Batches of one lane, one behind the other, with their groups and the entries that are there.
pub(super) async fn with_entries(
    batches: Vec<Batch>,
    (boot, lane): (BootId, u32),
    connection: &mut PgConnection,
) -> Result<Vec<PendingBatch>, Error> {
    let (Some(begin), Some(end)) = (batches.first(), batches.last()) else { return Ok(Vec::new()) };
    let rows = sqlx::query(GROUPS)
        .bind(&boot.as_bytes()[..])
        .bind(i64::from(lane))
        .bind(int(begin.first))
        .bind(int(end.first))
        .fetch_all(&mut *connection)
        .await?;
    let mut groups: BTreeMap<u64, Vec<Group>> = BTreeMap::new();
    for row in &rows {
        groups.entry(Columns::of("log_groups", row).number("batch")?).or_default().push(group(row)?);
    }
    let mut leaves = leaves(groups.values().flatten(), (boot, lane), connection).await?;
    let pending = batches.into_iter().map(|batch| {
        let groups = groups.remove(&batch.first).unwrap_or_default();
        let mut entries = Vec::new();
        for Group { tenant, first, count, .. } in &groups {
            let Some(own) = leaves.get_mut(tenant) else { continue };
            // Groups come in the order of their numbers; where they do not, entries are missing, and the batch is refused.
            let mut taken = own.split_off(first);
            *own = taken.split_off(&first.saturating_add(*count));
            let place = |number| Position { boot, lane, number };
            entries.extend(taken.into_iter().map(|(number, leaf)| (tenant.clone(), place(number), leaf)));
        }
        PendingBatch { batch, groups, entries }
    });
    Ok(pending.collect())
}

/// The leaves of every tenant from its first group's begin to its last one's end.
async fn leaves(
    groups: impl Iterator<Item = &Group>,
    (boot, lane): (BootId, u32),
    connection: &mut PgConnection,
) -> Result<BTreeMap<TenantName, Leaves>, Error> {
    let mut ranges: BTreeMap<&TenantName, (u64, u64)> = BTreeMap::new();
    for Group { tenant, first, count, .. } in groups {
        let end = first.saturating_add(*count);
        let range = ranges.entry(tenant).or_insert((*first, end));
        *range = (range.0.min(*first), range.1.max(end));
    }
    let mut leaves = BTreeMap::new();
    for (tenant, (first, end)) in ranges {
        let rows = sqlx::query(ENTRIES)
            .bind(tenant.as_str())
            .bind(&boot.as_bytes()[..])
            .bind(i64::from(lane))
            .bind(int(first))
            .bind(int(end))
            .fetch_all(&mut *connection)
            .await?;
        let read = |row| {
            let columns = Columns::of("access_log", row);
            Ok::<_, Error>((columns.number("number")?, columns.get("leaf")?))
        };
        leaves.insert(tenant.clone(), rows.iter().map(read).collect::<Result<Leaves, _>>()?);
    }
    Ok(leaves)
}

//! The numbers of tenants' settings: what a batch decides under, and how they move on.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::column::{Columns, column, int};
use crate::domain::{Clock, TenantName, Timestamp};
use crate::store::Error;
use crate::store::committer::operation::Generation;

const SHARE: &str = "SELECT tenant, generation, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now \
     FROM generations WHERE tenant = ANY($1) ORDER BY tenant FOR SHARE";
const BUMP_GENERATION: &str = "INSERT INTO generations AS g (tenant, generation) \
     SELECT n.tenant, n.step FROM unnest($1::text[], $2::bigint[]) AS n(tenant, step) ORDER BY n.tenant \
     ON CONFLICT (tenant) DO UPDATE SET generation = g.generation + excluded.generation";

/// The generations of these tenants, which nobody moves on before the transaction ends: what is decided under one is over
/// when the next is acknowledged. With them the moment a batch is judged by: the database's, which is one for all nodes. A
/// test's clock stands for both.
pub(super) async fn share(
    tenants: &BTreeSet<TenantName>,
    clock: &Clock,
    connection: &mut PgConnection,
) -> Result<(Timestamp, BTreeMap<TenantName, Generation>), Error> {
    let names: Vec<&TenantName> = tenants.iter().collect();
    let rows = sqlx::query(SHARE).bind(column(&names, |name| name.as_str())).fetch_all(&mut *connection).await?;
    let mut found: BTreeMap<_, _> = tenants.iter().map(|tenant| (tenant.clone(), Generation::default())).collect();
    let mut now = None;
    for row in &rows {
        let columns = Columns::of("generations", row);
        let tenant = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
        found.insert(tenant, Generation(columns.number("generation")?));
        now = Some(columns.time("now")?);
    }
    let now = match (clock, now) {
        (Clock::Held(_), _) => clock.now(),
        (_, Some(now)) => now,
        (_, None) => read_clock(connection).await?,
    };
    Ok((now, found))
}

async fn read_clock(connection: &mut PgConnection) -> Result<Timestamp, Error> {
    let row = sqlx::query("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now")
        .fetch_one(connection)
        .await?;
    Columns::of("the database's clock", &row).time("now")
}

/// A tenant's generation as it is at this moment; 0 before its first change.
pub(super) async fn read(tenant: &TenantName, connection: &mut PgConnection) -> Result<Generation, Error> {
    let row = sqlx::query("SELECT generation FROM generations WHERE tenant = $1")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(Generation::default()), |row| Columns::of("generations", &row).number("generation").map(Generation))
}

/// Moves tenants' generations on.
pub(super) async fn bump(steps: &BTreeMap<TenantName, u64>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if steps.is_empty() {
        return Ok(());
    }
    let steps: Vec<(&TenantName, &u64)> = steps.iter().collect();
    sqlx::query(BUMP_GENERATION)
        .bind(column(&steps, |(tenant, _)| tenant.as_str()))
        .bind(column(&steps, |(_, step)| int(**step)))
        .execute(connection)
        .await
        .map(|_| ())
}

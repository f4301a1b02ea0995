//! The numbers of tenants' settings: what a batch decides under, and how they move on.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::column::{Columns, column, int};
use super::durability::{self, keeps_commits};
use crate::domain::{Clock, TenantName, Timestamp};
use crate::store::Error;
use crate::store::batch::Wanted;
use crate::store::committer::operation::Generation;

/// With the row of the boot that asks, in one question: every batch asks it.
macro_rules! lock {
    ($strength:literal) => {
        concat!(
            "WITH generation AS (SELECT tenant, generation FROM generations WHERE tenant = ANY($1) ORDER BY tenant ",
            $strength,
            "), own AS (SELECT 1 FROM open_boots WHERE tenant = $2 AND boot = $3 FOR SHARE) \
             SELECT tenant, generation, NULL::bigint AS now, NULL::boolean AS keeps FROM generation UNION ALL \
             SELECT NULL, NULL, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, ",
            keeps_commits!(),
            " FROM own"
        )
    };
}
const SHARE: &str = lock!("FOR SHARE");
const OWN: &str = lock!("FOR NO KEY UPDATE");
const BUMP_GENERATION: &str = "INSERT INTO generations AS g (tenant, generation) \
     SELECT n.tenant, n.step FROM unnest($1::text[], $2::bigint[]) AS n(tenant, step) ORDER BY n.tenant \
     ON CONFLICT (tenant) DO UPDATE SET generation = g.generation + excluded.generation";

/// The generations of these tenants, which nobody moves on before the transaction ends: what is decided under one is over
/// when the next is acknowledged. With them the moment a batch is judged by: the database's, which is one for all nodes. A
/// test's clock stands for both.
///
/// The boot's row is held likewise: a boot that was closed meanwhile is told so ([`Error::Closed`]), and one that is closed
/// now has written all that it will. A batch that moves generations on has them for itself from the start: of two that first
/// share one and then want it alone, each would wait for the other.
pub(super) async fn hold(
    wanted: &Wanted,
    clock: &Clock,
    connection: &mut PgConnection,
) -> Result<(Timestamp, BTreeMap<TenantName, Generation>), Error> {
    let tenants: BTreeSet<&TenantName> = wanted.tenants.iter().chain(&wanted.moving).collect();
    let names: Vec<&TenantName> = tenants.iter().copied().collect();
    let rows = sqlx::query(if wanted.moving.is_empty() { SHARE } else { OWN })
        .bind(column(&names, |name| name.as_str()))
        .bind(TenantName::SYSTEM)
        .bind(&wanted.boot.as_bytes()[..])
        .fetch_all(&mut *connection)
        .await?;
    let mut found: BTreeMap<_, _> = names.iter().map(|tenant| ((*tenant).clone(), Generation::default())).collect();
    let mut now = None;
    for row in &rows {
        let columns = Columns::of("generations", row);
        let Some(tenant) = columns.get::<Option<&str>, _>("tenant")? else {
            now = Some(columns.time("now")?);
            // With this very question, so that nothing is decided, let alone acknowledged, under weaker ones.
            if !columns.get::<bool, _>("keeps")? {
                tracing::error!("{}", durability::WEAK);
                return Err(durability::WEAK);
            }
            continue;
        };
        let tenant = TenantName::from_store(tenant).map_err(|_| columns.unreadable())?;
        found.insert(tenant, Generation(columns.number("generation")?));
    }
    let now = now.ok_or(Error::Closed)?;
    Ok((clock.by_database(now), found))
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

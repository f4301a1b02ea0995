//! The numbers of tenants' settings: what a batch decides under, and how they move on.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::column::{Columns, column, int};
use super::durability::{self, keeps_commits};
use super::fault::fault;
use super::{LOCK, STATEMENT};
use crate::domain::{Clock, TenantName};
use crate::store::Error;
use crate::store::batch::{Loaded, Wanted};
use crate::store::committer::operation::Generation;
use crate::store::fault::Fault;

/// Longer nobody waits alone for a generation, in milliseconds: as long as a lock is waited for, and the change takes.
const AWAITED: i64 = 400;

/// With the row of the boot that asks, in one question: every batch asks it. `$which` of the rows are held; a row without a
/// generation is a tenant's that are not, because its generation is awaited. That is judged once, and by the server's clock;
/// a time that lies too far ahead is of a clock that was wrong.
macro_rules! lock {
    ($which:literal, $strength:literal, $awaited:literal) => {
        concat!(
            "WITH awaited AS MATERIALIZED (SELECT tenant, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now, until \
             FROM awaited_generations WHERE tenant = ANY($1)), \
             waits AS MATERIALIZED (SELECT tenant FROM awaited WHERE until > now AND until <= now + 1000), \
             generation AS (SELECT tenant, generation FROM generations WHERE tenant = ANY($1)",
            $which,
            " ORDER BY tenant ",
            $strength,
            "), own AS (SELECT 1 FROM open_boots WHERE tenant = $2 AND boot = $3 FOR SHARE) \
             SELECT tenant, generation, NULL::bigint AS now, NULL::boolean AS keeps FROM generation UNION ALL \
             SELECT NULL, NULL, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, ",
            keeps_commits!(),
            " FROM own",
            $awaited
        )
    };
}
const SHARE: &str = lock!(
    " AND NOT tenant = ANY (ARRAY(SELECT tenant FROM waits))",
    "FOR SHARE",
    " UNION ALL SELECT tenant, NULL, NULL, NULL FROM waits"
);
const OWN: &str = lock!("", "FOR NO KEY UPDATE", "");
const AWAIT: &str = "INSERT INTO awaited_generations AS a (tenant, until) \
     SELECT n.tenant, (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $2 FROM unnest($1::text[]) AS n(tenant) \
     ORDER BY n.tenant ON CONFLICT (tenant) DO UPDATE SET until = excluded.until";
const BUMP_GENERATION: &str = "WITH came AS (DELETE FROM awaited_generations WHERE tenant = ANY($1)) \
     INSERT INTO generations AS g (tenant, generation) \
     SELECT n.tenant, n.step FROM unnest($1::text[], $2::bigint[]) AS n(tenant, step) ORDER BY n.tenant \
     ON CONFLICT (tenant) DO UPDATE SET generation = g.generation + excluded.generation";

/// The generations of these tenants, which nobody moves on before the transaction ends: what is decided under one is over
/// when the next is acknowledged. With them the moment a batch is judged by: the database's, which is one for all nodes. A
/// test's clock stands for both.
///
/// The boot's row is held likewise: a boot that was closed meanwhile is told so ([`Error::Closed`]), and one that is closed
/// now has written all that it will. A batch that moves generations on has them for itself from the start: of two that first
/// share one and then want it alone, each would wait for the other.
///
/// PostgreSQL lets any number of batches share a row while another waits to have it alone: that one might wait for ever. So
/// who waits says so ([`expect`]), and those that come after leave that tenant's operations for a moment.
pub(super) async fn hold(wanted: &Wanted, clock: &Clock, connection: &mut PgConnection) -> Result<Loaded, Error> {
    let tenants: BTreeSet<&TenantName> = wanted.tenants.iter().chain(&wanted.moving).collect();
    let names: Vec<&TenantName> = tenants.iter().copied().collect();
    let is_alone = !wanted.moving.is_empty();
    if is_alone {
        limit(LOCK, connection).await?;
    }
    let asked = sqlx::query(if is_alone { OWN } else { SHARE })
        .bind(column(&names, |name| name.as_str()))
        .bind(TenantName::SYSTEM)
        .bind(&wanted.boot.as_bytes()[..])
        .fetch_all(&mut *connection)
        .await;
    let rows = match asked {
        // The work is next to nothing: it waited.
        Err(error) if is_alone && fault(&error) == Fault::Slow => return Err(Error::Held),
        asked => asked?,
    };
    if is_alone {
        limit(STATEMENT, connection).await?;
    }
    let mut found: BTreeMap<_, _> = names.iter().map(|tenant| ((*tenant).clone(), Generation::default())).collect();
    let (mut now, mut awaited) = (None, BTreeSet::new());
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
        if columns.get::<Option<i64>, _>("generation")?.is_none() {
            found.remove(&tenant);
            awaited.insert(tenant);
            continue;
        }
        found.insert(tenant, Generation(columns.number("generation")?));
    }
    let now = now.ok_or(Error::Closed)?;
    Ok(Loaded { generations: found, awaited, ..Loaded::at(clock.by_database(now)) })
}

/// How long the rest of the transaction's statements may take. Who waits for a row that many share waits for each of them in
/// turn, and for those that came meanwhile: `lock_timeout` counts each wait by itself, and may never be over.
async fn limit(statement: &'static str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let set = sqlx::query("SELECT set_config('statement_timeout', $1, true)").bind(statement);
    set.execute(connection).await.map(|_| ())
}

/// Says that this node waits to have tenants' generations alone: a moment long no batch begins to share them. In a
/// transaction of its own, which nobody waits for.
pub(super) async fn expect(tenants: &BTreeSet<TenantName>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let names: Vec<&TenantName> = tenants.iter().collect();
    sqlx::query(AWAIT).bind(column(&names, |name| name.as_str())).bind(AWAITED).execute(connection).await.map(|_| ())
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

//! A standby, and how far it is behind its primary: both say where they stand in the write-ahead log.

use super::column::Columns;
use super::{PostgresStore, READERS, Readers, VITAL, Writer};
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::settings::PostgresAddress;

/// A place in a write-ahead log. Each promotion begins another timeline: places of two of them say nothing of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Place {
    pub(in crate::store) timeline: i32,
    pub(in crate::store) position: i64,
}

/// What a database says of itself that should be a standby.
pub(in crate::store) struct Standby {
    pub(in crate::store) installation: Vec<u8>,
    pub(in crate::store) realm: String,
    /// It has the row that this start of the node made in the primary: it follows it, and not one that was put back.
    pub(in crate::store) follows: bool,
    /// Up to where it has come; nothing if it is no standby.
    pub(in crate::store) replayed: Option<Place>,
}

impl PostgresStore {
    /// A database that is only read, and asked nothing before it is needed.
    pub(in crate::store) fn reading_only(address: &PostgresAddress) -> Result<Self, Error> {
        let options = address.options()?;
        let readers = |most| Readers::of(most, &options);
        let never = || tokio::sync::Mutex::new(Writer::never(options.clone()));
        Ok(Self { readers: readers(READERS), vital: readers(VITAL), writer: never(), upkeep: never() })
    }

    /// Up to where this server has written: what was acknowledged before is below.
    pub(in crate::store) async fn written(&self) -> Result<Place, Error> {
        super::reading!(self, |connection| {
            // The timeline of what is written now: that of the last checkpoint may be from before a promotion.
            let row = sqlx::query(
                "SELECT ('x' || left(pg_walfile_name(at), 8))::bit(32)::int AS timeline, \
                 pg_wal_lsn_diff(at, '0/0')::bigint AS written FROM pg_current_wal_lsn() AS at",
            )
            .fetch_one(connection)
            .await?;
            let columns = Columns::of("the primary", &row);
            Ok(Place { timeline: columns.get("timeline")?, position: columns.get("written")? })
        })
    }

    /// Whose database a standby is, and how far it has come.
    pub(in crate::store) async fn replayed(&self, boot: Option<BootId>) -> Result<Standby, Error> {
        super::reading!(self, |connection| {
            let row = sqlx::query(
                "SELECT installation_id, realm, EXISTS (SELECT 1 FROM open_boots WHERE tenant = $1 AND boot = $2) \
                 AS follows, CASE WHEN pg_is_in_recovery() \
                 THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint END AS replayed, \
                 GREATEST(timeline_id, min_recovery_end_timeline) AS timeline \
                 FROM installation, pg_control_checkpoint(), pg_control_recovery() WHERE tenant = $1",
            )
            .bind(TenantName::SYSTEM)
            .bind(boot.map(|boot| boot.as_bytes().to_vec()))
            .fetch_one(connection)
            .await?;
            let columns = Columns::of("installation", &row);
            Ok(Standby {
                installation: columns.get("installation_id")?,
                realm: columns.get("realm")?,
                follows: columns.get("follows")?,
                replayed: columns
                    .get::<Option<i64>, _>("replayed")?
                    .map(|position| Ok::<_, Error>(Place { timeline: columns.get("timeline")?, position }))
                    .transpose()?,
            })
        })
    }
}

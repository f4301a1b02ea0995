//! The rewrap: a tenant's data keys wrapped under its active KEK version, in stretches that each end soon. Whoever wants all of it goes on
//! where the last one ended; one that is not gone on with has changed what it says, and nothing else.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{PATIENCE, active};
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::DataKey;
use crate::domain::{DataKeyId, KekId, TenantName, Timestamp, chain};
use crate::keys::{self, KekRecord, Rewrap};
use crate::store::administration::{Administrator, Record, in_both_logs};
use crate::store::committer::operation::{Asker, Changes, Decision, Generation, Operation, Reads, Rows};
use crate::store::records::Body;
use crate::store::rows::{DataKeyRow, Table};
use crate::store::tenants::Ground;
use crate::store::{Error, Store};

/// How many data keys one commit rewraps: few enough that no other request waits for it.
const SLICE: u32 = 64;
/// So long a stretch goes on; the data key, the pause and the commit that it ends in come on top, and all of it stays well within the
/// time of a request.
const TIME: Duration = Duration::from_secs(10);

/// One stretch of a rewrap.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Only count.
    pub dry: bool,
    /// Not faster than so many data keys a second: a customer's token serves its readers meanwhile.
    pub per_second: Option<NonZeroU32>,
    /// The data key that the last stretch ended with.
    pub after: Option<DataKeyId>,
    /// How long it goes on.
    pub time: Duration,
}

impl Default for Stretch {
    fn default() -> Self {
        Self { dry: false, per_second: None, after: None, time: TIME }
    }
}

/// What a stretch did, or (dry) would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrapped {
    /// Data keys now under the active version.
    pub moved: u64,
    /// Data keys that were there already.
    pub kept: u64,
    /// Data keys whose erasure key is gone; their rows are removed.
    pub erased: u64,
    /// Data keys that still name another version: those that were not come to, and those that do not open, for now or for good (dry: of
    /// the latter, those of this stretch). None is the proof that nothing refers to it.
    pub left: u64,
    /// Those of this stretch that do not open, by version and why.
    pub unopened: BTreeMap<Left, u64>,
    /// Where the next stretch goes on; nothing where this was the last one.
    pub next: Option<DataKeyId>,
}

/// Of which version data keys do not open, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The KEK.
    pub kek_id: KekId,
    /// Its version.
    pub version: u32,
    /// Why.
    pub why: &'static str,
}

/// Wraps data keys of the tenant under its active KEK version for as long as a stretch lasts. The last one ends with an entry that
/// counts what still names another version.
///
/// # Errors
/// [`Error::Keys`] if a key cannot be unwrapped or wrapped; those of the committer.
pub async fn rewrap(by: &Administrator, stretch: Stretch, ground: Ground<'_>) -> Result<Rewrapped, Error> {
    let kek = active(&by.tenant, ground.store).await?;
    let pace = Pace { per_second: stretch.per_second, owed: Duration::ZERO };
    let (done, renewed, removed) = (Rewrapped::default(), Vec::new(), Vec::new());
    let mut work = Work { by, kek, dry: stretch.dry, ground, pace, done, renewed, removed };
    let ends = Instant::now() + stretch.time;
    work.done.next = stretch.after;
    loop {
        let rows = ground.store.data_keys_after(&by.tenant, work.done.next, SLICE).await?;
        if rows.is_empty() {
            work.done.next = None;
            break;
        }
        for row in rows {
            work.done.next = Some(row.data_key_id);
            work.one(row).await?;
            if Instant::now() >= ends {
                break;
            }
        }
        work.commit().await?;
        if Instant::now() >= ends {
            // Whoever goes on at once keeps the pace too.
            work.pace.keep().await;
            break;
        }
    }
    if !work.dry {
        work.end().await?;
    }
    Ok(work.done)
}

/// How fast data keys may be wrapped anew.
struct Pace {
    per_second: Option<NonZeroU32>,
    /// What was done takes so much longer than it took: waited for before the next data key, and not after the last one.
    owed: Duration,
}

impl Pace {
    /// So many make a commit: those of a second, where that is fewer.
    fn slice(&self) -> usize {
        self.per_second.map_or(SLICE, |rate| rate.get().min(SLICE)) as usize
    }

    fn did(&mut self, count: usize) {
        if let Some(rate) = self.per_second {
            self.owed += Duration::from_secs(1).mul_f64(count as f64 / f64::from(rate.get()));
        }
    }

    async fn keep(&mut self) {
        tokio::time::sleep(std::mem::take(&mut self.owed)).await;
    }
}

/// A stretch under way.
struct Work<'a> {
    by: &'a Administrator,
    kek: KekRecord,
    dry: bool,
    ground: Ground<'a>,
    pace: Pace,
    done: Rewrapped,
    renewed: Vec<DataKeyRow>,
    removed: Vec<DataKeyId>,
}

impl Work<'_> {
    /// One data key.
    async fn one(&mut self, row: DataKeyRow) -> Result<(), Error> {
        if (row.kek_id, row.kek_version) == (self.kek.kek_id, self.kek.version) {
            self.done.kept += 1;
            return Ok(());
        }
        let Ground { store, keys, .. } = self.ground;
        // Only counted, it is no work of the key provider, which serves readers meanwhile, and the real run beside it.
        let rewrapped = if self.dry {
            let would = |is_there| if is_there { Rewrap::Renewed(row.clone()) } else { Rewrap::Erased };
            keys.would_rewrap(store, &row).await.map(would)
        } else {
            self.pace.keep().await;
            keys.rewrap(store, &row).await
        };
        match rewrapped {
            Ok(Rewrap::Renewed(row)) => {
                self.done.moved += 1;
                self.renewed.push(row);
            }
            Ok(Rewrap::Erased) => {
                self.done.erased += 1;
                self.removed.push(row.data_key_id);
            }
            // It opens for nobody, or not where it was left: it stays as it is, is counted, and keeps no other.
            Ok(Rewrap::LeftBehind(error))
            | Err(error @ (keys::Error::Altered | keys::Error::KekUnusable | keys::Error::Erased)) => {
                self.left(&row, &error);
            }
            Err(error) => return Err(error.into()),
        }
        if self.renewed.len() + self.removed.len() >= self.pace.slice() { self.commit().await } else { Ok(()) }
    }

    fn left(&mut self, row: &DataKeyRow, error: &keys::Error) {
        let (tenant, why) = (&self.by.tenant, chain(error));
        if !self.dry {
            tracing::error!(%tenant, data_key_id = %row.data_key_id, version = row.kek_version, error = why, "a data key does not open");
        }
        let left = Left { kek_id: row.kek_id, version: row.kek_version, why: error.why_unopened() };
        *self.done.unopened.entry(left).or_default() += 1;
        self.done.left += 1;
    }

    /// What was done until now.
    async fn commit(&mut self) -> Result<(), Error> {
        let (renewed, removed) = (std::mem::take(&mut self.renewed), std::mem::take(&mut self.removed));
        if self.dry || renewed.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let count = renewed.len();
        let slice = Slice { by: self.in_time(), renewed, removed, kek: self.kek.clone() };
        if !self.ground.committer.submit(slice).await?.output {
            return Err(Error::Conflict);
        }
        self.pace.did(count);
        Ok(())
    }

    /// The whole tenant is counted, not only what this stretch came by.
    async fn end(&mut self) -> Result<(), Error> {
        let Ground { store, committer, .. } = self.ground;
        self.done.left = store.data_keys_elsewhere(&self.by.tenant, &self.kek).await?;
        if self.done.next.is_some() {
            return Ok(());
        }
        let by = self.in_time();
        let mut ended =
            Entry { count: Some(self.done.left), ..entry(&by, &self.kek, "rewrap.ended", store.clock().now()) };
        ended.facts.push(("references", references(&by.tenant, store).await?));
        committer.submit(Record::new(by.tenant, in_both_logs(ended), by.deadline)).await?;
        Ok(())
    }

    fn in_time(&self) -> Administrator {
        Administrator { deadline: self.ground.store.clock().now().plus(PATIENCE), ..self.by.clone() }
    }
}

/// How many data keys refer to each version, as `id.version=count`: a version that is not named has none.
async fn references(tenant: &TenantName, store: &Store) -> Result<String, Error> {
    let counts = store.data_keys_by_kek(tenant).await?;
    let line = |(kek_id, version, count): &(_, u32, u64)| format!("{}={count}", KekRecord::key_of(*kek_id, *version));
    Ok(counts.iter().map(line).collect::<Vec<_>>().join(" "))
}

/// An entry of one of the acts.
fn entry(by: &Administrator, kek: &KekRecord, act: &'static str, now: Timestamp) -> Entry {
    let mut entry = Entry::new(by.tenant.clone(), now, Action::Key(act), Outcome::Allowed, &by.context);
    entry.kek_id = Some(kek.kek_id);
    entry
}

/// The commit of some rewrapped data keys, and of some that are erased.
struct Slice {
    by: Administrator,
    renewed: Vec<DataKeyRow>,
    removed: Vec<DataKeyId>,
    kek: KekRecord,
}

impl Operation for Slice {
    type Output = bool;

    fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn asker(&self) -> Option<Asker> {
        self.by.asker()
    }

    fn deadline(&self) -> Timestamp {
        self.by.deadline
    }

    fn reads(&self) -> Reads {
        // The version it moves to must still be the active one when the slice is written.
        Reads { rows: vec![(Table::Keks, self.kek.row_key())], ..Reads::default() }
    }

    fn hold(&mut self, _: Arc<DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<bool> {
        let now_active = rows
            .row(Table::Keks, &self.kek.row_key())
            .and_then(|row| KekRecord::from_row(row).ok())
            .is_some_and(|kek| kek.state.may_wrap());
        if !now_active {
            return Decision::Answer(false);
        }
        let count = Some(self.renewed.len() as u64);
        let mut entry = Entry { count, ..entry(&self.by, &self.kek, "data-keys.rewrapped", rows.now()) };
        if !self.removed.is_empty() {
            entry.facts.push(("erased", self.removed.len().to_string()));
        }
        let changes = Changes {
            entries: in_both_logs(entry),
            data_keys: self.renewed.clone(),
            removed_data_keys: self.removed.clone(),
            ..Changes::default()
        };
        Decision::Write(changes, true)
    }
}

//! A batch that only adds, on an engine that is a round trip away: decided under what its operations were decided under, at
//! the moment this node counts on to, and written by a statement that writes nothing unless both hold. What a transaction
//! would read first is thereby judged with the writing, under the same locks; where it does not hold, that transaction is
//! made instead, and nothing of this attempt is left.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::time::{Duration, Instant};

use super::operation::Generation;
use super::overlay::Overlay;
use super::queued::Queued;
use super::writer::{BatchWriter, Transacted};
use crate::domain::TenantName;
use crate::store::batch::{Appended, Loaded, Wanted};
use crate::store::fault::NotWritten;
use crate::store::writer::Writer;

/// With more entries a batch is copied (`COPY`), which takes a transaction.
const MOST: usize = 128;
/// So far the server's clock may be from the moment a batch was judged by. This process counts on from what the server said
/// last: more is a wait for a lock, or a clock that was set.
const APART: Duration = Duration::from_millis(250);
/// After an attempt that came to nothing none is made for so long: what it was about may last, and was worked for twice.
const PAUSE: Duration = Duration::from_secs(1);

impl BatchWriter {
    /// How it ended, or the operations for a transaction.
    pub(super) async fn append(
        &mut self,
        jobs: Vec<Box<dyn Queued>>,
        wanted: &Wanted,
        writer: &mut Writer<'_>,
    ) -> Result<Transacted, Vec<Box<dyn Queued>>> {
        if !self.store.has_others() || !wanted.is_nothing() || Instant::now() < self.appends_from {
            return Err(jobs);
        }
        let Some(under) = agreed(&jobs) else { return Err(jobs) };
        let clock = self.store.clock();
        let (now, apart) = (clock.now(), if clock.is_held() { Duration::MAX } else { APART });
        let loaded = Loaded { generations: under.clone(), ..Loaded::at(now) };
        let gathered = self.gather(jobs, &mut Overlay::new(loaded, now, &self.store.inner.seal), now);
        let set = match &gathered.set {
            Ok(set) if writer.takes(set) => set,
            _ => return Err(gathered.into_jobs()),
        };
        let (began, meter) = (Instant::now(), &self.store.meter().committer);
        match writer.append(set, &under, (now, apart)).await {
            Appended::Durable => {
                meter.commits.took(began.elapsed());
                meter.statements.inc();
                Ok(Transacted::Committed(gathered, now))
            }
            Appended::Not => {
                self.appends_from = Instant::now() + PAUSE;
                Err(gathered.into_jobs())
            }
            Appended::Refused(error) => Ok(Transacted::NotWritten(gathered, NotWritten::Database(error))),
            Appended::Unknown(error) => Ok(Transacted::Unknown(gathered, error)),
        }
    }
}

/// The generation of each tenant under which all of its operations were decided; `None` if one does not say, if two differ,
/// or if there are too many entries.
fn agreed(jobs: &[Box<dyn Queued>]) -> Option<BTreeMap<TenantName, Generation>> {
    let mut under = BTreeMap::new();
    let mut entries = 0;
    for job in jobs {
        let generation = job.generation()?;
        entries += job.entries();
        match under.entry(job.tenant().clone()) {
            Vacant(place) => drop(place.insert(generation)),
            Occupied(place) if *place.get() == generation => {}
            Occupied(_) => return None,
        }
    }
    (entries < MOST).then_some(under)
}

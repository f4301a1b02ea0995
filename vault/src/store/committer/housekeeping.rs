//! What a node does by the clock: heartbeats, the purge of what expired, the end of erasure keys, wiping of idle keys.
//!
//! Each in a task of its own: a purge with much to do, or a store that does not answer, holds up nothing else.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::{Committer, Inner};
use crate::store::Error;

/// How often idle keys are wiped (docs/formats.md section 9: at most a second).
const WIPING: Duration = Duration::from_secs(1);
/// How often a node shows that it lives (section 8).
const HEARTBEAT: Duration = Duration::from_secs(5);
/// What expired is gone within a minute.
const PURGE: Duration = Duration::from_secs(20);
/// An erasure key is gone so soon after its time, which leaves no room of its own (section 3).
const ERASURE: Duration = Duration::from_secs(5);

/// How soon what happened at an HSM is written.
const HSMS: Duration = Duration::from_millis(200);

/// Works as long as somebody holds the committer.
pub(super) fn spawn(committer: &Committer) {
    let now = Instant::now();
    let inner = &committer.inner;
    every(WIPING, now, inner, "the wiping of idle keys", |committer| async move {
        committer.inner.keys.wipe_idle();
        Ok(())
    });
    every(HEARTBEAT, now + HEARTBEAT, inner, "the heartbeat", |committer| async move { committer.beat().await });
    every(HSMS, now, inner, "the watch over HSMs", |committer| async move { committer.watch_providers().await });
    every(PURGE, now + PURGE, inner, "the purge", |committer| async move { committer.purge().await.map(|_| ()) });
    // At once too: a key whose time came while the node was down has waited long enough.
    every(ERASURE, now, inner, "the end of erasure keys", |committer| async move {
        committer.end_erasure_keys().await.map(|_| ())
    });
}

/// Starts a task that works from `first` on, again and again.
fn every<W, D>(period: Duration, first: Instant, inner: &Arc<Inner>, what: &'static str, work: W)
where
    W: Fn(Committer) -> D + Send + 'static,
    D: Future<Output = Result<(), Error>> + Send,
{
    let weak = Arc::downgrade(inner);
    let mut ticks = tokio::time::interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::spawn(async move {
        loop {
            ticks.tick().await;
            let Some(committer) = alive(&weak) else { return };
            if let Err(error) = work(committer).await {
                tracing::warn!(%error, "{what} did not succeed and is tried again");
            }
        }
    });
}

/// The committer, unless it is stopped or dropped.
fn alive(weak: &Weak<Inner>) -> Option<Committer> {
    weak.upgrade().filter(|inner| !inner.queue.is_closed()).map(|inner| Committer { inner })
}

impl Committer {
    /// Destroys the erasure keys whose time is over by the machine's clock and by the one that counts: neither who sets the
    /// database's clock nor one machine alone ends what values and their backups need. How many.
    ///
    /// # Errors
    /// [`Error::Keys`].
    pub(in crate::store) async fn end_erasure_keys(&self) -> Result<u64, Error> {
        Ok(self.inner.keys.destroy_due_erasure_keys(self.inner.clock.surely()).await?)
    }

    /// Writes a signed sign of life: how far the boot's lanes must be there. One that was closed meanwhile hears of it here,
    /// if it has nothing to write.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Closed`].
    pub async fn beat(&self) -> Result<(), Error> {
        if !self.inner.store.is_open(self.inner.identity.boot()).await? {
            self.inner.closed.cancel();
            return Err(Error::Closed);
        }
        self.watch_clock().await?;
        let lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let heartbeat = self.inner.identity.heartbeat(self.inner.clock.now(), lanes);
        self.inner.store.write_heartbeat(&heartbeat).await
    }
}

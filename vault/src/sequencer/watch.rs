//! The watch over what was promised: the heads outside, and the entries this node acknowledged. A task of its own, so that
//! no amount of integration delays it.

use std::time::Duration;

use tokio::time::Instant;

use super::heads::HeadWatch;
use super::{Error, tell};
use crate::access_log::node::LaneEnd;
use crate::access_log::{Distrust, LogHealth};
use crate::keys::Keys;
use crate::store::{Committer, Store};

/// Without a comparison for so long nobody knows what is served (promise 5: within ten seconds).
const UNSEEN: Duration = Duration::from_secs(10);

/// Looks, and says what it saw to the node's [`LogHealth`].
pub(super) struct Watch {
    heads: HeadWatch,
    store: Store,
    committer: Committer,
    health: LogHealth,
    seen: Instant,
}

impl Watch {
    pub(super) fn new(store: Store, keys: Keys, committer: Committer) -> Self {
        let health = store.log_health().clone();
        Self { heads: HeadWatch::new(store.clone(), keys), store, committer, health, seen: Instant::now() }
    }

    /// Compares once and sets the health accordingly.
    ///
    /// # Errors
    /// Store or key store do not answer: the health stays as it was.
    pub(super) async fn compare(&mut self) -> Result<(), Error> {
        let distrust = match self.heads.look(&self.health).await? {
            None => self.lanes().await?,
            some => some,
        };
        self.seen = Instant::now();
        self.health.set(distrust);
        Ok(())
    }

    /// Compares; what cannot be compared for long is not trusted either.
    pub(super) async fn look(&mut self) {
        let compared = self.compare().await;
        if compared.is_err() && self.seen.elapsed() >= UNSEEN {
            self.health.set(Some(Distrust::Heads));
        }
        tell("comparing the heads", compared);
    }

    /// What this node acknowledged must be there: integrated, or waiting for it.
    async fn lanes(&self) -> Result<Option<Distrust>, Error> {
        // First what was promised, then what is there: the other way round a commit in between would look like a loss.
        for end in self.committer.lanes().into_iter().filter(|end| end.next > 0) {
            if !is_kept(end, self.committer.identity().boot(), &self.store).await? {
                self.health.alarm(&format!("lane {} of this boot: acknowledged entries are gone", end.lane));
                return Ok(Some(Distrust::Pending));
            }
        }
        Ok(None)
    }
}

/// Whether a lane is there up to where its boot says it is: the chain of signed batches says so, and the entries of the
/// last one are there. How far `log_lanes` says it is integrated proves nothing.
pub(super) async fn is_kept(end: LaneEnd, boot: crate::domain::BootId, store: &Store) -> Result<bool, Error> {
    match store.lane_tail(boot, end.lane, end.next).await.map_err(Error::from) {
        Ok(tail) => Ok(tail.is_some_and(|tail| tail.end == end && tail.is_whole)),
        Err(error) if error.is_evidence() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequencer::tests::Vault;

    #[tokio::test]
    async fn what_could_not_be_compared_for_ten_seconds_is_not_trusted() {
        let vault = Vault::start().await;
        let mut watch = Watch::new(vault.store.clone(), vault.keys.clone(), vault.committer.clone());
        watch.look().await;
        vault.store.close().await;
        watch.look().await;
        let health = vault.store.log_health();
        assert!(health.is_serving(), "a store that does not answer for a moment is no evidence");
        watch.seen = Instant::now().checked_sub(UNSEEN).unwrap();
        watch.look().await;
        assert_eq!(health.distrust(), Some(Distrust::Heads));
    }
}

//! The watch over what was promised: the heads outside, and the entries this node acknowledged. A task of its own, so that
//! no amount of integration delays it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::heads::HeadWatch;
use super::{Error, tell};
use crate::access_log::node::LaneEnd;
use crate::access_log::{Distrust, LogHealth};
use crate::domain::BootId;
use crate::keys::Keys;
use crate::store::{Committer, Store};

/// Without a comparison for so long nobody knows what is served (promise 5: within ten seconds).
const UNSEEN: Duration = Duration::from_secs(10);

/// So many entries are looked at in one question: however many were acknowledged since the last look, none of them takes
/// long, and one that fails leaves the next look no more to do.
const PIECE: u64 = 4096;

/// Looks, and says what it saw to the node's [`LogHealth`].
pub(super) struct Watch {
    heads: HeadWatch,
    store: Store,
    committer: Committer,
    health: LogHealth,
    seen: Instant,
    /// How far each lane of this boot was found whole.
    ends: BTreeMap<u32, LaneEnd>,
    piece: u64,
}

impl Watch {
    pub(super) fn new(store: Store, keys: Keys, committer: Committer) -> Self {
        let health = store.log_health().clone();
        let heads = HeadWatch::new(store.clone(), keys);
        Self { heads, store, committer, health, seen: Instant::now(), ends: BTreeMap::new(), piece: PIECE }
    }

    /// Compares once and sets the health accordingly.
    ///
    /// # Errors
    /// Store or key store do not answer: the health stays as it was.
    pub(super) async fn compare(&mut self) -> Result<(), Error> {
        let before = self.health.distrust();
        let distrust = match self.heads.look(&self.health).await? {
            None => self.lanes().await?,
            some => some,
        };
        self.seen = Instant::now();
        self.health.settle(before.as_ref(), distrust);
        self.health.compared(self.store.clock().now());
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

    /// Whether nothing is served because the heads could not be compared.
    pub(super) fn waits_for_heads(&self) -> bool {
        self.health.distrust() == Some(Distrust::Heads)
    }

    /// What this node acknowledged must be there: integrated, or waiting for it. All of it since the last look, not only
    /// the last of it.
    async fn lanes(&mut self) -> Result<Option<Distrust>, Error> {
        // First what was promised, then what is there: the other way round a commit in between would look like a loss.
        for end in self.committer.lanes().into_iter().filter(|end| end.next > 0) {
            let boot = self.committer.identity().boot();
            if !is_kept(end, boot, &self.store).await? || !self.is_chained(end, boot).await? {
                self.health.alarm(&format!("lane {} of this boot: acknowledged entries are gone", end.lane));
                return Ok(Some(Distrust::Pending));
            }
        }
        Ok(None)
    }

    /// Whether everything is there from where the lane was last found whole up to `to`, piece by piece.
    async fn is_chained(&mut self, to: LaneEnd, boot: BootId) -> Result<bool, Error> {
        let beginning = LaneEnd { lane: to.lane, next: 0, previous: [0; 32] };
        let mut seen = self.ends.get(&to.lane).copied().unwrap_or(beginning);
        while seen != to {
            seen = match self.store.chained(boot, seen, to, self.piece).await.map_err(Error::from) {
                Ok(Some(end)) => end,
                Ok(None) => return Ok(false),
                Err(error) if error.is_evidence() => return Ok(false),
                Err(error) => return Err(error),
            };
            self.ends.insert(to.lane, seen);
        }
        Ok(true)
    }
}

/// Whether a lane is there up to where its boot says it is: the chain of signed batches says so, and the entries of the
/// last one are there. How far `log_lanes` says it is integrated proves nothing.
pub(super) async fn is_kept(end: LaneEnd, boot: BootId, store: &Store) -> Result<bool, Error> {
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

    #[tokio::test]
    async fn what_was_acknowledged_is_looked_at_in_pieces_and_taken_up_where_one_failed() {
        let vault = Vault::start().await;
        let mut watch = Watch::new(vault.store.clone(), vault.keys.clone(), vault.committer.clone());
        watch.piece = 3;
        vault.write(7).await;
        let end = vault.committer.lanes()[0];
        let middle = end.next - 4;
        vault.meddle(format!("UPDATE log_groups SET batch = batch + 1000 WHERE batch = {middle}")).await;
        assert_eq!(watch.lanes().await.unwrap(), Some(Distrust::Pending));
        let found = watch.ends[&0].next;
        assert!(found > 0 && found <= middle && middle - found < 3, "{found} of {middle}");
        vault.meddle(format!("UPDATE log_groups SET batch = batch - 1000 WHERE batch = {}", middle + 1000)).await;
        // What was found whole once is not read again: that is the self-check's.
        vault.meddle("UPDATE log_batches SET first = first + 1000 WHERE first = 0").await;
        assert_eq!((watch.lanes().await.unwrap(), watch.ends[&0]), (None, end));
    }
}

//! The heads outside: at start and every ten seconds the database must continue what was signed, or nothing is served.

use std::collections::BTreeMap;

use super::{Error, tiles};
use crate::access_log::tree::tiles::Tiles;
use crate::access_log::tree::{consistency_proof, proof, verify_consistency};
use crate::access_log::{Distrust, LogHealth};
use crate::domain::TenantName;
use crate::keys::Keys;
use crate::store::Store;
use crate::store::integration::LogHead;

/// Compares the database with the key store's file and with the highest heads this node has seen.
pub(super) struct HeadWatch {
    store: Store,
    keys: Keys,
    highest: BTreeMap<TenantName, LogHead>,
}

impl HeadWatch {
    pub(super) const fn new(store: Store, keys: Keys) -> Self {
        Self { store, keys, highest: BTreeMap::new() }
    }

    /// Looks once and sets the health accordingly. A store that does not answer is not evidence: that is an error.
    pub(super) async fn look(&mut self, health: &LogHealth) -> Result<(), Error> {
        let Ok(file) = self.keys.read_heads().await else {
            health.set(Some(Distrust::Heads));
            return Ok(());
        };
        let current: BTreeMap<TenantName, LogHead> = self.store.heads().await?.into_iter().collect();
        let signed = file.into_iter().map(|head| (head.log, LogHead { size: head.size, root: head.root }));
        let seen = self.highest.clone().into_iter();
        for (log, old) in signed.chain(seen) {
            if !self.continues(&log, old, current.get(&log)).await? {
                health.set(Some(Distrust::History(log)));
                return Ok(());
            }
        }
        self.highest = current;
        health.set(None);
        Ok(())
    }

    /// Whether the log now begins with the tree it was then: a size not below and a proof from the stored tiles.
    async fn continues(&self, log: &TenantName, old: LogHead, now: Option<&LogHead>) -> Result<bool, Error> {
        let Some(now) = now else { return Ok(old.size == 0) };
        if old == *now && self.highest.get(log) == Some(now) {
            return Ok(true);
        }
        if now.size < old.size {
            return Ok(false);
        }
        let mut wanted = Tiles::for_root(now.size);
        wanted.extend(Tiles::for_consistency(old.size, now.size));
        let tiles = tiles::read(&wanted, log, &self.store).await?;
        let proven = proof::root(now.size, &tiles).is_ok_and(|root| root == now.root)
            && consistency_proof(old.size, now.size, &tiles)
                .is_ok_and(|proof| verify_consistency(old.size, &old.root, now.size, &now.root, &proof).is_ok());
        Ok(proven)
    }
}

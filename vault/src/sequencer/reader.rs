//! What auditors fetch of a log: checkpoint, verifier key, tiles, proofs.

use std::collections::BTreeSet;

use super::{Error, checkpoints, tiles};
use crate::access_log::tree::entries::push_entry;
use crate::access_log::tree::inclusion_proof;
use crate::access_log::tree::tiles::{TILE_WIDTH, TileId, Tiles};
use crate::access_log::{LogProof, Receipt};
use crate::domain::TenantName;
use crate::keys::Keys;
use crate::store::Store;

/// Reads logs. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    pub(super) store: Store,
    pub(super) keys: Keys,
}

impl LogReader {
    /// A reader of this installation's logs.
    #[must_use]
    pub const fn new(store: Store, keys: Keys) -> Self {
        Self { store, keys }
    }

    /// The newest checkpoint: a signed note.
    ///
    /// # Errors
    /// [`Error::Pending`] before a log's first entry is integrated.
    pub async fn checkpoint(&self, log: &TenantName) -> Result<String, Error> {
        Ok(checkpoints::newest(log, &self.store, &self.keys).await?.0)
    }

    /// The log's verifier key line.
    ///
    /// # Errors
    /// The key store's.
    pub async fn vkey(&self, log: &TenantName) -> Result<String, Error> {
        Ok(self.keys.log_signer(log).await?.vkey())
    }

    /// A hash tile or entry bundle by its path, `tile/…`. Partial ones are given for any width the log has reached.
    ///
    /// # Errors
    /// [`Error::Absent`] for a path that is none, or a tile this log does not have yet.
    pub async fn tile(&self, log: &TenantName, path: &str) -> Result<Vec<u8>, Error> {
        let id: TileId = path.parse().map_err(|_| Error::Absent)?;
        let size = checkpoints::newest(log, &self.store, &self.keys).await?.1.size;
        let now = match id.level {
            None => TileId::entries(id.index, size),
            Some(level) => TileId::hashes(level, id.index, size),
        };
        if now.is_none_or(|now| now.width < id.width) {
            return Err(Error::Absent);
        }
        match id.level {
            None => self.entries(log, &id).await,
            Some(level) => {
                let tiles = tiles::read(&BTreeSet::from([id]), log, &self.store).await?;
                tiles.bytes(level, id.index, id.width).ok_or(Error::Absent)
            }
        }
    }

    /// An entry bundle, put together from the exact bytes of its entries.
    pub(super) async fn entries(&self, log: &TenantName, id: &TileId) -> Result<Vec<u8>, Error> {
        let start = id.index * TILE_WIDTH;
        let leaves = self.store.leaves(log, start..start + u64::from(id.width)).await?;
        if leaves.len() != usize::from(id.width) {
            return Err(Error::Absent);
        }
        let mut bundle = Vec::new();
        for (.., leaf) in &leaves {
            push_entry(leaf, &mut bundle)?;
        }
        Ok(bundle)
    }

    /// The tlog-proof of an entry by its index.
    ///
    /// # Errors
    /// [`Error::Pending`] if no checkpoint covers the index yet.
    pub async fn proof_of_index(&self, log: &TenantName, index: u64) -> Result<String, Error> {
        let (note, checkpoint) = checkpoints::newest(log, &self.store, &self.keys).await?;
        if index >= checkpoint.size {
            return Err(Error::Pending);
        }
        let tiles = tiles::read(&Tiles::for_inclusion(index, checkpoint.size), log, &self.store).await?;
        let hashes = inclusion_proof(index, checkpoint.size, &tiles)?;
        Ok(LogProof { extra: None, index, hashes, checkpoint: note }.to_string())
    }

    /// The tlog-proof of the entry a receipt was given for.
    ///
    /// # Errors
    /// [`Error::Receipt`] if this installation never gave it for this tenant; [`Error::Pending`] before integration;
    /// [`Error::Contradiction`] if the log does not hold what the receipt promises: that is evidence of tampering.
    pub async fn proof_of_receipt(&self, log: &TenantName, receipt: &str) -> Result<String, Error> {
        let receipt: Receipt = receipt.parse().map_err(|_| Error::Receipt)?;
        let certificate = super::integrate::certificate(receipt.position.boot, &self.store, &self.keys).await?;
        let certificate = certificate.ok_or(Error::Receipt)?;
        receipt.verify(log, &certificate).map_err(|_| Error::Receipt)?;
        let entry = self.store.entry_at(log, &receipt.position).await?.ok_or(Error::Contradiction)?;
        if crate::access_log::leaf_hash(&entry.leaf) != receipt.leaf_hash {
            return Err(Error::Contradiction);
        }
        let proof = self.proof_of_index(log, entry.index.ok_or(Error::Pending)?).await?;
        // What we hand out we have checked: a row of the index that points elsewhere shows here.
        let trusted = [self.keys.log_signer(log).await?.verifier().clone()];
        let read: LogProof = proof.parse()?;
        read.verify(&receipt.leaf_hash, &trusted).map_err(|_| Error::Contradiction)?;
        Ok(proof)
    }
}

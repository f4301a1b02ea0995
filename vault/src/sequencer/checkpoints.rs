//! Checkpoints: a head is signed in the transaction that makes it, and trusted only while that note is there.

use super::Error;
use crate::access_log::{Checkpoint, Note};
use crate::domain::TenantName;
use crate::keys::{Keys, LogSigner};
use crate::store::integration::{Checkpointed, LogHead};
use crate::store::{Error as StoreError, Store};

/// Signs a head this sequencer computed itself. Never one that was read: a signature says who built the tree.
pub(super) async fn sign(log: &TenantName, head: LogHead, store: &Store, keys: &Keys) -> Result<Checkpointed, Error> {
    let signer = keys.log_signer(log).await?;
    let checkpoint = Checkpoint { origin: signer.origin().to_owned(), size: head.size, root: head.root };
    let note = note(checkpoint.to_text(), &signer)?;
    Ok(Checkpointed { size: head.size, time: store.clock().now(), note })
}

/// Whether one of the log's keys signed exactly this head: heads are rows that anybody with the database can write.
pub(super) async fn is_signed(log: &TenantName, head: LogHead, store: &Store, keys: &Keys) -> Result<bool, Error> {
    let stored = match store.checkpoint(log, Some(head.size)).await {
        Ok(Some(stored)) => stored,
        Ok(None) | Err(StoreError::Unreadable(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let is_it = |checkpoint: Checkpoint| (checkpoint.size, checkpoint.root) == (head.size, head.root);
    match Checkpoint::open(&stored.note, &[keys.log_signer(log).await?.verifier().clone()]) {
        // Until the first growth after a recovery the head is one of the origin before.
        Err(crate::access_log::Error::Origin) => {
            Ok(Checkpoint::open(&stored.note, &keys.log_verifiers(log).await?).is_ok_and(is_it))
        }
        opened => Ok(opened.is_ok_and(is_it)),
    }
}

/// A note with a log's signature.
pub(super) fn note(text: String, signer: &LogSigner) -> Result<String, Error> {
    let signature = signer.sign(text.as_bytes());
    Ok(Note::new(text)?.signed(signer.verifier(), signature).to_string())
}

/// The newest checkpoint that is stored, verified under the log's own key.
pub(super) async fn newest(log: &TenantName, store: &Store, keys: &Keys) -> Result<(String, Checkpoint), Error> {
    let stored = store.checkpoint(log, None).await?.ok_or(Error::Pending)?;
    let trusted = [keys.log_signer(log).await?.verifier().clone()];
    let checkpoint = Checkpoint::open(&stored.note, &trusted)?;
    Ok((stored.note, checkpoint))
}

//! Checkpoints: signed once per head, stored before they are shown, then noted outside the database.

use super::Error;
use crate::access_log::{Checkpoint, Note};
use crate::domain::TenantName;
use crate::keys::{Head, Keys, LogSigner};
use crate::store::Store;
use crate::store::integration::Checkpointed;

/// Signs the head a log has now, if no checkpoint of its size is stored yet; notes the head in the key store after.
pub(super) async fn sign(log: &TenantName, store: &Store, keys: &Keys) -> Result<(), Error> {
    let Some(head) = store.head(log).await? else { return Ok(()) };
    if store.checkpoint(log, Some(head.size)).await?.is_none() {
        let signer = keys.log_signer(log).await?;
        let checkpoint = Checkpoint { origin: signer.origin().to_owned(), size: head.size, root: head.root };
        let note = note(checkpoint.to_text(), &signer)?;
        store.insert_checkpoint(log, &Checkpointed { size: head.size, time: store.clock().now(), note }).await?;
    }
    // Never a smaller one over a larger: the key store sees to it.
    Ok(keys.write_heads(&[Head { log: log.clone(), size: head.size, root: head.root }]).await?)
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

//! What is done once for all nodes falls to the oldest boot that lives. Two that both think they are it do no harm: what
//! they write is said twice.

use std::time::Duration;

use super::Error;
use super::integrate::certificate;
use crate::store::{Committer, Store};

/// A boot that gave a sign of life so recently is there: three of them may be missed.
const ALIVE: Duration = Duration::from_secs(15);

/// Whether no older boot gave a sign of life of its own just now.
pub(super) async fn is_on_duty(committer: &Committer, store: &Store) -> Result<bool, Error> {
    if !store.keys().is_shared() {
        return Ok(true);
    }
    let (own, now) = (committer.identity().boot(), store.clock().now());
    for beat in store.open_heartbeats().await? {
        if beat.boot >= own || now.since(beat.time) >= ALIVE {
            continue;
        }
        // Whoever can write the database must not keep a node from its duty by a boot that never was.
        match certificate(beat.boot, store, store.keys()).await {
            Ok(Some(certificate)) if beat.verify(&certificate).is_ok() => return Ok(false),
            Ok(_) => {}
            Err(error) if error.is_evidence() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

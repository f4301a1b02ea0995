//! Whether another node is at work where there can be one only: on a server's database, with a copy of the key store's folder.
//! The lock of a folder keeps a second node out of that folder, not out of its copy; and what each of the two made in its own
//! would be missing from the other's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Error;
use super::closing::last_signs;
use crate::domain::{BootId, Timestamp};
use crate::store::Store;

/// A node gives a sign of life every five seconds. One of which two did not come is dead, or so slow that it is as good as that.
const NOTICED: Duration = Duration::from_secs(11);
/// So often it looks.
const LOOK: Duration = Duration::from_millis(500);

/// Looks until it is known: at once where nobody was there within the last seconds, and else until two signs of life would have
/// come. So a node that was killed and started again waits no longer than it takes to tell its own ghost from a living one. Two
/// that are started in the same moment do not see each other.
///
/// # Errors
/// The store's.
pub async fn is_alone(store: &Store) -> Result<bool, Error> {
    let (begun, before) = (Instant::now(), last_signs(store).await?);
    let mut seen = before.clone();
    loop {
        if has_moved(&before, &seen) {
            return Ok(false);
        }
        let now = store.clock().now();
        // By its own watch as well: another node's clock may be wrong.
        if begun.elapsed() >= NOTICED || seen.values().all(|at| now.since(*at) >= NOTICED) {
            return Ok(true);
        }
        tokio::time::sleep(LOOK).await;
        seen = last_signs(store).await?;
    }
}

/// Whether anything came that was not there before. Boots that ended in order meanwhile are no sign of life.
fn has_moved(before: &BTreeMap<BootId, Timestamp>, seen: &BTreeMap<BootId, Timestamp>) -> bool {
    seen.iter().any(|(boot, at)| before.get(boot) != Some(at))
}

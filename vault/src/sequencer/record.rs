//! Entries the sequencer itself writes: through the committer, as everything else.

use std::time::Duration;

use crate::access_log::Entry;
use crate::domain::{TenantName, Timestamp};
use crate::store::administration::Record;
use crate::store::{Committer, Error};

/// How long an entry of the vault's own may wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Writes entries, at least one, and nothing else.
pub(super) async fn record(entries: Vec<Entry>, committer: &Committer, now: Timestamp) -> Result<(), Error> {
    committer.submit(Record::new(TenantName::system(), entries, now.plus(PATIENCE))).await.map(|_| ())
}

//! PINs that somebody brings for a token and that were never accepted there: counted in the database before each is tried, for
//! all nodes and over every restart, by who brings them and by the token's serial number. A token counts them too, whoever asks.
//!
//! The rows decide nothing about a value, and hold nothing of a PIN: they are not authenticated.

use std::time::Duration;

use super::{Error, Store, engine};
use crate::domain::{TenantName, Timestamp};

/// So many are tried, then no other until one of theirs is accepted or the time below is over: a token allows three and more.
pub(in crate::store) const NEW_PINS: u32 = 2;

/// So long after the last one they are remembered: as long as the approvals that a custodian would ask for meanwhile.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// What was begun before this moment is forgotten.
fn horizon(now: Timestamp) -> Timestamp {
    let back = u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(back))
}

impl Store {
    /// Counts one more before it is tried; false, and nothing is counted, if no other may be.
    pub(in crate::store) async fn guess(&self, by: &TenantName, token: &str) -> Result<bool, Error> {
        let now = self.clock().now();
        engine!(self, guess((by, token), NEW_PINS, now, horizon(now)))
    }

    /// One that was counted was not refused: nobody tried it, or the token did not answer.
    pub(in crate::store) async fn guess_back(&self, by: &TenantName, token: &str) -> Result<(), Error> {
        engine!(self, guess_back(by, token))
    }

    /// A PIN was accepted: the ones before are forgotten, as the token forgets them.
    pub(in crate::store) async fn guesses_over(&self, by: &TenantName, token: &str) -> Result<(), Error> {
        engine!(self, guesses_over(by, token))
    }

    /// Removes what is not remembered any more; how many.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn purge_guesses(&self) -> Result<u64, Error> {
        // It cannot be undone.
        engine!(self, purge_guesses(horizon(self.clock().surely())))
    }
}

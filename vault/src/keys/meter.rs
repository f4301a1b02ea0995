//! What the keys' room counts: how often an opened data key was at hand, and calls to the key provider.

use crate::domain::meter::{Calls, Counter};

/// The counts of an installation's keys.
#[derive(Debug, Default)]
pub struct Meter {
    /// A data key was wanted and was opened already.
    pub hits: Counter,
    /// A data key was opened or made because none was at hand.
    pub misses: Counter,
    /// Opened data keys that were wiped: too old, too much used, or of a tenant whose keys were to be forgotten.
    pub wiped: Counter,
    /// Data keys wrapped under a KEK.
    pub wraps: Calls,
    /// Data keys unwrapped.
    pub unwraps: Calls,
    /// HSMs that did not answer for more than a moment.
    pub hsm_outages: Counter,
    /// PINs that were refused.
    pub hsm_quarantines: Counter,
    /// Keys in HSMs that are not the ones they were, and wrapped keys that were altered.
    pub hsm_alarms: Counter,
}

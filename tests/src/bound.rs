//! How long what is promised in so much time may take.

use std::time::Duration;

/// The time that is promised, where `SIV_TEST_STRICT` is set (`make test-long`); else one for a machine with other work.
pub fn bound(promised: Duration, wide: Duration) -> Duration {
    if std::env::var_os("SIV_TEST_STRICT").is_some() { promised } else { wide }
}

//! What can go wrong when something is sealed or opened. No variant says which check refused, and none holds content.

/// A seal that could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not open: wrong key, altered, cut, extended, or moved here from elsewhere. One answer for all of them.
    #[error("does not open")]
    Refused,
    /// The text is longer than the largest bucket.
    #[error("longer than the largest bucket")]
    TooLong,
    /// The system's random number generator failed: there is no fallback.
    #[error("no randomness from the system")]
    Random(#[source] getrandom::Error),
}

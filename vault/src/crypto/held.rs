//! An opened value that may not be used before its access entry is durable (promise 3 of design.md).

use std::fmt;

use crate::domain::Plaintext;

/// An opened value nobody can read yet.
pub struct Held(Plaintext);

impl Held {
    pub(super) const fn new(plaintext: Plaintext) -> Self {
        Self(plaintext)
    }

    /// Gives the plaintext out, against the proof that the entry which records it is durable.
    #[must_use]
    pub fn release(self, _durable: &Durable) -> Plaintext {
        self.0
    }

    /// Gives the plaintext to an operation of the batch that writes its entry: what comes of it is held back until the
    /// commit, and lost with it.
    #[must_use]
    pub fn release_within(self, _batch: &WithinBatch) -> Plaintext {
        self.0
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held(…)")
    }
}

/// Proof that a commit happened.
#[derive(Debug)]
pub struct Durable(());

impl Durable {
    /// The proof; the committer calls this after its transaction committed, and nobody else (architecture test).
    #[must_use]
    pub const fn after_commit() -> Self {
        Self(())
    }
}

/// Where a plaintext may be worked on before its entry is durable: inside the operation that writes the entry, without
/// any way out but the operation's output, which the committer gives out after the commit.
#[derive(Debug)]
pub struct WithinBatch(());

impl WithinBatch {
    /// The permission; the first commit of a run says it of its own decision, and nobody else (architecture test).
    #[must_use]
    pub const fn of_a_run() -> Self {
        Self(())
    }
}

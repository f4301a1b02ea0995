//! What can be wrong with bytes that claim to be a part of the log. No variant carries what stood there.

/// A leaf, note, proof, receipt or signature that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A leaf that is not the canonical form of an entry.
    #[error("not a log entry in its canonical form")]
    Leaf,
    /// An entry that is longer than tiles can hold (65,535 bytes).
    #[error("a log entry is at most 65535 bytes")]
    LeafTooLong,
    /// An opening that does not read.
    #[error("not an opening")]
    Opening,
    /// An opening that does not match the commitment in its leaf.
    #[error("the opening does not match its commitment")]
    Commitment,
    /// A signed note that breaks c2sp.org/signed-note.
    #[error("not a signed note")]
    Note,
    /// A note on which no trusted key's signature stands.
    #[error("no signature of a trusted key")]
    Unsigned,
    /// A signature that names a trusted key and is not its.
    #[error("the signature does not verify")]
    Signature,
    /// A verifier key line that breaks c2sp.org/signed-note.
    #[error("not a verifier key line")]
    VerifierKey,
    /// A checkpoint that breaks c2sp.org/tlog-checkpoint.
    #[error("not a checkpoint")]
    Checkpoint,
    /// A checkpoint of another log.
    #[error("a checkpoint of another log")]
    Origin,
    /// A proof that breaks c2sp.org/tlog-proof.
    #[error("not a tlog-proof")]
    ProofText,
    /// A proof that does not lead to the root.
    #[error("the proof does not lead to the root")]
    Proof,
    /// An index or size outside the tree.
    #[error("outside the tree")]
    OutsideTree,
    /// A hash tile that a computation needs is not there.
    #[error("hash tile {0} is missing")]
    MissingTile(String),
    /// A tile path or tile bytes that break c2sp.org/tlog-tiles.
    #[error("not a tile")]
    Tile,
    /// A receipt that does not read.
    #[error("not a receipt")]
    Receipt,
    /// A batch whose groups, numbers or hashes do not fit.
    #[error("the batch does not hold together")]
    Batch,
    /// A node certificate that does not read.
    #[error("not a node certificate")]
    Certificate,
    /// The operating system's generator failed.
    #[error("the random number generator failed")]
    Random(#[from] getrandom::Error),
}

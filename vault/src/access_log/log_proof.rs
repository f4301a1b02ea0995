//! Offline proofs of one entry (c2sp.org/tlog-proof): index, inclusion proof and checkpoint in one text.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding};

use super::checkpoint::Checkpoint;
use super::tree::verify_inclusion;
use super::{Error, VerifierKey};

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// A tree has at most 2^64 leaves.
const LONGEST_PROOF: usize = 64;

/// A proof that an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    /// Opaque data of other issuers, in its spelling; ours have none, and nothing may be concluded from it.
    pub extra: Option<String>,
    /// The entry's index.
    pub index: u64,
    /// The inclusion proof, from the leaf's sibling upwards.
    pub hashes: Vec<[u8; 32]>,
    /// The checkpoint, verbatim.
    pub checkpoint: String,
}

impl LogProof {
    /// Whether the leaf of this hash is in the log of a trusted key; the checkpoint it is proven against.
    ///
    /// # Errors
    /// What [`Checkpoint::open`] says, or [`Error::Proof`].
    pub fn verify(&self, leaf_hash: &[u8; 32], trusted: &[VerifierKey]) -> Result<Checkpoint, Error> {
        let checkpoint = Checkpoint::open(&self.checkpoint, trusted)?;
        verify_inclusion(leaf_hash, self.index, checkpoint.size, &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {extra}")?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", Base64::encode_string(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for LogProof {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(Error::ProofText)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(Error::ProofText);
        }
        let extra = lines.peek().and_then(|line| line.strip_prefix("extra ")).map(str::to_owned);
        if let Some(extra) = &extra {
            Base64::decode_vec(extra).map_err(|_| Error::ProofText)?;
            lines.next();
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(Error::ProofText)?;
        let index = index.parse().map_err(|_| Error::ProofText)?;
        let mut hashes = Vec::new();
        for line in lines {
            let mut hash = [0; 32];
            let read = Base64::decode(line, &mut hash).map_err(|_| Error::ProofText)?.len();
            if read != 32 || hashes.len() == LONGEST_PROOF {
                return Err(Error::ProofText);
            }
            hashes.push(hash);
        }
        let proof = Self { extra, index, hashes, checkpoint: checkpoint.to_owned() };
        // One spelling: no leading zeros, plus signs or loose bits.
        if proof.to_string() == text { Ok(proof) } else { Err(Error::ProofText) }
    }
}

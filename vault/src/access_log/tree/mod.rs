//! The Merkle tree of RFC 6962 section 2.1: hashes, and which perfect subtrees a range is made of.

pub mod entries;
pub mod proof;
pub mod tiles;

use sha2::{Digest, Sha256};

pub use proof::{consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
pub use tiles::{TileId, Tiles};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// SHA-256(0 ‖ leaf).
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// SHA-256(1 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// SHA-256 of nothing: the root of the empty tree.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root over these leaf hashes.
#[must_use]
pub fn root_of_hashes(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(hashes.len().next_power_of_two() / 2);
            node_hash(&root_of_hashes(left), &root_of_hashes(right))
        }
    }
}

/// A perfect subtree: 2^height leaves from index · 2^height on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) height: u8,
    pub(super) index: u64,
}

/// Leaves `start..end`, where start is a multiple of a power of two not below the range's length: all ranges of
/// RFC 6962 are such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Range {
    pub(super) const fn len(self) -> u64 {
        self.end - self.start
    }

    /// The two halves of RFC 6962: the left has the largest power of two below the length. Of at least two leaves only.
    pub(super) const fn split(self) -> (Self, Self) {
        let middle = self.start + (1 << (self.len() - 1).ilog2());
        (Self { start: self.start, end: middle }, Self { start: middle, end: self.end })
    }

    /// The perfect subtrees from left to right; their hashes folded from the right are the range's.
    pub(super) fn nodes(self) -> Vec<Node> {
        let (mut start, mut nodes) = (self.start, Vec::new());
        while start < self.end {
            let height = (self.end - start).ilog2();
            nodes.push(Node { height: u8::try_from(height).unwrap_or(63), index: start >> height });
            start += 1 << height;
        }
        nodes
    }
}

/// The hash of a range from those of its perfect subtrees.
pub(super) fn fold(hashes: &[Hash]) -> Hash {
    let Some((last, rest)) = hashes.split_last() else { return empty_root() };
    rest.iter().rev().fold(*last, |right, left| node_hash(left, &right))
}

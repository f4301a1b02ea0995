//! Inclusion and consistency proofs: made from tiles, verified from untrusted hands without a panic.

use super::{Hash, Node, Range, Tiles, fold, node_hash};
use crate::access_log::Error;

/// The ranges whose hashes prove that leaf `index` is in the tree of `size` leaves, from the leaf upwards.
fn inclusion_ranges(index: u64, size: u64) -> Vec<Range> {
    let (mut range, mut path) = (Range { start: 0, end: size }, Vec::new());
    while range.len() > 1 {
        let (left, right) = range.split();
        if index < left.end {
            path.push(right);
            range = left;
        } else {
            path.push(left);
            range = right;
        }
    }
    path.reverse();
    path
}

/// The ranges whose hashes prove that the tree of `old` leaves is the beginning of the tree of `new` leaves
/// (RFC 6962 section 2.1.2: SUBPROOF).
fn consistency_ranges(old: u64, new: u64) -> Vec<Range> {
    let (mut range, mut whole, mut path) = (Range { start: 0, end: new }, true, Vec::new());
    while range.end != old {
        let (left, right) = range.split();
        if old <= left.end {
            path.push(right);
            range = left;
        } else {
            path.push(left);
            range = right;
            whole = false;
        }
    }
    if !whole {
        path.push(range);
    }
    path.reverse();
    path
}

/// The nodes an inclusion proof needs.
pub(super) fn inclusion_nodes(index: u64, size: u64) -> Vec<Node> {
    inclusion_ranges(index, size).into_iter().flat_map(Range::nodes).collect()
}

/// The nodes a consistency proof needs.
pub(super) fn consistency_nodes(old: u64, new: u64) -> Vec<Node> {
    if old == 0 || old >= new {
        return Vec::new();
    }
    consistency_ranges(old, new).into_iter().flat_map(Range::nodes).collect()
}

fn hashes(ranges: Vec<Range>, tiles: &Tiles) -> Result<Vec<Hash>, Error> {
    ranges.into_iter().map(|range| tiles.range_hash(range)).collect()
}

/// The inclusion proof of leaf `index` in the tree of `size` leaves, from the leaf's sibling upwards.
///
/// # Errors
/// [`Error::OutsideTree`] or [`Error::MissingTile`].
pub fn inclusion_proof(index: u64, size: u64, tiles: &Tiles) -> Result<Vec<Hash>, Error> {
    if index >= size {
        return Err(Error::OutsideTree);
    }
    hashes(inclusion_ranges(index, size), tiles)
}

/// The proof that the tree of `old` leaves is the beginning of the tree of `new` leaves; empty for equal or empty trees.
///
/// # Errors
/// [`Error::OutsideTree`] or [`Error::MissingTile`].
pub fn consistency_proof(old: u64, new: u64, tiles: &Tiles) -> Result<Vec<Hash>, Error> {
    if old > new {
        return Err(Error::OutsideTree);
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    hashes(consistency_ranges(old, new), tiles)
}

/// Checks an inclusion proof (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`Error::Proof`] if it does not lead from the leaf to the root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), Error> {
    if index >= size {
        return Err(Error::Proof);
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for step in proof {
        if last == 0 {
            return Err(Error::Proof);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(Error::Proof) }
}

/// Checks a consistency proof between two roots (RFC 9162 section 2.1.4.2). The empty tree is the beginning of every tree.
///
/// # Errors
/// [`Error::Proof`] if it does not lead to both roots.
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> Result<(), Error> {
    let held = |holds: bool| if holds { Ok(()) } else { Err(Error::Proof) };
    if old > new {
        return Err(Error::Proof);
    }
    if old == new {
        return held(proof.is_empty() && old_root == new_root);
    }
    if old == 0 {
        return held(proof.is_empty() && *old_root == super::empty_root());
    }
    // Where the old tree is a perfect subtree, its root is the first step and is not sent.
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(Error::Proof)?;
        (*first, rest)
    };
    let shift = (old - 1).trailing_ones();
    let (mut at, mut last) = ((old - 1) >> shift, (new - 1) >> shift);
    let (mut from_old, mut from_new) = (first, first);
    for step in rest {
        if last == 0 {
            return Err(Error::Proof);
        }
        if at & 1 == 1 || at == last {
            from_old = node_hash(step, &from_old);
            from_new = node_hash(step, &from_new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, step);
        }
        at >>= 1;
        last >>= 1;
    }
    held(last == 0 && from_old == *old_root && from_new == *new_root)
}

/// The root of the tree of `size` leaves.
///
/// # Errors
/// [`Error::MissingTile`].
pub fn root(size: u64, tiles: &Tiles) -> Result<Hash, Error> {
    let nodes = Range { start: 0, end: size }.nodes();
    Ok(fold(&nodes.into_iter().map(|node| tiles.node(node)).collect::<Result<Vec<_>, _>>()?))
}

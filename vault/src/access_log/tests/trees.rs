//! The tree against the reference roots of RFC 6962 implementations and against `ct-merkle`.

use std::collections::BTreeSet;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

use crate::access_log::tree::tiles::{TileId, Tiles};
use crate::access_log::tree::{
    Hash, consistency_proof, empty_root, inclusion_proof, leaf_hash, proof, root_of_hashes, verify_consistency,
    verify_inclusion,
};
use crate::domain::text::hex;

/// Leaves and roots that every RFC 6962 implementation is tested with.
const REFERENCE: [(&str, &str); 8] = [
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
];

fn leaf(at: u64) -> Vec<u8> {
    format!("leaf {at}").into_bytes()
}

fn hashes(size: u64) -> Vec<Hash> {
    (0..size).map(|at| leaf_hash(&leaf(at))).collect()
}

fn tree(size: u64) -> (Tiles, Hash) {
    let mut tiles = Tiles::default();
    let (root, _) = tiles.append(0, &hashes(size)).unwrap();
    (tiles, root)
}

/// Only the tiles named, cut to the width they are named with: what a reader of a store has at hand.
fn only(tiles: &Tiles, wanted: &BTreeSet<TileId>) -> Tiles {
    let mut few = Tiles::default();
    for id in wanted {
        let level = id.level.unwrap();
        few.insert(level, id.index, &tiles.bytes(level, id.index, id.width).unwrap()).unwrap();
    }
    few
}

#[test]
fn the_reference_roots_come_out() {
    assert_eq!(hex::encode(&empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let mut leaves = Vec::new();
    for (bytes, root) in REFERENCE {
        leaves.push(leaf_hash(&hex::decode(bytes).unwrap()));
        assert_eq!(hex::encode(&root_of_hashes(&leaves)), root);
        let mut tiles = Tiles::default();
        assert_eq!(hex::encode(&tiles.append(0, &leaves).unwrap().0), root);
    }
}

#[test]
fn roots_and_proofs_agree_with_another_implementation() {
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let (tiles, _) = tree(300);
    for size in 1..=300_u64 {
        theirs.push(leaf(size - 1));
        let root = proof::root(size, &tiles).unwrap();
        assert_eq!(root, *theirs.root().as_bytes(), "size {size}");
        if size % 37 != 0 && size < 290 {
            continue;
        }
        for index in 0..size {
            let own = inclusion_proof(index, size, &tiles).unwrap();
            let other = theirs.prove_inclusion(usize::try_from(index).unwrap());
            assert_eq!(own.concat(), other.as_bytes(), "{index} of {size}");
            verify_inclusion(&leaf_hash(&leaf(index)), index, size, &own, &root).unwrap();
        }
        for old in 1..size {
            let own = consistency_proof(old, size, &tiles).unwrap();
            let other = theirs.prove_consistency(usize::try_from(size - old).unwrap());
            assert_eq!(own.concat(), other.as_bytes(), "{old} to {size}");
            verify_consistency(old, &proof::root(old, &tiles).unwrap(), size, &root, &own).unwrap();
        }
    }
}

#[test]
fn a_proof_reads_only_the_tiles_it_names() {
    let size = 70_000;
    let (tiles, root) = tree(size);
    for index in [0, 255, 256, 65_535, 65_536, 69_999] {
        let few = only(&tiles, &Tiles::for_inclusion(index, size));
        let proof = inclusion_proof(index, size, &few).unwrap();
        verify_inclusion(&leaf_hash(&leaf(index)), index, size, &proof, &root).unwrap();
    }
    for old in [1, 255, 256, 257, 65_536, 65_537, 69_999] {
        let few = only(&tiles, &Tiles::for_consistency(old, size));
        let old_root = proof::root(old, &tiles).unwrap();
        verify_consistency(old, &old_root, size, &root, &consistency_proof(old, size, &few).unwrap()).unwrap();
    }
}

#[test]
fn a_log_grows_from_its_right_edge() {
    let (all, _) = tree(66_100);
    for (size, more) in [(0, 1), (0, 256), (1, 254), (255, 1), (255, 2), (256, 256), (65_535, 1), (65_535, 300)] {
        let mut edge = only(&all, &Tiles::for_root(size));
        let leaves = hashes(size + more);
        let (root, changed) = edge.append(size, &leaves[usize::try_from(size).unwrap()..]).unwrap();
        assert_eq!(root, proof::root(size + more, &all).unwrap(), "{size} + {more}");
        for id in changed {
            let level = id.level.unwrap();
            assert_eq!(edge.bytes(level, id.index, id.width), all.bytes(level, id.index, id.width), "{id}");
        }
    }
}

#[test]
fn growth_without_the_right_edge_is_refused() {
    let mut nothing = Tiles::default();
    assert!(nothing.append(3, &hashes(1)).is_err());
    let (mut more, _) = tree(5);
    assert!(more.append(3, &hashes(1)).is_err());
}

#[test]
fn a_tree_of_seventy_thousand_has_the_tiles_of_the_standard() {
    let ids: Vec<_> = TileId::all_hashes(70_000).collect();
    let widths = |level| ids.iter().filter(|id| id.level == Some(level)).map(|id| id.width).collect::<Vec<_>>();
    assert_eq!((widths(0).len(), widths(0)[273]), (274, 112));
    assert_eq!(widths(1), [256, 17]);
    assert_eq!(widths(2), [1]);
    assert_eq!(TileId::all_hashes(256).map(|id| id.to_string()).collect::<Vec<_>>(), ["tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(TileId::all_hashes(u64::MAX).next().unwrap().width, 256);
}

#[test]
fn a_tile_path_has_one_spelling() {
    for path in ["tile/0/x001/x234/067", "tile/entries/000.p/5", "tile/3/255", "tile/0/x001/234.p/255"] {
        assert_eq!(path.parse::<TileId>().unwrap().to_string(), path);
    }
    for path in [
        "tile/0/1",
        "tile/0/0001",
        "tile/00/001",
        "tile/64/001",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/05",
        "tile/-1/000",
        "tile/0/000/",
        "/tile/0/000",
        "tile/entries/../000",
        "tile/0/+01",
        "tile/data/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "",
    ] {
        assert!(path.parse::<TileId>().is_err(), "{path}");
    }
}

#[test]
fn sizes_at_the_end_of_numbers_do_no_harm() {
    let proof = vec![[0; 32]; 64];
    for (index, size) in [(0, u64::MAX), (u64::MAX - 1, u64::MAX), (u64::MAX, u64::MAX), (0, 0), (1 << 63, u64::MAX)] {
        assert!(verify_inclusion(&[0; 32], index, size, &proof, &[1; 32]).is_err());
        assert!(verify_consistency(index, &[0; 32], size, &[1; 32], &proof).is_err());
        assert!(inclusion_proof(index, size, &Tiles::default()).is_err());
        let _ = (Tiles::for_inclusion(index, size), Tiles::for_consistency(index, size), Tiles::for_root(size));
    }
}

proptest! {
    #[test]
    fn a_proof_holds_for_nothing_else(size in 2_u64..600, at in 0_u64..600, step in 0_usize..12, bit in 0_usize..256) {
        let (tiles, root) = tree(size);
        let (index, old) = (at % size, at % size);
        let leaf = leaf_hash(&leaf(index));
        let proof = inclusion_proof(index, size, &tiles).unwrap();
        prop_assert!(verify_inclusion(&leaf, (index + 1) % size, size, &proof, &root).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &proof[1..], &root).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &[proof.as_slice(), &[root]].concat(), &root).is_err());
        let mut wrong = proof;
        let place = step % wrong.len();
        wrong[place][bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify_inclusion(&leaf, index, size, &wrong, &root).is_err());

        let old_root = proof::root(old, &tiles).unwrap();
        let mut proof = consistency_proof(old, size, &tiles).unwrap();
        verify_consistency(old, &old_root, size, &root, &proof).unwrap();
        prop_assert!(verify_consistency(old, &leaf, size, &root, &proof).is_err() || leaf == old_root);
        if old > 0 {
            let place = step % proof.len();
            proof[place][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_consistency(old, &old_root, size, &root, &proof).is_err());
            prop_assert!(verify_consistency(old, &old_root, size, &root, &proof[1..]).is_err());
        }
    }
}

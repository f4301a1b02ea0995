//! Bundles: a whole one verifies, and whatever is altered is named.

use std::collections::BTreeMap;

use super::{boot, checkpoint, small_entry, verifier_key};
use crate::access_log::bundle::{
    CHECKPOINT, Fault, IndexRange, MANIFEST, Manifest, OPENINGS, RANGE, README, readme, verify,
};
use crate::access_log::tree::entries::push_entry;
use crate::access_log::tree::tiles::{TileId, Tiles};
use crate::access_log::tree::{leaf_hash, proof};
use crate::access_log::{Entry, Leaf, Opening, Position, Salts};
use crate::domain::Actor;

type Files = BTreeMap<String, Vec<u8>>;

fn leaf(at: u64) -> (Leaf, [Opening; 4]) {
    let mut entry = small_entry(at);
    entry.reference = Some(format!("order-{at}"));
    let position = Position { boot: boot(), lane: 0, number: at };
    Leaf::seal(&entry, &position, &Salts::from_bytes([[7; 32]; 4])).unwrap()
}

fn seal_manifest(files: &mut Files) {
    files.remove(MANIFEST);
    let mut manifest = Manifest::default();
    for (name, content) in &*files {
        manifest.insert(name, content);
    }
    files.insert(MANIFEST.to_owned(), manifest.to_string().into_bytes());
}

fn bundle_of(leaves: &[(Leaf, [Opening; 4])], range: Option<IndexRange>) -> Files {
    let size = leaves.len() as u64;
    let hashes: Vec<_> = leaves.iter().map(|(leaf, _)| leaf_hash(leaf.as_bytes())).collect();
    let mut tiles = Tiles::default();
    let (root, _) = tiles.append(0, &hashes).unwrap();
    let mut files = Files::new();
    for id in TileId::all_hashes(size) {
        files.insert(id.to_string(), tiles.bytes(id.level.unwrap(), id.index, id.width).unwrap());
    }
    let held = range.unwrap_or(IndexRange { from: 0, to: size });
    let mut openings = String::new();
    for (index, (leaf, own)) in leaves.iter().enumerate() {
        let index = index as u64;
        if (held.from..held.to).contains(&index) {
            let file = files.entry(TileId::entries(index / 256, size).unwrap().to_string()).or_default();
            push_entry(leaf.as_bytes(), file).unwrap();
            openings.extend(own.iter().map(|opening| opening.to_line(index) + "\n"));
        }
    }
    files.insert(OPENINGS.to_owned(), openings.into_bytes());
    files.insert(CHECKPOINT.to_owned(), checkpoint(size, root).into_bytes());
    files.insert(README.to_owned(), readme(&[]).into_bytes());
    if let Some(range) = range {
        files.insert(RANGE.to_owned(), range.to_string().into_bytes());
    }
    seal_manifest(&mut files);
    files
}

fn bundle(size: u64) -> Files {
    bundle_of(&(0..size).map(leaf).collect::<Vec<_>>(), None)
}

fn fault(files: &Files) -> Fault {
    verify(files, &[verifier_key()], None).unwrap_err()
}

/// A medium whose large files cannot be had whole: what grows with the log is read piece by piece.
struct Narrow(Files);

impl crate::access_log::bundle::Files for Narrow {
    fn names(&self) -> std::io::Result<Vec<String>> {
        crate::access_log::bundle::Files::names(&self.0)
    }

    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        assert_ne!(name, OPENINGS, "held whole");
        crate::access_log::bundle::Files::read(&self.0, name)
    }

    fn open(&self, name: &str) -> std::io::Result<Option<Box<dyn std::io::Read + '_>>> {
        crate::access_log::bundle::Files::open(&self.0, name)
    }
}

#[test]
fn what_grows_with_the_log_is_never_held_whole() {
    let report = verify(&Narrow(bundle(300)), &[verifier_key()], None).unwrap();
    assert_eq!(report.openings, 1200);
}

#[test]
fn whole_bundles_of_any_size_verify() {
    for size in [0, 1, 2, 255, 256, 257, 600] {
        let report = verify(&bundle(size), &[verifier_key()], None).unwrap();
        assert_eq!((report.checkpoint.size, report.openings, report.without_opening), (size, size * 4, 0));
    }
}

#[test]
fn what_was_out_of_reach_is_told_apart_from_what_was_erased() {
    let mut files = bundle(3);
    let lines = String::from_utf8(files[OPENINGS].clone()).unwrap();
    // Entry 0 has all of its openings, entry 1 none, entry 2 three of four.
    let kept: String =
        lines.split_inclusive('\n').enumerate().filter(|(at, _)| *at < 4 || *at > 8).map(|(_, l)| l).collect();
    files.insert(OPENINGS.to_owned(), kept.into_bytes());
    for (named, told) in [(&[][..], (7, 5, 0)), (&[IndexRange { from: 1, to: 2 }][..], (7, 1, 4))] {
        files.insert(README.to_owned(), readme(named).into_bytes());
        seal_manifest(&mut files);
        let report = verify(&files, &[verifier_key()], None).unwrap();
        assert_eq!((report.openings, report.without_opening, report.out_of_reach), told);
    }
    // None is counted twice, and none that is not there.
    let twice = [IndexRange { from: 1, to: 3 }, IndexRange { from: 2, to: 3 }];
    for wrong in [&twice[..], &[IndexRange { from: 2, to: 4 }], &[IndexRange { from: 1, to: 1 }]] {
        files.insert(README.to_owned(), readme(wrong).into_bytes());
        seal_manifest(&mut files);
        assert!(matches!(fault(&files), Fault::Unreadable { file, .. } if file == README));
    }
}

#[test]
fn a_part_of_a_log_verifies_and_says_which_part() {
    let leaves: Vec<_> = (0..600).map(leaf).collect();
    let range = IndexRange { from: 300, to: 301 }.widened(600);
    assert_eq!((range.from, range.to), (256, 512));
    let mut files = bundle_of(&leaves, Some(range));
    assert_eq!(verify(&files, &[verifier_key()], None).unwrap().range, range);
    files.remove(RANGE);
    assert!(matches!(fault(&files), Fault::Missing { file } if file == "tile/entries/000"));
}

#[test]
fn an_altered_entry_is_named_by_file_and_index() {
    let mut files = bundle(600);
    let file = files.get_mut("tile/entries/001").unwrap();
    // The last byte of the last entry of this file: index 511.
    *file.last_mut().unwrap() ^= 1;
    let found = fault(&files);
    assert!(matches!(found, Fault::Entry { index: 511, .. }), "{found}");
    assert!(found.to_string().contains("entry 511 was altered"), "{found}");
}

#[test]
fn any_altered_or_missing_file_is_found() {
    let whole = bundle(300);
    for name in whole.keys() {
        let mut files = whole.clone();
        files.remove(name);
        let found = fault(&files);
        assert!(matches!(&found, Fault::Missing { file } if file == name), "{name}: {found}");
        for at in [0, whole[name].len() / 2, whole[name].len() - 1] {
            let mut files = whole.clone();
            files.get_mut(name).unwrap()[at] ^= 1;
            let found = fault(&files);
            let file = name.split(".p/").next().unwrap();
            let named = found.to_string();
            assert!(
                named.contains(file) || matches!(found, Fault::Manifest { .. } | Fault::Checkpoint { .. }),
                "{name}: {named}"
            );
        }
        for cut in [0, whole[name].len() - 1] {
            let mut files = whole.clone();
            files.get_mut(name).unwrap().truncate(cut);
            fault(&files);
        }
        let mut files = whole.clone();
        files.get_mut(name).unwrap().push(b'\n');
        fault(&files);
    }
}

#[test]
fn an_altered_hash_is_told_from_an_altered_entry() {
    let mut files = bundle(300);
    files.get_mut("tile/0/001.p/44").unwrap()[32 * 3] ^= 1;
    assert!(matches!(fault(&files), Fault::Tile { file, place: 3, .. } if file == "tile/0/001.p/44"));
    let mut files = bundle(300);
    files.get_mut("tile/1/000.p/1").unwrap()[0] ^= 1;
    assert!(matches!(fault(&files), Fault::Tile { file, place: 0, .. } if file == "tile/1/000.p/1"));
}

#[test]
fn a_rewritten_bundle_with_fitting_hashes_fails_at_the_signed_root() {
    let honest = bundle(300);
    let mut leaves: Vec<_> = (0..300).map(leaf).collect();
    leaves.remove(17);
    leaves.push(leaf(300));
    let mut files = bundle_of(&leaves, None);
    files.insert(CHECKPOINT.to_owned(), honest[CHECKPOINT].clone());
    seal_manifest(&mut files);
    assert!(matches!(fault(&files), Fault::Root { size: 300, .. }));
}

#[test]
fn an_entry_left_out_of_its_lane_is_found_even_under_a_valid_signature() {
    let mut leaves: Vec<_> = (0..20).map(leaf).collect();
    leaves.remove(17);
    let found = fault(&bundle_of(&leaves, None));
    assert!(matches!(found, Fault::Lane { index: 17, .. }), "{found}");
}

#[test]
fn erased_openings_are_counted_and_forged_ones_found() {
    let mut files = bundle(3);
    let all = String::from_utf8(files[OPENINGS].clone()).unwrap();
    let left: Vec<_> = all.lines().skip(1).collect();
    files.insert(OPENINGS.to_owned(), (left.join("\n") + "\n").into_bytes());
    seal_manifest(&mut files);
    let report = verify(&files, &[verifier_key()], None).unwrap();
    assert_eq!((report.openings, report.without_opening), (11, 1));
    files.insert(OPENINGS.to_owned(), all.replace("order-2", "order-3").into_bytes());
    seal_manifest(&mut files);
    assert!(matches!(fault(&files), Fault::Opening { line: 12, index: 2, .. }));
    files.insert(OPENINGS.to_owned(), format!("{all}{all}").into_bytes());
    seal_manifest(&mut files);
    assert!(matches!(fault(&files), Fault::Opening { line: 13, .. }));
}

#[test]
fn openings_that_the_vaults_own_entries_happen_to_have_hide_none_that_is_missing() {
    let of_a_node = {
        let entry = Entry { actor: Actor::node(boot()), ..small_entry(3) };
        let position = Position { boot: boot(), lane: 0, number: 3 };
        Leaf::seal(&entry, &position, &Salts::from_bytes([[7; 32]; 4])).unwrap()
    };
    let mut leaves: Vec<_> = (0..3).map(leaf).collect();
    leaves.push(of_a_node);
    let mut files = bundle_of(&leaves, None);
    let all = String::from_utf8(files[OPENINGS].clone()).unwrap();
    let left: Vec<_> = all.lines().skip(4).collect();
    files.insert(OPENINGS.to_owned(), (left.join("\n") + "\n").into_bytes());
    seal_manifest(&mut files);
    let report = verify(&files, &[verifier_key()], None).unwrap();
    assert_eq!((report.openings, report.without_opening), (12, 4));
}

#[test]
fn a_file_that_does_not_belong_is_named() {
    for name in ["tile/entries/001.p/3", "tile/0/000.p/2", "evil.sh", "tile/9/000"] {
        let mut files = bundle(3);
        files.insert(name.to_owned(), vec![1]);
        seal_manifest(&mut files);
        assert!(matches!(fault(&files), Fault::Unexpected { file } if file == name));
    }
}

#[test]
fn a_log_continues_the_checkpoint_an_auditor_kept_or_is_refused() {
    let leaves: Vec<_> = (0..300).map(leaf).collect();
    let files = bundle_of(&leaves, None);
    for size in [0, 1, 255, 256, 299, 300_usize] {
        let old = bundle_of(&leaves[..size], None)[CHECKPOINT].clone();
        let old = String::from_utf8(old).unwrap();
        let report = verify(&files, &[verifier_key()], Some(&old)).unwrap();
        assert_eq!(report.since.unwrap().size, size as u64);
    }
    let rolled_back = verify(&files, &[verifier_key()], Some(&checkpoint(301, [0; 32]))).unwrap_err();
    assert!(matches!(rolled_back, Fault::History { found: None, .. }), "{rolled_back}");
    let forked = verify(&files, &[verifier_key()], Some(&checkpoint(200, [0; 32]))).unwrap_err();
    let mut tiles = Tiles::default();
    tiles.append(0, &leaves[..200].iter().map(|(leaf, _)| leaf.hash()).collect::<Vec<_>>()).unwrap();
    let root = proof::root(200, &tiles).unwrap();
    assert!(matches!(forked, Fault::History { found: Some(found), .. } if found == root));
    assert!(matches!(verify(&files, &[verifier_key()], Some("x")), Err(Fault::Since { .. })));
}

#[test]
fn a_bundle_under_another_key_is_refused() {
    let other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
    assert!(matches!(verify(&bundle(3), &[other], None), Err(Fault::Checkpoint { .. })));
}

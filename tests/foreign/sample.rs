//! Bundles on disk, made through the library's public doors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use tempfile::TempDir;
use vault::access_log::bundle::{CHECKPOINT, IndexRange, MANIFEST, Manifest, OPENINGS, RANGE, VKEY};
use vault::access_log::tree::entries::push_entry;
use vault::access_log::tree::tiles::{TileId, Tiles};
use vault::access_log::{Action, Checkpoint, Entry, Leaf, Note, Outcome, Position, Salts, VerifierKey};
use vault::domain::{Actor, BootId, Timestamp};

const ORIGIN: &str = "siv/01a20b7f-8427-7001-8001-010101010101/demo";

/// A bundle in a folder of its own.
pub struct Sample {
    dir: TempDir,
    vkey: PathBuf,
}

impl Sample {
    /// The first `size` entries of the one log, or its entry bundles in a range.
    pub fn of(size: u64, range: Option<(u64, u64)>) -> Self {
        Self::write(size, 42, "order", range)
    }

    /// The same log under another key.
    pub fn forged(size: u64) -> Self {
        Self::write(size, 43, "order", None)
    }

    /// Another log under the same key.
    pub fn other_history(size: u64) -> Self {
        Self::write(size, 42, "rewritten", None)
    }

    pub fn bundle(&self) -> &Path {
        self.dir.path()
    }

    /// The vkey inside is as good as any here: the same hand made the bundle and the trust.
    pub fn vkey(&self) -> &Path {
        &self.vkey
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.dir.path().join(CHECKPOINT)
    }

    /// Alters a file and leaves the manifest as it was.
    pub fn alter(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.dir.path().join(name);
        let mut bytes = fs::read(&path).expect("the file is there");
        change(&mut bytes);
        fs::write(path, bytes).expect("the file can be written");
    }

    fn write(size: u64, seed: u8, reference: &str, range: Option<(u64, u64)>) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let vkey = VerifierKey::new(ORIGIN, key.verifying_key().to_bytes()).expect("a key");
        let held = range.unwrap_or((0, size));
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let (mut hashes, mut openings) = (Vec::new(), String::new());
        for index in 0..size {
            let mut entry = Entry::by(
                "demo".parse().expect("a name"),
                Timestamp::from_millis(1_795_489_236_007 + index),
                Action::LogRead,
                Outcome::Allowed,
                Actor::anonymous(),
            );
            entry.reference = Some(format!("{reference}-{index} \u{2028}\u{1f600}"));
            let position = Position { boot: BootId::from_bytes([7; 16]), lane: 0, number: index };
            let (leaf, opened) = Leaf::seal(&entry, &position, &Salts::from_bytes([[9; 32]; 4])).expect("a leaf");
            hashes.push(leaf.hash());
            if (held.0..held.1).contains(&index) {
                let id = TileId::entries(index / 256, size).expect("inside");
                push_entry(leaf.as_bytes(), files.entry(id.to_string()).or_default()).expect("short");
                openings.extend(opened.iter().map(|opening| opening.to_line(index) + "\n"));
            }
        }
        let mut tiles = Tiles::default();
        let (root, _) = tiles.append(0, &hashes).expect("a tree");
        for id in TileId::all_hashes(size) {
            let bytes = id.level.and_then(|level| tiles.bytes(level, id.index, id.width)).expect("a tile");
            files.insert(id.to_string(), bytes);
        }
        let text = Checkpoint { origin: ORIGIN.to_owned(), size, root }.to_text();
        let signature = key.sign(text.as_bytes()).to_bytes();
        let note = Note::new(text).expect("a text").signed(&vkey, signature).to_string();
        files.insert(CHECKPOINT.to_owned(), note.into_bytes());
        files.insert(OPENINGS.to_owned(), openings.into_bytes());
        files.insert(VKEY.to_owned(), format!("{vkey}\n").into_bytes());
        if range.is_some() {
            files.insert(RANGE.to_owned(), IndexRange { from: held.0, to: held.1 }.to_string().into_bytes());
        }
        let mut manifest = Manifest::default();
        files.iter().for_each(|(name, content)| manifest.insert(name, content));
        files.insert(MANIFEST.to_owned(), manifest.to_string().into_bytes());
        let dir = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            fs::write(path, content).expect("a file");
        }
        let vkey = dir.path().join(VKEY);
        Self { dir, vkey }
    }
}

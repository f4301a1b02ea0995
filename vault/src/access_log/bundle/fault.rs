//! What is wrong with a bundle: the file, the index, what was expected.

use crate::access_log::Error;
use crate::access_log::checkpoint::Checkpoint;
use crate::domain::text::hex;

/// The first fault of a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file cannot be read from the medium.
    #[error("{file}: cannot be read")]
    Read {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that must be there is not.
    #[error("{file}: missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// A file that does not belong there.
    #[error("{file}: does not belong into this bundle")]
    Unexpected {
        /// The file.
        file: String,
    },
    /// A file that does not read.
    #[error("{file}: {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// What is wrong.
        error: Error,
    },
    /// The checkpoint is not one of the trusted key.
    #[error("checkpoint: {error}")]
    Checkpoint {
        /// What is wrong.
        error: Error,
    },
    /// An entry bundle ends within an entry, or has too many or too few.
    #[error("{file}: breaks off or goes wrong at entry {index}; {expected} entries expected in this file")]
    Entries {
        /// The file.
        file: String,
        /// The log index at which it goes wrong.
        index: u64,
        /// How many entries it must have.
        expected: u16,
    },
    /// An entry is not the one the signed tree holds.
    #[error(
        "{file}: entry {index} was altered: its hash is {}, the signed tree has {}",
        hex::encode(found),
        hex::encode(expected)
    )]
    Entry {
        /// The file.
        file: String,
        /// The log index.
        index: u64,
        /// Hash of what stands there.
        found: [u8; 32],
        /// Hash in the tree that leads to the signed root.
        expected: [u8; 32],
    },
    /// A hash tile is not the one that belongs to the signed root.
    #[error(
        "{file}: hash {place} was altered: it is {}, the signed tree has {}",
        hex::encode(found),
        hex::encode(expected)
    )]
    Tile {
        /// The file.
        file: String,
        /// Which hash in it.
        place: usize,
        /// What stands there.
        found: [u8; 32],
        /// What belongs there.
        expected: [u8; 32],
    },
    /// The root over everything is not the signed one.
    #[error(
        "the root over all {size} entries is {}, the checkpoint says {}",
        hex::encode(found),
        hex::encode(expected)
    )]
    Root {
        /// The tree's size.
        size: u64,
        /// Root over what stands there.
        found: [u8; 32],
        /// The signed root.
        expected: [u8; 32],
        /// The file to look at first.
        suspect: Option<String>,
    },
    /// An entry of the signed tree that does not read.
    #[error("{file}: entry {index} does not read: {error}")]
    Leaf {
        /// The file.
        file: String,
        /// The log index.
        index: u64,
        /// What is wrong.
        error: Error,
    },
    /// An entry that does not follow the one before it in its lane, or belongs to another tenant.
    #[error("entry {index}: {found} does not follow in its lane; {expected} expected")]
    Lane {
        /// The log index.
        index: u64,
        /// The position it has.
        found: String,
        /// The position it should have.
        expected: String,
    },
    /// An opening that does not belong to its entry.
    #[error("openings.jsonl line {line}: entry {index}: {error}")]
    Opening {
        /// The line, from 1.
        line: usize,
        /// The log index it names.
        index: u64,
        /// What is wrong.
        error: Error,
    },
    /// A file's SHA-256 is not that of the manifest.
    #[error("{file}: its SHA-256 is {}, MANIFEST says {}", hex::encode(found), hex::encode(expected))]
    Manifest {
        /// The file.
        file: String,
        /// Its hash.
        found: [u8; 32],
        /// The manifest's.
        expected: [u8; 32],
    },
    /// The older checkpoint is not one of the trusted key.
    #[error("the older checkpoint: {error}")]
    Since {
        /// What is wrong.
        error: Error,
    },
    /// The log is not a continuation of what was signed before: history was rewritten or cut off.
    #[error(
        "the log does not continue the older checkpoint: then {} entries with root {}, now {} entries, of which the first ones have {}",
        old.size, hex::encode(&old.root), new.size, found.as_ref().map_or_else(|| "no such root".to_owned(), |root| hex::encode(root))
    )]
    History {
        /// The older checkpoint.
        old: Box<Checkpoint>,
        /// This bundle's.
        new: Box<Checkpoint>,
        /// The root over as many entries as the older checkpoint has, if there are so many.
        found: Option<[u8; 32]>,
    },
}

impl Fault {
    /// Whether what the bundle was held to, a key or an older checkpoint, is of another log: then nothing is said of the bundle.
    #[must_use]
    pub const fn is_of_another_log(&self) -> bool {
        matches!(self, Self::Checkpoint { error: Error::Origin } | Self::Since { error: Error::Origin })
    }
}

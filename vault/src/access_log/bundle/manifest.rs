//! The list of a bundle's files with their hashes, in the form that `sha256sum -c` reads.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::access_log::Error;
use crate::domain::text::hex;

/// SHA-256 of every file but itself, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest(BTreeMap<String, [u8; 32]>);

impl Manifest {
    /// Takes a file up.
    pub fn insert(&mut self, name: &str, content: &[u8]) {
        self.insert_hash(name, Sha256::digest(content).into());
    }

    /// The same for a file whose hash is known.
    pub fn insert_hash(&mut self, name: &str, hash: [u8; 32]) {
        self.0.insert(name.to_owned(), hash);
    }

    /// The files, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8; 32])> {
        self.0.iter().map(|(name, hash)| (name.as_str(), hash))
    }

    /// A file's hash.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8; 32]> {
        self.0.get(name)
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, hash)| writeln!(f, "{}  {name}", hex::encode(hash)))
    }
}

impl FromStr for Manifest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut manifest = Self::default();
        for line in text.lines() {
            let (hash, name) = line.split_once("  ").ok_or(Error::Tile)?;
            let hash = hex::decode(hash).and_then(|hash| hash.try_into().ok()).ok_or(Error::Tile)?;
            manifest.0.insert(name.to_owned(), hash);
        }
        // One spelling: sorted, no name twice.
        if manifest.to_string() == text { Ok(manifest) } else { Err(Error::Tile) }
    }
}

//! Bundles: what an auditor takes home, and the check that needs no server, no database and no network.

mod fault;
mod manifest;
mod names;
mod verify;

use std::io;

pub use fault::Fault;
pub use manifest::Manifest;
pub use names::{CHECKPOINT, IndexRange, MANIFEST, OPENINGS, RANGE, README, VKEY, readme};
pub use verify::{Report, verify};

/// A bundle's files: a folder, or a tar in memory.
pub trait Files {
    /// The names of all files, `/` between folders.
    ///
    /// # Errors
    /// The folder cannot be listed.
    fn names(&self) -> io::Result<Vec<String>>;

    /// A file's content; nothing if there is none of that name.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The same, to be read piece by piece: for files that grow with the log.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn io::Read + '_>>>;
}

impl Files for std::collections::BTreeMap<String, Vec<u8>> {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get(name).cloned())
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn io::Read + '_>>> {
        Ok(self.get(name).map(|content| Box::new(content.as_slice()) as Box<dyn io::Read>))
    }
}

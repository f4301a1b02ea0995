//! The names in a bundle and the range of indices it holds.

use std::fmt;
use std::str::FromStr;

use crate::access_log::Error;

/// The signed checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// The openings of personal members, one JSON line each.
pub const OPENINGS: &str = "openings.jsonl";
/// SHA-256 of every other file, as `sha256sum` writes and checks it.
pub const MANIFEST: &str = "MANIFEST";
/// For the reader.
pub const README: &str = "README";
/// The log's verifier key: a convenience, the trusted one comes from elsewhere.
pub const VKEY: &str = "vkey";
/// Which indices a partial bundle holds; a bundle without it holds the whole log.
pub const RANGE: &str = "range";

/// What [`README`] says.
const README_TEXT: &str = "\
An access log of siv, in the C2SP formats (c2sp.org/tlog-tiles, tlog-checkpoint, signed-note).

checkpoint       size and root of the log, signed by the log's key
tile/entries/    the entries: version byte 1, then JSON; each behind its length (16 bits, big-endian)
tile/0/ ...      hashes of the tree (RFC 6962, SHA-256)
openings.jsonl   personal members in clear; a member without a line was erased, or never kept (unless the end of this file
                 says that it was out of reach); its proof still holds
range            only in a partial bundle: first index, and the index after the last
vkey             the log's public key, as a convenience: take the one you trust from elsewhere
MANIFEST         SHA-256 of every other file: sha256sum -c MANIFEST

Check it, without a server and without a network:

    siv log verify . --vkey TRUSTED_VKEY_FILE
    siv log verify . --vkey TRUSTED_VKEY_FILE --since CHECKPOINT_YOU_KEPT

or with tools that are not ours: Go golang.org/x/mod/sumdb/{note,tlog}, OpenSSL (the signature), any RFC 6962 verifier.
Keep the checkpoint: the next bundle must prove that it only grew from there.
";

/// Begins a line of [`README`] that names entries whose openings were out of reach.
const OUT_OF_REACH: &str = "out-of-reach ";

/// What [`README`] says of a bundle in which the openings of these entries are missing without having been erased.
#[must_use]
pub fn readme(out_of_reach: &[IndexRange]) -> String {
    let mut text = README_TEXT.to_owned();
    if !out_of_reach.is_empty() {
        text.push_str(
            "\nOut of reach when this bundle was made: openings of these entries (first index, index after the last). Their key is in a\n\
             token that was left and did not answer, or that refused. They were not erased.\n\n",
        );
        text.extend(out_of_reach.iter().map(|range| format!("{OUT_OF_REACH}{range}")));
    }
    text
}

/// The entries that a [`README`] names as such.
///
/// # Errors
/// [`Error::OutsideTree`] for a line that names no range.
pub(super) fn out_of_reach(readme: &str) -> Result<Vec<IndexRange>, Error> {
    let lines = readme.split_inclusive('\n').filter_map(|line| line.strip_prefix(OUT_OF_REACH));
    lines.map(str::parse).collect()
}

/// Indices `from..to`: the content of [`RANGE`], `from`, a blank, `to`, a newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRange {
    /// The first index.
    pub from: u64,
    /// The index after the last.
    pub to: u64,
}

impl IndexRange {
    /// The range widened to whole entry bundles of a log of `size` entries: what a partial bundle holds.
    #[must_use]
    pub fn widened(self, size: u64) -> Self {
        let to = self.to.min(size);
        let from = (self.from / 256 * 256).min(to);
        Self { from, to: to.div_ceil(256).saturating_mul(256).min(size) }
    }
}

impl fmt::Display for IndexRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.from, self.to)
    }
}

impl FromStr for IndexRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (from, to) = text.trim_end_matches('\n').split_once(' ').ok_or(Error::OutsideTree)?;
        let read = |text: &str| text.parse().map_err(|_| Error::OutsideTree);
        let range = Self { from: read(from)?, to: read(to)? };
        if range.to_string() == text && range.from <= range.to { Ok(range) } else { Err(Error::OutsideTree) }
    }
}

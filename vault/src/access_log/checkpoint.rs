//! Checkpoints (c2sp.org/tlog-checkpoint): origin, size and root of a log, as a note signed by the log's key.

use base64ct::{Base64, Encoding};

use super::{Error, Note, VerifierKey};

/// A signed tree head without its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's identity; its key has the same name.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: [u8; 32],
}

impl Checkpoint {
    /// The text to be signed: three lines. We write no extension lines and read none.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, Base64::encode_string(&self.root))
    }

    /// Reads the text of a note; who signed it is the caller's question.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for anything but the one spelling.
    pub fn parse_text(text: &str) -> Result<Self, Error> {
        let mut lines = text.split('\n');
        let mut next = || lines.next().ok_or(Error::Checkpoint);
        let origin = next()?.to_owned();
        let size = next()?.parse().map_err(|_| Error::Checkpoint)?;
        let mut root = [0; 32];
        let read = Base64::decode(next()?, &mut root).map_err(|_| Error::Checkpoint)?.len();
        let checkpoint = Self { origin, size, root };
        let canonical = read == 32 && !checkpoint.origin.is_empty() && checkpoint.to_text() == text;
        if canonical { Ok(checkpoint) } else { Err(Error::Checkpoint) }
    }

    /// The checkpoint in a note that a trusted key of its own log signed.
    ///
    /// # Errors
    /// [`Error::Note`], [`Error::Checkpoint`]; [`Error::Origin`] if no trusted key has the origin's name; else what
    /// [`Note::open`] says.
    pub fn open(note: &str, trusted: &[VerifierKey]) -> Result<Self, Error> {
        let note = Note::parse(note)?;
        let checkpoint = Self::parse_text(note.unverified_text())?;
        let own: Vec<VerifierKey> = trusted.iter().filter(|key| key.name() == checkpoint.origin).cloned().collect();
        if own.is_empty() {
            return Err(Error::Origin);
        }
        note.open(&own)?;
        Ok(checkpoint)
    }
}

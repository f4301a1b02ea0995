//! Signed notes and verifier keys (c2sp.org/signed-note): strict, one spelling, Ed25519 only; unknown signatures are ignored.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use super::Error;
use super::node::verify;
use crate::domain::text::hex;

/// The signature type of plain Ed25519.
const ED25519: u8 = 1;

/// Notes are read from foreign hands: more than this is none.
const LONGEST_NOTE: usize = 1 << 20;
const MOST_SIGNATURES: usize = 64;

/// The public key of a log: `<name>+<key id in hexadecimal>+<base64 of 1 ‖ public key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// The key of that name.
    ///
    /// # Errors
    /// [`Error::VerifierKey`] for a name that is empty or has spaces, `+` or control characters.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, Error> {
        if is_name(name) { Ok(Self { name: name.to_owned(), public }) } else { Err(Error::VerifierKey) }
    }

    /// Its name: the origin of its log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// First four bytes of SHA-256(name ‖ newline ‖ 1 ‖ public key).
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519]).chain_update(self.public);
        let digest: [u8; 32] = hash.finalize().into();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// The keys in a file: one line each; empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`Error::VerifierKey`] for any other line that is none, or a file without one.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, Error> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<Self> = lines.map(str::parse).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(Error::VerifierKey) } else { Ok(keys) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [ED25519; 33];
        bytes[1..].copy_from_slice(&self.public);
        write!(f, "{}+{}+{}", self.name, hex::encode(&self.key_id()), Base64::encode_string(&bytes))
    }
}

impl FromStr for VerifierKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The base64 part may hold '+', so it is what is left after two splits.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(body)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::VerifierKey);
        };
        let bytes = Base64::decode_vec(body).map_err(|_| Error::VerifierKey)?;
        let Some((&ED25519, public)) = bytes.split_first() else { return Err(Error::VerifierKey) };
        let key = Self::new(name, public.try_into().map_err(|_| Error::VerifierKey)?)?;
        // One spelling, the key id included.
        if key.to_string() == text { Ok(key) } else { Err(Error::VerifierKey) }
    }
}

/// A signed note: its text, and signatures nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NoteSignature {
    name: String,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

impl Note {
    /// A note of `text` without signatures.
    ///
    /// # Errors
    /// [`Error::Note`] for a text that does not end in a newline or holds control characters.
    pub fn new(text: String) -> Result<Self, Error> {
        if text.ends_with('\n') && text.bytes().all(|byte| byte >= b' ' || byte == b'\n') {
            Ok(Self { text, signatures: Vec::new() })
        } else {
            Err(Error::Note)
        }
    }

    /// Adds a signature; a rotation adds both keys'.
    #[must_use]
    pub fn signed(mut self, key: &VerifierKey, signature: [u8; 64]) -> Self {
        self.signatures.push(NoteSignature { name: key.name.clone(), key_id: key.key_id(), bytes: signature.to_vec() });
        self
    }

    /// The text that is signed.
    #[must_use]
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// Reads a note; signatures of any kind are kept, none is checked.
    ///
    /// # Errors
    /// [`Error::Note`] for anything but the one spelling.
    pub fn parse(note: &str) -> Result<Self, Error> {
        if note.len() > LONGEST_NOTE {
            return Err(Error::Note);
        }
        let border = note.rfind("\n\n").ok_or(Error::Note)?;
        let mut read = Self::new(note[..=border].to_owned())?;
        let lines = note[border + 2..].strip_suffix('\n').ok_or(Error::Note)?;
        for line in lines.split('\n') {
            if read.signatures.len() == MOST_SIGNATURES {
                return Err(Error::Note);
            }
            read.signatures.push(NoteSignature::parse(line)?);
        }
        if read.to_string() == note { Ok(read) } else { Err(Error::Note) }
    }

    /// The text, if a trusted key signed it. A signature that names a trusted key and is not its refuses the note.
    ///
    /// # Errors
    /// [`Error::Unsigned`] or [`Error::Signature`].
    pub fn open(&self, trusted: &[VerifierKey]) -> Result<&str, Error> {
        let mut opened = Err(Error::Unsigned);
        for signature in &self.signatures {
            let known = |key: &&VerifierKey| key.name == signature.name && key.key_id() == signature.key_id;
            let Some(key) = trusted.iter().find(known) else { continue };
            let bytes: &[u8; 64] = signature.bytes.as_slice().try_into().map_err(|_| Error::Signature)?;
            verify(&key.public, self.text.as_bytes(), bytes)?;
            opened = Ok(self.text.as_str());
        }
        opened
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for NoteSignature { name, key_id, bytes } in &self.signatures {
            let body = [key_id.as_slice(), bytes].concat();
            writeln!(f, "\u{2014} {name} {}", Base64::encode_string(&body))?;
        }
        Ok(())
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Result<Self, Error> {
        let (name, body) = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or(Error::Note)?;
        let bytes = Base64::decode_vec(body).map_err(|_| Error::Note)?;
        let (key_id, bytes) = bytes.split_first_chunk::<4>().ok_or(Error::Note)?;
        if !is_name(name) || bytes.is_empty() {
            return Err(Error::Note);
        }
        Ok(Self { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

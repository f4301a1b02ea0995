//! A node's key for one boot: signs batches, receipts and heartbeats; certified by the system log's key.

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Error, Note, Position, Receipt, VerifierKey};
use crate::domain::{BootId, Realm, TenantName, Timestamp, lp};

/// First line of a node certificate: no checkpoint can begin with it, since an origin names an installation.
const CERTIFICATE: &str = "siv/v1/node-certificate";

/// This start of this node. Its key never leaves the memory and is wiped with it.
pub struct NodeIdentity {
    realm: Realm,
    node: String,
    boot: BootId,
    build: String,
    key: SigningKey,
}

impl NodeIdentity {
    /// A new identity with a key from the operating system's CSPRNG. `node` and `build` are one line each.
    ///
    /// # Errors
    /// [`Error::Random`] if that fails, [`Error::Certificate`] for a name that is empty or not one line.
    pub fn generate(realm: Realm, node: &str, build: &str, now: Timestamp) -> Result<Self, Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut secret[..])?;
        Self::from_parts(realm, node, build, BootId::generate(now), &secret)
    }

    /// An identity from its parts; for test vectors.
    ///
    /// # Errors
    /// [`Error::Certificate`] for a name that is empty or not one line.
    pub fn from_parts(realm: Realm, node: &str, build: &str, boot: BootId, secret: &[u8; 32]) -> Result<Self, Error> {
        if ![node, build].into_iter().all(is_line) {
            return Err(Error::Certificate);
        }
        Ok(Self { realm, node: node.to_owned(), boot, build: build.to_owned(), key: SigningKey::from_bytes(secret) })
    }

    /// The realm.
    #[must_use]
    pub const fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// This boot.
    #[must_use]
    pub const fn boot(&self) -> BootId {
        self.boot
    }

    /// The build that runs.
    #[must_use]
    pub fn build(&self) -> &str {
        &self.build
    }

    /// The public half of the key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// What the system log's key certifies.
    #[must_use]
    pub fn certificate(&self, now: Timestamp) -> Certificate {
        Certificate {
            realm: self.realm.clone(),
            node: self.node.clone(),
            boot: self.boot,
            build: self.build.clone(),
            public: self.public(),
            time: now,
        }
    }

    /// A receipt for an entry that is durable.
    #[must_use]
    pub fn receipt(&self, position: Position, tenant: &TenantName, leaf_hash: [u8; 32]) -> Receipt {
        let signature = self.sign(&Receipt::signed_bytes(&self.realm, tenant, &position, &leaf_hash));
        Receipt { position, leaf_hash, signature }
    }

    /// A sign of life: every lane's next number and the hash of its last signature.
    #[must_use]
    pub fn heartbeat(&self, time: Timestamp, lanes: Vec<LaneEnd>) -> Heartbeat {
        let mut heartbeat = Heartbeat { boot: self.boot, time, lanes, signature: [0; 64] };
        heartbeat.signature = self.sign(&heartbeat.signed_bytes(&self.realm, &self.node));
        heartbeat
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(bytes).to_bytes()
    }
}

impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeIdentity({}, {})", self.node, self.boot)
    }
}

/// What is certified of a boot: the text of a note signed by the system log's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The realm.
    pub realm: Realm,
    /// The node's name.
    pub node: String,
    /// The boot.
    pub boot: BootId,
    /// The build that ran.
    pub build: String,
    /// The public half of the boot's key.
    pub public: [u8; 32],
    /// When the boot began.
    pub time: Timestamp,
}

impl Certificate {
    /// The text to be signed: seven lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let public = Base64::encode_string(&self.public);
        let Self { realm, node, boot, build, time, .. } = self;
        format!("{CERTIFICATE}\n{realm}\n{node}\n{boot}\n{build}\n{public}\n{time}\n")
    }

    /// Reads a certificate that a trusted key signed.
    ///
    /// # Errors
    /// What [`Note::open`] says, or [`Error::Certificate`].
    pub fn open(note: &str, trusted: &[VerifierKey]) -> Result<Self, Error> {
        Self::parse(Note::parse(note)?.open(trusted)?)
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines();
        let mut next = || lines.next().ok_or(Error::Certificate);
        if next()? != CERTIFICATE {
            return Err(Error::Certificate);
        }
        let certificate = Self {
            realm: next()?.parse().map_err(|_| Error::Certificate)?,
            node: next()?.to_owned(),
            boot: next()?.parse().map_err(|_| Error::Certificate)?,
            build: next()?.to_owned(),
            public: {
                let mut public = [0; 32];
                let read = Base64::decode(next()?, &mut public).map_err(|_| Error::Certificate)?;
                if read.len() == 32 { public } else { return Err(Error::Certificate) }
            },
            time: Timestamp::from_rfc3339(next()?).ok_or(Error::Certificate)?,
        };
        // One spelling: what reads back to another text was not written by us.
        if certificate.to_text() == text { Ok(certificate) } else { Err(Error::Certificate) }
    }

    /// Whether this boot's key signed `bytes`.
    ///
    /// # Errors
    /// [`Error::Signature`] if it did not.
    pub fn verify(&self, bytes: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
        verify(&self.public, bytes, signature)
    }
}

/// Where a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneEnd {
    /// The lane.
    pub lane: u32,
    /// The number its next entry gets.
    pub next: u64,
    /// SHA-256 of its last signature; zeros before the first.
    pub previous: [u8; 32],
}

/// A signed sign of life, every five seconds: it says how much of each lane must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The boot.
    pub boot: BootId,
    /// When.
    pub time: Timestamp,
    /// Every lane of the boot.
    pub lanes: Vec<LaneEnd>,
    /// The node's signature.
    pub signature: [u8; 64],
}

impl Heartbeat {
    /// lp(`siv/v1/heartbeat`, realm, node, boot, time, then lane, next number, hash of the last signature per lane).
    #[must_use]
    pub fn signed_bytes(&self, realm: &Realm, node: &str) -> Vec<u8> {
        let head = lp(&[
            b"siv/v1/heartbeat",
            realm.as_bytes(),
            node.as_bytes(),
            self.boot.as_bytes(),
            &self.time.to_be_bytes(),
        ]);
        self.lanes.iter().fold(head, |mut bytes, end| {
            bytes.extend(lp(&[&end.lane.to_be_bytes(), &end.next.to_be_bytes(), &end.previous]));
            bytes
        })
    }

    /// Whether the certified boot signed it.
    ///
    /// # Errors
    /// [`Error::Signature`] if it did not.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), Error> {
        if certificate.boot != self.boot {
            return Err(Error::Signature);
        }
        certificate.verify(&self.signed_bytes(&certificate.realm, &certificate.node), &self.signature)
    }
}

/// SHA-256 of a batch's signature, as the next batch and heartbeats name it.
#[must_use]
pub fn signature_hash(signature: &[u8; 64]) -> [u8; 32] {
    Sha256::digest(signature).into()
}

/// Strict Ed25519: no small-order keys, no malleable signatures.
pub(super) fn verify(public: &[u8; 32], bytes: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| Error::Signature)?;
    key.verify_strict(bytes, &Signature::from_bytes(signature)).map_err(|_| Error::Signature)
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

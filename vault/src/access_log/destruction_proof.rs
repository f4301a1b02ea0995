//! Whether a certificate of destruction holds: its note, its entry and the entry's place in the signed tree, offline.

use serde::Deserialize;
use serde_json::Value;

use super::{DestructionCertificate, Error, Leaf, LogProof, Receipt, VerifierKey, leaf_hash};

/// The file as it is handed out (`siv keys certificate`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    certificate: Value,
    note: String,
    leaf: String,
    #[serde(default)]
    receipt: Option<String>,
    #[serde(default)]
    proof: Option<String>,
}

/// The first fault of a certificate: the member of the file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFault {
    /// It is another kind of file.
    #[error("it is no certificate of destruction: that is JSON with certificate, note, leaf and proof")]
    Shape,
    /// No trusted key signed the note, or it certifies something else.
    #[error("note: {0}")]
    Note(Error),
    /// What stands in clear is not what was signed.
    #[error("certificate: it is not what the note says")]
    Certificate,
    /// The entry does not read.
    #[error("leaf: {0}")]
    Leaf(Error),
    /// It is another entry.
    #[error("leaf: its hash is not the one the note names")]
    LeafHash,
    /// The key signed what its log does not say.
    #[error("note: it does not say what its entry says")]
    Entry,
    /// The note is of one tenant and the key of another one's log.
    #[error("note: the key that signed it is of another tenant's log")]
    Tenant,
    /// It was taken before the entry was integrated.
    #[error("proof: there is none: fetch the certificate again with `siv keys certificate`")]
    NoProof,
    /// The tree does not hold the entry.
    #[error("proof: {0}")]
    Proof(Error),
    /// It is of another entry.
    #[error("receipt: it is of another entry")]
    Receipt,
}

/// A certificate that holds.
#[derive(Debug, Clone)]
pub struct ProvenDestruction {
    /// What is certified.
    pub certificate: DestructionCertificate,
    /// The log whose key signed it.
    pub origin: String,
    /// The entry's place in it.
    pub index: u64,
    /// The size of the signed tree that holds it.
    pub size: u64,
}

impl ProvenDestruction {
    /// Checks the text of a certificate's file. A receipt is only compared: the node that signed it names its key in the log.
    ///
    /// # Errors
    /// The first [`CertificateFault`].
    pub fn verify(text: &str, trusted: &[VerifierKey]) -> Result<Self, CertificateFault> {
        let document: Document = serde_json::from_str(text).map_err(|_| CertificateFault::Shape)?;
        let opened = trusted.chunks(1).map(|key| signed_by(key, &document.note)).find(Result::is_ok);
        let opened = opened.unwrap_or_else(|| signed_by(trusted, &document.note));
        let (certificate, key) = opened.map_err(CertificateFault::Note)?;
        if serde_json::to_value(&certificate).ok() != Some(document.certificate) {
            return Err(CertificateFault::Certificate);
        }
        let leaf = [&[1], document.leaf.as_bytes()].concat();
        let entry = Leaf::parse(&leaf).map_err(CertificateFault::Leaf)?;
        let hash = leaf_hash(&leaf);
        if certificate.leaf_hash != crate::domain::text::hex::encode(&hash) {
            return Err(CertificateFault::LeafHash);
        }
        if DestructionCertificate::of(&entry, &hash).as_ref() != Some(&certificate) {
            return Err(CertificateFault::Entry);
        }
        // A log's key is named siv/<installation>/<tenant>, after a recovery with a number behind.
        if key[0].name().split('/').nth(2) != Some(certificate.tenant.as_str()) {
            return Err(CertificateFault::Tenant);
        }
        let proof: LogProof =
            document.proof.ok_or(CertificateFault::NoProof)?.parse().map_err(CertificateFault::Proof)?;
        let checkpoint = proof.verify(&hash, key).map_err(CertificateFault::Proof)?;
        if let Some(receipt) = document.receipt {
            let receipt: Receipt = receipt.parse().map_err(|_| CertificateFault::Receipt)?;
            if receipt.position != certificate.position || receipt.leaf_hash != hash {
                return Err(CertificateFault::Receipt);
            }
        }
        Ok(Self { certificate, origin: checkpoint.origin, index: proof.index, size: checkpoint.size })
    }
}

/// What a note certifies, and the key that signed it.
fn signed_by<'k>(key: &'k [VerifierKey], note: &str) -> Result<(DestructionCertificate, &'k [VerifierKey]), Error> {
    DestructionCertificate::open(note, key).map(|read| (read, key))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use serde_json::json;

    use super::*;
    use crate::access_log::{Action, Checkpoint, Entry, Lane, NodeIdentity, Note, Outcome, Salts};
    use crate::domain::{Actor, RetentionClass, Timestamp, ValueId};

    const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

    fn verifier(key: &SigningKey, tenant: &str) -> VerifierKey {
        VerifierKey::new(&format!("siv/x/{tenant}"), key.verifying_key().to_bytes()).unwrap()
    }

    fn note(text: String, key: &SigningKey, tenant: &str) -> String {
        let signature = key.sign(text.as_bytes()).to_bytes();
        Note::new(text).unwrap().signed(&verifier(key, tenant), signature).to_string()
    }

    /// A certificate of a value that was deleted, in a log of one entry.
    fn document(key: &SigningKey, name: &str) -> Value {
        let identity = NodeIdentity::generate("eu-1".parse().unwrap(), "node-1", "test", NOW).unwrap();
        let mut entry =
            Entry::by("demo".parse().unwrap(), NOW, Action::ValueDeleted, Outcome::Allowed, Actor::anonymous());
        (entry.value_id, entry.retention) = (Some(ValueId::generate(NOW)), Some(RetentionClass::Stored));
        let (_, leaf, _) = Lane::open(identity.boot(), 0).draft().push(&entry, &Salts::generate().unwrap()).unwrap();
        let hash = leaf.hash();
        let certificate = DestructionCertificate::of(&Leaf::parse(leaf.as_bytes()).unwrap(), &hash).unwrap();
        let tree = Checkpoint { origin: format!("siv/x/{name}"), size: 1, root: hash };
        let checkpoint = note(tree.to_text(), key, name);
        let proof = LogProof { extra: None, index: 0, hashes: Vec::new(), checkpoint }.to_string();
        json!({
            "certificate": certificate,
            "note": note(certificate.to_text(), key, name),
            "leaf": std::str::from_utf8(&leaf.as_bytes()[1..]).unwrap(),
            "receipt": null,
            "proof": proof,
        })
    }

    #[test]
    fn an_altered_certificate_is_refused_and_the_place_is_named() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let trusted = [verifier(&SigningKey::from_bytes(&[8; 32]), "acme"), verifier(&key, "demo")];
        let whole = document(&key, "demo");
        let proven = ProvenDestruction::verify(&whole.to_string(), &trusted).unwrap();
        assert_eq!((proven.index, proven.size, proven.origin.as_str()), (0, 1, "siv/x/demo"));
        let other = document(&key, "demo");
        for (member, altered, named) in [
            ("certificate", other["certificate"].clone(), "certificate: "),
            ("note", other["note"].clone(), "certificate: "),
            ("note", json!(whole["note"].as_str().unwrap().replace("demo", "acme")), "note: "),
            ("leaf", other["leaf"].clone(), "leaf: its hash"),
            ("leaf", json!("{}"), "leaf: "),
            ("proof", other["proof"].clone(), "proof: "),
            ("proof", Value::Null, "proof: there is none"),
            ("receipt", json!("siv-receipt.1.AAAA"), "receipt: "),
            ("more", json!(1), "it is no certificate"),
        ] {
            let mut document = whole.clone();
            document[member] = altered;
            let fault = ProvenDestruction::verify(&document.to_string(), &trusted).unwrap_err().to_string();
            assert!(fault.starts_with(named), "{member}: {fault}");
        }
        let alone = ProvenDestruction::verify(&whole.to_string(), &trusted[..1]).unwrap_err();
        assert!(matches!(alone, CertificateFault::Note(Error::Unsigned)), "{alone}");
    }

    #[test]
    fn the_key_of_another_tenants_log_certifies_nothing() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let text = document(&key, "acme").to_string();
        let fault = ProvenDestruction::verify(&text, &[verifier(&key, "acme")]).unwrap_err();
        assert!(matches!(fault, CertificateFault::Tenant), "{fault}");
    }
}

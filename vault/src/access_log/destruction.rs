//! Certificates of destruction: what an entry of the log says was destroyed, in a note signed with the log's key.
//!
//! Everything in it comes from the entry's own leaf, whose hash it names: so that it can be made again, byte for byte, and
//! proven with the same key and the tree.

use serde::{Deserialize, Serialize};

use super::{Error, Note, ParsedEntry, Position, VerifierKey};
use crate::domain::text::hex;
use crate::domain::{FieldName, RetentionClass, TenantName, Timestamp, ValueId};

/// First line of a certificate: no checkpoint can begin with it, since an origin names an installation.
const HEADER: &str = "siv/v1/destruction-certificate";

/// The action of the entry that says that a tenant's keys are gone.
const TENANT: &str = "key.tenant.shredded";
/// The action of the entry that says that one version is lost.
const VERSION: &str = "key.kek.lost";
/// The action of the entry that says that a value was deleted.
const VALUE: &str = "value.deleted";

/// What was destroyed, when, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestructionCertificate {
    /// Whose it was.
    pub tenant: TenantName,
    /// What it was.
    pub destroyed: Destroyed,
    /// When the last of it was gone.
    pub time: Timestamp,
    /// The entry that says so: its place in its lane.
    pub position: Position,
    /// RFC 6962 hash of the entry's leaf, in hexadecimal.
    pub leaf_hash: String,
}

/// What was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Destroyed {
    /// Every key-encryption key of a tenant: its values open from no copy of the database.
    Tenant {
        /// Ids and versions of the keys, `id.version` each.
        keks: Vec<String>,
        /// How each of them ended, as the vault did it, found it or was told.
        ends: Vec<EndOfKek>,
        /// How many data keys they wrapped, whose records were erased in the same commit.
        data_keys: u64,
        /// How many values those sealed and were still there.
        values: u64,
        /// The approval.
        approval: String,
        /// The credential that asked.
        requested_by: String,
        /// The credential that approved.
        approved_by: String,
    },
    /// One version of a key-encryption key that data keys were wrapped under, and those with it. It is not said to be destroyed:
    /// custodians stated that it is lost.
    Version {
        /// The version and how it ended, as the vault found it or was told.
        end: EndOfKek,
        /// What became unopenable of each class of data keys, in the commit that says so.
        losses: Vec<LostClass>,
        /// How many data keys, whose records were erased.
        data_keys: u64,
        /// How many values those sealed and were still there.
        values: u64,
        /// That these are so many or more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        values_at_least: bool,
        /// The approval.
        approval: String,
        /// The credential that asked.
        requested_by: String,
        /// The credential that approved.
        approved_by: String,
    },
    /// One value, in the live database.
    Value {
        /// The value.
        value_id: ValueId,
        /// Its field.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<FieldName>,
        /// Its class.
        retention: RetentionClass,
        /// The credential that deleted it.
        deleted_by: String,
        /// From when on no backup of the database opens it either; none where only the end of the tenant's keys does that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backups_until: Option<Timestamp>,
    },
}

/// How one key-encryption key ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndOfKek {
    /// The key, `id.version`.
    pub kek: String,
    /// What is certified: that siv destroyed it, that it was not found, or that the custodians stated it.
    pub how: String,
    /// Label of the token that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_label: Option<String>,
    /// Serial number of the token that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_serial: Option<String>,
    /// What was seen of a token that custodians call lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

/// What became unopenable of one class of data keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LostClass {
    /// The class of data keys; of values it is their retention class.
    pub class: String,
    /// How many data keys.
    pub data_keys: u64,
    /// How many values they sealed, spent and expired ones that wait for the purge included; none where they sealed other things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<u64>,
    /// That these are so many or more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub values_at_least: bool,
    /// What they held that is no value, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
}

impl DestructionCertificate {
    /// The certificate of what an entry says; nothing if it speaks of no destruction.
    #[must_use]
    pub fn of(entry: &ParsedEntry, leaf_hash: &[u8; 32]) -> Option<Self> {
        if entry.outcome != "allowed" {
            return None;
        }
        let destroyed = match &*entry.action {
            TENANT => tenant(entry)?,
            VERSION => version(entry)?,
            VALUE => value(entry)?,
            _ => return None,
        };
        Some(Self {
            tenant: entry.tenant.clone(),
            destroyed,
            time: entry.time,
            position: entry.position,
            leaf_hash: hex::encode(leaf_hash),
        })
    }

    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{HEADER}\n{}\n", serde_json::to_string(self).unwrap_or_default())
    }

    /// What a note certifies, if a trusted key signed it.
    ///
    /// # Errors
    /// What [`Note::open`] says; [`Error::Certificate`] for a text that is no certificate of destruction.
    pub fn open(note: &str, trusted: &[VerifierKey]) -> Result<Self, Error> {
        let note = Note::parse(note)?;
        let text = note.open(trusted)?;
        let json = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n'));
        let read: Self = serde_json::from_str(json.ok_or(Error::Certificate)?).map_err(|_| Error::Certificate)?;
        if read.to_text() == text { Ok(read) } else { Err(Error::Certificate) }
    }
}

fn tenant(entry: &ParsedEntry) -> Option<Destroyed> {
    let fact = |name| entry.fact(name).map(str::to_owned);
    Some(Destroyed::Tenant {
        keks: entry.fact("keks")?.split(' ').map(str::to_owned).collect(),
        ends: serde_json::from_str(entry.fact("ends")?).ok()?,
        data_keys: entry.fact("dataKeys")?.parse().ok()?,
        values: entry.fact("values")?.parse().ok()?,
        approval: fact("approval")?,
        requested_by: fact("requestedBy")?,
        approved_by: fact("approvedBy")?,
    })
}

fn version(entry: &ParsedEntry) -> Option<Destroyed> {
    let fact = |name| entry.fact(name).map(str::to_owned);
    let (token_label, token_serial) = (fact("tokenLabel"), fact("tokenSerial"));
    Some(Destroyed::Version {
        end: EndOfKek { kek: fact("kek")?, how: fact("how")?, token_label, token_serial, seen: fact("seen") },
        losses: serde_json::from_str(entry.fact("losses")?).ok()?,
        data_keys: entry.fact("dataKeys")?.parse().ok()?,
        values: entry.fact("values")?.parse().ok()?,
        values_at_least: entry.fact("valuesAtLeast").is_some(),
        approval: fact("approval")?,
        requested_by: fact("requestedBy")?,
        approved_by: fact("approvedBy")?,
    })
}

fn value(entry: &ParsedEntry) -> Option<Destroyed> {
    let (value_id, retention) = (entry.value_id?, entry.retention?);
    Some(Destroyed::Value {
        value_id,
        field: entry.field.clone(),
        retention,
        deleted_by: entry.actor.id.clone().into_owned(),
        backups_until: erased_by(value_id, retention),
    })
}

/// When the erasure key of a value is gone at the latest. Its id begins with the time it was made for (RFC 9562 section 5.7),
/// which lies within a minute of the time its epoch was chosen by.
fn erased_by(value_id: ValueId, retention: RetentionClass) -> Option<Timestamp> {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&value_id.as_bytes()[..6]);
    let latest = Timestamp::from_millis(u64::from_be_bytes(millis)).plus(std::time::Duration::from_secs(60));
    let class = retention.data_key_class();
    class.erased_at(class.epoch(latest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::{Action, Checkpoint, Entry, Lane, Leaf, NodeIdentity, Outcome, Salts};
    use crate::domain::Actor;

    const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

    fn parsed(entry: &Entry) -> (ParsedEntry, [u8; 32]) {
        let identity = NodeIdentity::generate("eu-1".parse().unwrap(), "node-1", "test", NOW).unwrap();
        let lane = Lane::open(identity.boot(), 0);
        let mut draft = lane.draft();
        let (_, leaf, _) = draft.push(entry, &Salts::generate().unwrap()).unwrap();
        (Leaf::parse(leaf.as_bytes()).unwrap(), leaf.hash())
    }

    fn deleted(retention: RetentionClass) -> Entry {
        let (tenant, actor) = ("demo".parse().unwrap(), Actor::anonymous());
        let mut entry = Entry::by(tenant, NOW, Action::ValueDeleted, Outcome::Allowed, actor);
        (entry.value_id, entry.retention) = (Some(ValueId::generate(NOW)), Some(retention));
        entry
    }

    #[test]
    fn a_certificate_says_what_its_entry_says_and_opens_under_its_logs_key_alone() {
        use ed25519_dalek::{Signer as _, SigningKey};
        let (entry, hash) = parsed(&deleted(RetentionClass::Session));
        let certificate = DestructionCertificate::of(&entry, &hash).unwrap();
        let Destroyed::Value { backups_until: Some(end), .. } = certificate.destroyed else {
            panic!("{certificate:?}")
        };
        assert!(end > NOW.plus(std::time::Duration::from_secs(7 * 86_400)), "{end:?}");
        let key = SigningKey::from_bytes(&[7; 32]);
        let verifier = |key: &SigningKey| VerifierKey::new("siv/x/demo", key.verifying_key().to_bytes()).unwrap();
        let text = certificate.to_text();
        let signature = key.sign(text.as_bytes()).to_bytes();
        let note = Note::new(text).unwrap().signed(&verifier(&key), signature).to_string();
        assert_eq!(DestructionCertificate::open(&note, &[verifier(&key)]).unwrap(), certificate);
        assert!(DestructionCertificate::open(&note, &[verifier(&SigningKey::from_bytes(&[8; 32]))]).is_err());
        let moved = note.replace("\"demo\"", "\"acme\"");
        assert!(DestructionCertificate::open(&moved, &[verifier(&key)]).is_err());
        // It is no checkpoint, whoever holds the note.
        assert!(Checkpoint::open(&note, &[verifier(&key)]).is_err());
    }

    #[test]
    fn only_what_was_destroyed_is_certified() {
        let refused = Entry { outcome: Outcome::Denied, ..deleted(RetentionClass::Stored) };
        let captured = Entry { action: Action::ValueCaptured, ..deleted(RetentionClass::Stored) };
        for entry in [refused, captured] {
            let (entry, hash) = parsed(&entry);
            assert_eq!(DestructionCertificate::of(&entry, &hash), None);
        }
        let (entry, hash) = parsed(&deleted(RetentionClass::Stored));
        let certificate = DestructionCertificate::of(&entry, &hash).unwrap();
        assert!(matches!(certificate.destroyed, Destroyed::Value { backups_until: None, .. }));
    }
}

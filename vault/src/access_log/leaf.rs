//! Leaf bytes: version ‖ canonical JSON of one entry. Written once, stored and hashed as they are.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::entry::ObjectVersion;
use super::json::{canonical, write_canonical};
use super::{Commitment, Entry, Error, Opening, Personal, Position, Salts, is_action, leaf_hash};
use crate::domain::text::hex;
use crate::domain::{
    ActorKind, AppName, CaptureSessionId, DataKeyId, FieldName, FieldType, FlowName, KekId, PurposeName, RequestId,
    RetentionClass, RunId, TenantName, Timestamp, ValueId,
};

/// The version byte of the leaves this code writes.
pub const LEAF_VERSION: u8 = 1;

/// Entry bundles give each leaf a length of 16 bits (c2sp.org/tlog-tiles).
pub const LONGEST_LEAF: usize = 65_535;

/// The exact bytes of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf(Vec<u8>);

impl Leaf {
    /// The leaf of `entry` at `position`, and what opens its personal members (in the order of [`Personal::ALL`]).
    ///
    /// # Errors
    /// [`Error::LeafTooLong`] if it does not fit into an entry bundle.
    pub fn seal(entry: &Entry, position: &Position, salts: &Salts) -> Result<(Self, [Opening; 4]), Error> {
        let openings = Personal::ALL.map(|member| {
            let value = match member {
                Personal::OnBehalfOf => entry.on_behalf_of.as_deref(),
                Personal::Address => entry.address.as_deref(),
                Personal::ActorName => entry.actor.name.as_deref(),
                Personal::Reference => entry.reference.as_deref(),
            };
            Opening::new(member, salts.of(member), value)
        });
        let mut bytes = Vec::with_capacity(1024);
        bytes.push(LEAF_VERSION);
        write_canonical(&Members::of(entry, position, &openings), &mut bytes);
        if bytes.len() > LONGEST_LEAF {
            return Err(Error::LeafTooLong);
        }
        Ok((Self(bytes), openings))
    }

    /// Bytes that were stored; [`Leaf::parse`] says whether they are a leaf.
    #[must_use]
    pub const fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The exact bytes, to be stored.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// RFC 6962 hash of the leaf.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        leaf_hash(&self.0)
    }

    /// Whether leaf bytes, signed by the node that wrote them, say that they are a tenant's at this position. These two
    /// members stand last, and no string of a JSON text holds a bare quotation mark: so the end of the bytes tells,
    /// and nothing has to be read.
    #[must_use]
    pub fn is_placed(bytes: &[u8], tenant: &TenantName, position: &Position) -> bool {
        let end = canonical(&Placed { tenant, position });
        bytes.first() == Some(&LEAF_VERSION)
            && bytes.strip_suffix(&end.as_bytes()[1..]).is_some_and(|rest| rest.ends_with(b","))
    }

    /// Whether leaf bytes hold exactly this version of a row of this tenant. False says nothing: they may be no leaf at all.
    ///
    /// Members stand in the bytes in one spelling each, and no string of a JSON text holds a bare quotation mark: so a
    /// member that is found was written, and nothing has to be read.
    #[must_use]
    pub fn holds(bytes: &[u8], tenant: &TenantName, object: &ObjectVersion) -> bool {
        let Some((&LEAF_VERSION, text)) = bytes.split_first() else { return false };
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let object = canonical(&ParsedObject::of(object));
        let tenant = canonical(&tenant.as_str());
        text.contains(&format!(",\"object\":{object},"))
            && text.contains(&format!(",\"tenant\":{tenant},\"position\":"))
    }

    /// Reads leaf bytes; anything but the one canonical form is refused.
    ///
    /// # Errors
    /// [`Error::Leaf`].
    pub fn parse(bytes: &[u8]) -> Result<ParsedEntry, Error> {
        let Some((&LEAF_VERSION, text)) = bytes.split_first() else { return Err(Error::Leaf) };
        let entry: ParsedEntry = serde_json::from_slice(text).map_err(|_| Error::Leaf)?;
        if canonical(&entry).as_bytes() == text { Ok(entry) } else { Err(Error::Leaf) }
    }
}

/// An entry that was read from a leaf.
pub type ParsedEntry = Members<'static>;

/// An entry as its leaf holds it: what everybody may read who may read the log, personal members as commitments. What is
/// written borrows its texts from the entry.
///
/// The order of the members is the order in the bytes; it can never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the members are those of Entry, where each is explained")]
pub struct Members<'a> {
    pub time: Timestamp,
    pub action: Cow<'a, str>,
    pub outcome: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    pub actor: ParsedActor<'a>,
    pub on_behalf_of: Commitment,
    pub origin: ParsedOrigin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<ParsedFlow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<PurposeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_id: Option<ValueId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<FieldName>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FieldType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_session: Option<CaptureSessionId>,
    pub reference: Commitment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kek_id: Option<KekId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_key_id: Option<DataKeyId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ParsedObject<'a>>,
    #[serde(default, with = "facts", skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    #[serde(with = "tenant_name")]
    pub tenant: TenantName,
    pub position: Position,
}

/// The last members of a leaf.
#[derive(Serialize)]
struct Placed<'a> {
    #[serde(with = "tenant_name")]
    tenant: &'a TenantName,
    position: &'a Position,
}

/// The actor in a leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members are those of Actor")]
pub struct ParsedActor<'a> {
    pub id: Cow<'a, str>,
    pub kind: Cow<'a, str>,
    pub name: Commitment,
}

/// The origin in a leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members are those of Origin")]
pub struct ParsedOrigin {
    pub address: Commitment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
}

/// The flow in a leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "name, version and SHA-256 of the document in hexadecimal")]
pub struct ParsedFlow {
    pub name: FlowName,
    pub version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The row that decides in a leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members are those of ObjectVersion, the digest in hexadecimal")]
pub struct ParsedObject<'a> {
    pub table: Cow<'a, str>,
    pub key: Cow<'a, str>,
    pub version: u64,
    pub digest: String,
}

impl<'a> ParsedObject<'a> {
    fn of(object: &'a ObjectVersion) -> Self {
        Self {
            table: Cow::Borrowed(object.table),
            key: Cow::Borrowed(&object.key),
            version: object.version,
            digest: hex::encode(&object.digest),
        }
    }
}

/// Name and value.
type Fact<'a> = (Cow<'a, str>, Cow<'a, str>);

impl<'a> Members<'a> {
    fn of(entry: &'a Entry, position: &Position, openings: &[Opening; 4]) -> Self {
        let [on_behalf_of, address, actor_name, reference] = openings;
        let text = Cow::Borrowed::<str>;
        debug_assert!(is_action(&entry.action.text()), "{} stands in no list that a filter goes by", entry.action);
        Self {
            time: entry.time,
            action: entry.action.text(),
            outcome: text(entry.outcome.as_str()),
            reason: entry.reason.map(text),
            actor: ParsedActor {
                id: text(&entry.actor.id),
                kind: text(entry.actor.kind.as_str()),
                name: actor_name.commitment(),
            },
            on_behalf_of: on_behalf_of.commitment(),
            origin: ParsedOrigin { address: address.commitment(), app: entry.app.clone() },
            app: entry.app.clone(),
            flow: entry.flow.as_ref().map(|(name, version)| ParsedFlow {
                name: name.clone(),
                version: *version,
                digest: entry.flow_digest.as_ref().map(|digest| hex::encode(digest)),
            }),
            rule: entry.rule.map(text),
            purpose: entry.purpose.clone(),
            value_id: entry.value_id,
            field: entry.field.clone(),
            kind: entry.kind,
            retention: entry.retention,
            run_id: entry.run_id,
            capture_session: entry.session,
            reference: reference.commitment(),
            destination: entry.destination.as_deref().map(text),
            kek_id: entry.kek_id,
            data_key_id: entry.data_key_id,
            state_version: entry.state_version,
            expires_at: entry.expires_at,
            uses: entry.uses,
            count: entry.count,
            object: entry.object.as_ref().map(ParsedObject::of),
            facts: entry.facts.iter().map(|(name, value)| (text(name), text(value))).collect(),
            request_id: entry.request_id,
            tenant: entry.tenant.clone(),
            position: *position,
        }
    }

    /// The commitment of a personal member.
    #[must_use]
    pub const fn commitment(&self, member: Personal) -> Commitment {
        match member {
            Personal::OnBehalfOf => self.on_behalf_of,
            Personal::Address => self.origin.address,
            Personal::ActorName => self.actor.name,
            Personal::Reference => self.reference,
        }
    }

    /// Whether the vault itself is the actor: then no personal member was ever there.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.actor.kind == ActorKind::Node.as_str()
    }

    /// The value of a fact.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(fact, _)| fact == name).map(|(_, value)| &**value)
    }
}

/// The system's name is none that a tenant can have, so it reads through a door of its own.
mod tenant_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use crate::domain::TenantName;

    pub(super) fn serialize<S: Serializer>(name: &TenantName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TenantName, D::Error> {
        TenantName::from_store(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Facts are a JSON object whose members keep their order; a name that comes twice is refused.
mod facts {
    use std::fmt;

    use serde::de::{Error as _, MapAccess, Visitor};
    use serde::{Deserializer, Serializer};

    use super::Fact;

    pub(super) fn serialize<S: Serializer>(facts: &[Fact<'_>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(facts.iter().map(|(name, value)| (name, value)))
    }

    pub(super) fn deserialize<'de, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Fact<'a>>, D::Error> {
        deserializer.deserialize_map(Facts)
    }

    struct Facts;

    impl<'de> Visitor<'de> for Facts {
        type Value = Vec<Fact<'static>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("facts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut facts: Self::Value = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, String>()? {
                if facts.iter().any(|(known, _)| *known == name) {
                    return Err(A::Error::custom("a fact that comes twice"));
                }
                facts.push((name.into(), value.into()));
            }
            Ok(facts)
        }
    }
}

//! The shape of a flow's document, as serde reads it: unknown keys are refused, order is kept.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::domain::{AppName, FieldName, FlowName, PurposeName};
use crate::flows::label::Label;

/// The document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) name: FlowName,
    pub(super) purpose: PurposeName,
    pub(super) app: AppName,
    #[serde(default)]
    pub(super) inputs: Pairs<Label, Value>,
    #[serde(default)]
    pub(super) steps: Vec<Step>,
    #[serde(default)]
    pub(super) outputs: Pairs<Label, String>,
    #[serde(default)]
    pub(super) reveal: Vec<Label>,
}

/// An input or a response field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Value {
    pub(super) from: Option<String>,
    pub(super) secure: Option<FieldName>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
    pub(super) pattern: Option<String>,
    pub(super) values: Option<Vec<String>>,
}

/// A step: exactly one of its kinds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) id: Label,
    pub(super) http: Option<Http>,
    pub(super) verify: Option<Verify>,
    pub(super) hash: Option<Hash>,
    pub(super) equals: Option<Equals>,
    pub(super) hmac: Option<Hmac>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) headers: Pairs<String, String>,
    pub(super) json: Option<toml::Value>,
    pub(super) form: Option<Pairs<String, String>>,
    pub(super) timeout_seconds: Option<u64>,
    #[serde(default)]
    pub(super) response: Pairs<Label, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verify {
    pub(super) password: String,
    pub(super) phc: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hash {
    pub(super) password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Equals {
    pub(super) left: String,
    pub(super) right: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hmac {
    pub(super) value: String,
    pub(super) secret: String,
}

/// A table whose members keep the order of the document.
pub(super) struct Pairs<K, V>(pub(super) Vec<(K, V)>);

impl<K, V> Default for Pairs<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Pairs<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<K, V> {
    type Value = Pairs<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

//! What capture is asked and what it answers, as JSON spells it. Names are resolved later: an unknown one is a 422.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::{AppName, CaptureSessionId, FieldType, RetentionClass, Timestamp, ValueId};

/// A field of a session, as a request names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum FieldName {
    /// `"card-number"`
    Name(String),
    /// `{"field": "card-number"}`
    Object {
        /// The name.
        field: String,
        /// What else stands there; nothing may.
        #[serde(flatten)]
        others: BTreeMap<String, IgnoredAny>,
    },
}

impl FieldName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            // No field has this name, so that the request is refused at its place in the list.
            Self::Object { others, .. } if !others.is_empty() => "",
            Self::Name(name) | Self::Object { field: name, .. } => name,
        }
    }
}

/// `POST /v1/capture/sessions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionRequest {
    /// The app.
    pub app: String,
    /// Its fields that may be captured; none named: all.
    #[serde(default)]
    pub fields: Vec<FieldName>,
    /// Narrows the flows of each field; none named: the field's.
    #[serde(default)]
    pub flows: Vec<String>,
    /// Narrows the purposes of each field; none named: the field's.
    #[serde(default)]
    pub purposes: Vec<String>,
    /// Whose values they are, in the app's words; kept as a salted commitment only.
    #[serde(default)]
    pub subject: Option<String>,
    /// Its lifetime: at most 3600, 600 where none is named.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// How many values may be captured: at most 100, one per field where none is named.
    #[serde(default)]
    pub max_values: Option<u32>,
}

/// An opened session: the token is shown once.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenedSession<'a> {
    /// Its id.
    pub capture_session_id: CaptureSessionId,
    /// The right to write into it.
    pub capture_token: &'a str,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// `GET /v1/capture/session`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDescription {
    /// The app.
    pub app: AppName,
    /// What may be captured.
    pub fields: Vec<FieldDescription>,
    /// To what the frame seals.
    pub keys: Vec<KeyDescription>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A field, for the frame.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDescription {
    /// Its name.
    pub field: crate::domain::FieldName,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// Fewest characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<usize>,
    /// Most characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
    /// What may become of the value.
    pub retention: RetentionClass,
    /// Its lifetime; none is "until deleted".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Whether the frame may tell the page a card's brand.
    pub show_brand: bool,
}

/// A key to seal to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyDescription {
    /// Its id, base64url.
    pub key_id: String,
    /// Its kind.
    pub kem: &'static str,
    /// The public half, base64url of the uncompressed point.
    pub public_key: String,
}

/// What was typed into a field.
pub enum Content {
    /// Sealed by the frame, base64url.
    Sealed(String),
    /// In the clear, inside TLS.
    Plain(Zeroizing<String>),
}

/// One value of `POST /v1/capture/values`.
pub struct CaptureItem {
    /// The field.
    pub field: String,
    /// Its text.
    pub content: Content,
}

/// One value of `POST /v1/values`.
pub struct PutItem {
    /// The field.
    pub field: String,
    /// Its text.
    pub value: Zeroizing<String>,
    /// Narrows the field's flows.
    pub flows: Vec<String>,
    /// Narrows the field's purposes.
    pub purposes: Vec<String>,
    /// Narrows its lifetime.
    pub ttl_seconds: Option<u64>,
    /// Narrows its uses.
    pub uses: Option<u32>,
}

/// What is known of a value.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueDescription {
    /// Its public id.
    pub value_id: ValueId,
    /// The app.
    pub app: AppName,
    /// The field.
    pub field: crate::domain::FieldName,
    /// The type.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// What may become of it.
    pub retention: RetentionClass,
    /// When it was captured.
    pub created_at: Timestamp,
    /// When it expires; null is "until deleted".
    pub expires_at: Option<Timestamp>,
    /// Uses left; null is not counted.
    pub uses_left: Option<u32>,
    /// `active`: what is not is not found.
    pub state: &'static str,
}

//! Shapes of requests and answers that inner rooms read and write themselves, for the API document only.

#![expect(dead_code, reason = "the API document is made from these; the inner rooms hold the real ones")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// A capture session to be opened.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct OpenSession {
    app: String,
    /// Fields that may be captured; none named: all.
    fields: Option<Vec<String>>,
    flows: Option<Vec<String>>,
    purposes: Option<Vec<String>>,
    subject: Option<String>,
    ttl_seconds: Option<u64>,
    max_values: Option<u32>,
}

/// An opened session; the token is shown once.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct OpenedSession {
    capture_session_id: String,
    capture_token: String,
    expires_at: String,
}

/// What a capture token may capture.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Session {
    app: String,
    fields: Vec<SessionField>,
    keys: Vec<SessionKey>,
    expires_at: String,
}

/// A field of a session.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct SessionField {
    field: String,
    r#type: String,
    min: Option<u32>,
    max: Option<u32>,
    retention: String,
    ttl_seconds: Option<u64>,
    show_brand: bool,
}

/// A key to seal to (RFC 9180).
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct SessionKey {
    key_id: String,
    kem: String,
    public_key: String,
}

/// Captured values, in the order they were sent.
#[derive(ToSchema)]
pub(crate) struct Captured {
    values: Vec<CapturedValue>,
}

/// One captured value.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct CapturedValue {
    field: String,
    secure_value_key: String,
    expires_at: Option<String>,
}

/// Results in the order of the items.
#[derive(ToSchema)]
pub(crate) struct PutResults {
    results: Vec<PutResult>,
}

/// One result: a key, or why there is none.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct PutResult {
    status: u16,
    secure_value_key: Option<String>,
    value_id: Option<String>,
    expires_at: Option<String>,
    code: Option<String>,
}

/// What is known of a value.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct SecureValue {
    value_id: String,
    app: String,
    field: String,
    r#type: String,
    retention: String,
    created_at: String,
    expires_at: Option<String>,
    uses_left: Option<u32>,
    state: String,
}

/// A run to be made.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Invoke {
    #[schema(value_type = Object)]
    inputs: BTreeMap<String, String>,
    reference: Option<String>,
    on_behalf_of: Option<String>,
}

/// What a run gave.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Invoked {
    run_id: String,
    #[schema(value_type = Object)]
    outputs: BTreeMap<String, String>,
    receipts: Vec<String>,
}

/// What is known of a run.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Run {
    run_id: String,
    #[schema(value_type = Object)]
    flow: BTreeMap<String, String>,
    state: String,
    started_at: String,
    finished_at: Option<String>,
    code: Option<String>,
}

/// Entries, oldest first.
#[derive(ToSchema)]
pub(crate) struct Entries {
    #[schema(value_type = Vec<Object>)]
    data: Vec<String>,
    page: crate::http::listing::Next,
}

//! Every AAD and HPKE info of the room, in one place (docs/formats.md sections 2, 6 and 7).

use crate::domain::{AppName, CaptureSessionId, DataKeyId, FieldName, Metadata, RunId, Timestamp, lp};

/// Info and prefix of the inner layer.
pub(super) const INNER: &str = "siv/v1/inner";
/// Info and prefix of the outer layer.
pub(super) const OUTER: &str = "siv/v1/outer";
/// First field of the HPKE info.
const CAPTURE: &str = "siv/v1/capture";

/// `siv/v1/inner` ‖ metadata.
pub(super) fn inner(metadata: &Metadata) -> Vec<u8> {
    [INNER.as_bytes(), &metadata.to_bytes()].concat()
}

/// `siv/v1/outer` ‖ metadata ‖ data key id.
pub(super) fn outer(metadata: &Metadata, data_key: DataKeyId) -> Vec<u8> {
    [OUTER.as_bytes(), &metadata.to_bytes(), data_key.as_bytes()].concat()
}

/// lp(`siv/v1/capture`, keyId, app, session, field): both ids as their 16 bytes.
pub(super) fn capture(key_id: &[u8; 16], app: &AppName, session: CaptureSessionId, field: &FieldName) -> Vec<u8> {
    lp(&[CAPTURE.as_bytes(), key_id, app.as_bytes(), session.as_bytes(), field.as_bytes()])
}

/// lp(lookup, status, runId, expiry) of a stored idempotent answer.
pub(super) fn answer(lookup: &[u8; 32], status: u16, run: Option<RunId>, expires: Timestamp) -> Vec<u8> {
    let run = run.as_ref().map_or(&[][..], |run| run.as_bytes());
    lp(&[lookup, &status.to_be_bytes(), run, &expires.to_be_bytes()])
}

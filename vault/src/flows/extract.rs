//! Extracts the declared fields of a destination's answer; nothing else of it exists.

use serde_json::Value;

use super::definition::{HttpStep, ResponseField, ResponseKind};
use super::error::{Error, FailedReason};
use super::label::Label;
use super::typed::{LONGEST_TEXT, RawValue, wipe};
use super::values::RunValue;
use crate::domain::Plaintext;

/// JSON that is wiped when it is dropped: a destination may have echoed a plaintext.
struct WipedJson(Value);

impl Drop for WipedJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl HttpStep {
    /// The declared fields of an answer.
    ///
    /// # Errors
    /// [`Error::DestinationFailed`] if it is not JSON; [`Error::Unfit`] for a field that is absent, there twice, or not of its type.
    pub(super) fn extract(&self, step: &Label, answer: &[u8]) -> Result<Vec<(Label, RunValue)>, Error> {
        if self.response.is_empty() {
            return Ok(Vec::new());
        }
        // The parser's message may quote the answer, and is dropped.
        let json = serde_json::from_slice(answer).map_err(|_| Error::DestinationFailed(FailedReason::Response))?;
        let json = WipedJson(json);
        let read = self.response.iter().map(|(name, field)| {
            let value = field.read(&json.0).ok_or_else(|| Error::unfit(step, name))?;
            Ok((name.clone(), value))
        });
        read.collect()
    }
}

impl ResponseField {
    fn read(&self, json: &Value) -> Option<RunValue> {
        let found = RawValue::from_json(self.from.query(json).exactly_one().ok()?.clone());
        match &self.kind {
            ResponseKind::Typed(spec) => spec.read(found).ok().map(RunValue::Typed),
            ResponseKind::Secure(field) => match found {
                RawValue::Text(text) if !text.is_empty() && text.chars().count() <= LONGEST_TEXT => {
                    Some(RunValue::ToCapture(field.clone(), Plaintext::new(text)))
                }
                _ => None,
            },
        }
    }
}

//! A flow as lists show it.

use serde::Serialize;

use super::definition::{Flow, Input};

/// A line of `GET /v1/flows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowSummary {
    /// Its name.
    pub name: String,
    /// The version that runs.
    pub version: u64,
    /// Recorded with every access.
    pub purpose: String,
    /// Whose fields it uses.
    pub app: String,
    /// What a caller gives.
    pub inputs: Vec<InputSummary>,
    /// What a caller gets.
    pub outputs: Vec<String>,
    /// The hosts it relays to.
    pub destinations: Vec<String>,
    /// Secure inputs whose plaintext it gives to its caller: in scope of PCI DSS.
    pub reveal: Vec<String>,
}

/// An input in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputSummary {
    /// Its name.
    pub name: String,
    /// `secure`, or its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field, of a secure input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Flow {
    /// The flow in a list.
    #[must_use]
    pub fn summary(&self, version: u64) -> FlowSummary {
        let input = |(name, input): &(super::label::Label, Input)| match input {
            Input::Secure(field) => {
                InputSummary { name: name.to_string(), kind: "secure", field: Some(field.to_string()) }
            }
            Input::Typed(spec) => InputSummary { name: name.to_string(), kind: spec.type_name(), field: None },
        };
        let mut destinations: Vec<String> = self.http_steps().map(|(_, step)| step.destination()).collect();
        destinations.sort();
        destinations.dedup();
        FlowSummary {
            name: self.name.to_string(),
            version,
            purpose: self.purpose.to_string(),
            app: self.app.to_string(),
            inputs: self.inputs.iter().map(input).collect(),
            outputs: self.outputs.iter().map(|(name, _)| name.to_string()).collect(),
            destinations,
            reveal: self.reveal.iter().map(ToString::to_string).collect(),
        }
    }
}

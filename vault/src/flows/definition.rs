//! A flow as a small typed tree: what its document says, read and put in order. The document itself is read in document.rs.

use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use super::label::Label;
use super::template::{JsonTemplate, Reference, SecretName, Template};
use super::typed::ValueSpec;
use crate::domain::{AppName, FieldName, FlowName, PurposeName};

/// A server-side data flow.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Its name.
    pub name: FlowName,
    /// Recorded with every access.
    pub purpose: PurposeName,
    /// Whose fields it uses.
    pub app: AppName,
    /// What a caller gives, in the order of the document.
    pub inputs: Vec<(Label, Input)>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What a caller gets, in the order of the document.
    pub outputs: Vec<(Label, Reference)>,
    /// Secure inputs whose plaintext may be an output.
    pub reveal: Vec<Label>,
}

/// An input.
#[derive(Debug, Clone)]
pub enum Input {
    /// A `secureValueKey` of this field of the app.
    Secure(FieldName),
    /// A value that is no secret.
    Typed(ValueSpec),
}

/// A step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its id.
    pub id: Label,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Relays to a destination. Boxed: it is far larger than the others.
    Http(Box<HttpStep>),
    /// Compares a password with a PHC string: boolean `verified`.
    Verify {
        /// A secure input of type `password`.
        password: Reference,
        /// The PHC string.
        phc: Reference,
    },
    /// Makes a PHC string of a password (declassifies): text `phc`.
    Hash {
        /// A secure input of type `password`.
        password: Reference,
    },
    /// Compares two secure inputs: boolean `equal`.
    Equals {
        /// One.
        left: Reference,
        /// The other.
        right: Reference,
    },
    /// HMAC-SHA-256 under a destination's secret: text `mac`, hexadecimal.
    Hmac {
        /// What is authenticated.
        value: Reference,
        /// The secret.
        secret: SecretName,
    },
}

/// An outbound step.
#[derive(Debug, Clone)]
pub struct HttpStep {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: UrlTemplate,
    /// Headers, names in lower case.
    pub headers: Vec<(HeaderName, Template)>,
    /// The body.
    pub body: Body,
    /// For the whole exchange.
    pub timeout: Duration,
    /// All that exists of the answer.
    pub response: Vec<(Label, ResponseField)>,
}

/// A destination's address: scheme, host and port are literal.
#[derive(Debug, Clone)]
pub struct UrlTemplate {
    /// The address with an empty path, for scheme, host and port.
    pub base: Url,
    /// Path and query; a reference stands in the path only.
    pub path: Template,
}

/// A request's body.
#[derive(Debug, Clone)]
pub enum Body {
    /// None.
    Empty,
    /// JSON.
    Json(JsonTemplate),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, Template)>),
}

/// A field of a destination's answer.
#[derive(Debug, Clone)]
pub struct ResponseField {
    /// Where it stands.
    pub from: serde_json_path::JsonPath,
    /// What becomes of it.
    pub kind: ResponseKind,
}

/// What becomes of a response field.
#[derive(Debug, Clone)]
pub enum ResponseKind {
    /// It is read as a typed value.
    Typed(ValueSpec),
    /// It is captured into a new `secureValueKey` of this field of the app.
    Secure(FieldName),
}

impl Flow {
    /// The input of this name.
    #[must_use]
    pub fn input(&self, name: &Label) -> Option<&Input> {
        self.inputs.iter().find(|(own, _)| own == name).map(|(_, input)| input)
    }

    /// The secure inputs with their fields, in the order of the document: the order of entries and receipts.
    pub fn secure_inputs(&self) -> impl Iterator<Item = (&Label, &FieldName)> {
        self.inputs.iter().filter_map(|(name, input)| match input {
            Input::Secure(field) => Some((name, field)),
            Input::Typed(_) => None,
        })
    }

    /// The outbound steps.
    pub fn http_steps(&self) -> impl Iterator<Item = (&Label, &HttpStep)> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Http(http) => Some((&step.id, &**http)),
            _ => None,
        })
    }

    /// Whether a run has an intent and an outcome: something outside happens, or failures are counted.
    #[must_use]
    pub fn has_intent(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::Http(_) | Action::Verify { .. }))
    }

    /// Whether a run speaks to a destination.
    #[must_use]
    pub fn relays(&self) -> bool {
        self.http_steps().next().is_some()
    }

    /// Whether the flow gives plaintexts to its caller.
    #[must_use]
    pub fn reveals(&self) -> bool {
        !self.reveal.is_empty()
    }

    /// The longest that all steps together may take.
    #[must_use]
    pub fn longest_run(&self) -> Duration {
        self.steps
            .iter()
            .map(|step| match &step.action {
                Action::Http(http) => http.timeout,
                Action::Verify { .. } | Action::Hash { .. } => super::password::LONGEST,
                Action::Equals { .. } | Action::Hmac { .. } => Duration::from_millis(10),
            })
            .sum()
    }
}

impl HttpStep {
    /// Host, with its port where it is not the scheme's: what entries name as destination.
    #[must_use]
    pub fn destination(&self) -> String {
        let host = self.url.base.host_str().unwrap_or_default();
        self.url.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

//! What a run holds while its steps go on: plaintexts, typed values, secrets, results of steps. Everything is wiped on drop.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::error::Error;
use super::guard::Guard;
use super::label::Label;
use super::template::{Reference, SecretName, Source};
use super::typed::Typed;
use crate::domain::{FieldName, Plaintext};

/// A value of a run.
#[derive(Debug)]
pub enum RunValue {
    /// No secret.
    Typed(Typed),
    /// A plaintext: of a secure input or of a destination's secret.
    Plaintext(Plaintext),
    /// A response field that is to be captured.
    ToCapture(FieldName, Plaintext),
    /// A response field that was captured: the text of its new `secureValueKey`.
    Captured(Zeroizing<String>),
}

/// All values of a run.
#[derive(Debug, Default)]
pub struct RunValues {
    held: BTreeMap<Source, RunValue>,
    /// Watches every plaintext of the run. Made when something is to be searched: most runs that ask no destination
    /// give out nothing that needs it.
    guard: OnceLock<Guard>,
    /// Whether a request may have left.
    sent: bool,
}

impl RunValues {
    /// Values of a run without any.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a typed input.
    pub fn give_typed(&mut self, input: Label, value: Typed) {
        self.held.insert(Source::Input(input), RunValue::Typed(value));
    }

    /// Gives the opened plaintext of a secure input; from here on the guard looks for it.
    pub fn give_plaintext(&mut self, input: Label, plaintext: Plaintext) {
        self.watch(&plaintext);
        self.held.insert(Source::Input(input), RunValue::Plaintext(plaintext));
    }

    /// Gives a destination's secret. The caller has checked that the destination's host is that of every step using it
    /// ([`super::definition::Flow::secret_uses`]).
    pub fn give_secret(&mut self, name: SecretName, secret: Plaintext) {
        self.watch(&secret);
        self.held.insert(Source::Secret(name), RunValue::Plaintext(secret));
    }

    /// Gives the result of a step.
    pub(super) fn give_result(&mut self, step: &Label, field: &Label, value: RunValue) {
        self.held.insert(Source::Step(step.clone(), field.clone()), value);
    }

    /// The response fields that wait to be captured: step, field of the step, field of the app, text.
    pub fn to_capture(&self) -> impl Iterator<Item = (&Label, &Label, &FieldName, &Plaintext)> {
        self.held.iter().filter_map(|(source, value)| match (source, value) {
            (Source::Step(step, field), RunValue::ToCapture(app_field, text)) => Some((step, field, app_field, text)),
            _ => None,
        })
    }

    /// Gives the `secureValueKey` under which a response field was captured.
    pub fn give_captured(&mut self, step: &Label, field: &Label, key_text: Zeroizing<String>) {
        self.give_result(step, field, RunValue::Captured(key_text));
    }

    /// What a step of kind `verify` found.
    #[must_use]
    pub fn verified(&self, step: &Label) -> Option<bool> {
        let verified = "verified".parse().ok()?;
        match self.held.get(&Source::Step(step.clone(), verified)) {
            Some(RunValue::Typed(Typed::Boolean(verified))) => Some(*verified),
            _ => None,
        }
    }

    /// The value of a reference, filtered.
    pub(super) fn resolve(&self, reference: &Reference) -> Result<Resolved<'_>, Error> {
        let value = self.held.get(&reference.source).ok_or(Error::Incomplete)?;
        match (reference.filter, value) {
            (Some(filter), RunValue::Plaintext(plaintext)) => Ok(match filter.apply(plaintext) {
                Typed::Boolean(value) => Resolved::Boolean(value),
                Typed::Integer(value) => Resolved::Integer(value),
                Typed::Text(text) => Resolved::Filtered(text),
            }),
            (Some(_), _) => Err(Error::Incomplete),
            (None, RunValue::Plaintext(plaintext)) => Ok(Resolved::Plaintext(plaintext)),
            (None, RunValue::Typed(Typed::Integer(value))) => Ok(Resolved::Integer(*value)),
            (None, RunValue::Typed(Typed::Boolean(value))) => Ok(Resolved::Boolean(*value)),
            (None, RunValue::Typed(Typed::Text(text)) | RunValue::Captured(text)) => Ok(Resolved::Text(text)),
            // Not captured yet: it is nobody's to see.
            (None, RunValue::ToCapture(..)) => Err(Error::Incomplete),
        }
    }

    /// The plaintext of a secure input.
    pub(super) fn plaintext(&self, reference: &Reference) -> Result<&Plaintext, Error> {
        match (reference.filter, self.held.get(&reference.source)) {
            (None, Some(RunValue::Plaintext(plaintext))) => Ok(plaintext),
            _ => Err(Error::Incomplete),
        }
    }

    /// A destination's secret.
    pub(super) fn secret(&self, name: &SecretName) -> Result<&Plaintext, Error> {
        self.plaintext(&Reference { source: Source::Secret(name.clone()), filter: None })
    }

    /// Whether a typed value holds a plaintext of the run.
    pub(super) fn holds_plaintext(&self, value: &Typed) -> bool {
        match value {
            Typed::Boolean(_) => false,
            Typed::Integer(value) => self.guard().finds(&Zeroizing::new(value.to_string())),
            Typed::Text(text) => self.guard().finds(text),
        }
    }

    /// Whether a text from outside holds a plaintext of the run.
    #[expect(clippy::disallowed_methods, reason = "the guard reads what a destination answered")]
    pub(super) fn echoes(&self, text: &Plaintext) -> bool {
        self.guard().finds(text.expose_secret())
    }

    /// Adds a plaintext that came from outside to what the guard looks for.
    pub(super) fn watch_outer(&mut self, plaintext: &Plaintext) {
        self.guard();
        self.watch(plaintext);
    }

    /// Whether the run has a plaintext that the guard finds as a whole word only.
    pub(super) fn holds_short(&self) -> bool {
        self.guard().watches_words()
    }

    /// A request is about to leave.
    pub(super) const fn sending(&mut self) {
        self.sent = true;
    }

    /// Whether a request may have left.
    pub(super) const fn sent(&self) -> bool {
        self.sent
    }

    fn guard(&self) -> &Guard {
        self.guard.get_or_init(|| {
            let plaintexts = self.held.values().filter_map(|value| match value {
                RunValue::Plaintext(plaintext) => Some(plaintext),
                RunValue::Typed(_) | RunValue::ToCapture(..) | RunValue::Captured(_) => None,
            });
            Guard::new(&plaintexts.collect::<Vec<_>>())
        })
    }

    /// What is not in the guard yet will be when it is made.
    fn watch(&mut self, plaintext: &Plaintext) {
        if let Some(guard) = self.guard.get_mut() {
            guard.watch(plaintext);
        }
    }
}

/// The value of a reference.
pub(super) enum Resolved<'a> {
    /// A plaintext.
    Plaintext(&'a Plaintext),
    /// A text that is no secret.
    Text(&'a str),
    /// What a filter gave.
    Filtered(Zeroizing<String>),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

impl Resolved<'_> {
    /// The value as text.
    #[expect(clippy::disallowed_methods, reason = "a slot, or an output that the static check allowed")]
    pub(super) fn into_text(self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Plaintext(plaintext) => plaintext.expose_secret().to_owned(),
            Self::Text(text) => text.to_owned(),
            Self::Filtered(text) => return text,
            Self::Integer(value) => value.to_string(),
            Self::Boolean(value) => value.to_string(),
        })
    }
}

//! Performs a flow's steps on the values of a run, and puts its outputs together.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use serde::{Serialize, Serializer};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::definition::{Action, Flow, HttpStep, Input};
use super::error::{Error, InputFault};
use super::label::Label;
use super::password::{Passwords, Refused};
use super::relay::Relay;
use super::template::{Reference, SecretName, Source};
use super::typed::Typed;
use super::values::{Resolved, RunValue, RunValues};
use crate::domain::{Plaintext, TenantName, text::hex};

/// What steps work with.
#[derive(Debug, Clone, Copy)]
pub struct Tools<'a> {
    /// Whose run it is.
    pub tenant: &'a TenantName,
    /// For `http`.
    pub relay: &'a Relay,
    /// For `verify` and `hash`.
    pub passwords: &'a Passwords,
}

/// The outputs of a run, in the order of the document. They serialise as one JSON object; texts are wiped on drop.
#[derive(Default)]
pub struct Outputs(Vec<(Label, Typed)>);

impl Flow {
    /// Performs all steps in their order. Afterwards [`RunValues::to_capture`] says what is to be captured.
    ///
    /// # Errors
    /// The first step that fails.
    pub async fn perform(&self, values: &mut RunValues, tools: Tools<'_>) -> Result<(), Error> {
        for step in &self.steps {
            let (name, result) = match &step.action {
                Action::Http(http) => {
                    relay(&step.id, http, values, tools).await?;
                    continue;
                }
                Action::Verify { password, phc } => ("verified", verify(password, phc, values, tools).await?),
                Action::Hash { password } => {
                    let phc = tools.passwords.hash(tools.tenant, values.plaintext(password)?).await?;
                    ("phc", Typed::Text(phc))
                }
                Action::Equals { left, right } => ("equal", equals(left, right, values)?),
                Action::Hmac { value, secret } => ("mac", mac(value, secret, values)?),
            };
            let field = name.parse().map_err(|_| Error::Incomplete)?;
            values.give_result(&step.id, &field, RunValue::Typed(result));
        }
        Ok(())
    }

    /// Puts the outputs together; every response field to be captured must have been given its key.
    ///
    /// # Errors
    /// [`Error::OutputBlocked`]; [`Error::Incomplete`].
    pub fn outputs(&self, values: &RunValues) -> Result<Outputs, Error> {
        let read = self.outputs.iter().map(|(name, reference)| {
            let value = values.resolve(reference)?.into_typed();
            if self.is_guarded(reference) && values.holds_plaintext(&value) {
                return Err(Error::OutputBlocked(format!("outputs.{name}")));
            }
            Ok((name.clone(), value))
        });
        read.collect::<Result<_, Error>>().map(Outputs)
    }

    /// Results of steps are guarded once more on their way out. Not guarded are what the static check let pass by name
    /// (a declassified part, a revealed input), what the caller gave, and new keys.
    fn is_guarded(&self, reference: &Reference) -> bool {
        match &reference.source {
            Source::Input(name) => match self.input(name) {
                Some(Input::Secure(_)) => reference.filter.is_none() && !self.reveal.contains(name),
                Some(Input::Typed(_)) | None => false,
            },
            Source::Step(..) | Source::Secret(_) => true,
        }
    }
}

/// One outbound step: render, send, extract, guard.
async fn relay(id: &Label, http: &HttpStep, values: &mut RunValues, tools: Tools<'_>) -> Result<(), Error> {
    let request = http.render(values)?;
    values.sending();
    let answer = tools.relay.send(tools.tenant, request).await?;
    let fields = http.extract(id, &answer)?;
    let blocked = |name: &Label| Error::OutputBlocked(format!("steps.{id}.response.{name}"));
    // Texts to be captured first: they are plaintexts of the run themselves, which no other field may repeat.
    for (name, value) in &fields {
        if matches!(value, RunValue::ToCapture(_, text) if values.echoes(text)) {
            return Err(blocked(name));
        }
    }
    for (_, value) in &fields {
        if let RunValue::ToCapture(_, text) = value {
            values.watch_outer(text);
        }
    }
    for (name, value) in &fields {
        // A plaintext may be shorter than its field asks for today: inside a text that may hold anything it is not found.
        let blind = values.holds_short() && http.is_free_text(name);
        if blind || matches!(value, RunValue::Typed(value) if values.holds_plaintext(value)) {
            return Err(blocked(name));
        }
    }
    for (name, value) in fields {
        values.give_result(id, &name, value);
    }
    Ok(())
}

async fn verify(password: &Reference, phc: &Reference, values: &RunValues, tools: Tools<'_>) -> Result<Typed, Error> {
    let stored = values.resolve(phc)?.into_text();
    let verified = tools.passwords.verify(tools.tenant, values.plaintext(password)?, &stored).await;
    verified.map(Typed::Boolean).map_err(|refused| match (refused, &phc.source) {
        (Refused::Busy, _) => Error::Overloaded,
        (Refused::Hash(code), Source::Input(name)) => Error::Inputs(vec![InputFault { input: name.to_string(), code }]),
        (Refused::Hash(_), Source::Step(step, field)) => Error::unfit(step, field),
        (Refused::Hash(_), Source::Secret(_)) => Error::Incomplete,
    })
}

#[expect(clippy::disallowed_methods, reason = "two inputs of the run are compared, in constant time")]
fn equals(left: &Reference, right: &Reference, values: &RunValues) -> Result<Typed, Error> {
    let (left, right) = (values.plaintext(left)?.expose_secret(), values.plaintext(right)?.expose_secret());
    Ok(Typed::Boolean(left.as_bytes().ct_eq(right.as_bytes()).into()))
}

#[expect(clippy::disallowed_methods, reason = "the destination's secret is the HMAC's key")]
fn mac(value: &Reference, secret: &SecretName, values: &RunValues) -> Result<Typed, Error> {
    let secret: &Plaintext = values.secret(secret)?;
    let value = values.resolve(value)?.into_text();
    let keyed = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).map_err(|_| Error::Incomplete)?;
    let mac = keyed.chain_update(value.as_bytes()).finalize().into_bytes();
    Ok(Typed::Text(Zeroizing::new(hex::encode(&mac))))
}

impl Resolved<'_> {
    /// The value as an output.
    fn into_typed(self) -> Typed {
        match self {
            Self::Integer(value) => Typed::Integer(value),
            Self::Boolean(value) => Typed::Boolean(value),
            text => Typed::Text(text.into_text()),
        }
    }
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outputs(…)")
    }
}

impl Serialize for Outputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name.as_str(), value)))
    }
}

#[cfg(test)]
mod tests;

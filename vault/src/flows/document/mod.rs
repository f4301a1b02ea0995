//! Reads a flow's TOML document into the typed tree. What the tree means is checked in check/.

mod shape;
mod step;

use self::shape::{Document, Value};
use super::definition::{Flow, Input};
use super::error::Error;
use super::filters::Declassifier;
use super::label::Label;
use super::template::{Reference, Template};
use super::typed::{DEFAULT_TEXT, LONGEST_TEXT, Pattern, ValueSpec};
use crate::domain::document;

/// The longest document, in bytes.
const LONGEST_DOCUMENT: usize = 64 * 1024;
/// The most inputs, outputs, headers or response fields.
const MOST_MEMBERS: usize = 64;
/// The most steps.
const MOST_STEPS: usize = 16;

impl Flow {
    /// Reads a document and checks everything that needs neither app nor tenant: references and paths.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the line, step or output, never what stands there.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST_DOCUMENT {
            return Err(wrong("the document", "is over 64 KiB"));
        }
        let document: Document = toml::from_str(text).map_err(|error| Error::Invalid(document::fault(text, &error)))?;
        let flow = document.read()?;
        flow.check_references()?;
        flow.check_paths()?;
        Ok(flow)
    }
}

impl Document {
    fn read(self) -> Result<Flow, Error> {
        bounded("inputs", self.inputs.0.len(), MOST_MEMBERS)?;
        bounded("outputs", self.outputs.0.len(), MOST_MEMBERS)?;
        bounded("steps", self.steps.len(), MOST_STEPS)?;
        let inputs = self.inputs.0.into_iter().map(|(name, value)| {
            let input = value.read_input(&format!("inputs.{name}"))?;
            Ok((name, input))
        });
        let inputs = inputs.collect::<Result<Vec<(Label, Input)>, Error>>()?;
        let outputs = self.outputs.0.into_iter().map(|(name, text)| {
            let reference = Reference::whole(&text).ok_or_else(|| {
                let why = no_reference(&text, "is not one whole reference like {{ inputs.card | last4 }}");
                wrong(&format!("outputs.{name}"), &why)
            })?;
            Ok((name, reference))
        });
        let outputs = outputs.collect::<Result<Vec<(Label, Reference)>, Error>>()?;
        let steps = self.steps.into_iter().map(shape::Step::read).collect::<Result<Vec<_>, Error>>()?;
        Ok(Flow { name: self.name, purpose: self.purpose, app: self.app, inputs, steps, outputs, reveal: self.reveal })
    }
}

impl Value {
    fn read_input(self, at: &str) -> Result<Input, Error> {
        if self.from.is_some() {
            return Err(wrong(at, "has no `from`: that is for response fields"));
        }
        match self.secure.clone() {
            Some(field) => self.nothing_beside_secure(at).map(|()| Input::Secure(field)),
            None => self.read_spec(at).map(Input::Typed),
        }
    }

    fn nothing_beside_secure(&self, at: &str) -> Result<(), Error> {
        let typed = self.kind.is_some() || self.min.is_some() || self.max.is_some() || self.pattern.is_some();
        if typed || self.values.is_some() {
            return Err(wrong(at, "is either `secure` or of a `type`"));
        }
        Ok(())
    }

    /// Reads the type of a typed input or response field.
    fn read_spec(self, at: &str) -> Result<ValueSpec, Error> {
        let ranged = self.min.is_some() || self.max.is_some();
        let (patterned, listed) = (self.pattern.is_some(), self.values.is_some());
        let spec = match self.kind.as_deref() {
            Some("integer") if !patterned && !listed => {
                ValueSpec::Integer { min: self.min.unwrap_or(i64::MIN), max: self.max.unwrap_or(i64::MAX) }
            }
            Some("boolean") if !patterned && !listed && !ranged => ValueSpec::Boolean,
            Some("enum") if !patterned && !ranged => ValueSpec::Enum { values: self.values.unwrap_or_default() },
            Some("text") if !listed => ValueSpec::Text {
                min: length(at, self.min, 0)?,
                max: length(at, self.max, DEFAULT_TEXT)?,
                pattern: match self.pattern {
                    Some(text) => Some(Pattern::new(&text).ok_or_else(|| wrong(at, "has a pattern that is none"))?),
                    None => None,
                },
            },
            Some("integer" | "boolean" | "enum" | "text") => {
                return Err(wrong(at, "has a key that its type does not take"));
            }
            _ => return Err(wrong(at, "needs `secure`, or a `type` of integer, text, boolean, enum")),
        };
        let sound = match &spec {
            ValueSpec::Integer { min, max } => min <= max,
            ValueSpec::Text { min, max, .. } => min <= max,
            ValueSpec::Enum { values } => {
                let listed = !values.is_empty() && values.len() <= MOST_MEMBERS;
                listed && values.iter().all(|v| !v.is_empty() && v.len() <= 256 && !v.chars().any(char::is_control))
            }
            ValueSpec::Boolean => true,
        };
        if sound { Ok(spec) } else { Err(wrong(at, "has an empty range or an empty or overlong list")) }
    }
}

fn length(at: &str, given: Option<i64>, default: usize) -> Result<usize, Error> {
    let length = given.map_or(Some(default), |given| usize::try_from(given).ok());
    length.filter(|length| *length <= LONGEST_TEXT).ok_or_else(|| wrong(at, "has a length out of 0 to 4096"))
}

fn bounded(at: &str, count: usize, most: usize) -> Result<(), Error> {
    if count <= most { Ok(()) } else { Err(wrong(at, "has too many members")) }
}

/// A refusal that names the place.
pub(super) fn wrong(at: &str, why: &str) -> Error {
    Error::Invalid(format!("{at}: {why}"))
}

/// Why a text holds no reference, or more than one: a filter that is not known is told from all else.
fn no_reference(text: &str, otherwise: &'static str) -> String {
    if Template::has_unknown_filter(text) {
        let known: Vec<&str> = Declassifier::ALL.into_iter().map(Declassifier::as_str).collect();
        return format!("has a filter that is not known; known are {}", known.join(", "));
    }
    otherwise.to_owned()
}

#[cfg(test)]
pub(in crate::flows) mod tests;

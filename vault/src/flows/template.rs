//! References and templates: whole values only; a caller chooses nothing of them.

use std::fmt;

use super::filters::Declassifier;
use super::label::Label;
use crate::domain::DestinationName;

/// A secret of a destination: `destination.<name>.<secret>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName {
    /// The destination.
    pub destination: DestinationName,
    /// The secret.
    pub secret: Label,
}

/// Where a reference points.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `inputs.<name>`
    Input(Label),
    /// `steps.<step>.<field>`
    Step(Label, Label),
    /// `destination.<name>.<secret>`
    Secret(SecretName),
}

/// A whole value, perhaps through a declassifying filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where it points.
    pub source: Source,
    /// The filter.
    pub filter: Option<Declassifier>,
}

/// A text slot: literal text, or literal text around one reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Literal text before the reference; all of it where there is none.
    pub before: String,
    /// The reference.
    pub reference: Option<Reference>,
    /// Literal text after the reference.
    pub after: String,
}

/// A JSON body whose strings are literals or whole references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonTemplate {
    /// An object, in the order of the document.
    Object(Vec<(String, Self)>),
    /// An array.
    Array(Vec<Self>),
    /// A literal text.
    Text(String),
    /// A literal number.
    Integer(i64),
    /// A literal truth value.
    Boolean(bool),
    /// A reference.
    Reference(Reference),
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "destination.{}.{}", self.destination, self.secret)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(name) => write!(f, "inputs.{name}"),
            Self::Step(step, field) => write!(f, "steps.{step}.{field}"),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

impl SecretName {
    /// Reads `destination.<name>.<secret>`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        match Source::read(text)? {
            Source::Secret(secret) => Some(secret),
            _ => None,
        }
    }
}

impl Source {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let source = match (parts.next()?, parts.next()?, parts.next()) {
            ("inputs", name, None) => Self::Input(name.parse().ok()?),
            ("steps", step, Some(field)) => Self::Step(step.parse().ok()?, field.parse().ok()?),
            ("destination", name, Some(secret)) => {
                Self::Secret(SecretName { destination: name.parse().ok()?, secret: secret.parse().ok()? })
            }
            _ => return None,
        };
        parts.next().is_none().then_some(source)
    }
}

impl Reference {
    /// Reads the text between the braces.
    fn read(text: &str) -> Option<Self> {
        match text.split_once('|') {
            None => Some(Self { source: Source::read(text.trim())?, filter: None }),
            Some((source, filter)) => {
                Some(Self { source: Source::read(source.trim())?, filter: Some(Declassifier::read(filter.trim())?) })
            }
        }
    }

    /// Reads `{{ … }}` and nothing around it.
    #[must_use]
    pub fn whole(text: &str) -> Option<Self> {
        let template = Template::read(text)?;
        (template.before.is_empty() && template.after.is_empty()).then_some(template.reference).flatten()
    }
}

impl Template {
    /// Reads literal text around at most one reference; nothing if braces are left over or a reference is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let literal = |text: &str| !text.contains(OPEN) && !text.contains(CLOSE);
        let Some((before, rest)) = text.split_once(OPEN) else {
            return literal(text).then(|| Self { before: text.to_owned(), reference: None, after: String::new() });
        };
        let (inside, after) = rest.split_once(CLOSE)?;
        if !literal(before) || !literal(inside) || !literal(after) {
            return None;
        }
        Some(Self { before: before.to_owned(), reference: Some(Reference::read(inside)?), after: after.to_owned() })
    }

    /// Whether a text would hold a reference if its filter were one.
    #[must_use]
    pub fn has_unknown_filter(text: &str) -> bool {
        let inside = text.split_once(OPEN).and_then(|(_, rest)| rest.split_once(CLOSE)).map(|(inside, _)| inside);
        let parted = inside.and_then(|inside| inside.split_once('|'));
        parted.is_some_and(|(source, filter)| {
            Source::read(source.trim()).is_some() && Declassifier::read(filter.trim()).is_none()
        })
    }

    /// True for a literal, or for a reference without text around it.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.reference.is_none() || (self.before.is_empty() && self.after.is_empty())
    }
}

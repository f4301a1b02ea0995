//! Typed values that are no secrets: what a caller may give and what a destination may answer.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

use super::error::InputCode;

/// The longest text a typed input or response field can declare, in characters.
pub(super) const LONGEST_TEXT: usize = 4096;
/// A text's length where the flow names none.
pub(super) const DEFAULT_TEXT: usize = 1024;
const LARGEST_PATTERN: usize = 256 * 1024;

/// What a typed input or response field takes.
#[derive(Debug, Clone)]
pub enum ValueSpec {
    /// A whole number in a range.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A text of bounded length without control characters.
    Text {
        /// Fewest characters.
        min: usize,
        /// Most characters.
        max: usize,
        /// What the whole text must match.
        pattern: Option<Pattern>,
    },
    /// True or false.
    Boolean,
    /// One of a list of texts.
    Enum {
        /// The list.
        values: Vec<String>,
    },
}

/// A regular expression that always speaks of the whole text; matching takes linear time.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads a pattern; nothing if it is none, or compiles to too large a program.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        // Compiled alone first: `)(` must not become a pattern by being put in brackets.
        RegexBuilder::new(text).size_limit(LARGEST_PATTERN).build().ok()?;
        RegexBuilder::new(&format!("^(?:{text})$")).size_limit(LARGEST_PATTERN).build().ok().map(Self)
    }

    /// True if the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// A typed value; its text is wiped, because a destination may have put anything into it.
#[derive(Clone, PartialEq, Eq)]
pub enum Typed {
    /// A whole number.
    Integer(i64),
    /// A text, also of an enum.
    Text(Zeroizing<String>),
    /// True or false.
    Boolean(bool),
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer(_) => "Integer(…)",
            Self::Text(_) => "Text(…)",
            Self::Boolean(_) => "Boolean(…)",
        })
    }
}

impl Serialize for Typed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Boolean(value) => serializer.serialize_bool(*value),
        }
    }
}

/// A value as JSON gave it, before anyone says what it must be.
#[derive(Clone)]
pub enum RawValue {
    /// A string.
    Text(Zeroizing<String>),
    /// A whole number that fits.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Anything else: null, a fraction, an array, an object.
    Other,
}

impl ValueSpec {
    /// The name in documents.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Integer { .. } => "integer",
            Self::Text { .. } => "text",
            Self::Boolean => "boolean",
            Self::Enum { .. } => "enum",
        }
    }

    /// Reads a value as one of this type.
    ///
    /// # Errors
    /// [`InputCode`]: which rule is broken, nothing of the value.
    pub fn read(&self, value: RawValue) -> Result<Typed, InputCode> {
        match (self, value) {
            (Self::Boolean, RawValue::Boolean(value)) => Ok(Typed::Boolean(value)),
            (Self::Integer { min, max }, RawValue::Integer(value)) => {
                if (min..=max).contains(&&value) {
                    Ok(Typed::Integer(value))
                } else {
                    Err(InputCode::Range)
                }
            }
            (Self::Enum { values }, RawValue::Text(text)) => {
                if values.contains(&text) {
                    Ok(Typed::Text(text))
                } else {
                    Err(InputCode::Value)
                }
            }
            (Self::Text { min, max, pattern }, RawValue::Text(text)) => {
                if !(min..=max).contains(&&text.chars().count()) {
                    return Err(InputCode::Range);
                }
                if text.chars().any(char::is_control) {
                    return Err(InputCode::Characters);
                }
                match pattern {
                    Some(pattern) if !pattern.matches(&text) => Err(InputCode::Pattern),
                    _ => Ok(Typed::Text(text)),
                }
            }
            _ => Err(InputCode::WrongType),
        }
    }
}

impl RawValue {
    /// Takes a JSON value over; what is not kept is wiped.
    #[must_use]
    pub fn from_json(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Bool(value) => Self::Boolean(value),
            serde_json::Value::Number(number) => number.as_i64().map_or(Self::Other, Self::Integer),
            serde_json::Value::String(text) => Self::Text(Zeroizing::new(text)),
            mut other => {
                wipe(&mut other);
                Self::Other
            }
        }
    }
}

/// Wipes every string of a JSON value; keys are those of the sender and go with their map, also wiped.
pub(super) fn wipe(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => text.zeroize(),
        serde_json::Value::Array(items) => items.iter_mut().for_each(wipe),
        serde_json::Value::Object(members) => {
            for (mut name, mut member) in std::mem::take(members) {
                name.zeroize();
                wipe(&mut member);
            }
        }
        _ => {}
    }
}

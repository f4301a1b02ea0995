//! Names inside a flow: of inputs, steps, response fields, outputs and a destination's secrets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A letter, then letters, digits, `_` and `-`; at most 63. Refused where it is not, never normalised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Box<str>);

/// Not a [`Label`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name begins with a letter and holds letters, digits, '_' and '-', at most 63")]
pub struct NotALabel;

impl Label {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let named = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        if named && text.len() <= 63 && text.bytes().all(fits) { Ok(Self(text.into())) } else { Err(NotALabel) }
    }
}

impl TryFrom<String> for Label {
    type Error = NotALabel;

    fn try_from(text: String) -> Result<Self, NotALabel> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.into()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! How the key of a KEK version ended: what the vault did, or found, or was told. The certificate of destruction says it in
//! these words, and never more than that.

use serde::{Deserialize, Serialize};

/// How a version's key ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KekEnd {
    /// How.
    pub how: HowEnded,
    /// The token that answered at that moment; none for the built-in KMS, and where none answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SeenToken>,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HowEnded {
    /// The key store or the token destroyed it at our word.
    Destroyed,
    /// The key store has no such secret: an earlier run destroyed it, or a restored database speaks of it.
    NotInKeyStore,
    /// The token that answers has no such key: destroyed by somebody else, hidden, or another token than it was.
    NotInToken,
    /// Another key stands in its place in the token, and two custodians stated that its own is lost.
    AnotherKey,
    /// Two custodians stated that the token is lost; nobody asked the token.
    Stated,
    /// The same of one version that data keys were wrapped under: its token was waited for, and did not answer with its key.
    StatedLost,
}

/// A token as it named itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeenToken {
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
}

/// What the custodians say of a token that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// Nothing: it is waited for.
    None,
    /// It is lost: what it held counts as ended.
    TokenLost,
}

impl HowEnded {
    /// In entries and certificates.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Destroyed => "destroyed by siv",
            Self::NotInKeyStore => "not found in the key store",
            Self::NotInToken => "not found in the token",
            Self::AnotherKey => {
                "another key in its place in the token: by statement of the custodians, not verified by the vault"
            }
            Self::Stated => "by statement of the custodians, not verified by the vault",
            Self::StatedLost => "stated lost by the custodians, not verified by the vault",
        }
    }
}

impl KekEnd {
    /// In the built-in KMS: whether the secret was there.
    pub(super) const fn in_key_store(was_there: bool) -> Self {
        Self { how: if was_there { HowEnded::Destroyed } else { HowEnded::NotInKeyStore }, token: None }
    }

    /// What an entry says of it.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("how", self.how.as_str().to_owned())];
        if let Some(SeenToken { label, serial }) = &self.token {
            facts.extend([("tokenLabel", label.clone()), ("tokenSerial", serial.clone())]);
        }
        facts
    }
}

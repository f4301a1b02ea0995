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
    /// What was seen of a token that custodians call lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// What a node saw of a token that custodians call lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Its module showed no token of that name.
    NoToken,
    /// The token refused the PIN.
    PinRefused,
    /// Module or token did not answer.
    NoAnswer,
    /// The module failed, or ended its process.
    Fails,
    /// The token answered, and has no such key.
    NoKey,
    /// The token answered, and showed another key.
    AnotherKey,
}

/// What a look for a key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// It answers.
    Answers,
    /// It does not: how it ends by the word of two custodians.
    Gone(KekEnd),
    /// It could not be asked, and nothing follows from that.
    NotAsked(NotAsked),
}

/// Why a token cannot be asked for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAsked {
    /// This process loads no modules.
    NoSetUp,
    /// The database has no configuration of the token.
    NoRow,
    /// The key store has no PIN of it.
    NoPin,
    /// The settings do not let its module be loaded.
    NotAllowed,
    /// Its module's file is not there, or others can change it.
    NoModule,
    /// Its module's file is not the one that was taken on.
    OtherModule,
    /// Its module does not load, or refuses to begin.
    Unusable,
    /// Several tokens have its name.
    TokensAlike,
    /// Several keys have its name in the token.
    KeysAlike,
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

impl Seen {
    /// In requests, entries and certificates.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "its module showed no such token as long as it was waited for",
            Self::PinRefused => "the token refused the PIN",
            Self::NoAnswer => "no login was answered as long as it was waited for",
            Self::Fails => "its module failed at each login as long as it was waited for",
            Self::NoKey => "the token answered and has no such key",
            Self::AnotherKey => "the token answered and showed another key in its place",
        }
    }

    /// Whether the token itself said so.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::NoKey | Self::AnotherKey)
    }
}

impl NotAsked {
    /// For a person.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSetUp => "this node cannot ask it: it loads no modules",
            Self::NoRow => "this node cannot ask it: the configuration of its token is not in the database",
            Self::NoPin => {
                "this node cannot ask it: its token's PIN is not in the key store; put that back, or give the PIN again"
            }
            Self::NotAllowed => {
                "this node cannot ask it: hsm_modules in the settings does not name its module any more"
            }
            Self::NoModule => {
                "this node cannot ask it: its module's file is not there or can be changed by others; put it back"
            }
            Self::OtherModule => {
                "this node cannot ask it: its module's file is not the one that was taken on; put that back"
            }
            Self::Unusable => {
                "this node cannot ask it: its module does not load or refuses to begin, which this node's log says more of"
            }
            Self::TokensAlike => "this node cannot ask it: several tokens have its label and serial number",
            Self::KeysAlike => {
                "its token has several keys of its label and id, of which one may be its own: remove the others there"
            }
        }
    }
}

impl KekEnd {
    /// In the built-in KMS: whether the secret was there.
    pub(super) const fn in_key_store(was_there: bool) -> Self {
        Self { how: if was_there { HowEnded::Destroyed } else { HowEnded::NotInKeyStore }, token: None, seen: None }
    }

    /// Whether two custodians stated it of one version, with what only that opens.
    #[must_use]
    pub const fn is_stated_of_a_version(&self) -> bool {
        matches!(self.how, HowEnded::StatedLost)
    }

    /// What an entry says of it.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("how", self.how.as_str().to_owned())];
        if let Some(SeenToken { label, serial }) = &self.token {
            facts.extend([("tokenLabel", label.clone()), ("tokenSerial", serial.clone())]);
        }
        facts.extend(self.seen.map(|seen| ("seen", seen.as_str().to_owned())));
        facts
    }
}

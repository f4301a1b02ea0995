//! Who did something, from where, for whom: what every access entry says of its request.

use std::fmt;

use super::{AppName, CredentialKind, RequestId};

/// The kind of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActorKind {
    /// A caller with a credential.
    Credential(CredentialKind),
    /// A caller without a valid one.
    Anonymous,
    /// The vault itself.
    Node,
}

impl ActorKind {
    /// The name in entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential(kind) => kind.as_str(),
            Self::Anonymous => "anonymous",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The credential's, capture session's or boot's id, as text; `-` for the anonymous.
    pub id: String,
    /// Its kind.
    pub kind: ActorKind,
    /// Its display name (personal: stands in the log as a commitment).
    pub name: Option<String>,
}

impl Actor {
    /// The vault itself.
    #[must_use]
    pub fn node(boot: super::BootId) -> Self {
        Self { id: boot.to_string(), kind: ActorKind::Node, name: None }
    }

    /// Whether an actor can have it as an id.
    #[must_use]
    pub fn is_id(text: &str) -> bool {
        text == "-" || text.parse::<super::CredentialId>().is_ok()
    }

    /// A caller without a valid credential.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { id: "-".to_owned(), kind: ActorKind::Anonymous, name: None }
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The peer's address (personal: stands in the log as a commitment).
    pub address: Option<String>,
    /// The app it came through.
    pub app: Option<AppName>,
}

/// What is known of a request when it reaches an inner room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// Its id, as the caller sees it too.
    pub request_id: RequestId,
    /// Who acts.
    pub actor: Actor,
    /// For whom, in the caller's words (personal).
    pub on_behalf_of: Option<String>,
    /// From where.
    pub origin: Origin,
    /// The caller's own reference (personal).
    pub reference: Option<String>,
}

//! What a caller authenticates with: shown once, kept as a keyed hash only.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Error, Timestamp};

/// What a credential is for. One purpose each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// Manages tenants, apps, flows, credentials; never sees a value.
    Operator,
    /// Manages a tenant's keys.
    Custodian,
    /// An app's server: makes capture sessions and values.
    App,
    /// Invokes one flow.
    Flow,
    /// Reads the access log.
    Auditor,
    /// A capture token: may write into one capture session.
    Capture,
}

impl CredentialKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::Operator, Self::Custodian, Self::App, Self::Flow, Self::Auditor, Self::Capture];

    /// What its text begins with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Operator => "siv_op_",
            Self::Custodian => "siv_cus_",
            Self::App => "siv_app_",
            Self::Flow => "siv_flow_",
            Self::Auditor => "siv_aud_",
            Self::Capture => "siv_cap_",
        }
    }

    /// The name in requests and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Custodian => "custodian",
            Self::App => "app",
            Self::Flow => "flow",
            Self::Auditor => "auditor",
            Self::Capture => "capture",
        }
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A credential as its holder has it: prefix ‖ id (16 bytes) ‖ 32 bytes from the CSPRNG.
pub struct Credential {
    kind: CredentialKind,
    id: [u8; 16],
    text: SecretString,
}

impl Credential {
    /// A new credential with the id of its row. The id's bytes must be those of a `CredentialId` or `CaptureSessionId`.
    ///
    /// # Errors
    /// The system's generator failed: there is no fallback.
    pub fn generate(kind: CredentialKind, id: [u8; 16]) -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0_u8; 48]);
        bytes[..16].copy_from_slice(&id);
        getrandom::fill(&mut bytes[16..])?;
        let body = Zeroizing::new(Base64UrlUnpadded::encode_string(&bytes[..]));
        let text = Zeroizing::new(format!("{}{}", kind.prefix(), *body));
        Ok(Self { kind, id, text: SecretString::from(text.as_str()) })
    }

    /// Reads a credential as it came in a header.
    ///
    /// # Errors
    /// [`Error::Credential`] for anything but the one canonical spelling.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let kind = CredentialKind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()));
        let kind = kind.ok_or(Error::Credential)?;
        let mut bytes = Zeroizing::new([0_u8; 48]);
        let body = &text[kind.prefix().len()..];
        let read = Base64UrlUnpadded::decode(body, &mut bytes[..]).map_err(|_| Error::Credential)?.len();
        if read != 48 {
            return Err(Error::Credential);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[..16]);
        Ok(Self { kind, id, text: SecretString::from(text) })
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// The id of its row.
    #[must_use]
    pub const fn id_bytes(&self) -> [u8; 16] {
        self.id
    }
}

impl ExposeSecret<str> for Credential {
    #[expect(clippy::disallowed_methods, reason = "this is the door itself; each caller states its reason")]
    fn expose_secret(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}…)", self.kind.prefix())
    }
}

/// A credential's row, without its hash; the row is authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialRecord {
    /// Its id.
    pub credential_id: super::CredentialId,
    /// What it is for.
    pub kind: CredentialKind,
    /// Its name, as people know it.
    pub name: String,
    /// The app it serves (kind `app`).
    pub app: Option<super::AppName>,
    /// The flow it invokes (kind `flow`).
    pub flow: Option<super::FlowName>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Suspended after a restore until confirmed (docs/formats.md section 8).
    pub suspended: bool,
}

impl CredentialRecord {
    /// Whether it is in force at this moment: neither revoked, suspended nor past its end.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && !self.suspended && self.expires_at.is_none_or(|end| end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test compares the spelling")]
    fn a_credential_has_one_spelling_and_no_debug() {
        let credential = Credential::generate(CredentialKind::Flow, [3; 16]).unwrap();
        let text = credential.expose_secret().to_owned();
        let again = Credential::parse(&text).unwrap();
        assert_eq!((again.kind(), again.id_bytes()), (CredentialKind::Flow, [3; 16]));
        for wrong in [format!("{text}="), text[1..].to_owned(), text.replace("flow", "nope"), format!("{text}A")] {
            assert!(Credential::parse(&wrong).is_err());
        }
        assert!(!format!("{credential:?}").contains(&text[12..]));
    }
}

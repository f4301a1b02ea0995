//! Salted commitments: how personal members stand in a leaf, so that erasing an opening breaks no proof.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Error, Position};
use crate::domain::{TenantName, lp, lp_length};

const LABEL: &[u8] = b"siv/v1/commit";

/// The only log a tenant has; it stands in the AAD of an opening's seal.
const LOG: &[u8] = b"access";

/// The members of an entry that can be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Personal {
    /// For whom the actor acted.
    OnBehalfOf,
    /// The peer's address.
    Address,
    /// The actor's display name.
    ActorName,
    /// The caller's own reference.
    Reference,
}

impl Personal {
    /// All of them, in the order of [`Salts`] and of openings.
    pub const ALL: [Self; 4] = [Self::OnBehalfOf, Self::Address, Self::ActorName, Self::Reference];

    /// The member's path in the JSON of an entry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnBehalfOf => "onBehalfOf",
            Self::Address => "origin.address",
            Self::ActorName => "actor.name",
            Self::Reference => "reference",
        }
    }

    /// Reads a member's path.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|member| member.as_str() == text)
    }
}

/// 32 random bytes for each personal member of one entry.
pub struct Salts([[u8; 32]; 4]);

impl Salts {
    /// New ones from the operating system's CSPRNG.
    ///
    /// # Errors
    /// [`Error::Random`] if that fails.
    pub fn generate() -> Result<Self, Error> {
        let mut salts = [[0; 32]; 4];
        getrandom::fill(salts.as_flattened_mut())?;
        Ok(Self(salts))
    }

    /// Fixed ones, for test vectors.
    #[must_use]
    pub const fn from_bytes(salts: [[u8; 32]; 4]) -> Self {
        Self(salts)
    }

    pub(super) const fn of(&self, member: Personal) -> [u8; 32] {
        self.0[member as usize]
    }
}

/// SHA-256(lp(`siv/v1/commit`, salt, name, value)); an absent value is one field less, so it is no value's commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment([u8; 32]);

impl Commitment {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Serialize for Commitment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 43];
        let text = Base64UrlUnpadded::encode(&self.0, &mut text).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for Commitment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        read_salt(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not a commitment"))
    }
}

/// What makes a commitment readable. Sealed by the store under the tenant's `log-opening` key, erasable at any time.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    /// Which member.
    pub member: Personal,
    salt: [u8; 32],
    value: Option<Zeroizing<String>>,
}

impl Opening {
    pub(super) fn new(member: Personal, salt: [u8; 32], value: Option<&str>) -> Self {
        Self { member, salt, value: value.map(|value| Zeroizing::new(value.to_owned())) }
    }

    /// What stood in the entry; `None` is "nothing did".
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.value.as_ref().map(|value| value.as_str())
    }

    /// The commitment it opens.
    #[must_use]
    pub fn commitment(&self) -> Commitment {
        let name = self.member.as_str().as_bytes();
        let fields = [Some(LABEL), Some(&self.salt), Some(name), self.value.as_ref().map(|value| value.as_bytes())];
        // The bytes of lp(), piece by piece: the value is copied nowhere.
        let hash = fields
            .into_iter()
            .flatten()
            .fold(Sha256::new(), |hash, field| hash.chain_update(lp_length(field)).chain_update(field));
        Commitment(hash.finalize().into())
    }

    /// The bytes to seal: salt ‖ 0, or salt ‖ 1 ‖ value.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let value = self.value().unwrap_or("");
        // Room for all of it at once: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.salt.len() + 1 + value.len()));
        bytes.extend_from_slice(&self.salt);
        bytes.push(u8::from(self.value.is_some()));
        bytes.extend_from_slice(value.as_bytes());
        bytes
    }

    /// Reads what [`Opening::to_bytes`] writes.
    ///
    /// # Errors
    /// [`Error::Opening`].
    pub fn from_bytes(member: Personal, bytes: &[u8]) -> Result<Self, Error> {
        let (salt, rest) = bytes.split_first_chunk::<32>().ok_or(Error::Opening)?;
        let value = match rest {
            [0] => None,
            [1, text @ ..] => Some(std::str::from_utf8(text).map_err(|_| Error::Opening)?),
            _ => return Err(Error::Opening),
        };
        Ok(Self::new(member, *salt, value))
    }

    /// What the seal of an opening is bound to: lp(tenant, log, position, name).
    #[must_use]
    pub fn aad(member: Personal, position: &Position, tenant: &TenantName) -> Vec<u8> {
        lp(&[tenant.as_bytes(), LOG, &position.to_bytes(), member.as_str().as_bytes()])
    }

    /// Its line in `openings.jsonl` of a bundle, without the newline.
    #[must_use]
    pub fn to_line(&self, index: u64) -> String {
        let salt = Base64UrlUnpadded::encode_string(&self.salt);
        let line = Line { index, name: self.member.as_str().into(), salt: salt.into(), value: self.value() };
        super::json::canonical(&line)
    }

    /// Reads a line of `openings.jsonl`: the index and the opening.
    ///
    /// # Errors
    /// [`Error::Opening`].
    pub fn from_line(line: &str) -> Result<(u64, Self), Error> {
        let read: OwnedLine = serde_json::from_str(line).map_err(|_| Error::Opening)?;
        let member = Personal::from_name(&read.name).ok_or(Error::Opening)?;
        let salt = read_salt(&read.salt).ok_or(Error::Opening)?;
        Ok((read.index, Self { member, salt, value: read.value.map(Zeroizing::new) }))
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opening({}, …)", self.member.as_str())
    }
}

#[derive(Serialize)]
struct Line<'a> {
    index: u64,
    name: std::borrow::Cow<'a, str>,
    salt: std::borrow::Cow<'a, str>,
    value: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnedLine {
    index: u64,
    name: String,
    salt: String,
    value: Option<String>,
}

/// 32 bytes from their one spelling in base64url.
fn read_salt(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let read = Base64UrlUnpadded::decode(text, &mut bytes).ok()?;
    (read.len() == 32 && Base64UrlUnpadded::encode_string(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_no_value_and_empty_is_one() {
        let absent = Opening::new(Personal::Reference, [7; 32], None);
        let empty = Opening::new(Personal::Reference, [7; 32], Some(""));
        assert_ne!(absent.commitment(), empty.commitment());
        for opening in [absent, empty, Opening::new(Personal::Address, [1; 32], Some("2001:db8::1\u{2028}"))] {
            assert_eq!(Opening::from_bytes(opening.member, &opening.to_bytes()), Ok(opening.clone()));
            let line = opening.to_line(9);
            assert!(line.is_ascii(), "{line}");
            assert_eq!(Opening::from_line(&line), Ok((9, opening)));
        }
    }

    #[test]
    fn a_value_cannot_move_to_another_member() {
        let one = Opening::new(Personal::Reference, [7; 32], Some("x"));
        let other = Opening::new(Personal::OnBehalfOf, [7; 32], Some("x"));
        assert_ne!(one.commitment(), other.commitment());
    }

    #[test]
    fn debug_shows_no_value() {
        let opening = Opening::new(Personal::Reference, [7; 32], Some("order-1"));
        assert!(!format!("{opening:?}").contains("order"));
    }
}

//! Ids made by the application: UUIDs, one type per thing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::{Error, Timestamp};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A new id (UUIDv7, RFC 9562 section 5.7): ordered by time, so inserts go to the right edge of an index.
            #[must_use]
            pub fn generate(now: Timestamp) -> Self {
                let (seconds, millis) = (now.as_millis() / 1000, now.as_millis() % 1000);
                // Below 1000 ms, so below 10^9 ns: the cast cannot cut.
                let stamp = uuid::Timestamp::from_unix(uuid::NoContext, seconds, (millis as u32) * 1_000_000);
                Self(Uuid::new_v7(stamp))
            }

            /// The same of ten random bytes, for who draws others with them.
            #[must_use]
            pub fn of(now: Timestamp, random: &[u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now.as_millis(), random).into_uuid())
            }

            /// The id from its 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The id from stored bytes.
            ///
            /// # Errors
            /// [`Error::Id`] if there are not exactly 16.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| Error::Id)
            }

            /// When it was generated, as the id says.
            #[must_use]
            pub fn time(&self) -> Timestamp {
                let mut millis = [0; 8];
                millis[2..].copy_from_slice(&self.as_bytes()[..6]);
                Timestamp::from_millis(u64::from_be_bytes(millis))
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let id = Uuid::try_parse(text).map_err(|_| Error::Id)?;
                // One spelling: hyphenated, lower case.
                if id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text { Ok(Self(id)) } else { Err(Error::Id) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

id!(
    /// The public half of a `secureValueKey`: fit for paths and logs, opens nothing.
    ValueId
);
id!(
    /// A tenant's data key of one class and epoch.
    DataKeyId
);
id!(
    /// A tenant's key-encryption key; its versions are numbered.
    KekId
);
id!(
    /// One configuration of a tenant's HSM.
    KeyProviderId
);
id!(
    /// A credential, without its secret.
    CredentialId
);
id!(
    /// A short-lived right to capture, without its secret.
    CaptureSessionId
);
id!(
    /// One execution of a flow.
    RunId
);
id!(
    /// One start of a node.
    BootId
);
id!(
    /// The installation, written into both durable places.
    InstallationId
);
id!(
    /// The key store's own id: salt of the keys that seal its secrets.
    KeyStoreId
);
id!(
    /// A pepper or HMAC key inside the key store.
    SecretId
);
id!(
    /// What one custodian asked for and a second one has to approve.
    ApprovalId
);
id!(
    /// One request, as the caller and the log name it.
    RequestId
);

//! Names people choose: ASCII slugs, refused when they are not, never normalised.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::Error;

/// The longest name, in bytes.
const LONGEST: usize = 63;

fn is_slug(text: &str) -> bool {
    let slug = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(slug) && !text.starts_with('-')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as bytes, for AADs and MACs.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                if is_slug(text) { Ok(Self(text.into())) } else { Err(Error::Name) }
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
                serializer.serialize_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A customer organisation, the isolation boundary.
    TenantName
);
name!(
    /// A web property that embeds fields. Unique in an installation, because the frame's address names it alone.
    AppName
);
name!(
    /// A field of an app.
    FieldName
);
name!(
    /// A flow; its credential is bound to this name and survives new versions.
    FlowName
);
name!(
    /// What a value may be used for.
    PurposeName
);
name!(
    /// An outbound destination's secrets.
    DestinationName
);
name!(
    /// The region values belong to; it stands in every AAD, so a value of another realm does not open.
    Realm
);

impl TenantName {
    /// The name under which the installation's own log (the system log) runs; no tenant can have it.
    pub const SYSTEM: &'static str = "-system";

    /// The installation itself: owner of the system log and of installation-wide rows.
    #[must_use]
    pub fn system() -> Self {
        Self(Self::SYSTEM.into())
    }

    /// True for [`TenantName::system`].
    #[must_use]
    pub fn is_system(&self) -> bool {
        &*self.0 == Self::SYSTEM
    }

    /// Reads a name written by the vault itself, where the system's is allowed too.
    ///
    /// # Errors
    /// [`Error::Name`] if it is neither a slug nor the system's name.
    pub fn from_store(text: &str) -> Result<Self, Error> {
        if text == Self::SYSTEM { Ok(Self::system()) } else { text.parse() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_refused_not_normalised() {
        for text in ["", "-system", "Demo", " demo", "demo ", "de/mo", "d\u{e9}mo", "..", "a_b", &"a".repeat(64)] {
            assert_eq!(text.parse::<TenantName>(), Err(Error::Name), "{text:?}");
        }
        assert_eq!("demo-shop1".parse::<AppName>().map(|n| n.to_string()), Ok("demo-shop1".to_owned()));
    }
}

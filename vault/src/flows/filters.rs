//! Declassifying filters: the only ways in which a part of a plaintext becomes an output.

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::typed::Typed;
use crate::domain::{FieldType, Plaintext, luhn};

/// A filter over a whole value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declassifier {
    /// The last four digits of a card number or social security number.
    Last4,
    /// The first six digits of a card number of 15 digits and more.
    Bin,
    /// The brand of a card number.
    Brand,
    /// A card's expiry.
    Expiry,
    /// Whether a card number passes the Luhn check.
    LuhnValid,
}

impl Declassifier {
    /// Every filter.
    pub const ALL: [Self; 5] = [Self::Last4, Self::Bin, Self::Brand, Self::Expiry, Self::LuhnValid];

    /// The name in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Last4 => "last4",
            Self::Bin => "bin",
            Self::Brand => "brand",
            Self::Expiry => "expiry",
            Self::LuhnValid => "luhn_valid",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.as_str() == text)
    }

    /// Whether the filter may be put on fields of this type.
    #[must_use]
    pub const fn fits(self, kind: FieldType) -> bool {
        match self {
            Self::Last4 => matches!(kind, FieldType::CardNumber | FieldType::Ssn),
            Self::Bin | Self::Brand | Self::LuhnValid => matches!(kind, FieldType::CardNumber),
            Self::Expiry => matches!(kind, FieldType::CardExpiry),
        }
    }

    /// The type of what it gives.
    #[must_use]
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::LuhnValid => "boolean",
            Self::Last4 | Self::Bin | Self::Brand | Self::Expiry => "text",
        }
    }

    /// Filters a plaintext of a type that [`Declassifier::fits`]. Nothing of one it does not fit, nor of a card number
    /// too short to show six digits of.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a declassifier is where a part of a plaintext may become an output")]
    pub fn apply(self, plaintext: &Plaintext) -> Typed {
        let text = plaintext.expose_secret();
        let part = |range: std::ops::RangeFrom<usize>| text.get(range).unwrap_or_default();
        let shown = match self {
            Self::LuhnValid => return Typed::Boolean(luhn::is_valid(text)),
            Self::Last4 if text.len() >= 9 => part(text.len() - 4..),
            Self::Bin if text.len() >= 15 => text.get(..6).unwrap_or_default(),
            Self::Brand => luhn::brand(text),
            Self::Expiry => text,
            Self::Last4 | Self::Bin => "",
        };
        Typed::Text(Zeroizing::new(shown.to_owned()))
    }
}

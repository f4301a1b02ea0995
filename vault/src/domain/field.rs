//! Fields: what a form asks for, and when a text is one.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::plaintext::LONGEST_PLAINTEXT;
use super::{Error, FlowName, Plaintext, PurposeName, RetentionClass, Timestamp, luhn};

/// The kind of text a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldType {
    /// Any text of one line.
    Text,
    /// A password: never normalised.
    Password,
    /// A primary account number: 12 to 19 digits that pass the Luhn check.
    CardNumber,
    /// A card's expiry, kept as `MM/YY`.
    CardExpiry,
    /// A card verification code: 3 or 4 digits.
    CardCvc,
    /// A personal identification number: 4 to 12 digits (ISO 9564-1).
    Pin,
    /// A United States social security number: 9 digits.
    Ssn,
}

impl FieldType {
    /// Every type.
    pub const ALL: [Self; 7] =
        [Self::Text, Self::Password, Self::CardNumber, Self::CardExpiry, Self::CardCvc, Self::Pin, Self::Ssn];

    /// The name in documents and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Password => "password",
            Self::CardNumber => "card-number",
            Self::CardExpiry => "card-expiry",
            Self::CardCvc => "card-cvc",
            Self::Pin => "pin",
            Self::Ssn => "ssn",
        }
    }

    /// The class this type is forced into, if any.
    #[must_use]
    pub const fn forced_retention(self) -> Option<RetentionClass> {
        match self {
            Self::CardCvc | Self::Pin => Some(RetentionClass::SensitiveAuthentication),
            _ => None,
        }
    }

    /// Shortest and longest text in characters where the field names none.
    #[must_use]
    pub const fn bounds(self) -> (usize, usize) {
        match self {
            Self::Text => (1, 1024),
            Self::Password => (1, 256),
            Self::CardNumber => (12, 19),
            Self::CardExpiry => (5, 5),
            Self::CardCvc => (3, 4),
            Self::Pin => (4, 12),
            Self::Ssn => (9, 9),
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for FieldType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(Error::Name)
    }
}

/// Why a text is not one of its field. The code is all that anyone learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Nothing was entered.
    Empty,
    /// Fewer characters than the field asks for.
    TooShort,
    /// More characters than the field takes.
    TooLong,
    /// A character the field does not take.
    Characters,
    /// A check digit or a range that cannot be.
    Checksum,
    /// A date in the past.
    Expired,
}

impl Invalid {
    /// The code in `secure-change` events and in `errors` of a 422.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::Characters => "characters",
            Self::Checksum => "checksum",
            Self::Expired => "expired",
        }
    }
}

/// A field as its app's document describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// The kind of text.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// What may become of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionClass>,
    /// What it may be used for.
    #[serde(default)]
    pub purposes: BTreeSet<PurposeName>,
    /// The flows that may use it.
    #[serde(default)]
    pub flows: BTreeSet<FlowName>,
    /// Its lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// How often it may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Fewest characters (`text`, `password`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<usize>,
    /// Most characters (`text`, `password`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
    /// Whether the frame may tell the page the brand of a card number while it is typed.
    #[serde(default)]
    pub show_brand: bool,
}

impl FieldSpec {
    /// The retention class in force.
    #[must_use]
    pub fn retention(&self) -> RetentionClass {
        self.kind.forced_retention().or(self.retention).unwrap_or(RetentionClass::Session)
    }

    /// How often a value may be used; `None` is not counted. Sensitive authentication data: once.
    #[must_use]
    pub fn uses(&self) -> Option<u32> {
        match self.retention() {
            RetentionClass::SensitiveAuthentication => Some(1),
            RetentionClass::Session | RetentionClass::Stored => self.uses,
        }
    }

    /// When a value captured at `created` expires; `None` is "until deleted".
    #[must_use]
    pub fn expires(&self, created: Timestamp) -> Option<Timestamp> {
        let class = self.retention();
        let own = self.ttl_seconds.map(std::time::Duration::from_secs);
        let lifetime = own.or_else(|| class.default_lifetime());
        let capped = match (lifetime, class.longest_lifetime()) {
            (Some(wanted), Some(longest)) => Some(wanted.min(longest)),
            (wanted, _) => wanted,
        };
        capped.map(|lifetime| created.plus(lifetime))
    }

    /// Shortest and longest text in characters.
    #[must_use]
    pub fn bounds(&self) -> (usize, usize) {
        let (shortest, longest) = self.kind.bounds();
        (self.min.unwrap_or(shortest), self.max.unwrap_or(longest))
    }

    /// Checks what the document says of the field.
    ///
    /// # Errors
    /// [`Error::Document`] with the rule that is broken.
    pub fn check(&self) -> Result<(), Error> {
        let no = |why: &str| Err(Error::Document(why.to_owned()));
        let class = self.retention();
        if self.kind.forced_retention().is_some_and(|forced| self.retention.is_some_and(|own| own != forced)) {
            return no("this type is always of class sensitive-authentication");
        }
        if self.uses == Some(0)
            || (class == RetentionClass::SensitiveAuthentication && self.uses.is_some_and(|u| u != 1))
        {
            return no("uses must be 1 or more, and exactly 1 for class sensitive-authentication");
        }
        if self.ttl_seconds == Some(0) {
            return no("ttl_seconds must be 1 or more");
        }
        // A hundred years: beyond it times would no longer fit RFC 3339.
        if self.ttl_seconds.is_some_and(|ttl| ttl > 3_153_600_000) {
            return no("ttl_seconds is over 100 years");
        }
        if let (Some(ttl), Some(longest)) = (self.ttl_seconds, class.longest_lifetime())
            && ttl > longest.as_secs()
        {
            return no("ttl_seconds is over the cap of the retention class");
        }
        let sized = matches!(self.kind, FieldType::Text | FieldType::Password);
        if !sized && (self.min.is_some() || self.max.is_some()) {
            return no("min and max are for the types text and password");
        }
        let (shortest, longest) = self.bounds();
        if shortest > longest || shortest == 0 || longest > 4096 {
            return no("min must be 1 or more and not over max, max at most 4096");
        }
        Ok(())
    }

    /// Reads a text as one of this field: validated, and in the field's one spelling.
    ///
    /// # Errors
    /// [`Invalid`], which says which rule was broken and nothing of the text.
    pub fn read(&self, text: Zeroizing<String>, now: Timestamp) -> Result<Plaintext, Invalid> {
        if text.is_empty() {
            return Err(Invalid::Empty);
        }
        let text = match self.kind {
            FieldType::Text | FieldType::Password => text,
            FieldType::CardNumber | FieldType::Ssn => without(&text, &[' ', '-']),
            FieldType::CardExpiry => expiry(&without(&text, &[' ']))?,
            FieldType::CardCvc | FieldType::Pin => text,
        };
        if !matches!(self.kind, FieldType::Text | FieldType::Password | FieldType::CardExpiry)
            && !text.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(Invalid::Characters);
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::Characters);
        }
        let (shortest, longest) = self.bounds();
        let length = text.chars().count();
        if length < shortest {
            return Err(Invalid::TooShort);
        }
        if length > longest || text.len() > LONGEST_PLAINTEXT {
            return Err(Invalid::TooLong);
        }
        let sound = match self.kind {
            FieldType::CardNumber => luhn::is_valid(&text) && text.bytes().any(|b| Some(&b) != text.as_bytes().first()),
            FieldType::Ssn => ssn(&text),
            _ => true,
        };
        if !sound {
            return Err(Invalid::Checksum);
        }
        if self.kind == FieldType::CardExpiry {
            not_past(&text, now)?;
        }
        Ok(Plaintext::new(text))
    }
}

fn without(text: &str, dropped: &[char]) -> Zeroizing<String> {
    let mut kept = Zeroizing::new(String::with_capacity(text.len()));
    kept.extend(text.chars().filter(|c| !dropped.contains(c)));
    kept
}

/// `MM/YY` from `MM/YY`, `MMYY` or `MM/YYYY`.
fn expiry(text: &str) -> Result<Zeroizing<String>, Invalid> {
    let digits = without(text, &['/']);
    if !digits.bytes().all(|b| b.is_ascii_digit()) || text.matches('/').count() > 1 {
        return Err(Invalid::Characters);
    }
    let year = match digits.len() {
        4 => &digits[2..],
        6 => &digits[4..],
        0..4 => return Err(Invalid::TooShort),
        _ => return Err(Invalid::TooLong),
    };
    if !(1..=12).contains(&digits[..2].parse::<u8>().unwrap_or(0)) {
        return Err(Invalid::Checksum);
    }
    let mut spelled = Zeroizing::new(String::with_capacity(5));
    spelled.push_str(&digits[..2]);
    spelled.push('/');
    spelled.push_str(year);
    Ok(spelled)
}

/// A card is good through the last day of its month; 20 years ahead is a typing error.
fn not_past(spelled: &str, now: Timestamp) -> Result<(), Invalid> {
    let number = |range: std::ops::Range<usize>| spelled.get(range).and_then(|d| d.parse::<i32>().ok()).unwrap_or(0);
    let (month, year) = (number(0..2), 2000 + number(3..5));
    let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let today = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    // The last time zone to end a month is 12 hours behind UTC.
    let today =
        today.checked_sub(jiff::SignedDuration::from_hours(12)).unwrap_or(today).to_zoned(jiff::tz::TimeZone::UTC);
    let ahead = (year - i32::from(today.year())) * 12 + month - i32::from(today.month());
    match ahead {
        ..0 => Err(Invalid::Expired),
        0..=240 => Ok(()),
        _ => Err(Invalid::Checksum),
    }
}

/// Area, group and serial numbers that were never given out (SSA, POMS RM 10201.035).
fn ssn(digits: &str) -> bool {
    let (area, group, serial) = (&digits[..3], &digits[3..5], &digits[5..]);
    area != "000" && area != "666" && !area.starts_with('9') && group != "00" && serial != "0000"
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn spec(kind: FieldType) -> FieldSpec {
        FieldSpec {
            kind,
            retention: None,
            purposes: BTreeSet::new(),
            flows: BTreeSet::new(),
            ttl_seconds: None,
            uses: None,
            min: None,
            max: None,
            show_brand: false,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test compares the spelling")]
    fn read(kind: FieldType, text: &str) -> Result<String, Invalid> {
        let now = Timestamp::from_millis(1_795_489_236_007);
        spec(kind).read(Zeroizing::new(text.to_owned()), now).map(|p| p.expose_secret().to_owned())
    }

    #[test]
    fn each_type_knows_its_own() {
        assert_eq!(read(FieldType::CardNumber, "4242 4242-4242 4242"), Ok("4242424242424242".to_owned()));
        assert_eq!(read(FieldType::CardNumber, "4242424242424241"), Err(Invalid::Checksum));
        assert_eq!(read(FieldType::CardNumber, "0000000000000000"), Err(Invalid::Checksum));
        assert_eq!(read(FieldType::CardNumber, "4242"), Err(Invalid::TooShort));
        assert_eq!(read(FieldType::CardNumber, "4242x"), Err(Invalid::Characters));
        assert_eq!(read(FieldType::CardExpiry, "11 / 26"), Ok("11/26".to_owned()));
        assert_eq!(read(FieldType::CardExpiry, "12/2030"), Ok("12/30".to_owned()));
        assert_eq!(read(FieldType::CardExpiry, "10/26"), Err(Invalid::Expired));
        assert_eq!(read(FieldType::CardExpiry, "13/30"), Err(Invalid::Checksum));
        assert_eq!(read(FieldType::CardCvc, "123"), Ok("123".to_owned()));
        assert_eq!(read(FieldType::CardCvc, "12"), Err(Invalid::TooShort));
        assert_eq!(read(FieldType::Pin, "0000"), Ok("0000".to_owned()));
        assert_eq!(read(FieldType::Pin, "123"), Err(Invalid::TooShort));
        assert_eq!(read(FieldType::Pin, "1234567890123"), Err(Invalid::TooLong));
        assert_eq!(read(FieldType::Pin, "12 34"), Err(Invalid::Characters));
        assert_eq!(read(FieldType::Ssn, "078-05-1120"), Ok("078051120".to_owned()));
        assert_eq!(read(FieldType::Ssn, "666051120"), Err(Invalid::Checksum));
        assert_eq!(read(FieldType::Password, " p\u{e4}ss "), Ok(" p\u{e4}ss ".to_owned()));
        assert_eq!(read(FieldType::Text, "a\r\nb"), Err(Invalid::Characters));
        assert_eq!(read(FieldType::Text, ""), Err(Invalid::Empty));
    }

    #[test]
    fn a_verification_code_and_a_pin_cannot_be_kept() {
        for kind in [FieldType::CardCvc, FieldType::Pin] {
            let mut field = spec(kind);
            assert_eq!(field.retention(), RetentionClass::SensitiveAuthentication);
            assert_eq!(field.uses(), Some(1));
            field.retention = Some(RetentionClass::Stored);
            assert!(field.check().is_err());
            assert_eq!(field.retention(), RetentionClass::SensitiveAuthentication);
            assert!(FieldSpec { uses: Some(2), ..spec(kind) }.check().is_err());
            assert!(FieldSpec { ttl_seconds: Some(901), ..spec(kind) }.check().is_err());
        }
    }
}

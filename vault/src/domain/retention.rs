//! How long values live, and in which epochs their data keys are made (docs/formats.md section 3).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, Timestamp};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A month and a year of fixed length: an epoch is a quotient, not a calendar.
const MONTH: u64 = 30 * DAY;
const YEAR: u64 = 365 * DAY;

/// After the cap, an erasure key stays this long for what was under way.
pub const ERASURE_SLACK: Duration = Duration::from_secs(5 * MINUTE);

/// What may become of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetentionClass {
    /// Verification codes (PCI DSS 3.3.1): single use, 15 minutes, never kept, extended or revealed.
    SensitiveAuthentication,
    /// The default: 30 minutes, at most 7 days.
    Session,
    /// Until deleted, or the field's limit.
    Stored,
}

impl RetentionClass {
    /// The name in documents and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SensitiveAuthentication => "sensitive-authentication",
            Self::Session => "session",
            Self::Stored => "stored",
        }
    }

    /// The lifetime where the field names none; `None` is "until deleted".
    #[must_use]
    pub const fn default_lifetime(self) -> Option<Duration> {
        match self {
            Self::SensitiveAuthentication => Some(Duration::from_secs(15 * MINUTE)),
            Self::Session => Some(Duration::from_secs(30 * MINUTE)),
            Self::Stored => None,
        }
    }

    /// The longest lifetime from capture on, extensions included.
    #[must_use]
    pub const fn longest_lifetime(self) -> Option<Duration> {
        match self {
            Self::SensitiveAuthentication => Some(Duration::from_secs(15 * MINUTE)),
            Self::Session => Some(Duration::from_secs(7 * DAY)),
            Self::Stored => None,
        }
    }

    /// The class of data key that seals values of this retention class.
    #[must_use]
    pub const fn data_key_class(self) -> DataKeyClass {
        match self {
            Self::SensitiveAuthentication => DataKeyClass::SensitiveAuthentication,
            Self::Session => DataKeyClass::Session,
            Self::Stored => DataKeyClass::Stored,
        }
    }
}

impl fmt::Display for RetentionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RetentionClass {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::SensitiveAuthentication, Self::Session, Self::Stored]
            .into_iter()
            .find(|c| c.as_str() == text)
            .ok_or(Error::Name)
    }
}

/// What a data key is for; one data key per tenant, class and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataKeyClass {
    /// Values of [`RetentionClass::SensitiveAuthentication`].
    SensitiveAuthentication,
    /// Values of [`RetentionClass::Session`].
    Session,
    /// Values of [`RetentionClass::Stored`].
    Stored,
    /// Private halves of the capture key pairs.
    Capture,
    /// Stored idempotent answers.
    Idempotency,
    /// Stored idempotent answers of runs that touched sensitive authentication data.
    IdempotencySensitive,
    /// Openings of personal members of the access log.
    LogOpening,
    /// Secrets of destinations.
    Configuration,
}

impl DataKeyClass {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::SensitiveAuthentication,
        Self::Session,
        Self::Stored,
        Self::Capture,
        Self::Idempotency,
        Self::IdempotencySensitive,
        Self::LogOpening,
        Self::Configuration,
    ];

    /// The name in contexts and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SensitiveAuthentication => "sensitive-authentication",
            Self::Session => "session",
            Self::Stored => "stored",
            Self::Capture => "capture",
            Self::Idempotency => "idempotency",
            Self::IdempotencySensitive => "idempotency-sensitive",
            Self::LogOpening => "log-opening",
            Self::Configuration => "configuration",
        }
    }

    /// Whether it seals values, and not what the vault itself needs.
    #[must_use]
    pub const fn is_of_values(self) -> bool {
        matches!(self, Self::SensitiveAuthentication | Self::Session | Self::Stored)
    }

    /// The length of an epoch.
    #[must_use]
    pub const fn epoch_length(self) -> Duration {
        Duration::from_secs(match self {
            Self::SensitiveAuthentication | Self::IdempotencySensitive => 15 * MINUTE,
            Self::Session | Self::Stored | Self::Capture => DAY,
            Self::Idempotency => HOUR,
            Self::LogOpening => MONTH,
            Self::Configuration => YEAR,
        })
    }

    /// How long after the end of its epoch what it seals can still be wanted; `None` has no erasure key.
    #[must_use]
    pub const fn cap(self) -> Option<Duration> {
        let seconds = match self {
            Self::SensitiveAuthentication => 15 * MINUTE,
            Self::Session => 7 * DAY,
            Self::Capture => HOUR,
            Self::Idempotency | Self::IdempotencySensitive => DAY,
            Self::LogOpening => 13 * MONTH,
            Self::Stored | Self::Configuration => return None,
        };
        Some(Duration::from_secs(seconds))
    }

    /// The epoch of a moment.
    #[must_use]
    pub fn epoch(self, at: Timestamp) -> Epoch {
        Epoch(at.as_millis() / self.length_millis())
    }

    /// When the erasure key of an epoch is destroyed, by the clock; `None` for classes without one.
    #[must_use]
    pub fn erased_at(self, epoch: Epoch) -> Option<Timestamp> {
        let end = Timestamp::from_millis(epoch.0.saturating_add(1).saturating_mul(self.length_millis()));
        self.cap().map(|cap| end.plus(cap).plus(ERASURE_SLACK))
    }

    fn length_millis(self) -> u64 {
        self.epoch_length().as_secs() * 1000
    }
}

impl fmt::Display for DataKeyClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DataKeyClass {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(Error::Name)
    }
}

/// The number of an epoch of a class: floor(created / length).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erasure_keys_die_when_the_format_page_says() {
        let class = DataKeyClass::SensitiveAuthentication;
        let captured = Timestamp::from_millis(0);
        assert_eq!(class.erased_at(class.epoch(captured)), Some(Timestamp::from_millis(35 * MINUTE * 1000)));
        let session = DataKeyClass::Session;
        assert_eq!(session.erased_at(Epoch(0)), Some(Timestamp::from_millis((8 * DAY + 5 * MINUTE) * 1000)));
        assert_eq!(
            DataKeyClass::Capture.erased_at(Epoch(0)),
            Some(Timestamp::from_millis((25 * HOUR + 5 * MINUTE) * 1000))
        );
        assert_eq!(DataKeyClass::Stored.erased_at(Epoch(0)), None);
    }
}

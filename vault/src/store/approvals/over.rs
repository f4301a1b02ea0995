//! Why a request is not approved.

use crate::keys::NotAsked;

/// Why an approval cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Another digest was named than that of the act.
    Digest,
    /// Its time is over.
    Expired,
    /// Somebody else gave it.
    Used,
    /// The credential that asked does not hold any more.
    Withdrawn,
    /// A custodian took it back.
    TakenBack,
    /// What it was asked for is not there any more as it was.
    Changed,
    /// The token that was stated to be lost answers.
    Answers,
    /// It cannot be asked from this node.
    NotAsked(NotAsked),
}

impl Over {
    /// The reason in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Withdrawn | Self::TakenBack => "withdrawn",
            Self::Changed => "changed",
            Self::Answers => "answers",
            Self::NotAsked(_) => "not_asked",
        }
    }

    /// The same for a person.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Digest => "the act is not the one that the digest is of: look at `siv keys approvals`",
            Self::Expired => "its time is over: ask again",
            Self::Used => "another custodian gave it already",
            Self::Withdrawn => "the credential that asked for it does not hold any more: ask again with another",
            Self::TakenBack => "a custodian withdrew it: ask again, if it is still wanted",
            Self::NotAsked(why) => why.as_str(),
            Self::Changed => "keys or settings are others than when it was asked for: ask again",
            Self::Answers => {
                "its token answers, so nothing is lost: wrap its data keys anew (`siv keys rewrap`), then destroy the version (`siv keys state`)"
            }
        }
    }
}

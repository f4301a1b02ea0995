//! The acts of a tenant that take two of its custodians: what exactly is asked for, as canonical JSON that its digest is over.

use serde::{Deserialize, Serialize};

use super::lost_version::told;
use crate::access_log::LostClass;
use crate::keys::{HsmWish, Seen};

/// An act of a tenant that takes two of its custodians.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TwoPersonAct {
    /// Destroy every KEK version of the tenant: these, and no others, are there when it is done.
    ShredTenant {
        /// Their rows' keys, in order.
        keks: Vec<String>,
        /// Two custodians state that a token is lost: a version in one that does not answer counts as ended by their word.
        token_lost: bool,
    },
    /// Let opened data keys stay in memory, where each read asked the key provider before.
    LeaveStrict {
        /// For how long.
        cache_seconds: u16,
        /// Version of the tenant's row that is changed: a request of before another change opens nothing after it.
        settings: u64,
    },
    /// State that one version is lost with its token: what only it opens ends with it.
    LoseVersion {
        /// Row's key of the version.
        kek: String,
        /// Version of that row: whatever becomes of the version meanwhile ends the request.
        row: u64,
        /// What tells its key from every other, in hexadecimal: the proof of its known answer.
        key: String,
        /// Serial number of its token, where that has one.
        serial: Option<String>,
        /// What becomes unopenable, by class.
        losses: Vec<LostClass>,
        /// What was seen of its token.
        seen: Seen,
    },
    /// Make the next version elsewhere than in the customer's token: from then on that place has the tenant's key.
    LeaveToken {
        /// Row's key of the version that is left.
        kek: String,
        /// Where the next one is made.
        place: Place,
    },
}

/// Where a key is to live. No PIN: it is said again when the act is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "keyProvider", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Place {
    /// In the built-in KMS.
    Local,
    /// In this token.
    Hsm {
        /// The vendor's module.
        module: String,
        /// Label of the token.
        token: Option<String>,
        /// Serial number of the token.
        serial: Option<String>,
        /// A key that is there already.
        kek: Option<String>,
        /// That key is taken on though somebody may know its bytes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        waive: bool,
    },
}

impl Place {
    /// The token that a wish names.
    #[must_use]
    pub fn of(wish: &HsmWish) -> Self {
        let HsmWish { module, token, serial, kek, waive, .. } = wish;
        let module = module.display().to_string();
        Self::Hsm { module, token: token.clone(), serial: serial.clone(), kek: kek.clone(), waive: *waive }
    }

    /// The same with the serial number that the token says, where none was named.
    #[must_use]
    pub fn at(self, seen: Option<String>) -> Self {
        match self {
            Self::Local => Self::Local,
            Self::Hsm { module, token, serial, kek, waive } => {
                Self::Hsm { module, token, serial: serial.or(seen), kek, waive }
            }
        }
    }
}

impl TwoPersonAct {
    /// Its name in answers and entries.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ShredTenant { .. } => "shred-tenant",
            Self::LeaveStrict { .. } => "leave-strict",
            Self::LeaveToken { .. } => "leave-token",
            Self::LoseVersion { .. } => "lose-version",
        }
    }

    /// Whether it is about the version with this row's key.
    pub(in crate::store) fn names(&self, version: &str) -> bool {
        match self {
            Self::ShredTenant { keks, .. } => keks.iter().any(|kek| kek == version),
            Self::LoseVersion { kek, .. } | Self::LeaveToken { kek, .. } => kek == version,
            Self::LeaveStrict { .. } => false,
        }
    }

    /// What the log says of it: enough to know what was asked for without the row.
    pub(in crate::store) fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::ShredTenant { keks, token_lost } => {
                vec![("keks", keks.join(" ")), ("tokenLost", token_lost.to_string())]
            }
            Self::LeaveStrict { cache_seconds, settings } => {
                vec![("seconds", cache_seconds.to_string()), ("settings", settings.to_string())]
            }
            Self::LoseVersion { kek, key, serial, losses, seen, .. } => {
                let serial = serial.clone().map(|serial| ("tokenSerial", serial));
                let losses = told(losses).unwrap_or_default();
                let seen = seen.as_str().to_owned();
                let facts = [("kek", kek.clone()), ("key", key.clone()), ("losses", losses), ("seen", seen)];
                facts.into_iter().chain(serial).collect()
            }
            Self::LeaveToken { kek, place: Place::Local } => {
                vec![("kek", kek.clone()), ("keyProvider", "local".to_owned())]
            }
            Self::LeaveToken { kek, place: Place::Hsm { module, token, serial, kek: label, waive } } => {
                let named = [("tokenLabel", token), ("tokenSerial", serial), ("kekLabel", label)];
                let named = named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
                let fixed = [("kek", kek.clone()), ("keyProvider", "hsm".to_owned()), ("module", module.clone())];
                let waived = waive.then(|| ("waived", "reservations".to_owned()));
                fixed.into_iter().chain(named).chain(waived).collect()
            }
        }
    }
}

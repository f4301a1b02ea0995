//! A known answer per KEK version: random bytes wrapped at onboarding. It tells a dead token from altered bytes, and finds a KEK that was
//! replaced behind its label. It is kept by the caller; nothing of it is secret.

use hmac::{Hmac, KeyInit, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::error::HsmError;
use crate::failure::{Class, Fault, Moment};
use crate::profile::{KekRef, Place, random};

/// A canary of one KEK version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The KEK and its pinned profile.
    pub kek: KekRef,
    /// 32 random bytes, wrapped.
    pub wrapped: Vec<u8>,
    /// HMAC-SHA256 under those bytes over label and `wrapped`: their proof, not their image.
    pub check: [u8; 32],
}

/// What is wrong with one KEK while its token answers: an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The KEK version.
    pub kek: KekRef,
    /// What is wrong with it.
    pub what: Anomaly,
}

/// What can be wrong with one KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anomaly {
    /// Another key stands behind the label.
    Replaced,
    /// No key of that label and id.
    Missing,
    /// Several keys of that label and id.
    Ambiguous,
    /// The key changed so that it must not be used: it can be read out, or does not do its profile.
    Unfit,
}

impl Anomaly {
    /// The anomaly behind an error; absent where the error is about the token.
    pub(crate) fn of(error: &HsmError) -> Option<Self> {
        match error {
            HsmError::KekReplaced => Some(Self::Replaced),
            HsmError::KekNotFound => Some(Self::Missing),
            HsmError::KekAmbiguous(_) => Some(Self::Ambiguous),
            HsmError::KekUnfit(_) | HsmError::Refused(_) | HsmError::ProfileUnavailable(_) => Some(Self::Unfit),
            _ => None,
        }
    }

    /// What is wrong with the KEK that was asked, if anything is; an error that is about the token stays one.
    pub(crate) fn found(asked: Result<(), HsmError>) -> Result<Option<Self>, HsmError> {
        match asked {
            Ok(()) => Ok(None),
            Err(error) => Self::of(&error).ok_or(error).map(Some),
        }
    }
}

/// What a canary says.
#[derive(Debug, Clone)]
pub(crate) enum Song {
    /// The KEK is the one it was, and the token answers.
    Healthy,
    /// The token answers, and the KEK is another one.
    Replaced,
    /// The token does not answer.
    Silent(Fault),
}

impl Song {
    /// What it says of the KEK, as an error.
    pub(crate) fn heard(self) -> Result<(), Fault> {
        match self {
            Self::Healthy => Ok(()),
            Self::Replaced => Err(HsmError::KekReplaced.into()),
            Self::Silent(fault) => Err(fault),
        }
    }
}

const LABEL: &[u8] = b"siv/v1/hsm-canary";

impl Canary {
    /// Makes a canary with `place`'s KEK.
    pub(crate) fn make(kek: &KekRef, place: Place<'_>) -> Result<Self, Fault> {
        let key = random::<32>()?;
        let wrapped = kek.profile.wrap(place, &key, LABEL)?;
        let check = proof(&key, &wrapped);
        Ok(Self { kek: kek.clone(), wrapped, check })
    }

    /// Asks it. A failure that could be either is settled by a round trip of fresh bytes: if that works, the token is not the fault.
    pub(crate) fn ask(&self, place: Place<'_>) -> Song {
        let fault = match self.kek.profile.unwrap(place, &self.wrapped, LABEL) {
            Ok(key) if bool::from(proof(&key, &self.wrapped).ct_eq(&self.check)) => return Song::Healthy,
            Ok(_) => Fault::Integrity,
            Err(fault) => fault,
        };
        match fault.class(Moment::Unwrap) {
            Class::AskCanary | Class::Never => match crate::profile::round_trip(self.kek.profile, place) {
                Ok(_) => Song::Replaced,
                Err(other) => Song::Silent(other),
            },
            _ => Song::Silent(fault),
        }
    }
}

fn proof(key: &[u8; 32], wrapped: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
    mac.update(LABEL);
    mac.update(wrapped);
    mac.finalize().into_bytes().into()
}

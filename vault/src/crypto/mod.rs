//! The double seal, its AAD, states' MACs, verifiers and the capture layer. The only room beside keys/ that names an AEAD.

mod aad;
mod aead;
mod bytes;
mod capture;
mod data_key;
mod derive;
mod double_seal;
pub(crate) mod envelope;
mod error;
mod grant;
mod held;
mod locked;
mod mac_key;
mod padding;
mod random;
mod record_key;
mod state;
mod verifier;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tampering;
#[cfg(test)]
pub(crate) mod vectors;
#[cfg(test)]
mod wycheproof;

pub use bytes::{open_bytes, seal_bytes, seal_each};
pub use capture::{CaptureKeyPair, SEALED_CAPTURE_VERSION, seal_capture};
pub use data_key::DataKey;
pub(crate) use derive::derive;
pub use double_seal::{authenticate, open_value, reseal_outer, seal_value};
pub use error::Error;
pub use grant::OpeningGrant;
pub use held::{Durable, Held, WithinBatch};
pub use locked::{LockedKey, Place};
pub use mac_key::MacKey;
pub use random::Drawn;
pub(crate) use random::random;
pub use record_key::RecordKey;
pub use state::{StateCode, ValueState};
pub use verifier::{verifier, verifier_matches};

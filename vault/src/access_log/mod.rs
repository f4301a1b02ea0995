//! The tamper-evident access log: entries, RFC 6962 tree, C2SP checkpoints, proofs, offline verification. Pure: no I/O.

mod about;
mod actions;
pub mod batch;
pub mod bundle;
pub mod checkpoint;
pub mod commitment;
pub mod destruction;
mod destruction_proof;
mod display;
pub mod entry;
mod error;
mod health;
mod json;
pub mod leaf;
pub mod log_proof;
pub mod node;
pub mod note;
pub mod position;
pub mod receipt;
pub mod tree;

pub use about::{about, short};
pub use actions::{ACTIONS, COUNTED_ALONE, actions_near, is_action};
pub use batch::{Batch, Draft, Group, Lane};
pub use checkpoint::Checkpoint;
pub use commitment::{Commitment, Opening, Personal, Salts};
pub use destruction::{Destroyed, DestructionCertificate, EndOfKek, LostClass};
pub use destruction_proof::{CertificateFault, ProvenDestruction};
pub use entry::{Action, Entry, OUTCOMES, ObjectVersion, Outcome};
pub use error::Error;
pub use health::{Distrust, LogHealth, SelfCheck};
pub use leaf::{Leaf, ParsedEntry};
pub use log_proof::LogProof;
pub use node::{Certificate, Heartbeat, NodeIdentity};
pub use note::{Note, VerifierKey};
pub use position::Position;
pub use receipt::Receipt;
pub use tree::leaf_hash;

#[cfg(test)]
mod tests;

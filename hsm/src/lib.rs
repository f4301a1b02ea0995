//! A customer's key-encryption key in a token of their own, over PKCS#11.
//!
//! This crate knows nothing of the vault: no tenants, no meaning of a context, no async runtime. It speaks to a module through the
//! maintained crate `cryptoki` (docs/decisions/0001-cryptoki-not-pkcs11.md), in a worker process of its own, because a vendor's module is
//! foreign code that must not share the vault's memory. A caller holds a [`Host`] per configuration; the worker is the caller's own
//! program started again, which calls [`worker::run`] before it has a thread.
//!
//! What a caller can rely on: every call returns within its deadline; a module that crashes, hangs or answers rubbish is restarted in the
//! background; a PIN that was refused is not tried again until [`Host::reconfigure`], by no host of this process; an altered wrapped key is told from a dead token; a
//! KEK replaced behind its label is found before anything is wrapped under it.

mod backoff;
mod canary;
pub mod check;
mod configuration;
mod crew;
mod destruction;
mod doorman;
mod error;
mod failure;
mod frame;
mod host;
mod kek;
mod kek_kind;
mod logins;
mod mechanisms;
mod message;
mod module;
mod pin;
mod pool;
mod process;
mod profile;
mod raw;
mod scratch;
mod session;
mod token;
mod uri;
pub mod worker;

pub use canary::{Anomaly, Canary, Finding};
pub use configuration::Configuration;
pub use crew::Crew;
pub use destruction::Destruction;
pub use error::{HsmError, NotMade};
pub use host::{Host, Limits, Phase, Status};
pub use kek::KekAttributes;
pub use kek_kind::{KekKind, RsaSize, UnfitKind};
pub use logins::MayTry;
pub use message::WorkerStatus;
pub use module::{ModuleFile, ModuleHash};
pub use pin::{Pin, PinSource};
pub use process::Launch;
pub use profile::{KekRef, KeyBytes, LONGEST_CONTEXT, LONGEST_WRAPPED, ProbeReport, Profile, PublicKek, Trial};
pub use token::TokenInfo;
pub use uri::{KekSelector, Pkcs11Uri, TokenSelector};

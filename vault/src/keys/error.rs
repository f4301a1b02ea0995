//! What can go wrong with keys. No variant holds key material or foreign text.

use std::io;

/// A key that cannot be had, or a key store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no key store in the folder.
    #[error("there is no key store here; `siv init` makes one")]
    NoKeyStore,
    /// Another process holds the key store; a `dir:` key store is for one node.
    #[error("the key store is in use by another process")]
    InUse,
    /// The key store is not as siv left it.
    #[error("the key store is damaged: {0}")]
    Damaged(&'static str),
    /// The key store belongs to another realm.
    #[error("the key store belongs to another realm")]
    OtherRealm,
    /// The root key cannot be had or is kept unsafely.
    #[error("the root key: {0}")]
    RootKey(&'static str),
    /// The root key is not the one this key store is sealed under.
    #[error("the root key is not the one of this key store")]
    WrongRootKey,
    /// The root key does not open the key store, and is of another kind than the one it was made with.
    #[error("the key store was noted as made with {made_with}, and {given} does not open it")]
    OtherRootKind {
        /// What it was made with, or what its root key was rotated to.
        made_with: super::RootKind,
        /// What was handed over.
        given: super::RootKind,
    },
    /// The tenant has no active KEK.
    #[error("the tenant has no active key-encryption key")]
    NoKek,
    /// The tenant's HSM does not do what is asked now; asking changes nothing until it does, or until a person acts.
    #[error("the tenant's HSM")]
    Hsm(#[source] hsm::HsmError),
    /// What the custodians call lost cannot be asked from this node.
    #[error("{}", .0.as_str())]
    NotAsked(super::NotAsked),
    /// A customer's HSM was not taken on.
    #[error(transparent)]
    HsmRefused(#[from] super::HsmRefusal),
    /// The KEK's secret is gone, or its state forbids this use.
    #[error("the key-encryption key may not be used")]
    KekUnusable,
    /// There is no such data key.
    #[error("no such data key")]
    NoDataKey,
    /// The data key ended with a KEK version that two custodians stated to be lost: what it sealed is gone.
    #[error("the data key ended with a key-encryption key that is lost")]
    Lost,
    /// The erasure key's time is past: what the data key sealed is gone.
    #[error("the data key is erased")]
    Erased,
    /// A wrapped key or sealed secret was altered or moved.
    #[error("a stored key was altered")]
    Altered,
    /// The name would clash with one of the vault's own.
    #[error("this name is reserved")]
    ReservedName,
    /// Two heads of one size and different roots: the log has forked.
    #[error("the head of a log contradicts the one in the key store")]
    HeadContradicts,
    /// Reading or writing the key store failed.
    #[error("the key store cannot be used while {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The key store, or the key provider, does not answer in time or not at all.
    #[error("the key store or the key provider does not answer in time")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database could not answer about a key's record.
    #[error(transparent)]
    Records(#[from] super::RecordsError),
    /// The system's random number generator failed: there is no fallback.
    #[error("no randomness from the system")]
    Random(#[source] getrandom::Error),
    /// The work was cancelled because the process ends.
    #[error("the process is ending")]
    Ending,
}

impl Error {
    /// Turns an I/O error into one that says what was being done.
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

impl Error {
    /// What the tenant's custodian has to do before anything succeeds again; nothing where waiting may be enough.
    #[must_use]
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoKek => Some("The tenant has no active key: its custodian rotates it."),
            Self::Lost => Some(
                "It was sealed under a key version that two custodians stated to be lost, and is gone: give it again where it can be given.",
            ),
            Self::Hsm(hsm::HsmError::Quarantined(_)) => {
                Some("The tenant's key provider is not asked again until its custodian gives it a new PIN.")
            }
            Self::Hsm(hsm::HsmError::Configuration(_)) => {
                Some("The tenant's key provider cannot be used until its custodian changes its configuration.")
            }
            Self::Hsm(hsm::HsmError::KekReplaced) => Some(
                "Another key stands in its place in the token: who rules the token removes it there, or two custodians state that the token is lost.",
            ),
            _ => None,
        }
    }

    /// Why a key in a token that is to end has not ended yet.
    #[must_use]
    pub const fn why_a_key_waits(&self) -> &'static str {
        match self {
            Self::NotAsked(why) => why.as_str(),
            Self::KekUnusable => "this node cannot ask its token: the PIN or the configuration is not there",
            Self::Hsm(hsm::HsmError::Quarantined(_)) => "the token refused the PIN, which is not tried again",
            Self::Hsm(hsm::HsmError::KekReplaced) => "another key stands in its place in the token",
            Self::Hsm(hsm::HsmError::KekAmbiguous(_)) => "several keys have its name in the token",
            _ => "the token does not answer",
        }
    }

    /// Why a data key does not open, in the words that custodians know from the log.
    #[must_use]
    pub const fn why_unopened(&self) -> &'static str {
        use hsm::HsmError;
        match self {
            Self::Hsm(HsmError::KekNotFound) => "the key is missing in its token",
            Self::Hsm(HsmError::KekReplaced) => "another key stands behind its label in its token",
            Self::Hsm(HsmError::KekAmbiguous(_)) => "several keys in its token have its label and id",
            Self::Hsm(HsmError::KekUnfit(_)) => "the key in its token changed and must not be used",
            Self::Hsm(HsmError::Quarantined(_)) => "its token refused the PIN",
            Self::Hsm(HsmError::Configuration(_)) => "its token cannot be used as it is configured",
            Self::Hsm(_) | Self::Unavailable(_) => "its token does not answer",
            Self::Erased => "its erasure key is not in the key store",
            Self::KekUnusable => "its key is gone, or may not be used any more",
            _ => "it is not what was written",
        }
    }

    /// Whether the key provider was not even asked: no worker was free for it, or the one to be asked is being started.
    #[must_use]
    pub const fn is_unasked(&self) -> bool {
        matches!(self, Self::Hsm(hsm::HsmError::Overloaded))
    }

    /// Whether what was asked for may be had later: key provider, key store or store did not answer.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Hsm(_) | Self::NotAsked(_) | Self::Unavailable(_) | Self::Records(_))
    }

    /// Nothing came in the time there was.
    pub(super) fn timed_out() -> Self {
        Self::Unavailable(Box::new(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl From<crate::crypto::Error> for Error {
    fn from(error: crate::crypto::Error) -> Self {
        match error {
            crate::crypto::Error::Random(source) => Self::Random(source),
            crate::crypto::Error::Refused | crate::crypto::Error::TooLong => Self::Altered,
        }
    }
}

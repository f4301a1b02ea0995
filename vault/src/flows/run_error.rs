//! Why a run was refused, or how it failed: the faults of a flow, and those around it.

use super::error::Error;
use crate::domain::RunId;
use crate::store::idempotency::Repeated;

/// Why there is no answer of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run ended with a fault of its flow; its outcome is recorded under the run's id, where it began.
    #[error("the run failed: {error}")]
    Flow {
        /// The run, if it began.
        run_id: Option<RunId>,
        /// The fault.
        #[source]
        error: Error,
    },
    /// The same request came before, and failed with this code (answered again, not run again).
    #[error("the first request with this Idempotency-Key failed: {code}")]
    FailedBefore {
        /// The run.
        run_id: RunId,
        /// The code of design.md section 9.
        code: &'static str,
        /// The members of `errors`: field and code.
        errors: Vec<(String, String)>,
    },
    /// The same request came before.
    #[error(transparent)]
    Repeated(#[from] Repeated),
    /// Reference or on-behalf-of is too long or not printable (422 `validation`); the member's name.
    #[error("{0} is not 1 to 128 printable characters")]
    Member(&'static str),
    /// The caller's credential was revoked meanwhile (401 `auth.invalid`).
    #[error("the credential is not accepted")]
    AuthInvalid,
    /// The caller's credential is past its end (401 `auth.expired`).
    #[error("the credential is past its end")]
    AuthExpired,
    /// A value was compared too often lately (429 `rate.limited`).
    #[error("too many comparisons of one value")]
    RateLimited,
    /// The tenant is sealed (503 `tenant.sealed`).
    #[error("the tenant is sealed")]
    TenantSealed,
    /// The credential may not run this flow (403 `policy.denied`).
    #[error("not allowed")]
    PolicyDenied,
    /// The value of this input may not be used by this flow so (403 `policy.denied`); the input's name.
    #[error("the value of {0} is not bound to this use")]
    NotBound(String),
    /// There is no such flow or run (404 `not_found`).
    #[error("not found")]
    NotFound,
    /// One answer for absent, foreign, expired, spent, deleted, tampered with, wrong secret (404 `value.not_found`).
    #[error("no such value")]
    ValueNotFound,
    /// Storing failed; after the first commit of a run this leaves its outcome unknown.
    #[error("the store failed")]
    Store {
        /// The run, if it began.
        run_id: Option<RunId>,
        /// Why.
        #[source]
        error: crate::store::Error,
    },
}

impl From<Error> for RunError {
    fn from(error: Error) -> Self {
        Self::Flow { run_id: None, error }
    }
}

impl From<crate::store::Error> for RunError {
    fn from(error: crate::store::Error) -> Self {
        Self::Store { run_id: None, error }
    }
}

impl From<crate::keys::Error> for RunError {
    fn from(error: crate::keys::Error) -> Self {
        Self::Store { run_id: None, error: crate::store::Error::Keys(error) }
    }
}

//! What can go wrong with a capture. No variant carries a text that was entered.

use std::fmt;

use crate::store::idempotency::Repeated;

/// Why nothing was captured. Each variant is one code of design.md section 9, or an inner room's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The capture token is none of ours (401 `auth.invalid`), or the caller's credential was revoked meanwhile.
    #[error("the credential is not accepted")]
    AuthInvalid,
    /// The capture session, or the caller's credential, is past its end (401 `auth.expired`).
    #[error("the credential is past its end")]
    AuthExpired,
    /// The tenant is sealed (503 `tenant.sealed`).
    #[error("the tenant is sealed")]
    TenantSealed,
    /// The request breaks rules (422 `validation`).
    #[error("the request is not valid: {}", Listed(.0))]
    Validation(Vec<Fault>),
    /// The caller may not do this (403 `policy.denied`).
    #[error("not allowed")]
    PolicyDenied,
    /// There is no such app (404 `not_found`).
    #[error("not found")]
    NotFound,
    /// One answer for absent, foreign, expired, spent, deleted, tampered with, wrong secret (404 `value.not_found`).
    #[error("no such value")]
    ValueNotFound,
    /// The session is used up, or a sealed body came twice (409 `conflict`).
    #[error("it collides with what was captured before")]
    Conflict,
    /// The request came before.
    #[error(transparent)]
    Repeated(#[from] Repeated),
    /// Storing failed.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// A key could not be had.
    #[error(transparent)]
    Keys(#[from] crate::keys::Error),
    /// Sealing failed.
    #[error(transparent)]
    Crypto(#[from] crate::crypto::Error),
    /// The system's generator of random numbers failed.
    #[error("no random numbers")]
    Random(#[from] getrandom::Error),
}

impl Error {
    /// A 422 with one fault of the whole request.
    pub(super) fn invalid(field: &'static str, code: &'static str) -> Self {
        Self::Validation(vec![Fault { index: None, field: field.to_owned(), code }])
    }
}

/// One fault of a request: which item, which field, which rule. Never the text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The item of a list, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The field of the app, or the member of the request.
    pub field: String,
    /// The rule that is broken.
    pub code: &'static str,
}

struct Listed<'a>(&'a [Fault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            let between = if at == 0 { "" } else { ", " };
            write!(f, "{between}{}: {}", fault.field, fault.code)?;
        }
        Ok(())
    }
}

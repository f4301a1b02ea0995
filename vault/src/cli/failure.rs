//! What went wrong, why, and what to do next: the three lines a person gets from a failed command.

use std::fmt;

use serde_json::{Value, json};

/// A failed command.
#[derive(Debug)]
pub(super) struct Failure {
    what: String,
    why: Option<String>,
    next: Option<String>,
    /// What the vault answered, where it did: its status and its problem document.
    refusal: Option<Box<(u16, Value)>>,
    code: u8,
}

impl Failure {
    /// What happened.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, next: None, refusal: None, code: 1 }
    }

    /// Why.
    #[must_use]
    pub(super) fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// What to do next.
    #[must_use]
    pub(super) fn so(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// One more thing that is so, behind why.
    #[must_use]
    pub(super) fn noting(mut self, note: &str) -> Self {
        self.why = Some(self.why.map_or_else(|| note.to_owned(), |why| format!("{why}\n        {note}")));
        self
    }

    /// What the vault answered.
    #[must_use]
    pub(super) fn of_refusal(mut self, status: u16, problem: Value) -> Self {
        self.refusal = Some(Box::new((status, problem)));
        self
    }

    /// What the process ends with, where that is not 1.
    #[must_use]
    pub(super) const fn ending_with(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What the process ends with.
    pub(super) const fn code(&self) -> u8 {
        self.code
    }

    /// The three as JSON; of a refusal of the vault's also what a program goes by.
    pub(super) fn to_json(&self) -> Value {
        let mut error = json!({ "what": self.what, "why": self.why, "next": self.next });
        if let Some((status, problem)) = self.refusal.as_deref() {
            error["status"] = json!(status);
            for member in ["code", "requestId", "errors"] {
                if let Some(value) = problem.get(member) {
                    error[member] = value.clone();
                }
            }
        }
        json!({ "error": error })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(why) = &self.why {
            write!(f, "\n  why   {why}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next  {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<crate::config::Error> for Failure {
    fn from(error: crate::config::Error) -> Self {
        Self::new(error.to_string())
    }
}

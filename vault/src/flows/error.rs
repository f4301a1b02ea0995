//! What can go wrong with a flow. No variant carries foreign text, a value, or a part of one.

use std::fmt;

use super::label::Label;
use super::template::SecretName;

/// A flow that cannot be saved, or a run that ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document breaks a rule; the text is ours and names the place, never the content.
    #[error("{0}")]
    Invalid(String),
    /// Inputs of an invocation that are not what the flow declares.
    #[error("{}", Listed(.0))]
    Inputs(Vec<InputFault>),
    /// The guard found a plaintext of the run where it must not be; names the place.
    #[error("{0} held a plaintext of this run and was blocked")]
    OutputBlocked(String),
    /// The destination is not one that may be spoken to.
    #[error("the destination is denied: {}", .0.words())]
    DestinationDenied(DeniedReason),
    /// The same of a step's literal address; names the step.
    #[error("the destination is denied: {} (steps.{step}.url)", .reason.words())]
    StepDenied {
        /// The step.
        step: Label,
        /// Why.
        reason: DeniedReason,
    },
    /// A secret that may not go where the flow sends it, or is not there.
    #[error("the destination is denied: {secret} {}", .fault.words())]
    SecretDenied {
        /// The secret, as the flow's document refers to it.
        secret: SecretName,
        /// Why.
        fault: SecretFault,
    },
    /// The destination failed, or answered with something the flow does not declare.
    #[error("the destination failed: {0}")]
    DestinationFailed(FailedReason),
    /// What the destination answered does not fit a response field that the flow declares; names the field, never the content.
    #[error("the destination failed: its answer does not fit {0}")]
    Unfit(String),
    /// The destination did not answer in time.
    #[error("the destination did not answer in time")]
    DestinationTimeout,
    /// Too many costly steps (`verify`, `hash`) are under way.
    #[error("too many password checks are under way")]
    Overloaded,
    /// The flow refers to something that the run does not have: a version of the flow that was not checked.
    #[error("the run lacks what its flow refers to")]
    Incomplete,
    /// The system's generator of random numbers failed.
    #[error("no random numbers")]
    Random(#[source] getrandom::Error),
}

impl Error {
    /// A response field that the answer does not fit.
    pub(super) fn unfit(step: &Label, field: &Label) -> Self {
        Self::Unfit(format!("steps.{step}.response.{field}"))
    }

    /// Every code that [`Error::code`] gives.
    pub const CODES: [&'static str; 8] = [
        "flow.invalid",
        "validation",
        "flow.output_blocked",
        "destination.denied",
        "destination.failed",
        "destination.timeout",
        "overloaded",
        "internal",
    ];

    /// The stable code of design.md section 9, for problem documents and for the reason of an entry.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "flow.invalid",
            Self::Inputs(_) => "validation",
            Self::OutputBlocked(_) => "flow.output_blocked",
            Self::DestinationDenied(_) | Self::StepDenied { .. } | Self::SecretDenied { .. } => "destination.denied",
            Self::DestinationFailed(_) | Self::Unfit(_) => "destination.failed",
            Self::DestinationTimeout => "destination.timeout",
            Self::Overloaded => "overloaded",
            Self::Incomplete | Self::Random(_) => "internal",
        }
    }

    /// The members of `errors` in the answer of a run: field and code.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let destination = |reason: String| vec![("destination".to_owned(), reason)];
        match self {
            Self::Inputs(faults) => {
                let fault = |fault: &InputFault| (format!("inputs.{}", fault.input), fault.code.as_str().to_owned());
                faults.iter().map(fault).collect()
            }
            Self::DestinationDenied(reason) => destination(reason.to_string()),
            Self::StepDenied { step, reason } => vec![(format!("steps.{step}.url"), reason.to_string())],
            Self::SecretDenied { secret, fault } => vec![(secret.to_string(), fault.to_string())],
            Self::DestinationFailed(reason) => destination(reason.to_string()),
            Self::Unfit(place) => vec![(place.clone(), FailedReason::Response.to_string())],
            _ => Vec::new(),
        }
    }
}

/// One input that is wrong: its name and a code, never its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFault {
    /// The input's name; of an unknown input only where it could be a name at all.
    pub input: String,
    /// What is wrong with it.
    pub code: InputCode,
}

/// Why an input is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputCode {
    /// The flow declares it and the caller did not give it.
    Missing,
    /// The flow does not declare it.
    Unknown,
    /// It was given twice.
    Duplicate,
    /// It is not of the declared type.
    WrongType,
    /// It is not a `secureValueKey` in its canonical spelling.
    SecureValueKey,
    /// A number, or a length, out of its range.
    Range,
    /// A text that does not match the pattern.
    Pattern,
    /// A text that is none of the values.
    Value,
    /// A character that no text may hold, or that the slot cannot carry.
    Characters,
    /// A password hash of a kind or spelling that is not known.
    Hash,
    /// A password hash whose cost is below the floor or above the cap.
    Cost,
}

impl InputCode {
    /// The code in `errors` of a 422.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Duplicate => "duplicate",
            Self::WrongType => "type",
            Self::SecureValueKey => "secure_value_key",
            Self::Range => "range",
            Self::Pattern => "pattern",
            Self::Value => "value",
            Self::Characters => "characters",
            Self::Hash => "hash",
            Self::Cost => "cost",
        }
    }
}

/// Why a destination is not spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedReason {
    /// Not https (plain http only to loopback under `siv dev`).
    Scheme,
    /// An address that is not public, or one of siv's own listeners.
    Address,
}

impl DeniedReason {
    const fn words(self) -> &'static str {
        match self {
            Self::Scheme => "its address must be https",
            Self::Address => {
                "its host must be a public one: no private, loopback or link-local address, and none of siv's own"
            }
        }
    }
}

/// Why a destination's secret is not given to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretFault {
    /// There is no destination of that name, or it has no such secret.
    NotSet,
    /// The step goes to another host, or to another port of it, than the destination's.
    OtherHost,
    /// It is too short for the guard beside answers that may hold anything, or its slot cannot carry it.
    Unfit,
}

impl SecretFault {
    const fn words(self) -> &'static str {
        match self {
            Self::NotSet => "is not set",
            Self::OtherHost => "belongs to another host, port included, than the step's",
            Self::Unfit => "is too short, or holds a character that its place cannot carry",
        }
    }
}

impl fmt::Display for SecretFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSet => "not_set",
            Self::OtherHost => "other_host",
            Self::Unfit => "secret",
        })
    }
}

impl fmt::Display for DeniedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "scheme",
            Self::Address => "address",
        })
    }
}

/// Class of a destination's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedReason {
    /// The name did not resolve.
    Name,
    /// No connection, or TLS refused.
    Connection,
    /// It answered with a redirect; it is not followed.
    Redirect,
    /// It answered with a status outside 200 to 299.
    Status,
    /// Its answer is over the size that is read.
    Size,
    /// Its answer is not JSON, or is framed or packed in a way that is not read.
    Response,
    /// The connection broke after the request went out: whether it arrived, nobody knows.
    Broken,
}

impl fmt::Display for FailedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::Size => "size",
            Self::Response => "response",
            Self::Broken => "broken",
        })
    }
}

struct Listed<'a>(&'a [InputFault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            let between = if at == 0 { "" } else { ", " };
            write!(f, "{between}inputs.{}: {}", fault.input, fault.code.as_str())?;
        }
        Ok(())
    }
}

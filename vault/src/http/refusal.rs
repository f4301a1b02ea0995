//! Where every room's errors land outside. Exhaustive: a new variant does not compile until its answer is decided.

use super::problem::{Code, Problem};
use crate::access_log;
use crate::capture;
use crate::crypto;
use crate::domain;
use crate::flows;
use crate::keys;
use crate::sequencer;
use crate::store;
use crate::store::idempotency::Repeated;

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        use store::Error;
        let code = match &error {
            Error::Overloaded | Error::Stale => Code::Overloaded,
            Error::CredentialEnded => Code::AuthInvalid,
            Error::TakesTwo(act) => {
                return Self::new(Code::Conflict).with_fault(act.as_str(), "second_person");
            }
            Error::BegunLocally => {
                let why = "a creation of this tenant with a key of the built-in KMS broke off: create it so, then move it \
                           into its token (siv keys rotate --key-provider hsm)";
                return Self::new(Code::Conflict).with_place("keyProvider".to_owned(), "begun", why.to_owned());
            }
            Error::TooManyOpen => {
                let many = "sixteen requests of this credential wait for a second custodian: let them be approved, withdraw some (`siv keys withdraw`), or wait a day";
                return Self::new(Code::RateLimited).saying(many).retry_after(3600);
            }
            Error::SecretsOutOfReach(names) => {
                let why =
                    "it is sealed under a key of a token that was left and does not answer, or is lost: give it again";
                let missing = |problem: Self, name: &String| {
                    problem.with_place(format!("secrets.{name}"), "required", why.to_owned())
                };
                return names.iter().fold(Self::new(Code::Validation), missing);
            }
            Error::Conflict => Code::Conflict,
            Error::Cursor => return Self::invalid("cursor", "syntax"),
            Error::LogUnavailable => Code::LogUnavailable,
            Error::Late
            | Error::Unavailable
            | Error::Closed
            | Error::Tampered(_)
            | Error::Database(_)
            | Error::Held
            | Error::Poisoned => Code::StoreUnavailable,
            Error::Unreadable(_)
            | Error::Rule(_)
            | Error::Schema(_)
            | Error::WrongInstallation
            | Error::Setting(_)
            | Error::File(_) => Code::Internal,
            Error::Keys(_) => {
                let Error::Keys(error) = error else { return Self::new(Code::Internal) };
                return error.into();
            }
        };
        Self::new(code).because(&error)
    }
}

impl From<keys::Error> for Problem {
    fn from(error: keys::Error) -> Self {
        use keys::Error;
        let code = match &error {
            Error::HsmRefused(refusal) => {
                let (member, why) = (format!("hsm.{}", refusal.member), refusal.why.clone());
                return Self::new(Code::Validation).with_place(member, refusal.code, why);
            }
            Error::NoKeyStore
            | Error::InUse
            | Error::Damaged(_)
            | Error::OtherRealm
            | Error::RootKey(_)
            | Error::WrongRootKey
            | Error::OtherRootKind { .. }
            | Error::NoKek
            | Error::Hsm(_)
            | Error::NotAsked(_)
            | Error::KekUnusable
            | Error::NoDataKey
            | Error::Lost
            | Error::Erased
            | Error::Altered
            | Error::Io { .. }
            | Error::Unavailable(_) => Code::KmsUnavailable,
            Error::ReservedName => Code::Validation,
            Error::HeadContradicts => Code::LogUnavailable,
            Error::Records(_) => Code::StoreUnavailable,
            Error::Random(_) => Code::Internal,
            Error::Ending => Code::Overloaded,
        };
        let problem = Self::new(code).because(&error);
        match error.remedy() {
            Some(remedy) => problem.saying(remedy),
            None => problem,
        }
    }
}

impl From<crypto::Error> for Problem {
    fn from(error: crypto::Error) -> Self {
        match error {
            crypto::Error::Random(_) | crypto::Error::Refused | crypto::Error::TooLong => {
                Self::new(Code::Internal).because(&error)
            }
        }
    }
}

impl From<access_log::Error> for Problem {
    /// Reading what we wrote ourselves failed: a leaf, an opening, a tile.
    fn from(error: access_log::Error) -> Self {
        Self::new(Code::LogUnavailable).because(&error)
    }
}

impl From<sequencer::Error> for Problem {
    fn from(error: sequencer::Error) -> Self {
        use sequencer::Error;
        match error {
            Error::Store(error) => error.into(),
            Error::Keys(error) => error.into(),
            Error::Pending => Self::new(Code::LogPending).retry_after(1),
            Error::Absent => Self::new(Code::NotFound),
            Error::Range => Self::invalid("from", "range"),
            Error::Receipt => Self::invalid("receipt", "receipt"),
            Error::Log(_)
            | Error::Contradiction
            | Error::Lane
            | Error::History(_)
            | Error::Checkpoint
            | Error::NodeAlive
            | Error::Output(_) => Self::new(Code::LogUnavailable).because(&error),
        }
    }
}

impl From<domain::Error> for Problem {
    fn from(error: domain::Error) -> Self {
        use domain::Error;
        match error {
            Error::SecureValueKey => Self::invalid("secureValueKey", "secure_value_key"),
            Error::Credential => Self::new(Code::AuthInvalid),
            Error::Name | Error::Id => Self::new(Code::NotFound),
            Error::Document(place) => Self::new(Code::Validation).with_place("document", "rule", place),
        }
    }
}

impl From<Repeated> for Problem {
    fn from(repeated: Repeated) -> Self {
        match repeated {
            Repeated::InProgress => Self::new(Code::IdempotencyInProgress).retry_after(1),
            Repeated::OutcomeUnknown(run_id) => {
                let problem = Self::new(Code::FlowOutcomeUnknown);
                match run_id {
                    Some(run_id) => problem.of_run(run_id),
                    None => problem,
                }
            }
            Repeated::Mismatch => Self::new(Code::IdempotencyMismatch),
            Repeated::Completed => Self::new(Code::IdempotencyCompleted),
        }
    }
}

impl From<capture::Error> for Problem {
    fn from(error: capture::Error) -> Self {
        use capture::Error;
        match error {
            Error::AuthInvalid => Self::new(Code::AuthInvalid),
            Error::AuthExpired => Self::new(Code::AuthExpired),
            Error::TenantSealed => Self::new(Code::TenantSealed),
            Error::PolicyDenied => Self::new(Code::PolicyDenied),
            Error::NotFound => Self::new(Code::NotFound),
            Error::ValueNotFound => Self::new(Code::ValueNotFound),
            Error::Conflict => Self::new(Code::Conflict),
            Error::Validation(faults) => faults.into_iter().fold(Self::new(Code::Validation), |problem, fault| {
                problem.with_item(fault.index, fault.field, fault.code)
            }),
            Error::Repeated(repeated) => repeated.into(),
            Error::Store(error) => error.into(),
            Error::Keys(error) => error.into(),
            Error::Crypto(error) => error.into(),
            Error::Random(_) => Self::new(Code::Internal),
        }
    }
}

impl From<flows::Error> for Problem {
    fn from(error: flows::Error) -> Self {
        use flows::Error;
        let faults = error.faults();
        let problem = match error {
            Error::Invalid(place) => Self::new(Code::FlowInvalid).with_place("document", "rule", place),
            Error::Inputs(_) => Self::new(Code::Validation),
            Error::OutputBlocked(_) => Self::new(Code::FlowOutputBlocked),
            Error::DestinationDenied(_) | Error::StepDenied { .. } | Error::SecretDenied { .. } => {
                Self::new(Code::DestinationDenied)
            }
            Error::DestinationFailed(_) | Error::Unfit(_) => Self::new(Code::DestinationFailed),
            Error::DestinationTimeout => Self::new(Code::DestinationTimeout),
            Error::Overloaded => Self::new(Code::Overloaded),
            Error::Incomplete | Error::Random(_) => Self::new(Code::Internal),
        };
        faults.into_iter().fold(problem, |problem, (field, code)| problem.with_fault(field, code))
    }
}

impl From<flows::RunError> for Problem {
    fn from(error: flows::RunError) -> Self {
        use flows::RunError;
        let of_run = |problem: Self, run_id| match run_id {
            Some(run_id) => problem.of_run(run_id),
            None => problem,
        };
        match error {
            RunError::Flow { run_id, error } => of_run(error.into(), run_id),
            RunError::FailedBefore { run_id, code, errors } => {
                let code = Code::ALL.iter().find(|known| known.as_str() == code).copied();
                let problem = Self::new(code.unwrap_or(Code::Internal)).of_run(run_id);
                errors.into_iter().fold(problem, |problem, (field, code)| problem.with_fault(field, code))
            }
            RunError::Repeated(repeated) => repeated.into(),
            RunError::Member(member) => Self::invalid(member, "characters"),
            RunError::AuthInvalid => Self::new(Code::AuthInvalid),
            RunError::AuthExpired => Self::new(Code::AuthExpired),
            RunError::RateLimited => Self::new(Code::RateLimited).retry_after(60),
            RunError::TenantSealed => Self::new(Code::TenantSealed),
            RunError::PolicyDenied => Self::new(Code::PolicyDenied),
            RunError::NotBound(input) => {
                Self::new(Code::PolicyDenied).with_fault(format!("inputs.{input}"), "not_bound")
            }
            RunError::NotFound => Self::new(Code::NotFound),
            RunError::ValueNotFound => Self::new(Code::ValueNotFound),
            // The run has begun: whatever failed, its outcome is not known to the caller, and 503 says so.
            RunError::Store { run_id: Some(run_id), error } => {
                let code = match &error {
                    store::Error::LogUnavailable => Code::LogUnavailable,
                    _ => Code::StoreUnavailable,
                };
                Self::new(code).because(&error).of_run(run_id)
            }
            RunError::Store { run_id: None, error } => error.into(),
        }
    }
}

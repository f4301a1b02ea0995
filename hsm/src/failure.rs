//! What a module's return code means and what helps against it: one table. Nothing is called from here.
//!
//! The signals of modules are not uniform: a wrong tag is `CKR_GENERAL_ERROR` on one and `CKR_ENCRYPTED_DATA_INVALID` on another, a logout
//! elsewhere is an invalid handle or a general error. So a class names the remedy, and what a code cannot tell is asked of the canary.

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

use crate::error::HsmError;
use crate::module::NAMED;

/// What helps against a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It is not a failure.
    Success,
    /// Once more after the key was found again.
    FindAgain,
    /// Open the sessions again, log in, find.
    LogInAgain,
    /// `C_Finalize`, `C_Initialize`, and all that follows.
    Reinitialise,
    /// The code cannot tell altered bytes from a dead token: the canary can.
    AskCanary,
    /// The token has no room now. Later, and nothing is torn down for it.
    Busy,
    /// A PIN was refused: never again until a person changed something.
    Quarantine,
    /// Asking again cannot help.
    Never,
}

/// What was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Loading, initialising, finding the token, logging in, finding a key.
    Connect,
    /// Wrapping, or making and destroying keys.
    Wrap,
    /// Unwrapping.
    Unwrap,
}

/// What a call into a module, or the look at its result, ended with.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The module's return code.
    Code(RvError, Function),
    /// The bytes that came back are not those that were bound to the context.
    Integrity,
    /// The module left an IV buffer zero: the result is thrown away, the mode never used.
    ZeroIv,
    /// A result no conforming module gives.
    Rubbish(&'static str),
    /// The module refused once what it does otherwise: later, and nothing is torn down for it.
    Passing(RvError, Function),
    /// The token refuses its known answer as well: it is the token.
    Dead(RvError, Function),
    /// Already in the words of the crate.
    Told(HsmError),
}

impl Fault {
    /// The class of this fault at `moment`.
    pub(crate) fn class(&self, moment: Moment) -> Class {
        match self {
            Self::Code(code, _) => classify(*code, moment),
            Self::Integrity => Class::AskCanary,
            Self::ZeroIv => Class::Never,
            Self::Passing(..) => Class::Busy,
            Self::Dead(..) => Class::Reinitialise,
            Self::Rubbish(_) => Class::Reinitialise,
            Self::Told(HsmError::KekNotFound) => Class::FindAgain,
            Self::Told(HsmError::TokenNotFound(_) | HsmError::Unavailable(_)) => Class::Reinitialise,
            Self::Told(HsmError::Quarantined(_)) => Class::Quarantine,
            Self::Told(_) => Class::Never,
        }
    }

    /// The fault in the crate's words, once nothing helped.
    pub(crate) fn into_error(self, moment: Moment) -> HsmError {
        match (self.class(moment), self) {
            (_, Self::Told(error)) => error,
            (Class::Quarantine, Self::Code(code, _)) => HsmError::Quarantined(quarantine_reason(code).to_owned()),
            (_, Self::ZeroIv) => HsmError::Refused("the module left the IV zero".to_owned()),
            (Class::Never, Self::Code(code, function)) => HsmError::Refused(name(code, function)),
            (_, Self::Code(code, function) | Self::Passing(code, function) | Self::Dead(code, function)) => {
                HsmError::Unavailable(name(code, function))
            }
            (_, Self::Rubbish(what)) => HsmError::Unavailable(what.to_owned()),
            (_, Self::Integrity) => HsmError::Tampered,
        }
    }
}

impl Fault {
    /// Why something cannot be used, for a report.
    pub(crate) fn reason(self) -> String {
        match self.into_error(Moment::Wrap) {
            HsmError::Unavailable(why) | HsmError::Refused(why) | HsmError::ProfileUnavailable(why) => why,
            HsmError::Tampered => "what comes back is not what was bound to the context".to_owned(),
            other => other.to_string(),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Pkcs11(code, function) => Self::Code(code, function),
            Error::LibraryLoading(_) => configuration(
                "cannot be loaded: it is no library, or one of another architecture, or one that it needs is missing, which `ldd` on the file names",
            ),
            Error::MissingSymbol(_) => configuration(
                "is a library, and no PKCS#11 module: it has no C_GetFunctionList. The vendor's manual names the file that has",
            ),
            Error::NullFunctionPointer | Error::NotSupported => Self::Rubbish("a function is missing"),
            _ => Self::Rubbish("a value is not of PKCS#11"),
        }
    }
}

fn configuration(why: &str) -> Fault {
    Fault::Told(HsmError::Configuration(format!("the module {why} ({NAMED})")))
}

impl From<HsmError> for Fault {
    fn from(error: HsmError) -> Self {
        Self::Told(error)
    }
}

/// The table. A code that is not in it is [`Class::AskCanary`]: vendors define their own.
const TABLE: [(&[RvError], Class); 7] = [
    (&[RvError::UserAlreadyLoggedIn, RvError::CryptokiAlreadyInitialized], Class::Success),
    (
        &[
            RvError::ObjectHandleInvalid,
            RvError::KeyHandleInvalid,
            RvError::WrappingKeyHandleInvalid,
            RvError::UnwrappingKeyHandleInvalid,
            RvError::KeyChanged,
        ],
        Class::FindAgain,
    ),
    (
        &[
            RvError::SessionHandleInvalid,
            RvError::SessionClosed,
            RvError::UserNotLoggedIn,
            RvError::OperationActive,
            RvError::OperationNotInitialized,
            RvError::BufferTooSmall,
        ],
        Class::LogInAgain,
    ),
    (
        &[
            RvError::CryptokiNotInitialized,
            RvError::DeviceRemoved,
            RvError::DeviceError,
            RvError::DeviceMemory,
            RvError::TokenNotPresent,
            RvError::TokenNotRecognized,
            RvError::SlotIdInvalid,
            RvError::MutexBad,
            RvError::MutexNotLocked,
            RvError::UserAnotherAlreadyLoggedIn,
            // A token that is just being set up: no PIN was tried, and none is counted.
            RvError::UserPinNotInitialized,
        ],
        Class::Reinitialise,
    ),
    (&[RvError::SessionCount, RvError::FunctionCanceled, RvError::Cancel, RvError::HostMemory], Class::Busy),
    (
        &[RvError::PinIncorrect, RvError::PinLocked, RvError::PinExpired, RvError::PinInvalid, RvError::PinLenRange],
        Class::Quarantine,
    ),
    (
        &[
            RvError::KeyFunctionNotPermitted,
            RvError::MechanismInvalid,
            RvError::MechanismParamInvalid,
            RvError::KeyTypeInconsistent,
            RvError::KeySizeRange,
            RvError::KeyUnextractable,
            RvError::KeyNotWrappable,
            RvError::WrappingKeyTypeInconsistent,
            RvError::WrappingKeySizeRange,
            RvError::UnwrappingKeyTypeInconsistent,
            RvError::UnwrappingKeySizeRange,
            RvError::AttributeReadOnly,
            RvError::AttributeSensitive,
            RvError::AttributeTypeInvalid,
            RvError::AttributeValueInvalid,
            RvError::TemplateIncomplete,
            RvError::TemplateInconsistent,
            RvError::ActionProhibited,
            RvError::FunctionNotSupported,
            RvError::SessionReadOnly,
            RvError::TokenWriteProtected,
            RvError::CantLock,
            RvError::NeedToCreateThreads,
        ],
        Class::Never,
    ),
];

fn classify(code: RvError, moment: Moment) -> Class {
    let class = TABLE.iter().find(|(codes, _)| codes.contains(&code)).map_or(Class::AskCanary, |(_, class)| *class);
    match (class, moment) {
        // There is no canary before there is a login, and a general error there is a dead token.
        (Class::AskCanary, Moment::Connect) => Class::Reinitialise,
        // Kryoptic 1.5.4 answers this to an altered key wrap.
        (_, Moment::Unwrap) if code == RvError::DeviceError => Class::AskCanary,
        _ => class,
    }
}

fn quarantine_reason(code: RvError) -> &'static str {
    match code {
        RvError::PinLocked => "the PIN is locked at the token",
        RvError::PinExpired => "the PIN has expired",
        _ => "the token refused the PIN; it was tried once",
    }
}

/// `C_Function: Code`, both out of cryptoki's own tables.
fn name(code: RvError, function: Function) -> String {
    format!("C_{function:?}: {code:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::Rv;

    fn of(code: u64, moment: Moment) -> Class {
        let Rv::Error(code) = Rv::from(code) else { panic!("CKR_OK is no failure") };
        classify(code, moment)
    }

    #[test]
    fn each_code_of_the_pool_specification_has_its_remedy() {
        use cryptoki_sys as ck;
        for (code, class) in [
            (ck::CKR_OBJECT_HANDLE_INVALID, Class::FindAgain),
            (ck::CKR_KEY_HANDLE_INVALID, Class::FindAgain),
            (ck::CKR_SESSION_HANDLE_INVALID, Class::LogInAgain),
            (ck::CKR_SESSION_CLOSED, Class::LogInAgain),
            (ck::CKR_USER_NOT_LOGGED_IN, Class::LogInAgain),
            (ck::CKR_CRYPTOKI_NOT_INITIALIZED, Class::Reinitialise),
            (ck::CKR_DEVICE_REMOVED, Class::Reinitialise),
            (ck::CKR_TOKEN_NOT_PRESENT, Class::Reinitialise),
            (ck::CKR_DEVICE_ERROR, Class::AskCanary),
            (ck::CKR_GENERAL_ERROR, Class::AskCanary),
            (ck::CKR_FUNCTION_FAILED, Class::AskCanary),
            (ck::CKR_ENCRYPTED_DATA_INVALID, Class::AskCanary),
            (ck::CKR_WRAPPED_KEY_INVALID, Class::AskCanary),
            (ck::CKR_VENDOR_DEFINED + 7, Class::AskCanary),
            (0x7fff_fff0, Class::AskCanary),
            (ck::CKR_PIN_INCORRECT, Class::Quarantine),
            (ck::CKR_PIN_LOCKED, Class::Quarantine),
            (ck::CKR_PIN_EXPIRED, Class::Quarantine),
            (ck::CKR_KEY_FUNCTION_NOT_PERMITTED, Class::Never),
            (ck::CKR_MECHANISM_INVALID, Class::Never),
            (ck::CKR_SESSION_COUNT, Class::Busy),
            (ck::CKR_USER_PIN_NOT_INITIALIZED, Class::Reinitialise),
            (ck::CKR_USER_ALREADY_LOGGED_IN, Class::Success),
        ] {
            assert_eq!(of(code, Moment::Unwrap), class, "{code:#x}");
        }
        assert_eq!(of(ck::CKR_DEVICE_ERROR, Moment::Wrap), Class::Reinitialise);
        assert_eq!(of(ck::CKR_GENERAL_ERROR, Moment::Connect), Class::Reinitialise);
    }

    #[test]
    fn no_code_stands_in_two_rows() {
        let all: Vec<_> = TABLE.iter().flat_map(|(codes, _)| codes.iter()).collect();
        for (at, code) in all.iter().enumerate() {
            assert!(!all[..at].contains(code), "{code:?}");
        }
    }

    #[test]
    fn a_refused_pin_is_never_retried_at_any_moment() {
        for moment in [Moment::Connect, Moment::Wrap, Moment::Unwrap] {
            let fault = Fault::Code(RvError::PinIncorrect, Function::Login);
            assert_eq!(fault.class(moment), Class::Quarantine);
            assert!(matches!(fault.into_error(moment), HsmError::Quarantined(_)));
        }
    }
}

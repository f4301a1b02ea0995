//! What can go wrong between a caller and a customer's key, in this crate's words. How a caller answers its own clients is not known here.

/// Everything this crate refuses or fails with. Details are written by this crate and never repeat a PIN, a key or a module's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HsmError {
    /// The configuration cannot be used until a person changes it: URI, file modes, module's hash, limits.
    #[error("the HSM configuration cannot be used: {0}")]
    Configuration(String),
    /// No token answers to the selector. It may come back: a caller treats it as an outage.
    #[error(
        "no token there has {0}: `pkcs11-tool --module MODULE --list-token-slots` shows those that the module sees there"
    )]
    TokenNotFound(String),
    /// Several tokens answer to the selector; none is used.
    #[error("{0} tokens match the selector, exactly one must")]
    TokenAmbiguous(usize),
    /// The token is there, logged in, and holds no such KEK.
    #[error("the token holds no key-encryption key of that label and id")]
    KekNotFound,
    /// Several keys answer to label and id; none is used.
    #[error("{0} key-encryption keys of that label and id, exactly one must exist")]
    KekAmbiguous(usize),
    /// The key exists and must not be used as a KEK.
    #[error("the key cannot serve as key-encryption key: {0}")]
    KekUnfit(String),
    /// The module does not carry out the profile, whatever it advertises.
    #[error("the module does not carry out {0}")]
    ProfileUnavailable(String),
    /// The wrapped bytes or their context are not what was wrapped, while the key itself answers as it should: an alarm.
    #[error("the wrapped key or its context was altered")]
    Tampered,
    /// Another key stands behind the label: the canary of this KEK version no longer opens. An alarm.
    #[error("another key stands behind the label of this key-encryption key")]
    KekReplaced,
    /// A PIN was refused. Nothing more is tried until a person changes the configuration.
    #[error("quarantined: {0}")]
    Quarantined(String),
    /// Module, token or worker do not answer now; they are being brought back in the background.
    #[error("the HSM does not answer: {0}")]
    Unavailable(String),
    /// The call ran into its deadline.
    #[error("the HSM did not answer in time")]
    DeadlineExceeded,
    /// As many calls or workers as allowed are under way, or the worker is being started: the token was not asked.
    #[error("no worker of this HSM is free for one more call")]
    Overloaded,
    /// The module refused for good: asking again would not help.
    #[error("the module refused: {0}")]
    Refused(String),
    /// The worker said something that is not of the protocol.
    #[error("the worker's answer is not of the protocol: {0}")]
    Protocol(String),
}

/// A key that was to be made in a token, and was not as far as anybody said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct NotMade {
    /// Why.
    pub error: HsmError,
    /// Whether it may be there all the same: the module was told to make it, or nobody knows whether it was.
    pub may_be_there: bool,
}

impl HsmError {
    /// True where asking again later may succeed without anybody's doing: answer 503.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::TokenNotFound(_)
                | Self::TokenAmbiguous(_)
                | Self::Unavailable(_)
                | Self::DeadlineExceeded
                | Self::Overloaded
                | Self::Protocol(_)
        )
    }

    /// True where somebody altered what is stored or replaced a key: an entry of the log and an alarm.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::Tampered | Self::KekReplaced)
    }

    /// The byte that stands for the variant between worker and host, and its detail.
    pub(crate) fn to_wire(&self) -> (u8, String) {
        match self {
            Self::Configuration(d) => (1, d.clone()),
            Self::TokenNotFound(d) => (2, d.clone()),
            Self::TokenAmbiguous(n) => (3, n.to_string()),
            Self::KekNotFound => (4, String::new()),
            Self::KekAmbiguous(n) => (5, n.to_string()),
            Self::KekUnfit(d) => (6, d.clone()),
            Self::ProfileUnavailable(d) => (7, d.clone()),
            Self::Tampered => (8, String::new()),
            Self::KekReplaced => (9, String::new()),
            Self::Quarantined(d) => (10, d.clone()),
            Self::Unavailable(d) => (11, d.clone()),
            Self::DeadlineExceeded => (12, String::new()),
            Self::Overloaded => (13, String::new()),
            Self::Refused(d) => (14, d.clone()),
            Self::Protocol(d) => (15, d.clone()),
        }
    }

    /// The inverse of [`Self::to_wire`]; an unknown byte is itself an error of the protocol.
    pub(crate) fn from_wire(code: u8, detail: String) -> Self {
        match code {
            1 => Self::Configuration(detail),
            2 => Self::TokenNotFound(detail),
            3 => Self::TokenAmbiguous(detail.parse().unwrap_or(0)),
            4 => Self::KekNotFound,
            5 => Self::KekAmbiguous(detail.parse().unwrap_or(0)),
            6 => Self::KekUnfit(detail),
            7 => Self::ProfileUnavailable(detail),
            8 => Self::Tampered,
            9 => Self::KekReplaced,
            10 => Self::Quarantined(detail),
            11 => Self::Unavailable(detail),
            12 => Self::DeadlineExceeded,
            13 => Self::Overloaded,
            14 => Self::Refused(detail),
            15 => Self::Protocol(detail),
            _ => Self::Protocol("an unknown error".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_crosses_the_border_unchanged() {
        let text = || "detail".to_owned();
        let all = [
            HsmError::Configuration(text()),
            HsmError::TokenNotFound(text()),
            HsmError::TokenAmbiguous(2),
            HsmError::KekNotFound,
            HsmError::KekAmbiguous(3),
            HsmError::KekUnfit(text()),
            HsmError::ProfileUnavailable(text()),
            HsmError::Tampered,
            HsmError::KekReplaced,
            HsmError::Quarantined(text()),
            HsmError::Unavailable(text()),
            HsmError::DeadlineExceeded,
            HsmError::Overloaded,
            HsmError::Refused(text()),
            HsmError::Protocol(text()),
        ];
        for error in all {
            let (code, detail) = error.to_wire();
            assert_eq!(HsmError::from_wire(code, detail), error);
        }
    }

    #[test]
    fn an_alarm_is_never_taken_for_an_outage() {
        for error in [HsmError::Tampered, HsmError::KekReplaced] {
            assert!(error.is_alarm() && !error.is_outage());
        }
    }
}

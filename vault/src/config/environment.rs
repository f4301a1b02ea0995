//! The environment: where to find the vault, with which credential, and whether colours are wanted. Nothing else is read.

use std::path::PathBuf;

use clap::ValueEnum;
use secrecy::SecretString;

use crate::telemetry::LogLevel;

/// What the environment says.
#[derive(Debug)]
pub struct Environment {
    /// `SIV_URL`: the private listener to speak to.
    pub url: Option<String>,
    /// `SIV_CREDENTIAL`: the credential to speak with.
    pub credential: Option<SecretString>,
    /// `CREDENTIALS_DIRECTORY`: where systemd put the credentials of this unit.
    pub credentials_directory: Option<PathBuf>,
    /// `SIV_LOG`: a log level that overrides the settings' one.
    pub log_level: Option<LogLevel>,
    /// `NO_COLOR` is set (no-color.org).
    pub no_color: bool,
}

impl Environment {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        Self {
            url: variable("SIV_URL"),
            credential: variable("SIV_CREDENTIAL").map(SecretString::from),
            credentials_directory: variable("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            log_level: variable("SIV_LOG").and_then(|text| LogLevel::from_str(&text, true).ok()),
            no_color: variable("NO_COLOR").is_some(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

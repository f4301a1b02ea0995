//! The environment: where to find the vault, with which credential, whether colours are wanted, and what PKCS#11 modules of
//! customers look for. Nothing else is read.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use secrecy::SecretString;

use crate::telemetry::LogLevel;

/// Where modules look for their settings: paths and addresses, never a secret. The process that loads a module gets these of
/// its parent's variables and no other.
const OF_MODULES: [&str; 14] = [
    "SOFTHSM2_CONF",              // SoftHSM 2
    "KRYOPTIC_CONF",              // Kryoptic
    "TPM2_PKCS11_STORE",          // tpm2-pkcs11
    "PKCS11_PROXY_SOCKET",        // pkcs11-proxy
    "P11NETHSM_CONFIG_FILE",      // Nitrokey NetHSM
    "YUBIHSM_PKCS11_CONF",        // YubiHSM 2
    "KMS_PKCS11_CONFIG",          // Google Cloud KMS
    "CLOUDHSM_PKCS11_CONFIG",     // AWS CloudHSM
    "ChrystokiConfigurationPath", // Thales Luna
    "SfntHsmConfPath",            // Thales Luna, minimal client
    "CS_PKCS11_R3_CFG",           // Utimaco
    "CKNFAST_LOADSHARING",        // Entrust nShield
    "NFAST_HOME",                 // Entrust nShield
    "PRIMUS_HOME",                // Securosys Primus
];

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
    /// What modules of customers look for.
    pub of_modules: Vec<(OsString, OsString)>,
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
            of_modules: OF_MODULES
                .iter()
                .filter_map(|name| Some((OsString::from(name), OsString::from(variable(name)?))))
                .collect(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
